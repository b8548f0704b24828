"""The interval score: how narrow an interval is, and what it costs to lie outside of it."""

import numpy as np

SHARE = 0.9


def central_interval(draws, share):
    """Returns the ends of the central interval of `share` of draws [sample, ...], each [...]."""
    tails = [(1.0 - share) / 2.0, (1.0 + share) / 2.0]
    return np.quantile(draws, tails, axis=0, method="weibull")


def interval_score_90(draws, truth):
    """Returns the score of the central 90 % interval (l, u) of draws, [batch, time].

        S = (u - l) + 2 / (1 - 0.9) * (max(l - x, 0) + max(x - u, 0))

    averaged over the values of an observation, in their unit; less is better, and the true density
    has the least (Gneiting and Raftery 2007, equation 43).

    Args:
      draws: Draws of a forecast, [sample, batch, time, *observation_shape].
      truth: What happened, [batch, time, *observation_shape].
    """
    low, high = central_interval(draws, SHARE)
    outside = np.maximum(low - truth, 0.0) + np.maximum(truth - high, 0.0)
    score = high - low + 2.0 / (1.0 - SHARE) * outside
    return score.mean(axis=tuple(range(2, score.ndim)))
