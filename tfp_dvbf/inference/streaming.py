"""Filtering of streams, one time step a call: the rules, and what is exported by these names."""

import numpy as np
import tensorflow as tf

from tfp_dvbf.inference import checks, particle_filter, random, validation
from tfp_dvbf.inference.particles import Particles
from tfp_dvbf.layers import networks

# An observation further than this from the mean of the data, in their standard deviations, counts
# as missing. Weighed, it would drag the particles to where the model was never trained; the filter
# of the quick protocol's `gaussian` took 25 steps to recover from one at this distance. A control
# is clipped to it.
FAR = 1e3
ENCODER = "encoder_"  # What the names of an encoder's memory begin with in a belief.


def check_start(rules, initial_observations):
    """Returns x[0:k] of streams, [batch, k, *observation_shape], of which nothing is missing."""
    kept, name = checks.Checks(), "initial_observations"
    sizes = None, rules.initial_steps
    observations = validation.check_observations(kept, rules, name, initial_observations, *sizes)
    validation.check_values(kept, rules, initial_observations=observations)
    return kept.passed(observations)


def check_step(rules, observations, controls=None, observed=None):
    """Checks one time step of streams.

    Args:
      rules: `validation.Rules`.
      observations: x[t], [batch, *observation_shape].
      controls: u[t-1], [batch, du]; None where du is 0.
      observed: Whether x[t] is observed, [batch]; None where all are.

    Returns:
      Observations, what is missing set to 0, controls and bool `observed`.
    """
    kept = checks.Checks()
    shape = ["batch", *rules.observation_shape]
    observations, own = checks.split_masked(observations, axes=1)
    observations = checks.check_array(kept, "observations", observations, shape)
    shape = [("batch", observations)]
    if observed is None:
        observed = tf.ones(tf.shape(observations)[:1], tf.bool)
    observed = checks.binary(kept, "observed", observed, shape)
    if own is not None:
        observed &= own
    observations = tf.where(networks.expand_like(observed, observations), observations, 0.0)
    if controls is None and rules.control_dim == 0:
        controls = tf.zeros([tf.shape(observations)[0], 0])
    controls = checks.check_array(kept, "controls", controls, [*shape, rules.control_dim])
    validation.check_values(kept, rules, observed, observations=observations, controls=controls)
    return kept.passed((observations, controls, observed))


def check_belief(belief, observations):
    """Returns the tensors of a belief, which have an axis of particles if the posterior's."""
    if not isinstance(belief, dict) or not {"particles", "log_weights", "step"} <= set(belief):
        got = list(belief) if isinstance(belief, dict) else type(belief).__name__
        raise ValueError(f"`belief` must be what `filter_init` returned; got {got}.")
    belief = belief_of(belief)
    kept, batch = checks.Checks(), ("batch", observations)
    particles = "particle", belief["log_weights"]
    for name, tensor in belief.items():
        own = [particles, *tensor.shape[2:]] if has_particles(name) else tensor.shape[1:]
        checks.check_shape(kept, name, tensor, [batch, *own])
    return kept.passed(belief)


def filter_init(model, recognition, initial_observations, num_particles, seed):
    """Starts streams from their first observations.

    Args:
      model: A `StateSpaceModel`.
      recognition: A `RecognitionModel`.
      initial_observations: x[0:k], [batch, k, *observation_shape].
      num_particles: Particles of each stream.
      seed: Scalar int32.

    Returns:
      A dictionary: the belief, which is `particles` z[0] [batch, particle, dz], `log_weights`
      [batch, particle], `step` int32 [batch] and what else the posterior and the encoder go on
      from; and `log_evidence`, the estimate of ln p(x[0]) in nats [batch].
    """
    standardised = model.standardise_observations(initial_observations)
    near = _near(standardised, model.spec.observation_shape)
    seen = tf.where(networks.expand_like(near, standardised), standardised, 0.0)
    sizes = num_particles, model.spec.state_dim, tf.shape(standardised)[0]
    noise = random.draw(random.key_of(random.stateless_seed(seed)), 0, *sizes)
    first = initial_observations[:, 0]
    particles, prediction = particle_filter.first_particles(
        model,
        recognition.posterior,
        recognition.initial(model, seen, near),
        tf.where(networks.expand_like(near[:, 0], first), first, 0.0),
        near[:, 0],
        noise,
    )
    log_evidence = tf.where(near[:, 0], prediction.log_evidence, -np.inf)
    memory = recognition.encoder.start(sizes[-1])
    belief = _belief(particles, tf.zeros_like(near[:, 0], tf.int32), memory)
    return {**belief, "log_evidence": log_evidence}


