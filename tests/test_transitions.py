import numpy as np
import oracles
import scipy.stats
import tensorflow as tf

from tfp_dvbf import networks, transitions


def test_layer_battery():
    z, u = tf.random.stateless_normal([4, 2], [0, 1]), tf.ones([4, 1])
    layer = transitions.MLPTransition(2, (8,))
    oracles.check_layer(layer, lambda p: tf.concat([p(z, u).mean(), p(z, u).stddev()], axis=-1))


def test_density_is_the_documented_one():
    z, u = tf.random.stateless_normal([4, 2], [0, 1]), tf.ones([4, 1])
    layer = transitions.MLPTransition(2, (8,))
    density = layer(z, u)
    change, scale = networks.gaussian_parameters(layer.network(tf.concat([z, u], axis=-1)))
    next_z = np.asarray(z) + 0.05
    expected = scipy.stats.norm.logpdf(next_z, z + change, scale).sum(axis=-1)
    np.testing.assert_allclose(density.log_prob(next_z), expected, rtol=1e-4)


def test_starts_near_the_identity():
    z, u = tf.random.stateless_normal([4, 2], [0, 1]), tf.ones([4, 1])
    np.testing.assert_allclose(transitions.MLPTransition(2, (256, 256))(z, u).mean(), z, atol=0.3)
