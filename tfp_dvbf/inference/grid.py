"""The exact answers of a state-space model of one or two dimensions, by a grid over the state."""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_dvbf.inference import checks, validation

CHUNK_BYTES = 2**28  # Of the transition densities that are held at a time.


class Filtered(NamedTuple):
    """What the grid filter returns.

    Attributes:
      log_evidence: ln p(x[0:T] | u[0:T-1]) in nats and the user's units, [batch].
      density: p(z[t] | x[0:t], u[0:t-1]) at the points of the grid, [batch, time, n] or
        [batch, time, n, n]; None unless asked for.
    """

    log_evidence: np.ndarray
    density: np.ndarray | None


def filter(model, observations, controls, axis, keep_density=False):
    """Filters sequences by integrals over a grid, in float64.

        p(z[t] | x[0:t-1]) = sum over the grid of p(z[t] | z[t-1], u[t-1]) p(z[t-1] | x[0:t-1])

    A sum over equidistant points equals the integral of a smooth density up to exponentially small
    terms: the points must be closer than the noise of the transition and than the width of the
    likelihood, and must reach as far as the state does. Dimensions must move independently,

        p(z[t] | z[t-1], u[t-1]) = prod_d p(z[t]_d | z[t-1]_d, u[t-1]),

    so that one step is a product with a matrix for each dimension.

    Args:
      model: A `StateSpaceModel` with a state of one or two dimensions and any emission.
      observations: x[0:T], [batch, time, *observation_shape].
      controls: u[0:T-1] in the user's units, [batch, time - 1, du]; None where du is 0.
      axis: Equidistant points of each dimension, [n], that increase.
      keep_density: Whether the filtering densities are returned.

    Returns:
      `Filtered`.

    Raises:
      ValueError: If the state has more dimensions, or they do not move independently, or the
        observations, controls or points are not as above.
    """
    dim = model.spec.state_dim
    if dim > 2:
        raise ValueError(f"The state must have 1 or 2 dimensions for a grid; got {dim}.")
    axis = check_axis(axis)
    observations, controls = _check_sequences(model, observations, controls)
    if controls.shape[1]:
        check_independent(model, axis, controls)
    size = max(1, int(CHUNK_BYTES // (8 * dim * len(axis) ** 2)))
    parts = [
        _filter(model, observations[i : i + size], controls[i : i + size], axis, keep_density)
        for i in range(0, len(observations), size)
    ]
    log_evidence, density = zip(*parts)
    density = np.concatenate(density) if keep_density else None
    return Filtered(np.concatenate(log_evidence), density)


def check_axis(axis):
    """Returns the points of a dimension, float64 [n], or raises ValueError."""
    try:
        axis = np.asarray(axis, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`axis` must be numbers; got {axis!r}.") from error
    if axis.ndim != 1 or len(axis) < 2 or not np.all(np.isfinite(axis)):
        raise ValueError(f"`axis` must be two finite points or more; got shape {axis.shape}.")
    steps = np.diff(axis)
    if not steps.min() > 0 or not np.allclose(steps, steps.mean(), rtol=1e-3, atol=0.0):
        raise ValueError(
            "`axis` must be equidistant points that increase; "
            f"got distances from {steps.min():g} to {steps.max():g}."
        )
    return axis


def _check_sequences(model, observations, controls):
    """Returns observations and controls as finite float32 arrays, or raises ValueError."""
    spec, held = model.spec, checks.Checks()
    rules = validation.Rules(spec.observation_shape, spec.control_dim, 1, model.emission, None)
    observations = validation.check_observations(held, rules, "observations", observations)
    controls = validation.check_controls(held, rules, controls, observations)
    validation.check_values(held, rules, observations=observations, controls=controls)
    return observations.numpy(), controls.numpy()


def check_independent(model, axis, controls):
    """Raises ValueError unless a dimension moves as it does where the other one is 0.

    Its mean and its standard deviation must be the same, and it must not be correlated.
    """
    states = points(axis, model.spec.state_dim)[:: max(1, len(axis) // 5)]
    density = model.transition_distribution(states, _control_of(model, controls[0, :1], states))
    covariance = density.covariance().numpy()
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)
    alone = _marginals(model, axis, controls[:1, 0])
    same = np.allclose(covariance, variances[..., np.newaxis] * np.eye(len(alone)))
    for d, (loc, scale) in enumerate(alone):
        expected_loc, expected_scale = (np.interp(states[:, d], axis, v[0]) for v in (loc, scale))
        same &= np.allclose(density.mean()[:, d], expected_loc, atol=1e-3)
        same &= np.allclose(np.sqrt(variances[:, d]), expected_scale, rtol=1e-3, atol=0.0)
    if not same:
        raise ValueError("The dimensions of the state must move independently for a grid.")


def points(axis, dim):
    """Returns all points of the grid, [n ** dim, dim], float32."""
    return np.array(list(itertools.product(axis, repeat=dim)), np.float32)


def _control_of(model, controls, states):
    """Returns standardised controls [1, du] for each of `states`."""
    controls = model.standardise_controls(controls)
    return tf.repeat(controls, len(states), axis=0)


def _marginals(model, axis, controls):
    """Returns mean and standard deviation of p(z[t]_d | z[t-1]_d, u[t-1]), [batch, n], for each d.

    Args:
      model: A `StateSpaceModel`.
      axis: z[t-1]_d, [n].
      controls: u[t-1], [batch, du].
    """
    dim, found = model.spec.state_dim, []
    controls = tf.repeat(model.standardise_controls(controls), len(axis), axis=0)
    for d in range(dim):
        states = np.zeros([len(axis), dim], np.float32)
        states[:, d] = axis
        states = np.tile(states, [len(controls) // len(axis), 1])
        density = model.transition_distribution(states, controls)
        moments = density.mean()[:, d], density.stddev()[:, d]
        found.append([np.float64(value).reshape(-1, len(axis)) for value in moments])
    return found


def _filter(model, observations, controls, axis, keep_density):
    """Returns `Filtered` of sequences that are few enough for memory."""
    dim, cell = model.spec.state_dim, (axis[1] - axis[0]) ** model.spec.state_dim
    grid = points(axis, dim)
    shape = [len(observations), *[len(axis)] * dim]
    density = np.exp(np.float64(model.initial_distribution().log_prob(grid)))
    density = np.broadcast_to(density.reshape(shape[1:]), shape)
    log_evidence, kept = np.zeros(len(observations)), []
    for t in range(observations.shape[1]):
        if t:
            density = _predict(model, density, controls[:, t - 1], axis)
        log_likelihood = np.float64(
            model.log_likelihood(grid[:, np.newaxis], observations[np.newaxis, :, t])
        )
        log_likelihood = log_likelihood.T.reshape(shape)
        largest = log_likelihood.max(axis=tuple(range(1, dim + 1)), keepdims=True)
        density = density * np.exp(log_likelihood - largest)
        evidence = cell * density.reshape(len(density), -1).sum(axis=1)
        log_evidence += np.log(evidence) + largest.reshape(-1)
        density = density / evidence.reshape([-1] + [1] * dim)
        kept += [density] if keep_density else []
    return Filtered(log_evidence, np.stack(kept, axis=1) if keep_density else None)


def _predict(model, density, controls, axis):
    """Returns p(z[t] | x[0:t-1]) from p(z[t-1] | x[0:t-1]), [batch, n] or [batch, n, n]."""
    spacing = axis[1] - axis[0]
    matrices = []
    for loc, scale in _marginals(model, axis, controls):
        distance = (axis[:, np.newaxis] - loc[:, np.newaxis]) / scale[:, np.newaxis]
        normal = np.exp(-0.5 * distance**2) / (np.sqrt(2.0 * np.pi) * scale[:, np.newaxis])
        matrices.append(spacing * normal)  # [batch, to, from]
    if len(matrices) == 1:
        return np.einsum("bij,bj->bi", matrices[0], density)
    return matrices[0] @ density @ matrices[1].transpose(0, 2, 1)
