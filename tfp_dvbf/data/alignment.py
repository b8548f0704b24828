"""Whether each control is paired with the step on which it acts."""

import warnings
from typing import NamedTuple

import numpy as np

from tfp_dvbf.data import missing, sequences

LAGS = 3  # Observations x[t], x[t-1], x[t-2] that every model sees.
MAX_ROWS = 10_000
MAX_DIM = 32  # Of an observation; above it least squares takes minutes.
ROWS_PER_REGRESSOR = 20
MIN_ROWS = 100
CLEAR = 0.9  # Ratio of two errors below which one is clearly lower.
CLEAR_DELAY = 0.8  # The same for shift -1, which a latent state can make up for.
ADDS_NOTHING = 0.99  # Ratio of the errors with and without a regressor.
NUM_BLOCKS = 10
MIN_BLOCKS = 8  # Blocks of time in which the lower error is lower.
FLOOR = 1e-6  # Of the scale of a dimension: errors below it are rounding.
RCOND = 1e-6  # Singular values below it are rounding, where x[t] = x[t-1] + v[t] exactly.
DEPENDS_ON = {-1: "u[t-1]", 0: "u[t]", 1: "u[t+1]"}
REMEDIES = {
    1: "Each control stands one step too late, or acts at once (feed-through): set "
    "`control_lead=1` in `Log`, or move the controls one step ahead. Where a controller computes "
    "u[t] from x[t], this is its feedback, and nothing is wrong.",
    -1: "Each control stands one step too early, or acts after a dead time: move the controls one "
    "step back (`control_lead=-1`), or leave the dead time to the latent state.",
}


class Alignment(NamedTuple):
    """What `check_alignment` finds.

    Attributes:
      shift: s, where x[t+1] is explained best by u[t+s]: 0 where controls are paired as the package
        expects them (or no other shift is clearly better), 1 or -1; None where there is no verdict.
      errors: Held-out error for each shift -1, 0 and 1, a dictionary: the root mean square of the
        one-step error, in the unit of the observations; its geometric mean over ten blocks of time
        and the dimensions. Empty where there is no verdict.
    """

    shift: int | None
    errors: dict


def check_alignment(observations, controls, mask=None):
    """Warns if x[t+1] is explained better by u[t+1] or u[t-1] than by u[t].

    A wrong pairing costs accuracy that no training gets back, and nothing else shows it. Linear
    least squares predicts x[t+1] - x[t] from x[t], x[t-1], x[t-2], controls, and the products of
    two of x[t] and the newest control, without which a pendulum's gravity would hide its torque.
    Each half of the data is predicted by the model of the other. Two alignments are compared at an
    equal number of regressors, and one is better only if its error is also the lower one in 8 of 10
    blocks of time.

    - Shift 1, if the error with u[t+1] and u[t] is below 0.9 of that with u[t] and u[t-1]. Two
      controls each, since a control that acts at once acts later as well: with one, u[t] alone
      explains a system of second order such as Silverbox better, where u[t+1] matters too.
    - Shift -1, if the error with u[t-1] alone is below 0.8 of that with u[t] alone, and u[t] beside
      u[t-1] takes less than 1 % off it: x[t+1] of a chain of integrators depends on both, and more
      on u[t-1]. A latent state can hold a control for a step, so that a needless warning is the
      greater harm here.

    A controller that computes u[t] from x[t] makes u[t+1] explain x[t+1] as feed-through does; only
    its owner can tell them apart, and the warning says so.

    The errors are those of the comparison that decides: with two controls unless the shift is -1.

    Args:
      observations: x[0:T], [batch, time, dx].
      controls: u[0:T-1], [batch, time - 1 or time, du], or None.
      mask: Whether each step is observed, [batch, time], or None.

    Returns:
      An `Alignment`. There is no verdict without controls, on images, on more than 32 dimensions,
      and on too few observed steps: below 20 for each regressor, or 100.

    Raises:
      ValueError: If the arrays are no sequences, as `check_sequences` says.
    """
    batch = sequences.check_sequences(observations, controls, mask)
    found = _compare(batch)
    if found.shift:
        errors = found.errors
        warnings.warn(
            f"x[t+1] is explained best by {DEPENDS_ON[found.shift]}, not by u[t]: a shift of "
            f"{found.shift:+d} has a one-step error of {errors[found.shift]:.3g}, no shift one of "
            f"{errors[0]:.3g}. {REMEDIES[found.shift]}",
            UserWarning,
            stacklevel=2,
        )
    return found


def check_alignment_of(split):
    """Calls `check_alignment` on `Sequences`, or on the first part of `Shards`."""
    part = split if isinstance(split, sequences.Sequences) else split.load(0)
    return check_alignment(part.observations, part.controls, part.mask)


