"""What a part owes a model: one line that names it, when the model is made, where it is wrong."""

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_dvbf
from tfp_dvbf import errors, inference, layers, posteriors

tfd = tfp.distributions


def part(base, **methods):
    """Returns an object of a class of its own that has these methods and attributes."""
    return type("Own", (base,), methods)()


def normal(self, states, controls=None):
    return tfd.MultivariateNormalDiag(states, tf.ones_like(states))


def heavy(self, states):
    return tfd.Independent(tfd.Cauchy(states, tf.ones_like(states)), 1)


def without_moments(self, states):
    skewed = tfd.SinhArcsinh(states, tf.ones_like(states), skewness=0.5)
    return tfd.Independent(skewed, 1)


def step_to(states, log_prob):
    """Returns a `step` that returns these, whatever it is given."""
    return lambda self, *_: posteriors.Step({"states": tf.zeros(states)}, tf.zeros(log_prob))


WRONG = {
    "transition": [
        ({"call": lambda self, z, u: z}, "must return a multivariate normal of TFP; got Eager"),
        (
            {"call": lambda self, z, u: z[:, 7]},
            r"failed to map states \(1, 3\) and controls \(1, 1\)",
        ),
        ({"call": normal, "units": "Nm"}, "`units` must be one of standardised, user; got 'Nm'"),
        ({"call": normal, "__init__": lambda self: None}, r"must call `super\(\).__init__\("),
        (
            {"call": normal, "build": lambda self, spec: None},
            r"must end with `super\(\).build\(spec\)`",
        ),
    ],
    "emission": [
        ({"call": heavy}, "`emission` must return a distribution that has a mean"),
        ({"call": without_moments}, "`emission` failed to give a mean and a variance: "),
        ({"call": lambda self, z: normal(self, z[:, :2])}, r"event shape \[3\]; .* and \[2\]"),
    ],
    "encoder": [
        ({"call": lambda self, x, controls, mask: x}, "`encoder.feature_dim` must be an integer"),
        (
            {"call": lambda self, x, controls, mask: x, "feature_dim": 5},
            r"`encoder` must return a tensor of shape \[1, 1, 5\]; got \[1, 1, 3\]",
        ),
        (
            {"feature_dim": 3, "steps": False},
            r"`steps` of the encoder must be True or `errors.No\(",
        ),
        (
            {"feature_dim": 3, "call": lambda self, x, controls, mask=None: x[:, :, :3]},
            "`encoder` failed to make a step: ",
        ),
        (
            {
                "feature_dim": 3,
                "call": lambda self, x, controls, mask: x,
                "step": lambda self, memory, x: (x[:, :2], memory),
            },
            r"`encoder.step` must return a tensor of shape \[1, 3\]; got \[1, 2\]",
        ),
    ],
    "initial_posterior": [
        ({"call": lambda self, x: x[:, 0]}, "must return a MultivariateNormalDiag of TFP; got Eag"),
        (
            {"call": lambda self, x: normal(self, x[:, 0, :2])},
            r"event shape \[3\]; got \[1\] and",
        ),
    ],
    "posterior": [
        ({}, "`posterior` failed to draw 2 steps: Own must implement `step`"),
        ({"step": lambda self, *_: None}, "`Step` whose carry has .'states'.; got NoneType"),
        (
            {"step": lambda self, *_: posteriors.Step({}, None)},
            r"`Step` whose carry has .'states'.; got \[\]",
        ),
        ({"step": step_to([1, 2], [1])}, r"`posterior.step` must .* shape \[1, 3\]; got \[1, 2\]"),
        ({"step": step_to([1, 3], [1, 3])}, r"`posterior.step` must .* \[1\]; got \[1, 3\]"),
        ({"has_density": False}, r"`has_density` of the posterior must be True or `errors.No\("),
    ],
}
BASES = {
    "transition": layers.Transition,
    "emission": layers.Emission,
    "encoder": layers.Encoder,
    "initial_posterior": layers.InitialPosterior,
    "posterior": posteriors.Posterior,
}


@pytest.mark.parametrize(
    "kind, methods, message", [(k, *w) for k, each in WRONG.items() for w in each]
)
def test_a_wrong_part_is_named_in_one_line(kind, methods, message):
    with pytest.raises(ValueError, match=message) as refusal:
        tfp_dvbf.DVBF(3, 1, 3, **{kind: part(BASES[kind], **methods)})
    assert len(str(refusal.value).splitlines()) == 1


def test_a_refused_model_leaves_its_parts_to_another():
    transition = layers.MLPTransition((8,))
    with pytest.raises(ValueError, match="did you mean 'innovation'"):
        tfp_dvbf.DVBF(3, 1, 2, transition=transition, posterior="inovation")
    assert tfp_dvbf.DVBF(3, 1, 2, transition=transition).state_space_model.transition is transition


def test_what_cannot_be_loaded_is_not_saved(tmp_path):
    own = part(layers.Transition, call=normal)
    model = tfp_dvbf.DVBF(3, 1, 2, transition=own)
    with pytest.raises(ValueError, match="of a registered class to be saved: decorate Own with"):
        model.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"posteror": "iaf"}, "`argument` must be one of .*; did you mean 'posterior'"),
        ({"seed": True}, "`seed` must be an integer; got True"),
        ({"seed": -1}, "`seed` must be at least 0; got -1"),
        ({"hidden_steps": "a"}, r"`hidden_steps` must be a fraction in \[0, 1\), .*; got 'a'"),
    ],
)
def test_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfp_dvbf.DVBF(3, 1, 2, **arguments)


def test_sizes_are_asked_for():
    with pytest.raises(ValueError, match="since 0.3 it is `observation_shape`"):
        tfp_dvbf.DVBF(observation_dim=3, control_dim=1, state_dim=2)
    with pytest.raises(ValueError, match="`observation_shape` must be positive integers; got None"):
        tfp_dvbf.DVBF(control_dim=1, state_dim=2)
    with pytest.raises(ValueError, match="`state_dim` must be an integer; got True"):
        inference.StateSpaceModel(3, 1, True)
    assert inference.StateSpaceModel(3, 1, 2).spec.observation_shape == (3,)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: posteriors.IAF(0), 'at least 1; without flows it is "innovation"'),
        (lambda: posteriors.IAF(interval="x"), "positive and finite, .*; got 'x'"),
        (lambda: layers.GaussianEmission(noise_floor="a"), r"lie in \(0, 1\); got 'a'"),
        (
            lambda: layers.StudentTEmission(df="4"),
            "finite and above 2, to have a variance; got '4'",
        ),
    ],
)
def test_settings_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_belief_is_asked_for():
    model = tfp_dvbf.DVBF(3, 1, 2)
    with pytest.raises(ValueError, match=r"must be what `filter_init` returned; got \[\]"):
        model.filter_step({}, tf.zeros([1, 3]), tf.zeros([1, 1]))


def test_answers_of_no_carry_a_reason():
    own = part(
        posteriors.Posterior, has_density=errors.No("it is made up"), step=step_to([1, 2], [1])
    )
    with pytest.raises(ValueError, match="`objective` iwae is not for Own: it is made up"):
        tfp_dvbf.DVBF(3, 1, 2, posterior=own, objective="iwae")
