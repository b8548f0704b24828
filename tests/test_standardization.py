"""The standardisation between the user's units and the networks."""

import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import layers


def standardization(mean, scale, event_shape=None):
    layer = layers.Standardization(event_shape or [len(mean)])
    layer.set(mean, scale)
    return layer


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1.0, 1e9, 1e30])
def test_standardization_in_any_unit(unit):
    rng = np.random.default_rng(0)
    x = unit * rng.normal([2.0, -3.0], [1.0, 0.5], size=(64, 10, 2))
    layer = standardization(x.mean((0, 1)), x.std((0, 1)))
    standardised = layer(x.astype(np.float32)).numpy()
    np.testing.assert_allclose(standardised.mean((0, 1)), 0.0, atol=1e-4)
    np.testing.assert_allclose(standardised.std((0, 1)), 1.0, atol=1e-4)
    np.testing.assert_allclose(layer.inverse(standardised) / np.float32(unit), x / unit, rtol=1e-5)
    np.testing.assert_allclose(layer.to_user_scale([1.0, 2.0]), x.std((0, 1)) * [1, 2], rtol=1e-6)


def test_standardization_is_the_identity_until_it_is_set():
    layer = layers.Standardization([4])
    x = tf.random.stateless_normal([2, 3, 4], [0, 1])
    for values in [layer(x), layer.inverse(x), layer.to_user_scale(x)]:
        np.testing.assert_array_equal(values, x)
    assert layer.log_det_jacobian([4]) == 0.0 and not layer.is_set
    layer.set([0.0] * 4, [1.0] * 4)
    assert layer.is_set


def test_log_det_jacobian_is_that_of_the_inverse():
    layer = standardization([3.0, -1.0], [1e-3, 40.0])
    expected = oracles.log_det(layer.inverse, tf.ones([1, 2]))
    np.testing.assert_allclose(layer.log_det_jacobian([2]), expected[0], rtol=1e-6)


def test_images_have_a_mean_and_scale_a_channel():
    layer = standardization([3.0, -1.0], [2.0, 0.5], event_shape=[3, 4, 2])
    image = tf.random.stateless_normal([1, 24], [0, 1])

    def inverse(values):
        return tf.reshape(layer.inverse(tf.reshape(values, [-1, 3, 4, 2])), [-1, 24])

    expected = oracles.log_det(inverse, image)
    np.testing.assert_allclose(layer.log_det_jacobian([3, 4, 2]), expected[0], atol=1e-5)
    np.testing.assert_allclose(
        layer(tf.reshape(inverse(image), [1, 3, 4, 2]))[0, 1, 2], image[0, 12:14], rtol=1e-5
    )
