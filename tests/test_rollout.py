import numpy as np
import oracles
import tensorflow as tf

from tfp_dvbf.inference import rollout
from tfp_dvbf.layers import networks

DECAY, GAIN, SCALE = 0.9, 0.5, 0.3


def transition(states, controls):
    return networks.diagonal_normal(
        DECAY * states + GAIN * controls, tf.fill(tf.shape(states), SCALE)
    )


def test_rollout_of_a_linear_gaussian_model_has_the_exact_moments():
    controls = np.array([[[1.0], [-1.0], [2.0]]], np.float32)
    draws = rollout.rollout(
        transition, tf.ones([20000, 1, 1]), controls, rollout.stateless_seed(1)
    ).numpy()[:, 0, :, 0]
    mean, variance = 1.0, 0.0
    for t, control in enumerate(controls[0, :, 0]):
        mean, variance = DECAY * mean + GAIN * control, DECAY**2 * variance + SCALE**2
        oracles.within_standard_error(draws[:, t + 1], mean)
        oracles.within_standard_error((draws[:, t + 1] - mean) ** 2, variance)


def test_deterministic_rollout_follows_the_means():
    controls = np.array([[[1.0], [-1.0]]], np.float32)
    states = rollout.rollout(
        transition, tf.ones([2, 1, 1]), controls, rollout.stateless_seed(1), deterministic=True
    )
    np.testing.assert_allclose(states[1, 0, :, 0], [1.0, 1.4, 0.76], rtol=1e-6)


def test_stateless_seed_is_a_function_of_its_argument():
    np.testing.assert_array_equal(rollout.stateless_seed(3), rollout.stateless_seed(3))
    assert np.any(rollout.stateless_seed(3) != rollout.stateless_seed(4))
    assert np.any(rollout.stateless_seed() != rollout.stateless_seed())
