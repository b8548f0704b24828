"""Weighted particles: resampling, weighing."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf.inference import particles as weighted


def test_resampling_is_that_of_tfp():
    log_weights = tf.math.log_softmax(tf.random.stateless_normal([7, 500], [0, 2]) * 3, axis=0)
    expected = tfp.experimental.mcmc.resample_systematic(log_weights, 7, (), seed=[0, 3])
    offsets = tf.random.stateless_uniform([500], [0, 3])
    actual = weighted.systematic(tf.exp(log_weights), offsets)
    assert np.mean(np.asarray(actual) != expected) < 1e-3  # But for rounding at a boundary.


def test_resampling_below_half_the_effective_sample_size():
    """Of 4 particles; those here are worth 1 / (0.7^2 + 3 * 0.1^2) = 1.9 and 2.4."""
    weights = np.array([[0.7, 0.1, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1]]).T
    particles = weighted.Particles(
        {"states": tf.reshape(tf.range(8.0), [4, 2, 1])}, tf.math.log(weights.astype(np.float32))
    )
    states, log_weights = weighted.resample(particles, offsets=tf.constant([0.5, 0.5]))
    np.testing.assert_allclose(np.exp(log_weights[:, 0]), 0.25, rtol=1e-6)
    np.testing.assert_array_equal(states["states"][:, 0, 0], [0, 0, 0, 4])
    np.testing.assert_array_equal(log_weights[:, 1], particles.log_weights[:, 1])
    np.testing.assert_array_equal(states["states"][:, 1], particles.states["states"][:, 1])


def test_weighing():
    particles = weighted.uniform({"states": tf.zeros([2, 3, 1])})
    # The last observation is impossible at every particle.
    log_increments = tf.math.log([[3.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    weighed, log_evidence = weighted.weigh(particles, log_increments)
    np.testing.assert_allclose(log_evidence, [np.log(2.0), 0.0, -np.inf], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        np.exp(weighed.log_weights), [[0.75, 0.5, 0.5], [0.25, 0.5, 0.5]], rtol=1e-6
    )
