import inspect
import json
import random

import models
import numpy as np
import oracles
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import data, layers, posteriors, registry
from tfp_dvbf.data import batching
from tfp_dvbf.layers import networks

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def test_chain_iaf_kl_is_negative_under_a_sharp_transition(make_model, sequences):
    """Where z[t] = z[t-1] and p = N(z[t-1], v), each step adds dz / 2 ln(v / (e v0)) to it."""
    model = make_model("chain_iaf")
    space, recognition = model.state_space_model, model.recognition_model
    gate_bias = 20.0
    for network, bias in [
        (recognition.posterior.flow.flows[0].made, [0.0, gate_bias] * 2),
        (space.transition.network, [0.0, 0.0, -4.0, -4.0]),
    ]:
        for weight in network.trainable_variables:
            if weight.shape[-1] == len(bias):
                weight.assign(bias if weight.shape.rank == 1 else tf.zeros_like(weight))
    x, u = (
        np.repeat(sequences.observations[:1], 4000, 0),
        np.repeat(sequences.controls[:1], 4000, 0),
    )
    scale = networks.positive(tf.constant(-4.0)).numpy()
    first_scale = recognition.initial(space, x[:1, :1]).normal.stddev().numpy()
    expected = np.sum(np.log(scale / first_scale) - 0.5)
    kl = model.bound_terms(x, u, seed=1).kl[0, :, 1:]
    oracles.within_standard_error(kl, expected)
    assert expected < -4.0


