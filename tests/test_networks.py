import numpy as np
import oracles
import pytest
import scipy.stats
import tensorflow as tf

from tfp_dvbf.layers import networks


def test_positive_is_above_the_floor_and_starts_at_the_initial_scale():
    scale = networks.positive(tf.constant([-100.0, 0.0, 100.0])).numpy()
    assert scale[0] >= networks.SCALE_FLOOR
    assert scale[1] == pytest.approx(networks.INITIAL_SCALE + networks.SCALE_FLOOR, rel=1e-5)
    assert scale[2] == pytest.approx(98.0, abs=2.0)


def test_diagonal_normal_has_the_density_of_independent_normals():
    loc, scale, x = np.array([0.5, -1.0]), np.array([0.1, 2.0]), np.array([0.4, 1.0])
    expected = scipy.stats.norm.logpdf(x, loc, scale).sum()
    density = networks.diagonal_normal(tf.constant(loc), tf.constant(scale))
    assert density.log_prob(x).numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_standardization_in_any_unit(unit):
    rng = np.random.default_rng(0)
    x = (unit * rng.normal([2.0, -3.0], [1.0, 0.5], size=(64, 10, 2))).astype(np.float32)
    layer = networks.Standardization()
    layer.adapt(x)
    standardised = layer(x).numpy()
    np.testing.assert_allclose(standardised.mean((0, 1)), 0.0, atol=1e-4)
    np.testing.assert_allclose(standardised.std((0, 1)), 1.0, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_feature_keeps_scale_one(value):
    x = np.full((7, 5, 1), value, np.float32)
    layer = networks.Standardization()
    layer.adapt(x)
    mean, scale = layer.moments()
    assert scale.numpy() == 1.0
    np.testing.assert_allclose(mean, value, rtol=1e-6)
    np.testing.assert_allclose(layer(x), 0.0, atol=1e-6 * max(1.0, value))


def test_standardization_is_the_identity_before_adapt():
    x = tf.random.normal([2, 3, 4])
    np.testing.assert_allclose(networks.Standardization()(x), x)


def test_mlp_layer_sizes():
    network = networks.mlp((5, 6), 3, "relu", "network")
    assert network(tf.zeros([2, 4])).shape == (2, 3)
    assert [layer.units for layer in network.layers] == [5, 6, 3]
    assert networks.mlp((), 3, "relu", "linear")(tf.zeros([2, 4])).shape == (2, 3)


def test_oracle_log_det_on_a_linear_map():
    matrix = tf.constant([[2.0, 1.0], [0.0, 3.0]])
    np.testing.assert_allclose(
        oracles.log_det(lambda x: x @ matrix, tf.ones([4, 2])), np.log(6.0), rtol=1e-6
    )
