"""Perceptrons of any rank, seeds of their weights, and the helpers of densities."""

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


def test_mlp_layer_sizes():
    network = networks.MLP((5, 6), 3)
    assert network(tf.zeros([2, 4])).shape == (2, 3)
    assert [layer.units for layer in network.layers] == [5, 6, 3]
    assert networks.MLP((), 3)(tf.zeros([2, 4])).shape == (2, 3)
    assert [layer.units for layer in networks.MLP((5, 6)).layers] == [5, 6]


@pytest.mark.parametrize("shape", [[3], [2, 1], [1, 1, 4], [2, 3, 1, 5]])
def test_mlp_keeps_every_axis_but_the_last(shape):
    """Axes of size 1 too, after it was built with another rank."""
    network = networks.MLP((5,), 1, "tanh")
    network(tf.zeros([*[1] * (2 if len(shape) == 1 else 1), shape[-1]]))
    values = tf.random.stateless_normal([7, *shape], [0, 1])
    first, last = (layer.get_weights() for layer in network.layers)
    expected = np.tanh(values @ first[0] + first[1]) @ last[0] + last[1]
    outputs = network(values)
    assert outputs.shape == (7, *shape[:-1], 1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_a_seed_seeds_every_kernel_with_another_one():
    def kernels(seed):
        network = networks.MLP((4, 4), 4, seed=seed)
        network(tf.zeros([1, 4]))
        return [layer.kernel.numpy() for layer in network.layers]

    one, same, other = kernels(1), kernels(1), kernels(2)
    np.testing.assert_array_equal(one, same)
    assert not np.any(np.equal(one, other)) and not np.any(one[0] == one[1])
    assert np.any(kernels(None)[0] != kernels(None)[0])


def test_states_are_held_within_the_bound():
    states = tf.constant([-1e9, -10.0, -3.0, 0.0, 9.5, 1e30])
    np.testing.assert_array_equal(networks.bounded(states), [-10.0, -10.0, -3.0, 0.0, 9.5, 10.0])


def test_tile_rows_repeats_the_whole_batch():
    tensor = tf.reshape(tf.range(12), [2, 3, 2])
    for times in [1, 3, tf.constant(3)]:
        expected = np.concatenate([tensor] * int(times))
        np.testing.assert_array_equal(networks.tile_rows(tensor, times), expected)


@pytest.mark.parametrize("event_shape", [(6,), (2, 3), (2, 3, 1)])
def test_flatten_keeps_the_axes_before_the_event(event_shape):
    values = tf.reshape(tf.range(4 * 5 * 6), [4, 5, *event_shape])
    flat = networks.flatten(values, event_shape)
    np.testing.assert_array_equal(flat, np.reshape(values, [4, 5, 6]))
    assert networks.flatten(tf.zeros([1, *event_shape]), event_shape).shape == (1, 6)


def test_expand_like_adds_the_axes_of_the_event():
    mask = tf.constant([[True, False]])
    assert networks.expand_like(mask, tf.zeros([1, 2, 4, 4])).shape == (1, 2, 1, 1)
    np.testing.assert_array_equal(networks.expand_like(mask, tf.zeros([1, 2])), mask)


def test_oracle_log_det_on_a_linear_map():
    matrix = tf.constant([[2.0, 1.0], [0.0, 3.0]])
    np.testing.assert_allclose(
        oracles.log_det(lambda x: x @ matrix, tf.ones([4, 2])), np.log(6.0), rtol=1e-6
    )


def test_the_mean_of_a_diagonal_normal():
    """It is a tensor as wide as mean and scale together, though a variable is behind it."""
    loc = tf.Variable([1.0, 2.0])
    mean = networks.diagonal_normal(loc, tf.ones([3, 2])).mean()
    loc.assign([5.0, 5.0])
    np.testing.assert_array_equal(mean, [[1.0, 2.0]] * 3)
