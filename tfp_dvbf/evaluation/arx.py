"""A linear autoregressive model with controls (ARX): what a network has to beat."""

import contextlib
import dataclasses

import numpy as np

# No draw of an unstable model goes further from the mean, in standard deviations of the data.
FAR = 1e3
ORDERS = (1, 2, 3, 5, 8, 12, 20)
AS_GOOD = 1.02


@dataclasses.dataclass(frozen=True)
class ARX:
    """x[t] = c + sum_{i=1..p} A_i x[t-i] + B_i u[t-i] + e[t],  e[t] ~ N(0, S).

    Attributes:
      coefficients: c, A_1, B_1, A_2, B_2, ... one above the other, [1 + p (dx + du), dx].
      covariance: S, that of the residuals, [dx, dx].
      order: p.
      mean, scale: Mean and standard deviation of the training data, [dx] each.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    order: int
    mean: np.ndarray
    scale: np.ndarray

    def predict(self, past, controls):
        """Returns E[x[t]], [..., dx], of x[t-p:t] [..., p, dx] and u[t-p:t] [..., p, du]."""
        newest_first = np.concatenate([past, controls], axis=-1)[..., ::-1, :]
        regressors = newest_first.reshape(*newest_first.shape[:-2], -1)
        return self.coefficients[0] + regressors @ self.coefficients[1:]

    def simulate(self, initial, controls, num_draws, seed=None):
        """Draws free runs.

        Args:
          initial: x[0:n], [batch, n, dx], n >= p.
          controls: u[0:T-1], [batch, time - 1, du].
          num_draws: Draws of each sequence.
          seed: Seed of the noise; None draws a new one.

        Returns:
          Draws of x[n:T], float32 [sample, batch, time - n, dx].
        """
        rng, factor = np.random.default_rng(seed), _root(self.covariance)
        batch, given, dim = initial.shape
        past = np.broadcast_to(
            initial[:, given - self.order :], [num_draws, batch, self.order, dim]
        )
        limit = FAR * self.scale
        draws = []
        for t in range(given, controls.shape[1] + 1):
            lagged = np.broadcast_to(
                controls[:, t - self.order : t], [*past.shape[:3], controls.shape[2]]
            )
            mean = self.predict(past, lagged)
            drawn = mean + rng.standard_normal(mean.shape) @ factor.T
            drawn = np.clip(drawn, self.mean - limit, self.mean + limit)
            draws.append(drawn.astype(np.float32))
            past = np.concatenate([past[:, :, 1:], drawn[:, :, np.newaxis]], axis=2)
        return np.stack(draws, axis=2)


def fit(sequences, order):
    """Returns the `ARX` of an order p that fits one step ahead best (least squares).

    Args:
      sequences: `Sequences` of vectors; a step that is missing, or has a missing one among the p
        before it, is left out.
      order: p.

    Raises:
      ValueError: If the data have fewer such steps than the model has coefficients.
    """
    x = sequences.observations.astype(np.float64)
    usable = _windows(sequences.observed, order + 1).all(axis=-1)
    lagged = [
        np.moveaxis(_windows(values[:, :steps], order), -1, 2)[usable]
        for values, steps in ((x, -1), (sequences.controls.astype(np.float64), None))
    ]
    newest_first = np.concatenate(lagged, axis=-1)[:, ::-1]
    regressors = newest_first.reshape(len(newest_first), -1)
    regressors = np.concatenate([np.ones([len(regressors), 1]), regressors], axis=1)
    if len(regressors) <= regressors.shape[1]:
        raise ValueError(
            f"`train` must have more than {regressors.shape[1]} steps with {order} observed ones "
            f"before them, to fit an ARX model of that order; got {len(regressors)}."
        )
    targets = x[:, order:][usable]
    coefficients = np.linalg.lstsq(regressors, targets, rcond=None)[0]
    residuals = targets - regressors @ coefficients
    covariance = residuals.T @ residuals / (len(residuals) - regressors.shape[1])
    observed = x[sequences.observed]
    scale = observed.std(axis=0)
    return ARX(coefficients, covariance, order, observed.mean(axis=0), scale)


def select_order(sequences, most, orders=ORDERS):
    """Returns the least order whose free run on the later half of the data is as good as the best.

    It is fitted on the earlier half: of the sequences, or of the time steps of a single one. As
    good is a mean squared error, of values in standard deviations, within 2 % of the least. An
    order that the earlier half is too short for is no candidate.

    Args:
      sequences: `Sequences` of vectors.
      most: The highest order that is taken, as many as a forecast is given steps.
      orders: Candidates.
    """
    earlier, later = halves(sequences)
    given = min(most, max(orders), later.num_steps - 1)
    errors = {}
    for order in [order for order in orders if order <= given]:
        with contextlib.suppress(ValueError):
            errors[order] = _free_run_error(fit(earlier, order), later, given)
    if not errors:
        return 1
    return min(order for order in errors if errors[order] <= AS_GOOD * min(errors.values()))


def _free_run_error(model, sequences, given):
    """Returns the mean squared error of the run without noise, in standard deviations."""
    noiseless = dataclasses.replace(model, covariance=np.zeros_like(model.covariance))
    run = noiseless.simulate(held(sequences, given, model.mean), sequences.controls, 1)[0]
    deviations = (run - sequences.observations[:, given:]) / np.maximum(model.scale, 1e-12)
    seen = sequences.observed[:, given:]
    return np.mean(np.square(deviations[seen], dtype=np.float64)) if seen.any() else np.inf


def halves(sequences):
    """Returns the earlier and the later half of `Sequences`, of the time steps of a single one."""
    number = len(sequences)
    if number > 1:
        return sequences[: number // 2], sequences[number // 2 :]
    middle = sequences.num_steps // 2
    return cut(sequences, 0, middle), cut(sequences, middle, sequences.num_steps)


def cut(sequences, first, last):
    """Returns the time steps `first` .. `last - 1` of `Sequences`."""
    mask = None if sequences.mask is None else sequences.mask[:, first:last]
    return dataclasses.replace(
        sequences,
        observations=sequences.observations[:, first:last],
        controls=sequences.controls[:, first : last - 1],
        states=None,
        mask=mask,
    )


def held(sequences, steps, mean):
    """Returns x[0:n], [batch, n, dx], a missing step as the one before it, at first the mean."""
    filled = np.empty([len(sequences), steps, len(mean)])
    before = mean
    for t in range(steps):
        seen = sequences.observed[:, t, np.newaxis]
        before = filled[:, t] = np.where(seen, sequences.observations[:, t], before)
    return filled


def _root(covariance):
    """Returns L with L L^T = S; S may be singular, as that of cosine and sine is."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _windows(values, length):
    """Returns all windows of consecutive time steps, a view, [batch, windows, ..., length]."""
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=1)
