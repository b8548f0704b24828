"""Confidence intervals of means over sequences, or over the time steps of few long records.

The scores of one record are correlated in time, so that its time steps are no independent sample.
Blocks of consecutive time steps are resampled in their place (Kuensch 1989), long enough to hold
the correlation. `scipy.stats.bootstrap` resamples single values alone.
"""

from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
# With fewer sequences than this blocks of their time steps are resampled.
MIN_SEQUENCES = 10


class Intervals(NamedTuple):
    """Percentile intervals of several means.

    Attributes:
      low, high: Ends of the intervals, [measures].
      resampled: What was resampled, "sequences" or "blocks of 12 time steps".
    """

    low: np.ndarray
    high: np.ndarray
    resampled: str


def mean_intervals(values, observed, seed=None, block=None):
    """Returns the 95 % `Intervals` of the means of `values` over the observed steps.

    Args:
      values: Scores, [measures, batch, time]; what stands in missing steps has no effect.
      observed: bool [batch, time].
      seed: Seed of the resampling; None draws a new one.
      block: Time steps of a block; None resamples whole sequences where there are ten or more, and
        otherwise blocks of the longest `block_length` of all measures and sequences.

    Raises:
      ValueError: If the shapes do not fit or `block` is longer than a sequence.
    """
    values, observed = np.asarray(values, np.float64), np.asarray(observed, bool)
    if values.ndim != 3 or values.shape[1:] != observed.shape:
        raise ValueError(
            f"`values` must have shape [measures, batch, time] of `observed`, {observed.shape}; "
            f"got {values.shape}."
        )
    batch, steps = observed.shape
    if block is not None and not 1 <= block <= steps:
        raise ValueError(f"`block` must lie in [1, {steps}]; got {block}.")
    values = np.where(observed, values, 0.0)
    if block is None and batch >= MIN_SEQUENCES:
        sums, counts, number = values.sum(axis=2), observed.sum(axis=1), batch
        return Intervals(*_percentiles(sums, counts, number, seed), "sequences")
    block = longest_block(values, observed) if block is None else block
    sums = _block_sums(values, block).reshape(len(values), -1)
    counts = _block_sums(observed, block).reshape(-1)
    number = -(-observed.size // block)
    return Intervals(*_percentiles(sums, counts, number, seed), f"blocks of {block} time steps")


def longest_block(values, observed):
    """Returns the longest `block_length` of all measures and sequences."""
    series = [
        measure[index, seen]
        for index, seen in enumerate(observed)
        for measure in values
        if seen.sum() > 1 and np.all(np.isfinite(measure[index, seen]))
    ]
    return min(max(map(block_length, series), default=1), observed.shape[1])


def block_length(series):
    """Returns the length of blocks that serves the mean of a stationary series [time] best.

        b = (2 G^2 / D)^(1/3) T^(1/3),  G = sum_k |k| R(k),  D = 4/3 (sum_k R(k))^2

    with autocovariances R tapered behind the lag from which on they are insignificant (Politis and
    White 2004, section 3; corrected by Patton, Politis and White 2009). At most T / 3.
    """
    steps = len(series)
    run = max(5, int(np.sqrt(np.log10(steps))))  # Insignificant lags in a row that end the search.
    most = min(int(np.ceil(np.sqrt(steps))) + run, steps - 1)
    centred = series - np.mean(series)
    covariances = np.array([centred[lag:] @ centred[: steps - lag] for lag in range(most + 1)])
    if not covariances[0] > 1e-12 * steps * np.max(np.abs(series)) ** 2:
        return 1  # A constant series.
    significant = np.abs(covariances / covariances[0]) > 2.0 * np.sqrt(np.log10(steps) / steps)
    last = next((m for m in range(most) if not significant[m + 1 : m + 1 + run].any()), most)
    lags = np.arange(1, min(2 * max(last, 1), most) + 1)
    taper = np.clip(2.0 * (1.0 - lags / (2.0 * max(last, 1))), 0.0, 1.0)
    tapered = taper * covariances[lags]
    slope, total = 2.0 * lags @ tapered, covariances[0] + 2.0 * tapered.sum()
    longest = min(3.0 * np.sqrt(steps), steps / 3.0)
    best = (1.5 * (slope / total) ** 2 * steps) ** (1.0 / 3.0) if total else longest
    return int(np.ceil(np.clip(best, 1.0, longest)))


def _block_sums(values, block):
    """Returns the sums of all blocks of consecutive steps, [..., time - block + 1]."""
    before = np.zeros_like(values[..., :1], np.float64)
    with np.errstate(invalid="ignore"):
        total = np.concatenate([before, np.cumsum(values, axis=-1, dtype=np.float64)], axis=-1)
        return total[..., block:] - total[..., :-block]


def _percentiles(sums, counts, number, seed):
    """Returns the ends of the intervals of sum / count over `number` units drawn at random.

    Args:
      sums: Sum of the scores of each unit, [measures, units].
      counts: Its observed steps, [units].
      number: Units of a resample.
      seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    means = np.full([NUM_RESAMPLES, len(sums)], np.nan)
    with np.errstate(invalid="ignore"):
        for row in means:
            drawn = rng.integers(len(counts), size=number)
            total = counts[drawn].sum()
            row[:] = sums[:, drawn].sum(axis=1) / total if total else np.nan
    means = means[~np.all(np.isnan(means), axis=1)]
    tail = 50.0 * (1.0 - CONFIDENCE)
    if not len(means):
        return np.full([2, len(sums)], np.nan)
    return np.percentile(means, [tail, 100.0 - tail], axis=0)