def filter_step(model, recognition, belief, observations, controls, observed, seed):
    """Moves each stream on by one time step.

    Args:
      model, recognition: As for `filter_init`.
      belief: The belief that `filter_init` or the last `filter_step` returned.
      observations: x[t] in the user's units, [batch, *observation_shape]; what stands where
        `observed` is False has no effect.
      controls: u[t-1] in the user's units, [batch, du].
      observed: Whether x[t] is observed, bool [batch].
      seed: Scalar int32. The noise of a stream depends on it, on the stream's `step` and on its
        place in the batch, on no other stream.

    Returns:
      A dictionary: the belief after x[t]; `predicted_observation_mean` and
      `predicted_observation_scale` [batch, *observation_shape], the mean and standard deviation of
      p(x[t] | x[0:t-1]) before it; and `log_evidence`, the estimate of its logarithm at x[t] in
      nats [batch], 0 where x[t] is missing, -inf where it is too far off and counts as missing.
    """
    particles, step, memory = _parts_of(belief)
    step += 1
    sizes = tf.shape(particles.log_weights)[0], model.spec.state_dim
    noise = random.draw_each(random.key_of(random.stateless_seed(seed)), step, *sizes)
    observations = tf.where(
        networks.expand_like(observed, observations),
        observations,
        0.0,
    )
    far = observed & ~_near(
        model.standardise_observations(observations), model.spec.observation_shape
    )
    seen = observed & ~far
    observations = tf.where(
        networks.expand_like(seen, observations),
        observations,
        0.0,
    )
    controls = tf.clip_by_value(model.standardise_controls(controls), -FAR, FAR)
    inputs, memory = recognition.step_inputs(model, memory, observations, controls, seen)
    particles, prediction = particle_filter.next_particles(
        model,
        recognition.posterior,
        particles,
        (recognition.posterior.prepare(inputs), controls),
        observations,
        seen,
        noise,
    )
    return {
        **_belief(particles, step, memory),
        "predicted_observation_mean": prediction.mean,
        "predicted_observation_scale": prediction.scale,
        "log_evidence": tf.where(far, -np.inf, prediction.log_evidence),
    }


def has_particles(name):
    """Returns whether the tensor of that name in a belief has an axis of particles."""
    return name != "step" and not name.startswith(ENCODER)


def belief_of(outputs):
    """Returns the belief alone of what `filter_init` or `filter_step` returned."""
    others = ("predicted_observation_mean", "predicted_observation_scale", "log_evidence")
    return {name: tensor for name, tensor in outputs.items() if name not in others}


def _belief(particles, step, memory):
    """Returns the tensors of a belief, streams first."""
    carry = {name: _swap(tensor) for name, tensor in particles.states.items()}
    states = carry.pop("states")
    weights = {"log_weights": _swap(particles.log_weights), "step": step}
    remembered = {f"{ENCODER}{name}": tensor for name, tensor in memory.items()}
    return {"particles": states, **weights, **carry, **remembered}


def _parts_of(belief):
    """Returns the `Particles`, the step and the encoder's memory that a belief was made of."""
    carry = {name: _swap(tensor) for name, tensor in belief.items() if has_particles(name)}
    carry["states"], log_weights = carry.pop("particles"), carry.pop("log_weights")
    memory = {
        name.removeprefix(ENCODER): tensor
        for name, tensor in belief.items()
        if name.startswith(ENCODER)
    }
    return Particles(carry, log_weights), belief["step"], memory


def _swap(tensor):
    """Swaps particles and streams, the first two axes."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])


def _near(standardised, event_shape):
    """Returns whether each observation [..., *event_shape] is within `FAR`, [...]."""
    axes = list(range(-len(event_shape), 0))
    return tf.reduce_all(tf.abs(standardised) < FAR, axis=axes)
