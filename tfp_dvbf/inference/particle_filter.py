"""The particle filter whose proposal is the posterior: filtering, evidence estimates, streams.

A step resamples particles whose weights have become uneven, moves them by q and multiplies their
weights W by w = p(x[t] | z[t]) p(z[t] | z[t-1]) / q(z[t]). sum_k W_k w_k estimates
p(x[t] | x[0:t]); the product of these over t is an estimate of p(x[0:T]) without bias, a single one
is not (Maddison et al. 2017, algorithm 1). A particle is all that the posterior goes on from: its
carry, a dictionary of tensors, `states` z[t] one of them.
"""

from typing import NamedTuple

import tensorflow as tf

from tfp_dvbf.inference import particles as weighted
from tfp_dvbf.inference import random
from tfp_dvbf.layers import networks


class Prediction(NamedTuple):
    """What the model expects of x[t] before it is seen, and how well that went.

    Attributes:
      mean: Mean of p(x[t] | x[0:t], u[0:t]), [batch, *observation_shape].
      scale: Its standard deviation, [batch, *observation_shape].
      log_evidence: Estimate of ln p(x[t] | x[0:t], u[0:t]) in nats, [batch]; 0 where x[t] is
        missing.
    """

    mean: tf.Tensor
    scale: tf.Tensor
    log_evidence: tf.Tensor


class Filtered(NamedTuple):
    """Draws of the states that each time step leaves likely, and what was predicted before it.

    Attributes:
      states: Equally weighted draws of p(z[t] | x[0:t], u[0:t]), [sample, batch, time, dz]; those
        of different time steps are no trajectory.
      observation_mean: E[x[t] | z[t]] of each, [sample, batch, time, *observation_shape].
      predicted_mean: Mean of p(x[t] | x[0:t-1], u[0:t]), [batch, time, *observation_shape].
      predicted_scale: Its standard deviation, [batch, time, *observation_shape].
      log_evidence: Estimate of ln p(x[t] | x[0:t-1], u[0:t]) in nats, [batch, time]; 0 where x[t]
        is missing.
    """

    states: tf.Tensor
    observation_mean: tf.Tensor
    predicted_mean: tf.Tensor
    predicted_scale: tf.Tensor
    log_evidence: tf.Tensor


def fivo(model, recognition, batch, num_particles, seed):
    """Returns the log evidence estimate of whole sequences, nats [batch].

    Args:
      model: A `StateSpaceModel`.
      recognition: A `RecognitionModel`.
      batch: `data.Batch`.
      num_particles: Number K of particles for each sequence.
      seed: Stateless seed, int32 [2].
    """
    key = random.key_of(seed)
    (particles, first), by_time = _start(model, recognition, batch, num_particles, key)

    def step(carry, elements):
        (particles, total), (inputs, observations, observed, index) = carry, elements
        noise = random.draw(key, index, *_sizes(model, particles))
        particles, prediction = next_particles(
            model, recognition.posterior, particles, inputs, observations, observed, noise
        )
        return _of_same_shapes((particles, total + prediction.log_evidence), carry)

    # A fold, since a scan would keep the particles of every time step.
    return tf.foldl(step, by_time, initializer=(particles, first.log_evidence))[1]


def filter(model, recognition, batch, num_particles, seed):
    """Returns the `Filtered` of whole sequences; arguments as for `fivo`."""
    key = random.key_of(seed)
    (particles, first), by_time = _start(model, recognition, batch, num_particles, key)
    draws = _resampled(model, particles, random.draw(key, 0, *_sizes(model, particles)))

    def step(carry, elements):
        (particles, _, _), (inputs, observations, observed, index) = carry, elements
        noise = random.draw(key, index, *_sizes(model, particles))
        particles, prediction = next_particles(
            model, recognition.posterior, particles, inputs, observations, observed, noise
        )
        return _of_same_shapes((particles, _resampled(model, particles, noise), prediction), carry)

    # Only what the result holds is kept of every time step, not the particles' whole carry.
    kept = _scan_keeping(step, by_time, (particles, draws, first))
    draws, prediction = tf.nest.map_structure(
        lambda begin, rest: tf.concat([begin[tf.newaxis], rest], axis=0), (draws, first), kept
    )
    draws = [tf.transpose(draw, [1, 2, 0, *range(3, draw.shape.rank)]) for draw in draws]
    return Filtered(*draws, *tf.nest.map_structure(_swap, prediction))


def _scan_keeping(step, elements, carry):
    """Returns what `step` makes of each element, stacked, less the first part of its carry."""
    count = tf.shape(elements[-1])[0]
    arrays = tf.nest.map_structure(
        lambda tensor: tf.TensorArray(tensor.dtype, count, element_shape=tensor.shape), carry[1:]
    )

    def body(index, carry, arrays):
        row = tf.nest.map_structure(lambda tensor: tensor[index], elements)
        carry = step(carry, row)
        arrays = tf.nest.map_structure(
            lambda array, tensor: array.write(index, tensor), arrays, carry[1:]
        )
        return index + 1, carry, arrays

    condition = lambda index, *_: index < count  # noqa: E731
    loop = 0, carry, arrays
    _, _, arrays = tf.while_loop(condition, body, loop, maximum_iterations=count)
    return tf.nest.map_structure(lambda array: array.stack(), arrays)


