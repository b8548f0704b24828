import inspect

import models
import numpy as np
import oracles
import pytest
import tensorflow as tf
import tf_keras
from models import adapted

import tfp_dvbf
from tfp_dvbf import data, registry
from tfp_dvbf.data import batching
from tfp_dvbf.layers import networks

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def test_chain_iaf_kl_is_negative_under_a_sharp_transition(make_model, sequences):
    """Where z[t] = z[t-1] and p = N(z[t-1], v), each step adds dz / 2 ln(v / (e v0)) to it."""
    model = make_model("chain_iaf")
    gate_bias = 20.0
    for network, bias in [
        (model.posterior.cell.flow.flows[0].made, [0.0, gate_bias] * 2),
        (model.transition.network, [0.0, 0.0, -4.0, -4.0]),
    ]:
        for weight in network.trainable_variables:
            if weight.shape[-1] == len(bias):
                weight.assign(bias if weight.shape.rank == 1 else tf.zeros_like(weight))
    x, u = (
        np.repeat(sequences.observations[:1], 4000, 0),
        np.repeat(sequences.controls[:1], 4000, 0),
    )
    scale = networks.positive(tf.constant(-4.0)).numpy()
    first_scale = model.initial_posterior(x[:1, :1]).stddev().numpy()
    expected = np.sum(np.log(scale / first_scale) - 0.5)
    kl = model.bound_terms(x, u, seed=1).kl[0, :, 1:]
    oracles.within_standard_error(kl, expected)
    assert expected < -4.0


@POSTERIORS
def test_keras_file_round_trip(make_model, sequences, posterior, tmp_path):
    model = adapted(make_model(posterior, num_flows=2), sequences)
    model.compile(tf_keras.optimizers.Adam(1e-3), run_eagerly=True)
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


def test_get_config_returns_every_argument_as_a_primitive():
    units = {f"{name}_units": [6] for name in ["encoder", "flow", "transition", "decoder"]}
    arguments = {
        **{"observation_dim": 2, "control_dim": 1, "state_dim": 3, "posterior": "iaf"},
        **{"num_flows": 2, "transition": "locally_linear", "num_bases": 4},
        **{"emission": "bernoulli", "encoder": "smoother", "initial_frames": 2},
        **{"objective": "iwae", "num_samples": 5, "posterior_units": None, **units},
        **{"receptive_field": 8, "activation": "tanh", "seed": 7},
    }
    names = inspect.signature(tfp_dvbf.DVBF.__init__).parameters
    assert set(arguments) == set(names) - {"self", "kwargs"}
    model = models.make(**arguments, name="model")
    assert model.get_config() == {**arguments, **dict.fromkeys(units, (6,))}
    assert isinstance(models.make(2, 1, 3, posterior_units=[4]).get_config()["seed"], int)


@pytest.mark.parametrize("posterior", registry.names("posterior"))
def test_bernoulli_emission(make_model, sequences, posterior):
    pixels = (sequences.observations > 0).astype(np.float32)
    binary = data.Sequences(pixels, sequences.controls)
    model = adapted(make_model(posterior, emission="bernoulli"), binary)
    np.testing.assert_array_equal(model.observation_standardization.moments()[0], 0.0)
    terms = model.bound_terms(pixels, binary.controls, seed=1)
    assert np.all(terms.nll > 0)
    generated = model.generate(binary.controls, pixels[:, :1], num_samples=3, seed=1)
    assert set(np.unique(generated.observations)) <= {0.0, 1.0}
    with pytest.raises(ValueError, match="`observations` must be 0 or 1 for the bernoulli"):
        model.filter(0.5 * pixels, binary.controls)
    with pytest.raises(ValueError, match="`observations` must be 0 or 1 for the bernoulli"):
        model.generate(binary.controls, 0.5 * pixels[:, :1])
    with pytest.raises(ValueError, match="`observations` must be 0 or 1 for the bernoulli"):
        model.forecast(0.5 * pixels[:, :2], binary.controls)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be 0 or 1 for the bernoulli"):
        model.adapt(batching.as_dataset(sequences))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"posterior": "iaf2"}, "`posterior` must be one of gaussian, iaf, .*; got 'iaf2'"),
        ({"encoder": "both"}, "`encoder` must be one of filter, smoother; got 'both'"),
        ({"objective": "vae"}, "`objective` must be one of elbo, iwae; got 'vae'"),
        ({"transition": "gru"}, "`transition` must be one of mlp, locally_linear; got 'gru'"),
        ({"num_samples": 0}, "`num_samples` must be a positive integer; got 0"),
        ({"initial_frames": 0}, "`initial_frames` must be a positive integer; got 0"),
        (
            {"posterior": "chain_iaf", "objective": "iwae"},
            "`objective` iwae is not for chain_iaf: its states are one draw carried through time",
        ),
        ({"emission": "poisson"}, "`emission` must be one of gaussian, bernoulli; got 'poisson'"),
        (
            {"posterior": "iaf", "num_flows": -1},
            "`num_flows` must be an integer of at least 0 for iaf; got -1",
        ),
        (
            {"posterior": "chain_iaf", "num_flows": 0},
            "`num_flows` must be an integer of at least 1 for chain_iaf; got 0",
        ),
        ({"decoder_units": (0,)}, r"`decoder_units` must be positive integers; got \(0,\)"),
        ({"encoder_units": 64}, "`encoder_units` must be positive integers; got 64"),
        ({"transition_units": None}, "`transition_units` must be positive integers; got None"),
        ({"encoder_units": ()}, r"`encoder_units` must have at least one layer; got \(\)"),
        (
            {"posterior": "trajectory_iaf", "posterior_units": ()},
            r"`posterior_units` must have at least one layer; got \(\)",
        ),
    ],
)
def test_constructor_refuses(make_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


@pytest.mark.parametrize("posterior", registry.names("posterior"))
@pytest.mark.parametrize("encoder", ["filter", "smoother"])
def test_grappler_takes_every_function(sequences, posterior, encoder, capfd):
    model = models.cached_model(posterior, encoder=encoder)
    x, u = sequences.observations, sequences.controls
    model.filter(x, u, 2, seed=1)
    model.forecast(x[:, :3], u, 2, seed=1)
    for bound in model.bounds:
        model.log_prob_bound(x, u, 4, seed=1, objective=bound)
    assert "failed" not in capfd.readouterr().err
