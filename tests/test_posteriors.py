"""Posteriors: `call` is the scan of `step`, densities are exact, and each sees what it names."""

import numpy as np
import oracles
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import layers, posteriors, registry
from tfp_dvbf.inference.state_space_model import StateSpaceModel
from tfp_dvbf.layers import networks
from tfp_dvbf.posteriors import base

BATCH, STEPS, DIM, FEATURES, CONTROLS = 3, 6, 2, 4, 1
NOISE = tf.random.stateless_normal([BATCH, STEPS, DIM], [0, 1])
INPUTS = posteriors.PosteriorInputs(
    *(
        tf.random.stateless_normal([BATCH, STEPS - 1, dim], [0, seed])
        for seed, dim in enumerate([FEATURES, CONTROLS, 3])
    )
)
SPEC = layers.Spec((3,), CONTROLS, DIM, FEATURES)

GAPS = np.ones([BATCH, STEPS - 1, 1], bool)
GAPS[0, 2:4] = GAPS[1, 0] = GAPS[2, 4] = False
END = np.minimum.accumulate(GAPS, axis=1)  # The same, but with nothing observed behind a gap.


def masks(posterior):
    """Returns the masks that a posterior takes: none, gaps, missing steps at the end alone."""
    return [None, tf.constant(GAPS if posterior.takes_gaps else END)]


@tf_keras.utils.register_keras_serializable("tests")
class Drift(posteriors.Posterior):
    """z[t] = z[t-1] + W i[t] + s * eps[t], as a user may write it: in parallel, without gaps."""

    def build(self, spec):
        self.drift = tf_keras.layers.Dense(spec.state_dim, kernel_initializer="random_normal")
        self.raw_scale = self.add_weight("raw_scale", [spec.state_dim], initializer="zeros")
        super().build(spec)

    def prepare(self, inputs):
        return {"drift": self.drift(inputs.joined)}

    def log_prob(self, noise):
        log_scale = tf.reduce_sum(tf.math.log(networks.positive(self.raw_scale)))
        return base.log_base(noise) - log_scale

    def step(self, model, carry, inputs, noise):
        states = carry["states"] + inputs["drift"] + networks.positive(self.raw_scale) * noise
        return posteriors.Step({"states": states}, self.log_prob(noise))

    def call(self, model, first, inputs, noise, observed=None):
        if observed is not None:
            return super().call(model, first, inputs, noise, observed)
        states, log_first = base.draw_first(first, noise)
        moves = self.prepare(inputs)["drift"] + networks.positive(self.raw_scale) * noise[:, 1:]
        states = tf.cumsum(base.prepend(states, moves), axis=1)
        return posteriors.PosteriorSample(
            states, base.prepend(log_first, self.log_prob(noise[:, 1:])), None
        )


SETTINGS = {
    "drift": {},
    "gaussian": {"hidden_units": (8, 8)},
    "innovation": {"hidden_units": (8, 8)},
    "iaf": {"hidden_units": (8, 8), "flow_units": (8,)},
    "trajectory_iaf": {"hidden_units": (8, 8), "flow_units": (8,), "receptive_field": STEPS},
    "chain_iaf": {"hidden_units": (8, 8)},
}
ALL = pytest.mark.parametrize("name", ["drift", *registry.names("posterior")])
VALID = ["gaussian", "innovation", "iaf", "trajectory_iaf"]


def make(name, **settings):
    """Returns a small posterior, built by itself."""
    settings = {**SETTINGS[name], **settings}
    if name == "drift":
        posterior = Drift()
    else:
        posterior = registry.class_of("posterior", name)(activation="tanh", **settings)
    posterior.build(SPEC)
    return posterior


@pytest.fixture(scope="module", params=registry.names("transition"))
def each_model(request):
    return make_model(request.param)


@pytest.fixture(scope="module")
def model():
    return make_model("mlp")


def make_model(transition):
    settings = {"num_bases": 2} if transition == "locally_linear" else {}
    settings |= {"hidden_units": (8,), "activation": "tanh"}
    transition = registry.class_of("transition", transition)(**settings)
    emission = layers.GaussianEmission((8,), "tanh")
    return StateSpaceModel((3,), CONTROLS, DIM, transition, emission)


@pytest.fixture(scope="module")
def first():
    """Returns q(z[0] | x[0])."""
    part = layers.GaussianInitialPosterior(1, (8,))
    part.build(SPEC)
    return part(tf.random.stateless_normal([BATCH, 1, 3], [0, 3]))


def draw(posterior, model, first, inputs=INPUTS, noise=NOISE, observed=None):
    return posterior(model, first=first, inputs=inputs, noise=noise, observed=observed)


