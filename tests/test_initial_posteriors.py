import numpy as np
import oracles
import scipy.stats
import tensorflow as tf

from tfp_dvbf.layers import initial


def test_layer_battery():
    x = tf.random.stateless_normal([4, 1, 3], [0, 1])
    layer = initial.InitialPosterior(2, (8,))
    oracles.check_layer(layer, lambda q: tf.concat([q(x).mean(), q(x).stddev()], axis=-1))


def test_prior_is_standard_normal():
    z = np.array([[0.3, -2.0], [1.0, 0.0]], np.float32)
    expected = scipy.stats.norm.logpdf(z).sum(axis=-1)
    np.testing.assert_allclose(initial.initial_prior(2).log_prob(z), expected, rtol=1e-5)


def test_posterior_sees_the_first_observation_only():
    x = tf.random.stateless_normal([4, 3, 3], [0, 1])
    layer = initial.InitialPosterior(2, (8,))
    np.testing.assert_array_equal(layer(x).mean(), layer(x[:, :1]).mean())


def test_posterior_of_several_frames():
    x = tf.random.stateless_normal([4, 3, 3], [0, 1])
    layer = initial.InitialPosterior(2, (8,), num_frames=2)
    oracles.check_layer(layer, lambda q: tf.concat([q(x).mean(), q(x).stddev()], axis=-1))
    raw = layer.network(tf.reshape(x[:, :2], [4, 6]))
    np.testing.assert_allclose(layer(x).mean(), raw[:, :2], rtol=1e-5)
    assert np.any(layer(x).mean() != layer(x[:, 1:]).mean())
