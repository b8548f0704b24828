"""Scores of probabilistic forecasts: NumPy in, numbers out.

For one value x and K draws x_k of its forecast, with mean m and variance v (over K - 1):

    squared error  (x - m)^2
    NLL            ln(2 pi v) / 2 + (x - m)^2 / (2 v)
    mixture NLL    -ln 1/K sum_k p(x | z_k)
    CRPS           1/K sum_k |x_k - x| - 1/(2 K (K - 1)) sum_jk |x_j - x_k|
    coverage       whether x lies between the (1 - c)/2 and (1 + c)/2 quantiles of the draws
    PIT            (number of x_k < x, plus half of 1 and of the ties) / (K + 1)

The CRPS is the fair one, an estimate without bias of that of the density behind the draws (Ferro
2014, doi 10.1002/qj.2270); the sum of pairs comes from sorted draws. The quantiles take the i-th
of K sorted draws as the i / (K + 1) quantile, so that the interval of a true forecast covers x with
probability c for as few draws as K >= (1 + c) / (1 - c). The mixture NLL is on average above that
of the density behind the draws, the more so the narrower p(x | z) is against their spread.
Log-densities are summed over the values of an observation, in nats a time step; all else is
averaged over them.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

from tfp_dvbf import registry
from tfp_dvbf.evaluation import interval_score, intervals

COVERAGES = {"coverage_50": 0.5, "coverage_90": interval_score.SHARE}
NUM_BINS = 10
SUMMARY = ("rmse", "intervals", "resampled", "by_horizon")  # What `summarise` adds to the scores.


class StepScores(NamedTuple):
    """Scores of a forecast at every time step, float64 [batch, time].

    Attributes:
      squared_error: Averaged over the values of an observation, in their squared unit.
      nll: Of a Gaussian with the forecast's mean and variance, nats.
      nll_mixture: Of the forecast's own density, nats; NaN where that was not given.
      crps: Averaged over the values, in their unit.
      coverage_50, coverage_90: Fraction of the values inside the central intervals.
      pit: Of every value, [batch, time, dx].
      others: What the metrics of `registry.METRICS` make of the draws, by name; empty for a
        forecast without draws.
    """

    squared_error: np.ndarray
    nll: np.ndarray
    nll_mixture: np.ndarray
    crps: np.ndarray
    coverage_50: np.ndarray
    coverage_90: np.ndarray
    pit: np.ndarray
    others: dict


def join(scores, axis=0, num_steps=None):
    """Returns one `StepScores` of several.

    Args:
      scores: A list of `StepScores`.
      axis: 0 where they are of other sequences, 1 where they are of later time steps.
      num_steps: Time steps of each that are taken; None for all.
    """

    def joined(arrays):
        return np.concatenate([np.asarray(array)[:, :num_steps] for array in arrays], axis)

    others = {name: joined([each.others[name] for each in scores]) for name in scores[0].others}
    return StepScores(*map(joined, zip(*(each[:-1] for each in scores))), others)


def score_draws(draws, truth, log_likelihoods=None):
    """Scores draws of observations, the noise of the emission among them.

    Args:
      draws: [sample, batch, time, *observation_shape], two samples or more.
      truth: [batch, time, *observation_shape].
      log_likelihoods: ln p(x[t] | z_k[t]) of each draw, [sample, batch, time], or None.

    Returns:
      `StepScores`.

    Raises:
      ValueError: If the shapes do not fit, there are fewer than two draws, or a metric of
        `registry.METRICS` returns another shape than [batch, time].
    """
    draws, truth = np.asarray(draws, np.float64), np.asarray(truth, np.float64)
    if draws.shape[1:] != truth.shape or truth.ndim < 2:
        raise ValueError(
            f"`draws` must have shape [sample, {', '.join(map(str, truth.shape))}], that of "
            f"`truth` behind the samples; got {draws.shape}."
        )
    if len(draws) < 2:
        raise ValueError(f"`draws` must hold at least 2 samples for a variance; got {len(draws)}.")
    if log_likelihoods is not None and np.shape(log_likelihoods) != draws.shape[:3]:
        raise ValueError(
            f"`log_likelihoods` must have shape {draws.shape[:3]}; got {np.shape(log_likelihoods)}."
        )
    others = other_scores(draws, truth)
    truth = _flat(truth, 2)
    errors = _flat(draws, 3) - truth  # Differences first: a large offset costs no precision.
    zero = np.zeros_like(truth)
    mean, variance = errors.mean(axis=0), errors.var(axis=0, ddof=1)
    return StepScores(
        np.square(mean).mean(axis=-1),
        gaussian_nll(mean, variance, zero).sum(axis=-1),
        np.full(zero.shape[:2], np.nan)
        if log_likelihoods is None
        else mixture_nll(log_likelihoods),
        crps(errors, zero).mean(axis=-1),
        *(inside(errors, zero, share).mean(axis=-1) for share in COVERAGES.values()),
        pit(errors, zero),
        others,
    )


def other_scores(draws, truth):
    """Returns what the metrics of `registry.METRICS` make of draws, each [batch, time].

    Raises:
      ValueError: If one returns another shape, or has the name of a score of the package.
    """
    found = {}
    for name, metric in registry.metrics().items():
        if name in (*StepScores._fields, *SUMMARY):
            raise ValueError(
                f"`registry.METRICS` must not hold `{name}`, a score of the package; rename it."
            )
        found[name] = np.asarray(metric(draws, truth), np.float64)
        if found[name].shape != truth.shape[:2]:
            raise ValueError(
                f"The metric `{name}` must return shape [batch, time] = {list(truth.shape[:2])}; "
                f"got {found[name].shape}."
            )
    return found


def score_gaussian(mean, scale, truth, nll_mixture=None):
    """Scores a Gaussian forecast of every value by the closed forms.

    Args:
      mean, scale: Mean and standard deviation, [batch, time, *observation_shape] each.
      truth: [batch, time, *observation_shape].
      nll_mixture: -ln p(x[t]) of the density that these are the moments of, [batch, time]; None
        where that is the Gaussian.

    Returns:
      `StepScores`.
    """
    shapes = [np.shape(array) for array in (mean, scale, truth)]
    if len(set(shapes)) > 1 or len(shapes[0]) < 2:
        raise ValueError(
            "`mean`, `scale` and `truth` must have one shape [batch, time, ...]; "
            f"got {', '.join(map(str, shapes))}."
        )
    mean, scale, truth = (_flat(array, 2) for array in (mean, scale, truth))
    nll = gaussian_nll(mean, np.square(scale), truth).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # Without variance they are not finite.
        level = scipy.special.ndtr((truth - mean) / scale)
        ranked = gaussian_crps(mean, scale, truth).mean(axis=-1)
    return StepScores(
        np.square(truth - mean).mean(axis=-1),
        nll,
        nll if nll_mixture is None else np.asarray(nll_mixture, np.float64),
        ranked,
        *(
            (np.abs(level - 0.5) <= share / 2).astype(np.float64).mean(axis=-1)
            for share in COVERAGES.values()
        ),
        level,
        {},
    )


def gaussian_nll(mean, variance, truth):
    """Returns -ln N(truth; mean, variance) of every value, in nats; not finite without variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 0.5 * np.log(2.0 * np.pi * variance) + 0.5 * np.square(truth - mean) / variance


