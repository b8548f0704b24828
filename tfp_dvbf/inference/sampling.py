"""Draws of trajectories: from the posterior, past its last observation, from the model alone.

All functions are of tensors, and gradients flow from what they return to observations and controls.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import data
from tfp_dvbf.layers import philox
from tfp_dvbf.layers.state_space_model import Trajectory


def sample_posterior(model, recognition, batch, num_samples, seed):
    """Draws from q(z[0:T] | x[0:T], u[0:T-1]).

    Args:
      model: A `StateSpaceModel`.
      recognition: A `RecognitionModel`.
      batch: `data.Batch`.
      num_samples: Draws for each sequence.
      seed: Stateless seed, int32 [2].

    Returns:
      A `Trajectory` of T steps.
    """
    noise_seed, seed = tfp.random.split_seed(seed)
    batch_size, steps = tf.unstack(tf.shape(batch.observations)[:2])
    dim = model.spec.state_dim
    noise = philox.normal(tf.stack([num_samples * batch_size, steps, dim]), noise_seed)
    states = recognition.sample(model, batch, noise, num_samples).states
    return model.observe(tf.reshape(states, tf.stack([num_samples, batch_size, steps, dim])), seed)


def reconstruct(model, recognition, batch, num_samples=1, seed=None):
    """Decodes the posterior's trajectory for zero noise; returns a `Trajectory` of one sample."""
    del num_samples, seed
    steps = tf.shape(batch.observations)[:2]
    noise = tf.zeros(tf.concat([steps, [model.spec.state_dim]], axis=0))
    return model.observe(recognition.sample(model, batch, noise).states[tf.newaxis])


def forecast(model, recognition, context, controls, num_samples, seed):
    """Infers the states of the context, then goes on open loop under the remaining controls.

    Args:
      model, recognition, num_samples, seed: As for `sample_posterior`.
      context: `data.Batch` of x[0:c] and a mask or None; its controls are not read.
      controls: u[0:T-1], [batch, time - 1, du], T - 1 >= c.

    Returns:
      A `Trajectory` of T steps, the first c of them inferred.
    """
    past_seed, rollout_seed, seed = tfp.random.split_seed(seed, 3)
    steps = tf.shape(context.observations)[1]
    # One missing step behind the context: a posterior of one step alone has no step to make.
    paddings = [[0, 0], [0, 1]]
    event = [[0, 0]] * (context.observations.shape.rank - 2)
    mask = context.mask
    if mask is None:
        mask = tf.ones(tf.shape(context.observations)[:2], tf.bool)
    batch = data.Batch(
        tf.pad(context.observations, paddings + event), controls[:, :steps], tf.pad(mask, paddings)
    )
    past = sample_posterior(model, recognition, batch, num_samples, past_seed)
    past = Trajectory(*(tensor[:, :, :steps] for tensor in past))
    later = controls[:, steps - 1 :]
    future = model.observe(model.rollout(past.states[:, :, -1], later, rollout_seed), seed)
    return Trajectory(*(tf.concat([a, b[:, :, 1:]], axis=2) for a, b in zip(past, future)))


def generate(model, recognition, controls, first, num_samples, seed, deterministic=False):
    """Draws trajectories under given controls from the generative model alone.

    Args:
      model, recognition, num_samples, seed: As for `sample_posterior`.
      controls: u[0:T-1], [batch, time - 1, du].
      first: `data.Batch` of x[0:k], whose z[0] is drawn from q(z[0] | x[0:k]); or None, where it is
        drawn from p(z[0]).
      deterministic: Whether z[0], every z[t] and the observations are means instead of draws; of
        a q(z[0]) with a flow, the draw for zero noise.

    Returns:
      A `Trajectory` of T steps.
    """
    first_seed, seed = tfp.random.split_seed(seed)
    shape = tf.stack([num_samples, tf.shape(controls)[0], model.spec.state_dim])
    noise = tf.zeros(shape) if deterministic else philox.normal(shape, first_seed)
    if first is None:
        density = model.initial_distribution()
        states = density.mean() + density.scale.matvec(noise)
    else:
        observations = model.standardise_observations(first.observations)
        density = recognition.initial(model, observations, first.mask).tiled(num_samples)
        states, _ = density.draw(tf.reshape(noise, [-1, model.spec.state_dim]))
        states = tf.reshape(states, shape)
    return _roll_out(model, controls, states, seed, deterministic)


def generate_from(model, recognition, controls, states, num_samples, seed, deterministic=False):
    """Draws as `generate` does, from z[0] [batch, num_samples or 1, dz]."""
    del recognition
    states = tf.transpose(states, [1, 0, 2])
    shape = tf.stack([num_samples, tf.shape(controls)[0], model.spec.state_dim])
    return _roll_out(model, controls, tf.broadcast_to(states, shape), seed, deterministic)


def _roll_out(model, controls, states, seed, deterministic):
    rollout_seed, seed = tfp.random.split_seed(seed)
    states = model.rollout(states, controls, rollout_seed, deterministic)
    return model.observe(states, None if deterministic else seed)
