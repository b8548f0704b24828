"""Mean and scale of a data set, in float64 and merged over its batches, files or workers.

Sums of squares in float32 lose all digits where the mean is large against the spread.
"""

import functools
import numbers
from typing import NamedTuple

import numpy as np

from tfp_dvbf.data import checks, missing

BLOCK_VALUES = 2**22  # Values that are turned into float64 at a time, 32 MiB.
CONSTANT_ULPS = 2  # Rounding moves a constant by as many spacings of float32.
CONSTANT_IN_FLOAT64 = 1e-12  # Relative; the rounding of what was computed in float64.
MAX_RATIO = 1e5  # Mean by standard deviation: float32 keeps 7 digits.
REMEDY = "Subtract an offset from that column, or round it if its changes mean nothing."


class Moments(NamedTuple):
    """Count, mean and squared deviations of each feature, the last axis of some values.

    Attributes:
      count: Number n of values of each feature.
      mean: float64 [features].
      squared_deviations: Sum over the values of (x - mean)^2, float64 [features].
      resolution: Standard deviation up to which a feature is constant as far as the type that
        stores its values can tell, float64 [features].
    """

    count: int
    mean: np.ndarray
    squared_deviations: np.ndarray
    resolution: np.ndarray

    @classmethod
    def of(cls, values):
        """Returns the moments of `values` [..., features], an array of any numeric type."""
        values = np.asarray(values)
        num_features = values.shape[-1]
        rows = values.reshape(-1, num_features) if values.size else values.reshape(0, num_features)
        block = max(BLOCK_VALUES // max(num_features, 1), 1)
        parts = (cls._of_block(rows[i : i + block]) for i in range(0, len(rows), block))
        return functools.reduce(cls.merge, parts, cls(0, *np.zeros([3, num_features])))

    @classmethod
    def _of_block(cls, rows):
        offset = rows[0].astype(np.float64)
        shifted = rows - offset  # So that the mean of a constant, and its deviations, are exact.
        shifted_mean = shifted.mean(axis=0)
        squared_deviations = np.square(shifted - shifted_mean).sum(axis=0)
        mean = offset + shifted_mean
        return cls(len(rows), mean, squared_deviations, _resolution(mean, rows.dtype))

    def merge(self, other):
        """Returns the moments of the values of both (Chan, Golub, LeVeque 1983, equation 2.1)."""
        if len(self.mean) != len(other.mean):
            raise ValueError(f"`other` must have {len(self.mean)} features; got {len(other.mean)}.")
        if 0 in (self.count, other.count):
            return self if other.count == 0 else other
        count = self.count + other.count
        difference = other.mean - self.mean
        between = np.square(difference) * (self.count / count * other.count)
        return Moments(
            count,
            self.mean + difference * (other.count / count),
            self.squared_deviations + other.squared_deviations + between,
            np.maximum(self.resolution, other.resolution),
        )

    @property
    def variance(self):
        """Mean of the squared deviations, float64 [features]; 0 without values."""
        return self.squared_deviations / max(self.count, 1)

    @property
    def stddev(self):
        """Root of the variance, float64 [features]."""
        return np.sqrt(self.variance)

    @property
    def is_constant(self):
        """Which features are constant to the resolution of their stored type, bool [features]."""
        return self.stddev <= self.resolution


def _resolution(mean, dtype):
    """Returns the standard deviation below which values of a type and a mean are constant."""
    if dtype.kind != "f":
        return np.zeros_like(mean)
    if dtype.itemsize > 4:
        return CONSTANT_IN_FLOAT64 * np.abs(mean)
    return CONSTANT_ULPS * np.spacing(np.abs(mean).astype(dtype)).astype(np.float64)


def mean_and_scale(moments, name="observations", min_scale=0.0):
    """Returns what standardises values: their mean and scale, float32 [features].

    The scale is the standard deviation, or 1 for a feature that is constant to the resolution of
    its stored type. It is the scale that is kept in float32, since the variance would overflow in
    units of 1e-20 or 1e20.

    Args:
      moments: `Moments` of the values.
      name: Name of the values in errors.
      min_scale: Least scale, in the unit of the values.

    Raises:
      ValueError: If a feature has a mean above 1e5 times its standard deviation or `min_scale`:
        float32 does not hold enough digits of it. A constant one is refused only if the
        rounding of its type moves it by more than its scale.
    """
    if isinstance(min_scale, bool) or not isinstance(min_scale, numbers.Real):
        raise ValueError(f"`min_scale` must be a number of 0 or more; got {min_scale!r}.")
    if not 0 <= min_scale < np.inf:
        raise ValueError(f"`min_scale` must be a number of 0 or more; got {min_scale!r}.")
    constant = moments.is_constant | (moments.stddev < np.finfo(np.float32).tiny)
    scale = np.maximum(np.where(constant, 1.0, moments.stddev), min_scale)
    far = np.abs(moments.mean) > MAX_RATIO * scale
    # Of a constant, 1 is no scale if what its type cannot resolve is more.
    too_far = np.flatnonzero(far & (~constant | (moments.stddev > scale)))
    if len(too_far):
        rule = f"have means below {MAX_RATIO:.0f} standard deviations, or float32 cannot hold them"
        raise ValueError(_refusal(name, rule, moments, too_far[0]))
    return moments.mean.astype(np.float32), scale.astype(np.float32)


def check_precision(name, values):
    """Raises ValueError if a column of `values` [..., features] changes, but not in float32."""
    moments = Moments.of(values)
    in_float32 = _resolution(moments.mean, np.dtype(np.float32))
    lost = np.flatnonzero(~moments.is_constant & (moments.stddev <= in_float32))
    if len(lost):
        rule = "change by more than float32 can resolve"
        raise ValueError(_refusal(name, rule, moments, lost[0]))


def _refusal(name, rule, moments, column):
    return (
        f"`{name}` must {rule}; got mean {moments.mean[column]:.9g} and standard deviation "
        f"{moments.stddev[column]:.3g} in column {column}. {REMEDY}"
    )


class DatasetMoments(NamedTuple):
    """Moments of the observations and of the applied controls of a data set."""

    observations: Moments
    controls: Moments


def dataset_moments(batches):
    """Returns the `DatasetMoments` of all that is observed in a data set.

    Missing steps do not count, nor do controls that no observed step follows, nor rows of weight 0.

    Args:
      batches: Iterable of dictionaries of arrays {"observations": [batch, time,
        *observation_shape]} and, optionally, "controls", "mask" and "weights", such as
        `dataset.as_numpy_iterator()`.

    Raises:
      ValueError: If there is no batch, its arrays do not fit each other, what counts is not finite,
        or a sequence has no observed step.
    """
    parts = map(_batch_moments, batches)
    first = next(parts, None)
    if first is None:
        raise ValueError("`batches` must hold a batch; got none.")
    return functools.reduce(lambda a, b: DatasetMoments(*map(Moments.merge, a, b)), parts, first)


def _batch_moments(batch):
    if not isinstance(batch, dict) or "observations" not in batch:
        kind = ", ".join(batch) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(f"`batches` must be dictionaries with `observations`; got {kind}.")
    names = ["observations", "controls", "mask"]
    arrays = {name: batch[name] for name in names if batch.get(name) is not None}
    for name in {"observations", "controls"} & set(arrays):
        arrays[name] = checks.numeric_array(name, arrays[name])
    shapes = [arrays[name].shape if name in arrays else None for name in names[:2]]
    checks.check_shapes(*shapes)
    if batch.get("weights") is not None:
        weights = np.asarray(batch["weights"])
        if weights.shape != shapes[0][:1]:
            raise ValueError(f"`weights` must have shape {shapes[0][:1]}; got {weights.shape}.")
        arrays = {name: np.ma.asanyarray(array)[weights > 0] for name, array in arrays.items()}
    return DatasetMoments(*map(Moments.of, _counted(**arrays)))


def _counted(observations, controls=None, mask=None):
    """Returns the observed observations and the applied controls of a batch, checked."""
    batch, steps = observations.shape[:2]
    if controls is None:
        controls = np.zeros([batch, steps - 1, 0], np.float32)
    controls = controls[:, : steps - 1]
    if np.ma.is_masked(controls):
        controls = controls.astype(np.float64).filled(np.nan)
    observed = missing.observed_steps(observations, mask)
    values = [np.ma.getdata(observations), np.ma.getdata(controls)]
    if observed is None:
        checks.check_finite(observations=values[0], controls=values[1])
        return values
    kept = [observed, missing.steps_follow(observed)]
    filled = map(missing.zero_unless, kept, values)
    checks.check_finite(**dict(zip(["observations", "controls"], filled)))
    return [array[rows] for array, rows in zip(values, kept)]