def gaussian_crps(mean, scale, truth):
    """Returns the CRPS of N(mean, scale^2) (Gneiting and Raftery 2007, equation 21)."""
    z = (truth - mean) / scale
    density = np.exp(-0.5 * np.square(z)) / np.sqrt(2.0 * np.pi)
    return scale * (z * (2.0 * scipy.special.ndtr(z) - 1.0) + 2.0 * density - np.pi**-0.5)


def mixture_nll(log_likelihoods):
    """Returns -ln of the mean density of draws whose log-densities [sample, ...] are given."""
    log_likelihoods = np.asarray(log_likelihoods, np.float64)
    total = scipy.special.logsumexp(log_likelihoods, axis=0)
    return np.log(len(log_likelihoods)) - total


def crps(draws, truth):
    """Returns the fair CRPS of draws [sample, ...] of every value [...]."""
    number = len(draws)
    deviations = np.sort(np.asarray(draws, np.float64) - truth, axis=0)
    weights = 2.0 * np.arange(1, number + 1) - number - 1.0  # Of sum_{j<k} x_(k) - x_(j).
    pairs = np.tensordot(weights, deviations, axes=1)
    return np.abs(deviations).mean(axis=0) - pairs / (number * (number - 1.0))


def inside(draws, truth, share):
    """Returns whether each value lies in the central interval of `share`, bool [...]."""
    low, high = interval_score.central_interval(draws, share)
    return (low <= truth) & (truth <= high)