def perturb(posterior, model, first):
    """Moves all weights away from the near-zero ones that residuals start with.

    A kernel's zeros are those of the masks of a MADE, and stay.
    """
    draw(posterior, model, first)
    rng = np.random.default_rng(0)
    for weight in posterior.trainable_variables:
        free = np.ones(weight.shape) if weight.shape.rank == 1 else weight.numpy() != 0
        weight.assign_add(0.2 * free * rng.standard_normal(weight.shape))
    return posterior


def step_by_step(posterior, model, first, inputs=INPUTS, noise=NOISE, observed=None):
    """Returns states and ln q as `step` and, where steps are missing, `advance` give them."""
    states, log_first = base.draw_first(first, noise)
    carry = posterior.start(states, noise[:, 0])
    found = [(states, log_first)]
    for t in range(1, noise.shape[1]):
        now = posteriors.PosteriorInputs(*(tensor[:, t - 1] for tensor in inputs))
        prepared = posterior.prepare(now)
        if observed is None:
            step = posterior.step(model, carry, prepared, noise[:, t])
        else:
            seen = observed[:, t - 1]
            step = posterior.advance(model, carry, prepared, now.controls, seen, noise[:, t])
        assert set(step.carry) == set(carry)
        carry = step.carry
        # The step of a posterior without a density knows nothing of ln q(z[0]).
        log_prob = step.log_prob + (0.0 if posterior.has_density else log_first)
        found.append((carry["states"], log_prob))
    return [tf.stack(tensors, axis=1) for tensors in zip(*found)]


