import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import layers, registry

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