def _start(model, recognition, batch, num_particles, key):
    """Returns the particles and `Prediction` of t = 0 and the elements of the steps after it."""
    everywhere = tf.ones(tf.shape(batch.observations)[:2], tf.bool)
    batch = batch._replace(mask=everywhere if batch.mask is None else batch.mask)
    first, inputs = recognition.encode(model, batch)
    inputs = recognition.posterior.prepare(inputs), model.standardise_controls(batch.controls)
    start = first_particles(
        model,
        recognition.posterior,
        first,
        batch.observations[:, 0],
        batch.mask[:, 0],
        random.draw(key, 0, num_particles, model.spec.state_dim, tf.shape(everywhere)[0]),
    )
    by_time = tf.nest.map_structure(_swap, (inputs, batch.observations[:, 1:], batch.mask[:, 1:]))
    return start, (*by_time, tf.range(1, tf.shape(everywhere)[1]))


def first_particles(model, posterior, first, observations, observed, noise):
    """Draws particles from q(z[0]) and weighs them by x[0].

    Args:
      model: A `StateSpaceModel`.
      posterior: A `Posterior`.
      first: q(z[0] | x[0:k]), a `FirstState` of batch shape [batch].
      observations: x[0] in the user's units, [batch, *observation_shape].
      observed: Whether x[0] is observed, bool [batch].
      noise: `random.Noise` of t = 0.

    Returns:
      `Particles` and the `Prediction` of x[0] by p(z[0]).
    """
    shape, eps = tf.shape(noise.proposal)[:2], _to_rows(noise.proposal)
    states, log_first = first.tiled(shape[0]).draw(eps)
    carry = posterior.start(states, eps)
    states, log_first = _from_rows((states, log_first), shape)
    prior = model.initial_distribution()
    log_likelihood = model.log_likelihood(states, observations)
    log_increments = prior.log_prob(states) - log_first + log_likelihood
    particles = weighted.uniform(_from_rows(carry, shape))
    drawn = prior.mean() + prior.scale.matvec(noise.prediction)
    mean, scale = weighted.mixture_moments(particles.log_weights, model.observation_moments(drawn))
    log_increments = tf.where(observed, log_increments, 0.0)
    particles, log_evidence = weighted.weigh(particles, log_increments)
    log_evidence = tf.where(observed, log_evidence, 0.0)  # Normalising leaves a rounding error.
    return particles, Prediction(mean, scale, log_evidence)


def next_particles(model, posterior, particles, inputs, observations, observed, noise):
    """Resamples particles, moves them by q and weighs them by p / q.

    Args:
      model: A `StateSpaceModel`.
      posterior: A `Posterior`.
      particles: `Particles` at t - 1.
      inputs: What `posterior.prepare` returned for step t and standardised u[t-1], [batch, ...].
      observations: x[t] in the user's units, [batch, *observation_shape].
      observed: Whether x[t] is observed, bool [batch].
      noise: `random.Noise` of t.

    Returns:
      `Particles` at t and a `Prediction`.
    """
    previous = weighted.resample(particles, noise.offsets)
    shape = tf.shape(previous.log_weights)
    rows = tf.nest.map_structure(_to_rows, previous.states)
    inputs, controls = tf.nest.map_structure(
        lambda tensor: networks.tile_rows(tensor, shape[0]), inputs
    )
    prior = model.transition_distribution(rows["states"], controls)
    drawn = prior.loc + prior.scale.matvec(_to_rows(noise.prediction))
    moments = _from_rows(model.observation_moments(drawn), shape)
    mean, scale = weighted.mixture_moments(previous.log_weights, moments)
    step = posterior.advance(
        model,
        rows,
        inputs,
        controls,
        networks.tile_rows(observed[:, tf.newaxis], shape[0]),
        _to_rows(noise.proposal),
    )
    states, log_prior = step.carry["states"], step.log_prior
    if log_prior is None:
        log_prior = prior.log_prob(states)
    seen = networks.tile_rows(observations, shape[0])
    # The difference of two large numbers is taken before a third one is added to it.
    log_increments = model.log_likelihood(states, seen) + (log_prior - step.log_prob)
    log_increments = tf.where(observed, _from_rows(log_increments, shape), 0.0)
    moved = previous._replace(states=_from_rows(step.carry, shape))
    moved, log_evidence = weighted.weigh(moved, log_increments)
    log_evidence = tf.where(observed, log_evidence, 0.0)  # Normalising leaves a rounding error.
    return moved, Prediction(mean, scale, log_evidence)


def _resampled(model, particles, noise):
    """Returns equally weighted draws of the states and the means of their observations."""
    chosen = weighted.systematic(tf.exp(particles.log_weights), noise.offsets)
    states = weighted.gather(particles.states["states"], chosen)
    means = model.observe(_to_rows(states)).observation_mean
    return states, _from_rows(means, tf.shape(chosen))


def _sizes(model, particles):
    """Returns the sizes of the noise of a step: particles, dz, sequences."""
    shape = tf.shape(particles.log_weights)
    return shape[0], model.spec.state_dim, shape[1]


def _of_same_shapes(new, old):
    return tf.nest.map_structure(lambda a, b: tf.ensure_shape(a, b.shape), new, old)


def _swap(tensor):
    """Swaps the first two axes."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])


def _to_rows(tensor):
    """Returns [particle, batch, ...] as [particle * batch, ...]."""
    return tf.reshape(tensor, [-1, *networks.sizes_of(tensor)[2:]])


def _from_rows(tensors, shape):
    """Returns tensors [particle * batch, ...] as [particle, batch, ...], sized as `shape` says."""
    size = shape[0], shape[1]
    return tf.nest.map_structure(
        lambda tensor: tf.reshape(tensor, [*size, *networks.sizes_of(tensor)[1:]]), tensors
    )
