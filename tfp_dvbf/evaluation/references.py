"""Forecasts that need no network: hold, the mean, and a linear ARX model, scored as a model is."""

import numpy as np

from tfp_dvbf import data, errors
from tfp_dvbf.evaluation import arx, batches, forecasts, measures

# What is used at most: time steps and values of the training part, and past values by which ARX
# predicts one.
TRAIN_STEPS = 10**5
TRAIN_VALUES = 2 * 10**7
MAX_REGRESSORS = 100
NUM_LAGS = 64
LEAST_SCALE = 1e-6


def forecast_baselines(train, sequences, initial_steps, num_draws=100, seed=1):
    """Scores forecasts that need no network by the protocol of `free_run`.

    - "hold": N(x[n-1], d[h]^2), the last observed value of x[0:n] and, as its standard deviation,
      the root mean square of x[t+h] - x[t] over the training part;
    - "mean": mean and standard deviation of the training part at every step;
    - "ARX, order p": the linear model of `arx.ARX` fitted on the training part, of the order up to
      n that `arx.select_order` finds on that part; draws with the noise of its residuals. For
      vectors alone.

    Args:
      train: The training part, `Sequences` or `Shards`, of which the first 100,000 steps count.
      sequences: What is forecast, `Sequences` or `Shards`.
      initial_steps: The number n of time steps that are given.
      num_draws: Draws of each sequence for ARX.
      seed: Seed of those draws and of the intervals.

    Returns:
      A list of dictionaries, each a name, `model`, and what `measures.summarise` returns.

    Raises:
      ValueError: If n leaves nothing to score, the shapes differ, or `train` is too short for ARX.
    """
    for name, given in {"train": train, "sequences": sequences}.items():
        batches.check_sequences(name, given)
    initial_steps = errors.check_integer("initial_steps", initial_steps)
    forecasts.check_scored(sequences, initial_steps)
    shapes = [(each.observation_shape, each.control_dim) for each in (train, sequences)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`train` must have the shapes of `sequences`, {shapes[1]} (observation, control); "
            f"got {shapes[0]}."
        )
    train = _first_part(train)
    scorers = {"hold": _hold(train), "mean": _mean(train)}
    if len(train.observation_shape) == 1:
        most = MAX_REGRESSORS // (train.observation_shape[0] + train.control_dim)
        order = arx.select_order(train, max(1, min(initial_steps, most)))
        scorers[f"ARX, order {order}"] = _linear(arx.fit(train, order), num_draws, seed)
    rows = []
    for name, scorer in scorers.items():
        scores, observed = forecasts.score_batches(sequences, initial_steps, num_draws, scorer)
        rows.append({"model": name, **measures.summarise(scores, observed, seed)})
    return rows


def _first_part(sequences):
    """Returns the training data that count, as `Sequences`."""
    size = int(np.prod(sequences.observation_shape))
    steps = min(TRAIN_STEPS, TRAIN_VALUES // size)
    number = max(1, steps // sequences.num_steps)
    whole = isinstance(sequences, data.Sequences)
    parts, left = [], number
    for part in [sequences] if whole else sequences.parts():
        parts.append(part[:left])
        left -= len(parts[-1])
        if not left:
            break
    arrays = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("observations", "controls", "observed")
    )
    observations, controls, mask = arrays
    joined = data.Sequences(observations, controls, mask=mask)
    return joined if sequences.num_steps <= steps else arx.cut(joined, 0, max(2, steps))


def _mean(train):
    mean, scale = _moments(train)

    def score(batch, initial_steps, start):
        truth = batch.observations[:, initial_steps:]
        return measures.score_gaussian(*np.broadcast_arrays(mean, scale, truth))

    return score


def _hold(train):
    lags, changes = _changes(train)
    mean, _ = _moments(train)

    def score(batch, initial_steps, start):
        truth = batch.observations[:, initial_steps:]
        last = _last_observed(batch, initial_steps, mean)[:, np.newaxis]
        horizons = np.arange(1, truth.shape[1] + 1)
        flat = changes.reshape(len(lags), -1)
        scale = np.stack([np.interp(horizons, lags, column) for column in flat.T], axis=-1)
        scale = scale.reshape(len(horizons), *truth.shape[2:])
        return measures.score_gaussian(*np.broadcast_arrays(last, scale, truth))

    return score


def _linear(model, num_draws, seed):
    def score(batch, initial_steps, start):
        truth = batch.observations[:, initial_steps:]
        initial = arx.held(batch, initial_steps, model.mean)
        draws = model.simulate(initial, batch.controls, num_draws, [seed, start])
        scores = measures.score_draws(draws, truth)
        return scores._replace(nll_mixture=scores.nll)  # What a linear model forecasts is Gaussian.

    return score


def _moments(train):
    """Returns mean and standard deviation of the observed steps, of the shape of an observation."""
    observed = train.observations[train.observed]
    mean, scale = observed.mean(axis=0, dtype=np.float64), observed.std(axis=0, dtype=np.float64)
    return mean, np.where(scale > 0.0, scale, LEAST_SCALE)


def _last_observed(batch, steps, mean):
    """Returns the last observed value of x[0:n], the mean where there is none."""
    seen = batch.observed[:, :steps]
    last = steps - 1 - seen[:, ::-1].argmax(axis=1)
    values = batch.observations[np.arange(len(batch)), last]
    some = seen.any(axis=1).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(some, values, mean)


def _changes(train):
    """Returns lags h and the root mean square of x[t+h] - x[t] at each, [lags, ...]."""
    lags = np.unique(np.geomspace(1, train.num_steps - 1, NUM_LAGS).astype(int))
    kept, changes = [], []
    for lag in lags:
        both = train.observed[:, lag:] & train.observed[:, :-lag]
        if both.any():
            later, earlier = train.observations[:, lag:], train.observations[:, :-lag]
            change = later[both].astype(np.float64) - earlier[both]
            changes.append(np.sqrt(np.mean(np.square(change), axis=0)))
            kept.append(lag)
    if not kept:
        return np.array([1]), _moments(train)[1][np.newaxis]
    return np.array(kept), np.maximum(changes, LEAST_SCALE * _moments(train)[1])
