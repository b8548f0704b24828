"""What a model takes: each rule once, for arrays and eager tensors and for tensors of a graph.

A rule is a condition on tensors. Where it can be decided at once, as for arrays, eager tensors and
static shapes, breaking it raises a ValueError that says where; in a graph it becomes an assertion
that fails when the graph runs. What passes is returned untouched but for casts and the zeros put in
missing steps, so that gradients reach what was given.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_dvbf import data, errors, registry
from tfp_dvbf.data import checks as data_checks
from tfp_dvbf.inference.checks import (
    Checks,
    binary,
    check_array,
    check_each,
    check_finite,
    numeric,
    split_masked,
)
from tfp_dvbf.layers import networks


class Rules(NamedTuple):
    """What observations, controls and masks of a model must be.

    Attributes:
      observation_shape: Shape of x[t].
      control_dim: Size du of u[t].
      initial_steps: The number k of steps that q(z[0] | x[0:k]) sees.
      emission: The `Emission`, for its support.
      posterior: The `Posterior`, for whether it takes gaps.
    """

    observation_shape: tuple
    control_dim: int
    initial_steps: int
    emission: object
    posterior: object


def check_batch(rules, observations, controls=None, mask=None):
    """Checks whole sequences.

    Args:
      rules: `Rules`.
      observations: x[0:T], [batch, time, *observation_shape].
      controls: u[0:T-1], [batch, time - 1, du]; a last control is ignored. None where du is 0.
      mask: Whether each step is observed, [batch, time], or None. What stands in a missing step
        has no effect. The first NaN among the controls behind the last observed step ends the
        sequence.

    Returns:
      A `data.Batch`, float32, what is missing set to 0, and whether each step is known, bool
      [batch, time], False from where a NaN control leads; None where all are.

    Raises:
      ValueError: If they break a rule that can be decided at once.
    """
    checks = Checks()
    observations, own = split_masked(observations)
    observations = check_observations(checks, rules, "observations", observations)
    least = max(2, rules.initial_steps)
    checks.require(
        tf.shape(observations)[1] >= least,
        lambda _: f"`observations` must have at least {least} steps; got {observations.shape[1]}.",
    )
    observations = checks.passed(observations)
    controls = check_controls(checks, rules, controls, observations)
    known = None
    observed = mask = check_mask(checks, rules, mask, observations, own)
    if mask is not None:
        known = data.known_steps_tensor(controls, mask)
        controls = tf.where(known[:, 1:, tf.newaxis], controls, 0.0)
        observations = tf.where(networks.expand_like(mask, observations), observations, 0.0)
        if tf.get_static_value(tf.reduce_all(mask)):
            mask = None
    check_values(checks, rules, observed, observations=observations, controls=controls)
    batch = data.Batch(observations, controls, mask)
    return checks.passed((batch, known))


def check_context(rules, observations, controls, mask=None, num_steps=None):
    """Checks a context x[0:c] and controls that reach past it, as `check_batch` does.

    Returns:
      A `data.Batch` of the context, its mask and all controls, and whether each step is known, bool
      [batch, T].
    """
    checks = Checks()
    observations, own = split_masked(observations)
    observations = check_observations(checks, rules, "observations", observations)
    _check_one_length(controls, num_steps)
    context, least = tf.shape(observations)[1], rules.initial_steps
    checks.require(
        context >= least,
        lambda _: (
            f"`observations` must have the {least} steps that q(z[0]) sees, or more; "
            f"got {observations.shape[1]}."
        ),
    )
    if rules.control_dim == 0 and controls is None:
        total = _check_num_steps(num_steps)
        controls = tf.zeros([tf.shape(observations)[0], total - 1, 0])
    shape = [("batch", observations), "time", rules.control_dim]
    controls = check_array(checks, "controls", controls, shape)
    checks.require(
        tf.shape(controls)[1] >= context,
        lambda _: (
            f"`controls` must reach past the context of {observations.shape[1]} observations; "
            f"got {controls.shape[1]} steps."
        ),
    )
    controls = checks.passed(controls)
    mask = check_mask(checks, rules, mask, observations, own, whole=False)
    observed = tf.ones(tf.shape(observations)[:2], tf.bool) if mask is None else mask
    later = tf.shape(controls)[1] + 1 - context
    known = data.known_steps_tensor(controls, tf.pad(observed, [[0, 0], [0, later]]))
    controls = tf.where(known[:, 1:, tf.newaxis], controls, 0.0)
    if mask is not None:
        observations = tf.where(networks.expand_like(mask, observations), observations, 0.0)
    check_values(checks, rules, mask, observations=observations, controls=controls)
    return checks.passed((data.Batch(observations, controls, mask), known))


def check_future(rules, controls, num_steps=None, initial_observations=None, initial_state=None):
    """Returns checked controls u[0:T-1] of a generated trajectory.

    For a model without controls, `num_steps` is T, and there are as many sequences as starts.
    """
    checks = Checks()
    _check_one_length(controls, num_steps)
    if controls is None and rules.control_dim == 0:
        batch = 1 if np.ndim(initial_state) < 2 else tf.shape(initial_state)[-2]
        if initial_observations is not None:
            batch = tf.shape(initial_observations)[0]
        controls = tf.zeros([batch, _check_num_steps(num_steps) - 1, 0])
    controls = check_array(checks, "controls", controls, ["batch", "time", rules.control_dim])
    checks.require(tf.shape(controls)[1] >= 1, "`controls` must have a step or more.")
    check_values(checks, rules, controls=controls)
    return checks.passed(controls)


def check_starts(initial_observations, initial_state, mask):
    """Raises ValueError if trajectories are given two starts, or a mask of none."""
    if initial_observations is not None and initial_state is not None:
        raise ValueError("Give `initial_observations` or `initial_state`, not both.")
    if mask is not None and initial_observations is None:
        raise ValueError("`mask` must come with `initial_observations`, whose steps it marks.")


def check_initial_observations(rules, initial_observations, controls, mask=None):
    """Returns a `data.Batch` of x[0:k] [batch, k, *observation_shape] and its mask, or None."""
    checks = Checks()
    observations, own = split_masked(initial_observations)
    observations = check_observations(
        checks, rules, "initial_observations", observations, controls, rules.initial_steps
    )
    mask = check_mask(checks, rules, mask, observations, own, whole=False)
    if mask is not None:
        observations = tf.where(networks.expand_like(mask, observations), observations, 0.0)
    check_values(checks, rules, mask, initial_observations=observations)
    return checks.passed(data.Batch(observations, controls, mask))


def check_initial_state(state_dim, initial_state, num_samples, controls):
    """Returns z[0], [batch, num_samples or 1, dz], of [batch, dz] or [num_samples, batch, dz]."""
    checks = Checks()
    state = tf.cast(numeric("initial_state", initial_state), tf.float32)
    shape = [tf.get_static_value(num_samples), controls.shape[0], state_dim]
    if not any(state.shape.is_compatible_with(each) for each in (shape, shape[1:])):
        raise ValueError(
            f"`initial_state` must have shape {shape[1:]} or {shape}; got {tuple(state.shape)}."
        )
    check_finite(checks, "initial_state", state)
    if each := state.shape.rank == 3:
        same = tf.shape(state)[0] == num_samples
        checks.require(same, "`initial_state` must have a state for each of the `num_samples`.")
    same = tf.shape(state)[-2] == tf.shape(controls)[0]
    checks.require(same, "`initial_state` must have the batch size of the controls.")
    state = checks.passed(state)
    return tf.transpose(state if each else state[tf.newaxis], [1, 0, 2])


def check_count(name, number, least=1):
    """Returns an integer of at least `least`, or a scalar tensor that a graph asserts to be one."""
    if tf.is_tensor(number) and tf.get_static_value(number) is None:
        checks = Checks()
        checks.require(number >= least, f"`{name}` must be at least {least}.")
        return checks.passed(number)
    return errors.check_integer(name, getattr(number, "numpy", lambda: number)(), least)


def check_observations(checks, rules, name, observations, like=None, steps="time"):
    """Returns numeric observations of the right shape; `like` has their batch size."""
    batch = "batch" if like is None else ("batch", like)
    return check_array(checks, name, observations, [batch, steps, *rules.observation_shape])


def check_controls(checks, rules, controls, observations):
    """Returns u[0:T-1] for x[0:T], a last control dropped."""
    steps = tf.shape(observations)[1]
    if controls is None and rules.control_dim == 0:
        return tf.zeros([tf.shape(observations)[0], steps - 1, 0])
    static, batch = observations.shape[1], ("batch", observations)
    time = "time" if static is None else (static - 1, static)
    controls = check_array(checks, "controls", controls, [batch, time, rules.control_dim])
    extra = tf.shape(controls)[1] - (steps - 1)
    checks.require(
        (extra == 0) | (extra == 1),
        "`controls` must have as many steps as `observations`, or one fewer.",
    )
    return checks.passed(controls)[:, : steps - 1]


def check_mask(checks, rules, mask, observations, own=None, whole=True):
    """Returns a bool mask [batch, time] of the steps that are observed, None where none is given.

    Args:
      checks: `Checks`.
      rules: `Rules`.
      mask: What the caller gave, or None.
      observations: Checked observations.
      own: The mask that they had as a `numpy.ma` array, or None.
      whole: Whether every sequence must have an observed step; a context without any starts from
        p(z[0]).
    """
    if mask is not None:
        shape = [("batch", observations), ("time", observations)]
        mask = binary(checks, "mask", mask, shape)
    if own is not None:
        mask = tf.constant(own) if mask is None else mask & own
    if mask is None:
        return None
    if whole:
        some = tf.reduce_any(mask, axis=1)
        checks.require(
            tf.reduce_all(some),
            lambda holds: (
                data_checks.SOME_OBSERVED
                + ("." if holds is None else f"; {int(np.argmin(some))} has none.")
            ),
        )
    if not rules.posterior.takes_gaps:
        name = registry.name_of("posterior", rules.posterior)
        gaps = tf.reduce_any(~mask[:, :-1] & mask[:, 1:])
        reason = rules.posterior.takes_gaps.reason
        checks.require(~gaps, f"`mask` must have no gaps for {name}: {reason}.")
    return mask


def check_values(checks, rules, mask=None, **tensors):
    """Requires finite values and, of what `mask` says is observed, those the emission can make."""
    for name, tensor in tensors.items():
        check_finite(checks, name, tensor)
        if name != "controls" and rules.emission.support is not None:
            holds = rules.emission.supports(tensor)
            if mask is not None:  # What is missing is 0, which the emission may never make.
                holds |= networks.expand_like(~mask, tensor)
            check_each(checks, tensor, holds, functools.partial(_unsupported, rules, name))


def _unsupported(rules, name, value=None, index=()):
    """Returns what to say of values that the emission cannot make."""
    emission = registry.name_of("emission", rules.emission)
    found = data_checks.value_at(name, value, index)
    return f"`{name}` must be {rules.emission.support} for the {emission} emission{found}."


def _check_one_length(controls, num_steps):
    """Raises ValueError if a length is given twice."""
    if controls is not None and num_steps is not None:
        raise ValueError("`num_steps` must be left out where `controls` are given: they say it.")


def _check_num_steps(num_steps):
    if num_steps is None:
        raise ValueError("`num_steps` must be given where the model has no controls.")
    return check_count("num_steps", num_steps, least=2)
