"""What a model takes: each rule once, for arrays and eager tensors and for tensors of a graph.

A rule is a condition on tensors. Where it can be decided at once, as for arrays, eager tensors and
static shapes, breaking it raises a ValueError that says where; in a graph it becomes an assertion
that fails when the graph runs. What passes is returned untouched but for casts and the zeros put in
missing steps, so that gradients reach what was given.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_dvbf import data, errors, registry
from tfp_dvbf.data import checks as data_checks
from tfp_dvbf.inference.checks import (
    Checks,
    check_array,
    check_finite,
    check_shape,
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
    observations, mask = split_masked(observations, mask)
    observations = check_observations(checks, rules, "observations", observations)
    least = max(2, rules.initial_steps)
    checks.require(
        tf.shape(observations)[1] >= least,
        lambda _: f"`observations` must have at least {least} steps; got {observations.shape[1]}.",
    )
    observations = checks.passed(observations)
    controls = check_controls(checks, rules, controls, observations)
    known, observed = None, None
    if mask is not None:
        observed = mask = check_mask(checks, rules, mask, observations)
        known = data.known_steps_tensor(controls, mask)
        controls = tf.where(known[:, 1:, tf.newaxis], controls, 0.0)
        observations = tf.where(networks.expand_like(mask, observations), observations, 0.0)
        if tf.get_static_value(tf.reduce_all(mask)):
            mask = None
    check_values(checks, rules, observed, observations=observations, controls=controls)
    batch = data.Batch(observations, controls, mask)
    return checks.passed((batch, known))


def check_context(rules, observations, controls, mask=None, num_steps=None):
    """Returns a `data.Batch` of the context x[0:c], its mask, and controls that reach past it."""
    checks = Checks()
    observations, mask = split_masked(observations, mask)
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
    if mask is not None:
        mask = check_mask(checks, rules, mask, observations, whole=False)
        observations = tf.where(networks.expand_like(mask, observations), observations, 0.0)
    check_values(checks, rules, mask, observations=observations, controls=controls)
    return checks.passed(data.Batch(observations, controls, mask))


def check_future(rules, controls, num_steps=None, initial_observations=None, initial_state=None):
    """Returns checked controls u[0:T-1] of a generated trajectory.

    For a model without controls, `num_steps` is T, and there are as many sequences as starts.
    """
    checks = Checks()
    _check_one_length(controls, num_steps)
    if controls is None and rules.control_dim == 0:
        batch = 1 if initial_state is None else tf.shape(initial_state)[-2]
        if initial_observations is not None:
            batch = tf.shape(initial_observations)[0]
        controls = tf.zeros([batch, _check_num_steps(num_steps) - 1, 0])
    controls = check_array(checks, "controls", controls, ["batch", "time", rules.control_dim])
    checks.require(tf.shape(controls)[1] >= 1, "`controls` must have a step or more.")
    check_values(checks, rules, controls=controls)
    return checks.passed(controls)


def check_initial_observations(rules, initial_observations, controls, mask=None):
    """Returns a `data.Batch` of x[0:k] [batch, k, *observation_shape] and its mask, or None."""
    checks = Checks()
    observations, mask = split_masked(initial_observations, mask)
    observations = check_observations(
        checks, rules, "initial_observations", observations, controls, rules.initial_steps
    )
    if mask is not None:
        mask = check_mask(checks, rules, mask, observations, whole=False)
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


def check_mask(checks, rules, mask, observations, whole=True):
    """Returns a bool mask [batch, time] of the steps that are observed.

    `whole` sequences must have an observed step each; a context without any starts from p(z[0]).
    """
    shape = [("batch", observations), ("time", observations)]
    mask = check_shape(checks, "mask", numeric("mask", mask), shape)
    if mask.dtype != tf.bool:
        binary = tf.reduce_all((mask == 0) | (mask == 1))
        checks.require(binary, data_checks.BINARY_MASK)
        mask = tf.cast(mask, tf.bool)
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
            emission = registry.name_of("emission", rules.emission)
            holds = rules.emission.supports(tensor)
            if mask is not None:  # What is missing is 0, which the emission may never make.
                holds |= networks.expand_like(~mask, tensor)
            checks.require(
                tf.reduce_all(holds),
                f"`{name}` must be {rules.emission.support} for the {emission} emission.",
            )


def _check_one_length(controls, num_steps):
    if controls is not None and num_steps is not None:
        raise ValueError("`num_steps` must be left out where `controls` are given: they say it.")


def _check_num_steps(num_steps):
    if num_steps is None:
        raise ValueError("`num_steps` must be given where the model has no controls.")
    return check_count("num_steps", num_steps, least=2)
