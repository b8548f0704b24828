"""Weighted draws of the latent state: weighing and resampling them."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfp_dvbf.layers import networks


class Particles(NamedTuple):
    """Weighted draws of the latent state at one time step.

    Attributes:
      states: Tensor, or structure of tensors, [particle, batch, ...].
      log_weights: ln W, [particle, batch], with sum_k W_k = 1.
    """

    states: Any
    log_weights: tf.Tensor


def uniform(states):
    """Returns `Particles` of equal weights from states [particle, batch, ...]."""
    log_weights = tf.zeros(tf.shape(tf.nest.flatten(states)[0])[:2])
    return Particles(states, log_weights - _log_size(log_weights))


def weigh(particles, log_increments):
    """Multiplies weights W by increments w.

    Args:
      particles: `Particles`.
      log_increments: ln w, [particle, batch].

    Returns:
      `Particles` with normalised weights, and the log evidence ln sum_k W_k w_k, [batch]. Where
      every increment vanishes, it is -inf and the weights stay.
    """
    joint = particles.log_weights + log_increments
    log_evidence = tf.reduce_logsumexp(joint, axis=0)
    log_weights = tf.where(
        tf.math.is_finite(log_evidence), joint - log_evidence, particles.log_weights
    )
    return Particles(particles.states, log_weights), log_evidence


def resample(particles, offsets):
    """Resamples where the effective sample size is below half the number of particles.

    Args:
      particles: `Particles`.
      offsets: Draws of U(0, 1), [batch].
    """
    states, log_weights = particles
    weights, size = tf.exp(log_weights), tf.shape(log_weights)[0]
    needed = 1.0 / tf.reduce_sum(weights**2, axis=0) < tf.cast(size, weights.dtype) / 2.0
    chosen = tf.where(needed, systematic(weights, offsets), tf.range(size)[:, tf.newaxis])
    states = tf.nest.map_structure(lambda tensor: gather(tensor, chosen), states)
    return Particles(states, tf.where(needed, -_log_size(log_weights), log_weights))


def systematic(weights, offsets):
    """Returns the ancestors of K particles by systematic resampling, [particle, batch].

    A particle is chosen once for each of the points (k + offset) / K that fall into its part of
    the cumulative weights, so that the evidence estimate keeps no bias (Doucet and Johansen 2011,
    section 3.4). `tfp.experimental.mcmc.resample_systematic` needs K when it traces; this does not.

    Args:
      weights: W, [particle, batch], with sum_k W_k = 1.
      offsets: Draws of U(0, 1), [batch].
    """
    size = tf.shape(weights)[0]
    places = tf.cast(tf.range(size), weights.dtype) + offsets[:, tf.newaxis]
    points = places / tf.cast(size, weights.dtype)
    cumulative = tf.cumsum(tf.transpose(weights), axis=-1)
    cumulative /= cumulative[:, -1:]  # Rounding leaves the sum below 1.
    chosen = tf.searchsorted(cumulative, points, side="right")
    return tf.transpose(tf.minimum(chosen, size - 1))


def gather(tensor, ancestors):
    """Returns tensor[ancestors[k, b], b] for a tensor [particle, batch, ...]."""
    batch = tf.broadcast_to(tf.range(tf.shape(tensor)[1]), tf.shape(ancestors))
    return tf.gather_nd(tensor, tf.stack([ancestors, batch], axis=-1))


def log_mean_exp(values):
    """Returns ln 1/K sum_k exp(values_k) over the first axis."""
    return tf.reduce_logsumexp(values, axis=0) - _log_size(values)


def mixture_moments(log_weights, moments):
    """Returns mean and standard deviation, [batch, ...], of a mixture.

    Args:
      log_weights: ln W, [particle, batch].
      moments: Mean and standard deviation of each part, [particle, batch, ...].
    """
    means, scales = moments
    weights = tf.reshape(
        tf.exp(log_weights),
        tf.concat([tf.shape(log_weights), [1] * (means.shape.rank - 2)], axis=0),
    )
    mean = tf.reduce_sum(weights * means, axis=0)
    # The largest scale is taken out, so that no unit squares past the range of float32.
    unit = tf.reduce_max(tf.maximum(scales, tf.abs(means - mean)), axis=0)
    unit = tf.where(unit > 0.0, unit, 1.0)
    squares = tf.square((means - mean) / unit) + tf.square(scales / unit)
    return mean, unit * networks.root(tf.reduce_sum(weights * squares, axis=0))


def _log_size(values):
    return tf.math.log(tf.cast(tf.shape(values)[0], values.dtype))
