import numpy as np
import oracles
import pytest
import scipy.special
import tensorflow as tf

from tfp_dvbf.layers import emissions


@pytest.mark.parametrize("emission", [emissions.GaussianEmission, emissions.BernoulliEmission])
def test_layer_battery(emission):
    z = tf.random.stateless_normal([2, 5, 2], [0, 1])
    x = tf.ones([2, 5, 3])
    oracles.check_layer(emission(3, (8,)), lambda p: p(z).log_prob(x))


def test_standardised_density_against_the_raw_one():
    z = tf.random.stateless_normal([2, 5, 2], [0, 1])
    x = tf.random.stateless_normal([2, 5, 3], [0, 2])
    mean, scale = tf.constant([1.0, -2.0, 300.0]), tf.constant([0.1, 5.0, 40.0])
    layer = emissions.GaussianEmission(3, (8,))
    raw = layer(z, mean, scale).log_prob(mean + scale * x)
    standardised = layer(z).log_prob(x) - tf.reduce_sum(tf.math.log(scale))
    np.testing.assert_allclose(raw, standardised, rtol=1e-3)


def test_bernoulli_density():
    z = tf.random.stateless_normal([4, 2], [0, 1])
    x = np.array([[0, 1, 1]] * 4, np.float32)
    layer = emissions.BernoulliEmission(3, (8,))
    p = scipy.special.expit(layer.network(z))
    expected = np.log(np.where(x == 1, p, 1 - p)).sum(axis=-1)
    np.testing.assert_allclose(layer(z).log_prob(x), expected, rtol=1e-4)
