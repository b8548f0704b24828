import models
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import layers, registry

X = tf.random.stateless_normal([2, 5, 3], [0, 1])
U = tf.random.stateless_normal([2, 4, 1], [0, 2])
ENCODERS = pytest.mark.parametrize("name", models.VECTOR_ENCODERS)


def make(name, observation_shape=(3,), **settings):
    encoder = registry.class_of("encoder", name)(**{"units": (7, 6), **settings})
    encoder.build(layers.Spec(observation_shape, 1, 2))
    return encoder


@ENCODERS
def test_layer_battery(name):
    encoder = make(name, activation="tanh")
    assert encoder(X, controls=U).shape == (2, 5, encoder.feature_dim) == (2, 5, 6)
    oracles.check_layer(encoder, lambda encoder: encoder(X, controls=U))


@pytest.mark.parametrize(
    "name, seen_steps, seen_controls", [("filter", [2], []), ("smoother", [2, 3, 4], [2, 3])]
)
def test_features_depend_on_what_the_encoder_names(name, seen_steps, seen_controls):
    encoder = make(name, units=(7,))
    with tf.GradientTape() as tape:
        tape.watch([X, U])
        features = encoder(X, controls=U)[:, 2]
    gradients = tape.gradient(features, [X, U], unconnected_gradients="zero")
    for gradient, seen in zip(gradients, [seen_steps, seen_controls]):
        by_step = tf.reduce_sum(tf.abs(gradient), axis=[0, 2]).numpy()
        assert np.flatnonzero(by_step).tolist() == seen


@ENCODERS
def test_an_image_is_seen_as_the_vector_of_its_values(name):
    image, flat = make(name, (1, 3, 1)), make(name)
    image(tf.reshape(X, [2, 5, 1, 3, 1]), controls=U)
    flat(X, controls=U)
    image.set_weights(flat.get_weights())
    features = image(tf.reshape(X, [2, 5, 1, 3, 1]), controls=U)
    np.testing.assert_allclose(features, flat(X, controls=U), rtol=1e-6, atol=1e-7)


def test_the_filter_takes_one_step_of_a_stream():
    encoder = make("filter")
    whole = encoder(X, controls=U)
    np.testing.assert_allclose(encoder(X[:, 3], controls=None), whole[:, 3], rtol=1e-5, atol=1e-6)
    smoother = make("smoother")
    assert not smoother.steps and "yet to come" in smoother.steps.reason


@pytest.mark.parametrize("shape", [(3,), (1, 3, 2)])
def test_a_window_joins_the_last_steps_and_counts_those_before_as_zero(shape):
    encoder = make("filter", shape, num_steps=3)
    x = tf.random.stateless_normal([2, 5, *shape], [0, 1])
    window = encoder.window(x).numpy()
    assert window.shape == (2, 5, *shape[:-1], 3 * shape[-1])
    np.testing.assert_array_equal(window[:, 0, ..., : 2 * shape[-1]], 0.0)
    np.testing.assert_array_equal(window[:, 0, ..., 2 * shape[-1] :], x[:, 0])
    expected = np.concatenate([x[:, 1], x[:, 2], x[:, 3]], axis=-1)
    np.testing.assert_array_equal(window[:, 3], expected)
    oracles.check_layer(encoder, lambda encoder: encoder(x))
    memory = encoder.start(2)
    for t in range(5):
        features, memory = encoder.step(memory, x[:, t])
        np.testing.assert_allclose(features, encoder(x)[:, t], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="`num_steps` must be at least 1; got 0"):
        layers.FilterEncoder(num_steps=0)


def test_the_smoother_passes_over_missing_steps():
    """h[t] is that of the sequence without them, whatever stands there."""
    encoder = make("smoother")
    mask = tf.constant([[True, True, False, True, False]] * 2)
    kept = encoder(tf.gather(X, [0, 1, 3], axis=1), controls=tf.gather(U, [0, 1], axis=1))
    # The control of the last observed step ends the sequence and counts as 0.
    controls = U * np.array([1.0, 1.0, 1.0, 0.0])[:, np.newaxis]
    for value in [0.0, 1e3]:
        observations = tf.where(mask[..., tf.newaxis], X, value)
        found = encoder(observations, controls=controls, mask=mask)
        np.testing.assert_allclose(tf.gather(found, [0, 1, 3], axis=1), kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("units", [(), (0,), 7, (True,)])
def test_units_are_positive_integers(units):
    with pytest.raises(ValueError, match="`units` must"):
        layers.FilterEncoder(units=units)
