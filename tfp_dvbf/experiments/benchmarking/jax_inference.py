"""Generation and a step of the particle filter in JAX, each a `jit`."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from tfp_dvbf.experiments.benchmarking import agreement, jax_peer

WAYS = ("generate", "filter_step")


def start(threads, device):
    """Starts JAX on a device; returns its version and the device."""
    return jax_peer.start(threads, device)


def prepare(way, path, size, num_particles=1):
    """Returns what all programs must agree on, and what does the work so many times.

    Args:
      way: "generate" or "filter_step".
      path: That of an `agreement.Reference`; of `innovation` or `iaf` for "filter_step".
      size: Number of trajectories or streams.
      num_particles: Number of particles of each stream.
    """
    about = agreement.load(path)
    x, u = (jnp.array(array) for array in agreement.rows(about, size))
    weights = jax.tree.map(jnp.array, about.weights)
    if way == "generate":
        return _generate(about.constants, weights, x, u)
    return _filter_step(about.constants, weights, x, u, num_particles)


def _generate(constants, weights, x, u):
    draw = jax.jit(functools.partial(generate, constants))
    given = weights, x[:, 0], u, jax.random.key(1)
    none, whole = jnp.float32(0.0), jnp.float32(1.0)

    def run(count):
        for _ in range(count):
            np.array(draw(*given, whole)[-1])

    return agreement.trajectories(draw(*given, none)[-1], draw(*given, whole)[-1]), run


def _filter_step(constants, weights, x, u, num_particles):
    first, key = jax.random.split(jax.random.key(1))
    belief = jax.jit(functools.partial(begin, constants, num_particles))(weights, x[:, 0], first)
    step = jax.jit(functools.partial(advance, constants))
    given = weights, belief, x[:, 1], u[:, 0], key

    def run(count):
        for _ in range(count):
            np.array(step(*given)[-1])

    return {"log_evidence": np.array(step(*given)[-1]).tolist()}, run


def generate(constants, weights, first, controls, key, noise_scale):
    """Returns generated states, means of observations and observations, [batch, time, ...].

    Args:
      constants: `agreement.Constants`.
      weights: Those of an `agreement.Reference`.
      first: Standardised x[0], [batch, dx].
      controls: Standardised u[0:T-1], [batch, time - 1, du].
      key: Key of the noise.
      noise_scale: 1 draws, 0 takes every distribution at its mean.
    """
    key, other = jax.random.split(key)
    raw = jax_peer.mlp(weights, "initial", first)
    loc, scale = jax_peer.gaussian_parameters(raw, constants.initial_scale, constants.scale_floor)
    shape = controls.shape[1] + 1, *loc.shape
    noise = noise_scale * jax.random.normal(key, shape)

    def step(states, inputs):
        control, eps = inputs
        loc, scale = jax_peer.transition(weights, constants, states, control)
        states = loc + scale * eps
        return states, states

    first = loc + scale * noise[0]
    _, states = jax.lax.scan(step, first, (jax_peer.time_major(controls), noise[1:]))
    states = jax_peer.time_major(jnp.concatenate([first[None], states]))
    mean, sd = jax_peer.emission(weights, constants, states)
    return states, mean, mean + noise_scale * sd * jax.random.normal(other, mean.shape)


def begin(constants, num_particles, weights, observations, key):
    """Returns particles of q(z[0] | x[0]), [stream, particle, dz], and their log weights.

    Args:
      constants, weights: As for `generate`.
      num_particles: Number of particles of each stream.
      observations: Standardised x[0], [stream, dx].
      key: Key of the noise.
    """
    raw = jax_peer.mlp(weights, "initial", observations)[:, None]
    loc, scale = jax_peer.gaussian_parameters(raw, constants.initial_scale, constants.scale_floor)
    noise = jax.random.normal(key, [len(observations), num_particles, loc.shape[-1]])
    states = loc + scale * noise
    log_ratio = -0.5 * states**2 + 0.5 * noise**2 + jnp.log(scale)
    mean, sd = jax_peer.emission(weights, constants, states)
    increments = log_likelihood(observations[:, None], mean, sd) + jnp.sum(log_ratio, axis=-1)
    return states, jax.nn.log_softmax(increments)


def advance(constants, weights, belief, observations, controls, key):
    """Moves particles on by one time step, and resamples them before where they are uneven.

    Args:
      constants, weights: As for `generate`.
      belief: Particles [stream, particle, dz] and their log weights [stream, particle].
      observations: Standardised x[t], [stream, dx].
      controls: Standardised u[t-1], [stream, du].
      key: Key of the noise.

    Returns:
      Particles and log weights; mean and standard deviation of the prediction of x[t], [stream,
      dx]; and the estimate of ln p(x[t] | x[0:t]) in nats, [stream].
    """
    states, log_weights = belief
    keys = jax.random.split(key, 3)
    states, log_weights = resampled(states, log_weights, keys[0])
    x, u = (
        observations[:, None],
        jnp.broadcast_to(controls[:, None], (*states.shape[:2], controls.shape[-1])),
    )
    prior = loc, scale = jax_peer.transition(weights, constants, states, u)
    drawn = loc + scale * jax.random.normal(keys[1], states.shape)
    mean, sd = jax_peer.emission(weights, constants, drawn)
    share = jnp.exp(log_weights)[..., None]
    predicted = jnp.sum(share * mean, axis=1)
    variance = jnp.sum(share * (jnp.square(mean - predicted[:, None]) + sd**2), axis=1)
    features = jax.nn.relu(jax_peer.dense(weights, "encoder/0", x))
    dim = states.shape[-1]
    hidden = jax_peer.posterior_inputs(weights, dim, features, controls[:, None], x)
    eps = jax.random.normal(keys[2], states.shape)
    states, log_ratio = jax_peer.innovate(weights, constants, states, prior, hidden, x, eps)
    mean, sd = jax_peer.emission(weights, constants, states)
    joint = log_weights + log_likelihood(x, mean, sd) - jnp.sum(log_ratio, axis=-1)
    evidence = jax.nn.logsumexp(joint, axis=1)
    return states, joint - evidence[:, None], predicted, jnp.sqrt(variance), evidence


def resampled(states, log_weights, key):
    """Resamples systematically where the effective sample size is below half of the particles."""
    size, weights = log_weights.shape[1], jnp.exp(log_weights)
    needed = 1.0 / jnp.sum(weights**2, axis=1, keepdims=True) < size / 2.0
    offsets = jax.random.uniform(key, [len(weights), 1])
    points = (jnp.arange(size) + offsets) / size
    cumulative = jnp.cumsum(weights, axis=1)
    cumulative /= cumulative[:, -1:]
    chosen = jax.vmap(functools.partial(jnp.searchsorted, side="right"))(cumulative, points)
    chosen = jnp.where(needed, jnp.minimum(chosen, size - 1), jnp.arange(size))
    states = jnp.take_along_axis(states, chosen[..., None], axis=1)
    return states, jnp.where(needed, -math.log(size), log_weights)


def log_likelihood(x, mean, sd):
    """Returns ln N(x; mean, sd^2), summed over dimensions."""
    terms = -0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * math.log(2.0 * math.pi)
    return jnp.sum(terms, axis=-1)
