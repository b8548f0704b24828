"""The generative recursion."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

SEED_SALT = 0x5EED


class Trajectory(NamedTuple):
    """Latent and observed trajectories, the observed ones in the user's units.

    Attributes:
      states: z[0:T], [sample, batch, time, dz].
      observation_mean: E[x[t] | z[t]], [sample, batch, time, dx].
      observations: x[t] ~ p(x[t] | z[t]), [sample, batch, time, dx].
    """

    states: tf.Tensor
    observation_mean: tf.Tensor
    observations: tf.Tensor


def rollout(transition, initial_states, controls, seed, deterministic=False):
    """Draws z[t] ~ p(z[t] | z[t-1], u[t-1]) for t = 1 .. T-1.

    Args:
      transition: Layer (states, controls) -> distribution of the next states.
      initial_states: z[0], [sample, batch, dz].
      controls: u[0:T-1], [batch, time - 1, du], as the transition takes them.
      seed: Stateless seed, int32 [2].
      deterministic: Whether z[t] is the mean of its density instead of a draw.

    Returns:
      z[0:T], [sample, batch, time, dz].
    """
    num_samples, num_steps = tf.shape(initial_states)[0], tf.shape(controls)[1]
    controls = tf.transpose(controls, [1, 0, 2])[:, tf.newaxis]
    controls = tf.repeat(controls, num_samples, axis=1)
    seeds = tfp.random.split_seed(seed, num_steps)

    def step(states, inputs):
        step_controls, step_seed = inputs
        density = transition(states, step_controls)
        states = density.mean() if deterministic else density.sample(seed=step_seed)
        return tf.ensure_shape(states, initial_states.shape)

    states = tf.scan(step, (controls, seeds), initializer=initial_states)
    states = tf.concat([initial_states[tf.newaxis], states], axis=0)
    return tf.transpose(states, [1, 2, 0, 3])


def stateless_seed(seed=None):
    """Returns a stateless seed, int32 [2], from an integer or scalar; None draws a new one."""
    if seed is None:
        seed = np.random.SeedSequence().generate_state(1).view(np.int32)[0]
    return tf.stack([tf.cast(seed, tf.int32), SEED_SALT])