@pytest.mark.parametrize(
    "posterior",
    ["innovation", *models.marked(["gaussian", "iaf", "trajectory_iaf", "chain_iaf"], [])],
)
def test_keras_file_round_trip(make_model, sequences, posterior, tmp_path):
    model = models.adapted(make_model(posterior, num_flows=2), sequences)
    model.compile(tf_keras.optimizers.Adam(1e-3), jit_compile=False)
    dataset = batching.as_dataset(sequences, 12)
    model.fit(dataset, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert loaded.evaluate(dataset, verbose=0) == model.evaluate(dataset, verbose=0)
    u, x = sequences.controls, sequences.observations
    np.testing.assert_array_equal(
        loaded.generate(u, x[:, :1], seed=1).observations,
        model.generate(u, x[:, :1], seed=1).observations,
    )
    losses = [m.fit(dataset, epochs=2, verbose=0).history["loss"] for m in [model, loaded]]
    np.testing.assert_allclose(*losses, rtol=1e-5)


PART_SETTINGS = {
    "posterior": {
        **{"num_flows": 2, "flow_units": (6,), "hidden_units": (5, 4)},
        **{"receptive_field": 8, "activation": "tanh"},
    },
    "transition": {
        **{"num_bases": 4, "hidden_units": (6,), "activation": "tanh"},
        **{"noise_floor": 0.001},
    },
    "emission": {"hidden_units": (6,), "activation": "tanh", "noise_floor": 0.01},
    "encoder": {"units": (6,), "activation": "tanh"},
    "initial_posterior": {"num_steps": 2, "hidden_units": (7,), "activation": "tanh"},
}
PART_CLASSES = {
    "posterior": posteriors.TrajectoryIAF,
    "transition": layers.LocallyLinearTransition,
    "emission": layers.GaussianEmission,
    "encoder": layers.SmootherEncoder,
    "initial_posterior": layers.GaussianInitialPosterior,
}


def test_get_config_returns_every_argument_as_a_primitive():
    """Parts as Keras configs of their classes, which hold every argument of their own."""
    arguments = {
        **{"observation_shape": (4, 2), "control_dim": 1, "state_dim": 3},
        **{"objective": "iwae", "num_samples": 5, "seed": 7},
        "hidden_steps": (0.5, 2.0),
    }
    names = inspect.signature(tfp_dvbf.DVBF.__init__).parameters
    assert {*arguments, *PART_SETTINGS} == set(names) - {"self", "kwargs"}
    for kind, values in PART_SETTINGS.items():
        own = inspect.signature(PART_CLASSES[kind].__init__).parameters
        assert set(values) == set(own) - {"self", "kwargs"}
    parts = {kind: PART_CLASSES[kind](**values) for kind, values in PART_SETTINGS.items()}
    config = tfp_dvbf.DVBF(**arguments, **parts, name="model").get_config()
    assert {name: config[name] for name in arguments} == arguments
    assert set(config) == {*arguments, *PART_SETTINGS}
    for kind, values in PART_SETTINGS.items():
        found = config[kind]["config"]
        assert {name: found[name] for name in values} == values
        assert config[kind]["registered_name"] == f"tfp_dvbf>{PART_CLASSES[kind].__name__}"
    copy = tfp_dvbf.DVBF.from_config(json.loads(json.dumps(config)))
    assert json.dumps(copy.get_config()) == json.dumps(config)
    assert isinstance(tfp_dvbf.DVBF(2, 1, 3).get_config()["seed"], int)


@POSTERIORS
def test_bernoulli_emission(make_model, sequences, posterior):
    pixels = (sequences.observations > 0).astype(np.float32)
    binary = data.Sequences(pixels, sequences.controls)
    model = models.adapted(make_model(posterior, emission="bernoulli"), binary)
    np.testing.assert_array_equal(model.state_space_model.observation_standardization.mean, 0.0)
    terms = model.bound_terms(pixels, binary.controls, seed=1)
    assert np.all(terms.nll > 0)
    generated = model.generate(binary.controls, pixels[:, :1], num_samples=3, seed=1)
    assert set(np.unique(generated.observations)) <= {0.0, 1.0}
    with pytest.raises(ValueError, match="`observations` must be 0 or 1 for the bernoulli"):
        model.sample_posterior(0.5 * pixels, binary.controls)
    with pytest.raises(ValueError, match="`initial_observations` must be 0 or 1 for the bernoulli"):
        model.generate(binary.controls, 0.5 * pixels[:, :1])
    with pytest.raises(ValueError, match="`observations` must be 0 or 1 for the bernoulli"):
        model.forecast(0.5 * pixels[:, :2], binary.controls)
    with pytest.raises(ValueError, match="must be 0 or 1 for the bernoulli"):
        model.adapt(batching.as_dataset(sequences))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"posterior": "iaf2"}, "`posterior` must be one of .*; got 'iaf2'; did you mean 'iaf'"),
        (
            {"encoder": "both"},
            "`encoder` must be one of filter, smoother, convolutional; got 'both'",
        ),
        ({"objective": "vae"}, "`objective` must be one of elbo, iwae; got 'vae'"),
        (
            {"transition": "gru"},
            "`transition` must be one of mlp, locally_linear, rotation.*; got 'gru'",
        ),
        ({"num_samples": 0}, "`num_samples` must be at least 1; got 0"),
        ({"initial_frames": 0}, "`num_steps` must be at least 1; got 0"),
        (
            {"posterior": "chain_iaf", "objective": "iwae"},
            "`objective` iwae is not for chain_iaf: its states are one draw carried through time",
        ),
        ({"emission": "gamma"}, "`emission` must be one of gaussian, student_t, .*; got 'gamma'"),
        ({"posterior": "iaf", "num_flows": -1}, "`num_flows` must be at least 1; got -1"),
        ({"posterior": "iaf", "num_flows": 0}, "`num_flows` must be at least 1; without flows"),
        ({"posterior": "trajectory_iaf", "num_flows": -1}, "`num_flows` must be at least 0; got -"),
        ({"posterior": "chain_iaf", "num_flows": 0}, "`num_flows` must be at least 1; got 0"),
        ({"decoder_units": (0,)}, r"`hidden_units` must .*positive integers; got \(0,\)"),
        ({"encoder_units": 64}, "`units` must be a sequence of positive integers; got 64"),
        ({"transition_units": None}, "`hidden_units` must be a .* positive integers; got None"),
        ({"encoder_units": ()}, r"`units` must have at least 1 layer; got \(\)"),
        (
            {"posterior": "trajectory_iaf", "posterior_units": ()},
            r"`hidden_units` must have at least 1 layer; got \(\)",
        ),
        ({"observation_shape": ()}, r"`observation_shape` must be positive integers; got \(\)"),
        ({"observation_shape": (3, 0)}, r"`observation_shape` must be positive .* got \(3, 0\)"),
        ({"observation_shape": True}, "`observation_shape` must be positive integers; got True"),
        ({"control_dim": -1}, "`control_dim` must be at least 0; got -1"),
        ({"control_dim": True}, "`control_dim` must be an integer; got True"),
        ({"state_dim": np.True_}, "`state_dim` must be an integer; got .*True"),
        ({"state_dim": 2.0}, "`state_dim` must be an integer; got 2.0"),
        ({"num_samples": True}, "`num_samples` must be an integer; got True"),
    ],
)
def test_constructor_refuses(make_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


@pytest.mark.parametrize("name", sorted(registry.MOVED))
def test_arguments_of_an_older_version_say_what_became_of_them(name):
    with pytest.raises(ValueError) as refusal:
        tfp_dvbf.DVBF(3, 1, 2, **{name: 4})
    assert str(refusal.value) == (
        f"`{name}` must be left out; since 0.3 it is {registry.MOVED[name]}."
    )


def test_sizes_of_numpy_are_sizes(sequences):
    sizes = np.int64(3), np.int32(1), np.int64(2)
    model = tfp_dvbf.DVBF(*sizes, num_samples=np.int64(2), seed=np.int64(1))
    plain = tfp_dvbf.DVBF(3, 1, 2, num_samples=2, seed=1)
    assert json.dumps(model.get_config()) == json.dumps(plain.get_config())
    drawn = model.generate(sequences.controls, num_samples=np.int64(5), seed=np.int64(1))
    assert drawn.states.shape == (5, 12, 8, 2)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_policies_are_refused(policy):
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        with pytest.raises(ValueError) as refusal:
            tfp_dvbf.DVBF(3, 1, 2)
    finally:
        tf_keras.mixed_precision.set_global_policy(before)
    expected = f"The policy of tf_keras and `dtype` must be float32 for a DVBF; got {policy}."
    assert str(refusal.value) == expected


NAMES = {
    "posterior": registry.names("posterior"),
    "encoder": models.VECTOR_ENCODERS,
    "transition": registry.names("transition"),
}
NUM_MODELS = max(map(len, NAMES.values()))


@pytest.mark.parametrize("index", range(NUM_MODELS))
def test_the_seed_decides_the_weights(make_model, index):
    """Whatever other random numbers the process has drawn; every part is in one of the models."""
    parts = {kind: names[index % len(names)] for kind, names in NAMES.items()}
    parts["state_dim"] = 3  # So that even a vector that is drawn has more than two values.
    first = make_model(seed=1, num_flows=2, **parts).get_weights()
    tf.random.set_seed(5)
    random.seed(7)
    tf_keras.layers.Dense(3).build([None, 4])
    tf.random.normal([10])
    for expected, actual in zip(first, make_model(seed=1, num_flows=2, **parts).get_weights()):
        np.testing.assert_array_equal(actual, expected)
    other = make_model(seed=2, num_flows=2, **parts).get_weights()
    drawn = [len(np.unique(weight)) > 2 for weight in first]
    assert sum(drawn) > 5
    for values, others, is_drawn in zip(first, other, drawn):
        assert np.any(values != others) == is_drawn


def test_the_seed_decides_the_weights_of_parts_however_they_are_given():
    def kernel(transition, seed=1):
        model = tfp_dvbf.DVBF(3, 1, 2, transition=transition, seed=seed)
        return model.state_space_model.transition.network.weights[0].numpy()

    config = tf_keras.saving.serialize_keras_object(layers.MLPTransition((8,)))
    expected = kernel(config)
    np.testing.assert_array_equal(kernel(layers.MLPTransition((8,))), expected)
    assert np.all(kernel(layers.MLPTransition((8,)), seed=2) != expected)


def test_filters_say_what_cannot_be_stepped(sequences):
    x, u = sequences.observations, sequences.controls
    for model, message in [
        (models.cached_model("chain_iaf"), "is not for chain_iaf: its states are one draw"),
        (models.cached_model(encoder="smoother"), "is not for smoother: the smoother needs"),
    ]:
        with pytest.raises(ValueError, match=f"`filter` {message}"):
            model.filter(x, u)
        with pytest.raises(ValueError, match=f"`filter_init` {message}"):
            model.filter_init(x[:, :1])


def test_weights_that_are_not_finite_are_refused(make_model, sequences, tmp_path):
    """By every public method but a step, by name of the weight; nothing is written."""
    model = make_model()
    bias = model.state_space_model.transition.network.layers[0].bias
    bias.assign(tf.fill(bias.shape, np.nan))
    x, u = sequences.observations, sequences.controls
    calls = {
        "sample_posterior": lambda: model.sample_posterior(x, u),
        "impute": lambda: model.impute(x, u),
        "reconstruct": lambda: model.reconstruct(x, u),
        "filter": lambda: model.filter(x, u),
        "forecast": lambda: model.forecast(x[:, :2], u),
        "generate": lambda: model.generate(u),
        "bound_terms": lambda: model.bound_terms(x, u),
        "log_prob_bound": lambda: model.log_prob_bound(x, u),
        "filter_init": lambda: model.filter_init(x[:, :1]),
        "save": lambda: model.save(tmp_path / "model.keras"),
        "export": lambda: tfp_dvbf.export(model, tmp_path / "exported"),
        "evaluate": lambda: tfp_dvbf.evaluate(model, sequences),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"must be finite; {bias.name} is not. Training has"):
            call()
            pytest.fail(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model", "model.h5", "folder/"])
def test_save_asks_for_a_keras_file(name, tmp_path):
    with pytest.raises(ValueError, match=f"`filepath` must end in .keras; got .*{name[:6]}"):
        models.cached_model().save(str(tmp_path / name))
    assert not list(tmp_path.iterdir())