def with_gradients(function, posterior, model, first, observed):
    """Returns states, ln q, and the gradients of a mixture of both to noise, inputs and weights."""
    watched = [NOISE, *INPUTS, *posterior.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        states, log_prob = function(posterior, model, first, INPUTS, NOISE, observed)[:2]
        weights = tf.random.stateless_normal([BATCH, STEPS, DIM + 1], [0, 9])
        total = tf.reduce_sum(weights * tf.concat([states, log_prob[..., tf.newaxis]], axis=-1))
    return states, log_prob, *tape.gradient(total, watched, unconnected_gradients="zero")


@ALL
def test_call_is_the_scan_of_step(name, model, first):
    """In states, ln q and gradients, with missing steps and without."""
    posterior = perturb(make(name), model, first)
    for observed in masks(posterior):
        actual, expected = (
            with_gradients(function, posterior, model, first, observed)
            for function in [draw, step_by_step]
        )
        for a, b in zip(actual, expected):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
        assert all(np.any(gradient) for gradient in actual[-len(posterior.trainable_variables) :])


@pytest.mark.parametrize("receptive_field", [1, 4, 64])
def test_trajectory_iaf_is_its_scan_at_any_reach(receptive_field, model, first):
    posterior = make("trajectory_iaf", receptive_field=receptive_field)
    perturb(posterior, model, first)
    for observed in masks(posterior):
        states, log_prob = step_by_step(posterior, model, first, observed=observed)
        sample = draw(posterior, model, first, observed=observed)
        np.testing.assert_allclose(states, sample.states, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(log_prob, sample.log_prob, rtol=1e-5, atol=1e-5)


@ALL
def test_an_observed_mask_changes_nothing(name, model, first):
    posterior = perturb(make(name), model, first)
    plain = draw(posterior, model, first)
    masked = draw(posterior, model, first, observed=tf.ones([BATCH, STEPS - 1, 1], tf.bool))
    np.testing.assert_allclose(masked.states, plain.states, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(masked.log_prob, plain.log_prob, rtol=1e-5, atol=1e-5)


@ALL
def test_missing_steps_are_drawn_from_the_transition(name, each_model, first):
    """With the same noise and with its density, whatever the posterior; q is p there."""
    posterior = perturb(make(name), each_model, first)
    observed = masks(posterior)[1]
    missing = ~observed.numpy()[..., 0]
    sample = draw(posterior, each_model, first, observed=observed)
    prior = each_model.transition_distribution(sample.states[:, :-1], INPUTS.controls)
    expected = prior.loc + prior.scale.matvec(NOISE[:, 1:])
    later = sample.states[:, 1:].numpy()
    np.testing.assert_allclose(later[missing], expected.numpy()[missing], rtol=1e-6, atol=1e-6)
    assert np.abs(later - expected)[~missing].min() > 1e-5
    if posterior.has_density:
        log_prior = prior.log_prob(sample.states[:, 1:]).numpy()
        log_prob = sample.log_prob[:, 1:].numpy()
        np.testing.assert_allclose(log_prob[missing], log_prior[missing], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["drift", *VALID])
def test_the_recursion_starts_anew_behind_a_gap(name, model, first):
    """What follows is what a sequence has that starts in the last missing step."""
    posterior = perturb(make(name), model, first)
    sample = draw(posterior, model, first, observed=tf.constant(GAPS))
    for row, gap in [(0, 4), (1, 1)]:  # z[gap] is the last of a gap.
        noise = NOISE[row : row + 1, gap:]
        inputs = posteriors.PosteriorInputs(*(tensor[row : row + 1, gap:] for tensor in INPUTS))
        loc = sample.states[row : row + 1, gap] - noise[:, 0]
        start = networks.diagonal_normal(loc, tf.ones_like(loc))
        alone = draw(posterior, model, start, inputs, noise)
        np.testing.assert_allclose(sample.states[row, gap:], alone.states[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            sample.log_prob[row, gap + 1 :], alone.log_prob[0, 1:], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", registry.names("posterior"))
def test_layer_battery(name, model, first):
    def call(posterior):
        sample = draw(posterior, model, first)
        return tf.concat([sample.states, sample.log_prob[..., tf.newaxis]], axis=-1)

    several = {"num_flows": 2} if "iaf" in name else {}
    posterior = make(name, **several)
    call(posterior)
    oracles.check_layer(posterior, call)


def test_innovation_is_the_prior_with_inferred_noise(each_model, first):
    """With (m, s) = (0, 1) each step draws from p: ln q - ln p is 0."""
    posterior = make("innovation")
    draw(posterior, each_model, first)
    for weight in posterior.network.weights:
        weight.assign(tf.zeros_like(weight))
    sample = draw(posterior, each_model, first)
    prior = each_model.transition_distribution(sample.states[:, :-1], INPUTS.controls)
    expected = prior.loc + prior.scale.matvec(NOISE[:, 1:])
    np.testing.assert_allclose(sample.states[:, 1:], expected, rtol=1e-3, atol=1e-4)
    log_prior = prior.log_prob(sample.states[:, 1:])
    np.testing.assert_allclose(sample.log_prob[:, 1:], log_prior, rtol=1e-3, atol=1e-2)


def test_innovation_is_the_documented_step(each_model, first):
    """z[t] = mu + m + L (s * eps[t]); (m, s) of z[t-1], the innovation at mu, h[t] and u[t-1]."""
    posterior = perturb(make("innovation"), each_model, first)
    inputs = posteriors.PosteriorInputs(*(tensor[:, 0] for tensor in INPUTS))
    states, noise = NOISE[:, 0], NOISE[:, 1]
    step = posterior.step(each_model, {"states": states}, posterior.prepare(inputs), noise)
    prior = each_model.transition(states, inputs.controls)
    expected = each_model.emission(prior.loc)
    innovation = np.arcsinh((inputs.observations - expected.mean()) / expected.stddev())
    seen = tf.concat([states, innovation, inputs.features, inputs.controls], axis=-1)
    m, raw_scale = tf.split(posterior.network(seen), 2, axis=-1)
    s = np.asarray(networks.positive(raw_scale, initial=1.0))
    factor = np.linalg.cholesky(prior.covariance())
    moved = prior.loc + m + np.einsum("bij,bj->bi", factor, s * noise)
    np.testing.assert_allclose(step.carry["states"], moved, rtol=1e-4, atol=1e-5)
    log_det = np.log(s).sum(-1) + np.linalg.slogdet(factor)[1]
    np.testing.assert_allclose(step.log_prob, base.log_base(noise) - log_det, rtol=1e-4)


def test_gaussian_is_the_documented_recursion(model, first):
    sample = draw(make("gaussian"), model, first)
    q0, conditionals = sample.densities
    expected = q0.mean() + q0.stddev() * NOISE[:, 0]
    np.testing.assert_allclose(sample.states[:, 0], expected, rtol=1e-6)
    expected = conditionals.mean() + conditionals.stddev() * NOISE[:, 1:]
    np.testing.assert_allclose(sample.states[:, 1:], expected, rtol=1e-6)
    expected = tf.concat(
        [
            q0.log_prob(sample.states[:, 0])[:, tf.newaxis],
            conditionals.log_prob(sample.states[:, 1:]),
        ],
        axis=1,
    )
    np.testing.assert_allclose(sample.log_prob, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name, num_flows",
    [("drift", None), ("gaussian", None), ("innovation", None), ("iaf", 1), ("iaf", 3)]
    + [("trajectory_iaf", num_flows) for num_flows in [0, 1, 3]],
)
def test_log_prob_against_the_autodiff_jacobian_of_the_trajectory(name, num_flows, model, first):
    """With missing steps too."""
    flows = {} if num_flows is None else {"num_flows": num_flows}
    posterior = perturb(make(name, **flows), model, first)
    flat = tf.reshape(NOISE, [BATCH, STEPS * DIM])
    log_base = -0.5 * np.sum(np.square(flat) + np.log(2 * np.pi), axis=1)
    for observed in masks(posterior):

        def trajectory(flat, observed=observed):
            noise = tf.reshape(flat, [BATCH, STEPS, DIM])
            states = draw(posterior, model, first, noise=noise, observed=observed).states
            return tf.reshape(states, [BATCH, STEPS * DIM])

        expected = log_base - oracles.log_det(trajectory, flat)
        sample = draw(posterior, model, first, observed=observed)
        actual = tf.reduce_sum(sample.log_prob, axis=1)
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("name", VALID)
def test_every_state_depends_on_all_noise_up_to_its_own(name, model, first):
    posterior = perturb(make(name), model, first)
    with tf.GradientTape() as tape:
        tape.watch(NOISE)
        states = draw(posterior, model, first).states
    jacobian = np.abs(tape.batch_jacobian(states, NOISE)).sum(axis=(0, 2, 4))
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)
    assert np.all(jacobian[np.tril_indices(STEPS)] > 0)


def test_trajectory_iaf_has_no_loop_over_time(model):
    posterior = make("trajectory_iaf", num_flows=2)

    @tf.function
    def graph(loc, inputs, noise):
        return draw(posterior, model, networks.diagonal_normal(loc, loc), inputs, noise).states

    graph = graph.get_concrete_function(tf.ones([BATCH, DIM]), INPUTS, NOISE).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "MatMul" in kinds and not any("While" in kind for kind in kinds)


def test_trajectory_iaf_reaches_back_its_receptive_field(model, first):
    posterior = perturb(make("trajectory_iaf", receptive_field=4), model, first)
    with tf.GradientTape() as tape:
        tape.watch(INPUTS.controls)
        last = draw(posterior, model, first).states[:, -1]
    by_step = np.abs(tape.gradient(last, INPUTS.controls)).sum(axis=(0, 2))
    assert np.flatnonzero(by_step).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("num_flows", [1, 2, 3])
def test_chain_iaf_density_is_that_of_the_marginal(num_flows, model, first):
    posterior = make("chain_iaf", num_flows=num_flows)
    sample = draw(posterior, model, first)
    for t in range(STEPS):

        def state(first_noise, t=t):
            noise = tf.concat([first_noise[:, tf.newaxis], NOISE[:, 1:]], axis=1)
            return draw(posterior, model, first, noise=noise).states[:, t]

        first_noise = NOISE[:, 0]
        log_base = -0.5 * np.sum(np.square(first_noise) + np.log(2 * np.pi), axis=1)
        expected = log_base - oracles.log_det(state, first_noise)
        np.testing.assert_allclose(sample.log_prob[:, t], expected, atol=1e-4)


def test_chain_iaf_uses_one_draw_a_trajectory(model, first):
    posterior = make("chain_iaf")
    sample = draw(posterior, model, first)
    other = tf.concat([NOISE[:, :1], 7.0 + NOISE[:, 1:]], axis=1)
    moved = draw(posterior, model, first, noise=other)
    np.testing.assert_array_equal(sample.states, moved.states)
    assert sample.densities is None


def test_chain_iaf_reverses_the_order_between_flows():
    orders = [flow.input_order for flow in make("chain_iaf", num_flows=3).flow.flows]
    assert orders == ["left-to-right", "right-to-left", "left-to-right"]


@ALL
def test_states_depend_on_no_later_input(name, model, first):
    posterior = make(name)
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        states = draw(posterior, model, first).states[:, :4]
    gradients = tape.gradient(states, INPUTS, unconnected_gradients="zero")
    by_step = [np.abs(gradient).sum(axis=(0, 2)) for gradient in gradients]
    assert np.all(by_step[0][:3] > 0) and np.all(by_step[1][:3] > 0)
    np.testing.assert_array_equal(np.array(by_step)[:, 3:], 0.0)


def test_a_posterior_must_define_its_step():
    with pytest.raises(NotImplementedError, match="Posterior must implement `step`"):
        posteriors.Posterior().step(None, {}, None, None)


def test_a_linear_gaussian_posterior_starts_near_the_identity():
    """Else fifty steps of a random matrix would have left float32 or come close to it."""
    model = tfp_dvbf.DVBF(3, 1, 4, posterior=posteriors.Gaussian(hidden_units=()), seed=1)
    x, u = np.ones([2, 50, 3], np.float32), np.ones([2, 49, 1], np.float32)
    assert np.abs(model.sample_posterior(x, u, num_samples=5, seed=1).states).max() < 20