def _compare(batch):
    """Returns the `Alignment` of a `Batch`."""
    no_verdict = Alignment(None, {})
    if batch.observations.ndim > 3 or batch.observations.shape[2] > MAX_DIM:
        return no_verdict
    rows = _complete_rows(batch)
    dim, control_dim = batch.observations.shape[2], batch.controls.shape[2]
    least = max(MIN_ROWS, ROWS_PER_REGRESSOR * (LAGS * dim + 2 * control_dim + 1))
    if control_dim == 0 or len(rows) < least:
        return no_verdict
    pairs = {shift: _held_out(batch, rows, [shift, shift - 1]) for shift in DEPENDS_ON}
    if not pairs[0].size:
        return no_verdict  # Every dimension is constant.
    if _clearly_better(pairs[1], pairs[0]):
        return Alignment(1, _totals(pairs))
    singles = {shift: _held_out(batch, rows, [shift]) for shift in DEPENDS_ON}
    adds_nothing = _total(pairs[0]) > ADDS_NOTHING * _total(singles[-1])
    if adds_nothing and _clearly_better(singles[-1], singles[0], CLEAR_DELAY):
        return Alignment(-1, _totals(singles))
    return Alignment(0, _totals(pairs))


def _complete_rows(batch):
    """Returns the (sequence, t) for which all that any of the models needs is known, [rows, 2].

    These are x[t-2] to x[t+1] and u[t-2] to u[t+1].
    """
    shape = batch.observations.shape[:2]
    observed = np.ones(shape, bool) if batch.mask is None else batch.mask
    applied = missing.steps_follow(observed)
    t = np.arange(LAGS - 1, shape[1] - 2)
    complete = applied[:, t + 1]
    for offset in range(-LAGS + 1, 2):
        complete &= observed[:, t + offset]
    rows = np.argwhere(complete) + [0, LAGS - 1]
    return rows[:: -(-len(rows) // MAX_ROWS) or 1]


def _held_out(batch, rows, offsets):
    """Returns squared one-step errors by block of time and dimension that changes, [blocks, dim].

    Args:
      batch: `Batch` of vectors.
      rows: [rows, 2], the (sequence, t) that count.
      offsets: The controls u[t + offset] that the model sees, the newest first.
    """
    sequence, t = rows.T
    observations, controls = batch.observations.astype(float), batch.controls.astype(float)
    lags = [_standardised(observations[sequence, t - lag]) for lag in range(LAGS)]
    seen = [_standardised(controls[sequence, t + offset]) for offset in offsets]
    regressors = np.concatenate([np.ones([len(rows), 1]), *lags, *seen], axis=1)
    first, second = np.triu_indices(lags[0].shape[1] + seen[0].shape[1])
    if ROWS_PER_REGRESSOR * (regressors.shape[1] + len(first)) <= len(rows):
        factors = np.concatenate([lags[0], seen[0]], axis=1)
        regressors = np.concatenate([regressors, factors[:, first] * factors[:, second]], axis=1)
    scale = observations[sequence, t].std(axis=0)
    changes = (observations[sequence, t + 1] - observations[sequence, t])[:, scale > 0]
    errors = np.square(_predict_halves(regressors, changes)) + np.square(FLOOR * scale[scale > 0])
    return np.stack([block.mean(axis=0) for block in np.array_split(errors, NUM_BLOCKS)])


def _standardised(values):
    deviations = values - values.mean(axis=0)
    scale = deviations.std(axis=0)
    return deviations / np.where(scale > 0, scale, 1.0)


def _predict_halves(regressors, targets):
    """Returns the errors of each half of the rows under the least-squares model of the other."""
    half = len(targets) // 2
    halves = slice(None, half), slice(half, None)
    errors = np.empty_like(targets)
    for fitted, predicted in [halves, halves[::-1]]:
        weights = np.linalg.lstsq(regressors[fitted], targets[fitted], rcond=RCOND)[0]
        errors[predicted] = targets[predicted] - regressors[predicted] @ weights
    return errors


def _total(squared):
    """Returns the geometric mean of the roots of squared errors [blocks, dim], a float.

    It bears the block in which a car hits a wall once, where the mean of the squares would not.
    """
    return float(np.exp(np.log(squared).mean() / 2))


def _totals(by_shift):
    return {shift: _total(squared) for shift, squared in by_shift.items()}


def _clearly_better(squared, other, ratio=CLEAR):
    """Returns whether squared errors [blocks, dim] are clearly lower than others."""
    won = np.log(squared).mean(axis=1) < np.log(other).mean(axis=1)
    return won.sum() >= MIN_BLOCKS and _total(squared) < ratio * _total(other)
