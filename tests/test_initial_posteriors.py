"""Posteriors of the first state, with and without a flow."""

import models
import numpy as np
import oracles
import pytest
import scipy.stats
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import layers, posteriors, registry

X = tf.random.stateless_normal([4, 3, 3], [0, 1])


def make(observation_shape=(3,), **settings):
    part = registry.class_of("initial_posterior", "gaussian")(**{"hidden_units": (8,), **settings})
    part.build(layers.Spec(observation_shape, 1, 2))
    return part


@pytest.mark.parametrize("num_steps", [1, 2])
def test_layer_battery(num_steps):
    layer = make(num_steps=num_steps)
    layer(X)
    oracles.check_layer(layer, lambda q: tf.concat([q(X).mean(), q(X).stddev()], axis=-1))


def test_posterior_sees_the_first_observation_only():
    layer = make()
    np.testing.assert_array_equal(layer(X).mean(), layer(X[:, :1]).mean())


def test_posterior_of_several_steps():
    layer = make(num_steps=2)
    mean = layer(X).mean()
    raw = layer.network(tf.reshape(X[:, :2], [4, 6]))
    np.testing.assert_allclose(mean, raw[:, :2], rtol=1e-5)
    assert np.any(mean != layer(X[:, 1:]).mean())


def test_an_image_is_seen_as_the_vector_of_its_values():
    image, flat = make((1, 3, 1), num_steps=2), make(num_steps=2)
    images = tf.reshape(X, [4, 3, 1, 3, 1])
    image(images), flat(X)
    image.set_weights(flat.get_weights())
    np.testing.assert_allclose(image(images).mean(), flat(X).mean(), rtol=1e-6)


@pytest.fixture(params=["affine", "spline"])
def flowed(request):
    """A `FirstState` of four sequences whose flow is far from the identity."""
    settings = {"hidden_units": (8,), "num_flows": 2, "flow_units": (16,), "num_bins": 4}
    layer = layers.IAFInitialPosterior(flow_kind=request.param, **settings)
    layer.build(layers.Spec((3,), 1, 2, seed=1))
    layer(X)
    for weight in layer.flow.trainable_weights:
        weight.assign(2.0 * weight)  # What is masked stays 0.
    return layer(X)


def test_the_density_of_a_flow_is_that_of_its_draws(flowed):
    """Against the Jacobian of the map from noise by autodiff."""
    noise = tf.random.stateless_normal([4, 2], [0, 2])
    with tf.GradientTape() as tape:
        tape.watch(noise)
        states, log_prob = flowed.draw(noise)
    jacobian = tape.batch_jacobian(states, noise)
    expected = scipy.stats.norm.logpdf(noise).sum(-1) - np.log(np.abs(np.linalg.det(jacobian)))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)
    plain, _ = flowed._replace(flow=None).draw(noise)
    assert np.all(np.abs(states - plain) > 1e-4)


def test_a_flow_acts_where_the_first_steps_are_seen(flowed):
    seen = tf.constant([[True], [False], [True], [False]])
    prior = layers.MLPTransition((8,))
    prior.build(layers.Spec((3,), 1, 2))
    noise = tf.random.stateless_normal([4, 2], [0, 2])
    states, log_prob = flowed.where(seen, prior.initial()).draw(noise)
    inside, log_inside = flowed.draw(noise)
    np.testing.assert_allclose(states[::2], inside[::2], rtol=1e-5)
    np.testing.assert_allclose(log_prob[::2], log_inside[::2], rtol=1e-5)
    np.testing.assert_allclose(states[1::2], noise[1::2], rtol=1e-5)
    outside = scipy.stats.norm.logpdf(noise).sum(-1)
    np.testing.assert_allclose(log_prob[1::2], outside[1::2], rtol=1e-5)


def test_tiled_rows_are_those_of_the_sequences(flowed):
    noise = tf.random.stateless_normal([12, 2], [0, 2])
    states, log_prob = flowed.tiled(3).draw(noise)
    for part in range(3):
        rows = slice(4 * part, 4 * part + 4)
        alone, log_alone = flowed.draw(noise[rows])
        np.testing.assert_allclose(states[rows], alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(log_prob[rows], log_alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("state_dim, posterior", [(2, "gaussian"), (1, "splines")])
def test_a_model_with_a_flow_of_the_first_state(sequences, tmp_path, state_dim, posterior):
    """Every method, gaps at the start, streams as fivo has them, a file, one state."""
    settings = {"hidden_units": (8,), "flow_kind": "spline", "flow_units": (8,)}
    if posterior == "splines":
        posterior = posteriors.IAF(**settings)
    parts = {"posterior": posterior, "initial_posterior": layers.IAFInitialPosterior(**settings)}
    model = tfp_dvbf.DVBF(3, 1, state_dim, seed=1, **parts)
    models.adapted(model, sequences)
    x, u, mask = sequences.observations, sequences.controls, np.ones([12, 8], bool)
    mask[:3, 0] = False
    terms = model.bound_terms(x, u, seed=1, mask=mask)
    drawn = [
        model.sample_posterior(x, u, 2, 1, mask).states,
        model.filter(x, u, 8, 1, mask).states,
        model.generate(u, x[:, :1], num_samples=2, seed=1).states,
        model.forecast(x[:, :3], u, 2, 1, mask[:, :3]).states,
        terms.kl,
    ]
    assert all(np.all(np.isfinite(tensor)) for tensor in drawn)
    assert np.all(terms.kl[:, :3, 0] == 0.0)
    belief = model.filter_init(x[:, :1], 16, seed=5)
    evidence = belief["log_evidence"]
    belief = model.filter_step(belief, x[:, 1], u[:, 0], seed=5)
    fivo = model.log_prob_bound(x[:, :2], u[:, :1], 16, seed=5, objective="fivo")
    np.testing.assert_allclose(evidence + belief["log_evidence"], fivo, rtol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    again = loaded.bound_terms(x, u, seed=1, mask=mask)
    np.testing.assert_allclose(again.kl, terms.kl, rtol=1e-5, atol=1e-5)