def pit(draws, truth):
    """Returns the probability integral transform of every value, in (0, 1)."""
    draws = np.asarray(draws)
    below = np.sum(draws < truth, axis=0) + 0.5 * np.sum(draws == truth, axis=0)
    return (below + 0.5) / (len(draws) + 1.0)


def summarise(scores, observed, seed=1):
    """Returns the measures over all observed steps and by horizon, with their intervals.

    Args:
      scores: `StepScores` of the steps that are scored.
      observed: Whether each of them is observed, bool [batch, time].
      seed: Seed of the resampling behind the intervals.

    Returns:
      A dictionary: `rmse`, `nll`, `nll_mixture`, `crps`, `coverage_50`, `coverage_90` and the
      metrics of `registry.METRICS`, None where a score is not finite; `intervals`, the 95 %
      interval of each; `resampled`, what was resampled for them; `num_scored`, the number of
      sequences with a step that is scored; `pit`, the fractions of the values in ten bins of equal
      width; and `by_horizon`, a list over time steps for each measure, None
      where none is observed.
    """
    observed = np.asarray(observed, bool)
    if observed.shape != scores.nll.shape:
        raise ValueError(f"`observed` must have shape {scores.nll.shape}; got {observed.shape}.")
    if not observed.any():
        raise ValueError("`observed` must leave a time step to score; it is False everywhere.")
    names = ("rmse", *StepScores._fields[1:-2], *scores.others)
    values = np.where(observed, np.stack([*scores[:-2], *scores.others.values()]), 0.0)
    with np.errstate(invalid="ignore"):
        overall = values.sum(axis=(1, 2)) / observed.sum()
        by_horizon = values.sum(axis=1) / np.where(
            observed.any(axis=0), observed.sum(axis=0), np.nan
        )
    found = intervals.mean_intervals(values, observed, seed)
    counts, _ = np.histogram(scores.pit[observed], NUM_BINS, (0.0, 1.0))
    return {
        **_named(names, overall),
        "intervals": _named(names, np.transpose([found.low, found.high])),
        "resampled": found.resampled,
        "num_scored": int(observed.any(axis=1).sum()),
        "pit": (counts / max(1, counts.sum())).tolist(),
        "by_horizon": _named(names, by_horizon),
    }


def _named(names, values):
    """Returns means by name as numbers that JSON can hold; the first is of squares."""
    values = np.concatenate([np.sqrt(values[:1]), values[1:]])
    return {name: _number(value) for name, value in zip(names, values)}


def _number(value):
    """Returns a number, or None where it is not finite; lists of them for arrays."""
    if np.ndim(value):
        return [_number(each) for each in value]
    return float(value) if np.isfinite(value) else None


def _flat(array, axes):
    """Returns an array in float64, what stands behind its first `axes` axes as one."""
    array = np.asarray(array, np.float64)
    return array.reshape(*array.shape[:axes], -1)
