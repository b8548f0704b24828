"""Records of a system: their parts, windows of them, and the offsets of their columns."""

import functools
import numbers
import warnings
from typing import NamedTuple

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.data import moments

HELPS = 10.0  # By this factor an offset has to shorten the largest mean.


class Record(NamedTuple):
    """Consecutive time steps of a system.

    Attributes:
      name: What errors call it.
      observations: x[0:T], float64 [steps, dx], NaN where a value is missing.
      controls: u[0:T-1], float64 [steps - 1, du], without NaN; u[t] acts between x[t] and x[t+1].
    """

    name: str
    observations: np.ndarray
    controls: np.ndarray

    def __len__(self):
        """Returns the number of time steps."""
        return len(self.observations)

    def part(self, start, stop):
        """Returns the record of the time steps from `start` to before `stop`."""
        observations, controls = self.observations, self.controls
        return Record(self.name, observations[start:stop], controls[start : stop - 1])

    def without(self, start, stop, min_length):
        """Returns what lies before and behind a block, as records of `min_length` steps or more."""
        pieces = self.part(0, start), self.part(stop, len(self))
        return [piece for piece in pieces if len(piece) >= max(2, min_length)]


def cut(records, start, stop):
    """Returns the time steps of each record between two fractions of its length, a tuple.

    Raises:
      ValueError: If these are fewer than two of a record.
    """
    parts = tuple(
        record.part(round(start * len(record)), round(stop * len(record))) for record in records
    )
    for whole, record in zip(records, parts):
        if len(record) < 2:
            raise ValueError(
                f"{whole.name} must have two time steps or more in each part of the split; its "
                f"{len(whole)} leave {len(record)} between {start:g} and {stop:g}."
            )
    return parts


def in_three(records, train, validation):
    """Returns three tuples of parts of each record, the fractions being of its length."""
    edges = [0.0, train, train + validation, 1.0]
    return [cut(records, *pair) for pair in zip(edges, edges[1:])]


def whole_in_three(records, train, validation):
    """Returns three tuples of records, the fractions being of their number, one or more each.

    Raises:
      ValueError: If there are fewer than three.
    """
    count = len(records)
    if count < 3:
        raise ValueError(f'`by="record"` must have three records or more; this log has {count}.')
    first = min(max(1, round(train * count)), count - 2)
    second = min(max(first + 1, round((train + validation) * count)), count - 1)
    return records[:first], records[first:second], records[second:]


def windows(records, length, stride):
    """Returns parts of `length` time steps, which start `stride` apart, of every record.

    Warns of records that are shorter, and leaves them out.

    Raises:
      ValueError: If all records are shorter.
    """
    short = [record for record in records if len(record) < length]
    if len(short) == len(records):
        longest = max(records, key=len)
        raise ValueError(
            f"`length` must not exceed the {len(longest)} time steps of {longest.name}; "
            f"got {length}."
        )
    if short:
        warnings.warn(
            f"Shorter than a window of {length} time steps and left out: {len(short)} of "
            f"{len(records)} records, the first of them {short[0].name} with {len(short[0])}.",
            stacklevel=3,
        )
    return [
        record.part(start, start + length)
        for record in records
        for start in range(0, len(record) - length + 1, stride)
    ]


def check_fractions(train, validation):
    """Raises ValueError unless both fractions are positive and leave a rest to test."""
    for name, fraction in {"train": train, "validation": validation}.items():
        if isinstance(fraction, bool) or not isinstance(fraction, numbers.Real):
            raise ValueError(f"`{name}` must be a number; got {fraction!r}.")
    if not (train > 0 and validation > 0 and train + validation < 1):
        raise ValueError(
            "`train` and `validation` must be positive fractions with a sum below 1, and leave "
            f"the rest to test; got {train} and {validation}."
        )


def block(records, index, count):
    """Returns one of `count` blocks of each record, two or more."""
    errors.check_integer("count", count, least=2)
    if errors.check_integer("index", index, least=0) >= count:
        raise ValueError(f"`index` must be less than `count`, {count}; got {index}.")
    return cut(records, index / count, (index + 1) / count)


def leave_out(records, index, count, min_length):
    """Returns what lies before and behind a block, as records of `min_length` steps or more."""
    rest = []
    for record in records:
        start, stop = (round(edge * len(record) / count) for edge in (index, index + 1))
        rest += record.without(start, stop, min_length)
    if not rest:
        raise ValueError(f"`min_length` must leave a record beside the block; got {min_length}.")
    return rest


def stack_records(parts):
    """Stacks records, all of them padded to the time steps of the longest.

    Args:
      parts: List of `Record`s; those without an observed time step are left out.

    Returns:
      Observations [records, steps, dx] and controls [records, steps - 1, du], NaN in the padding,
      and the mask, bool [records, steps], None where every time step is observed.

    Raises:
      ValueError: If none has an observed time step.
    """
    observed = [~np.isnan(part.observations).any(axis=1) for part in parts]
    parts = [part for part, steps in zip(parts, observed) if steps.any()]
    if not parts:
        raise ValueError("A log must have an observed time step; all are missing.")
    num_steps = max(map(len, parts))
    observations = np.stack([_padded(part.observations, num_steps) for part in parts])
    controls = np.stack([_padded(part.controls, num_steps - 1) for part in parts])
    mask = ~np.isnan(observations).any(axis=2)
    return observations, controls, None if mask.all() else mask


def _padded(values, num_steps):
    padding = np.full([num_steps - len(values), values.shape[1]], np.nan)
    return np.concatenate([values, padding])


def column_offsets(records, names):
    """Returns the first value by name of each column whose digits float32 cannot hold.

    Warns where these lie too far apart in two records for one offset.

    Args:
      records: The `Record`s.
      names: Names of the columns of their "observations" and "controls".

    Raises:
      ValueError: If a column holds no value or only one.
    """
    offsets = {}
    for argument, name, columns in columns_of(records, names):
        _check_column(f"`{argument}`: {name!r}", np.concatenate(columns))
        held = [(record.name, column) for record, column in zip(records, columns) if len(column)]
        of_records = [moments.Moments.of(column[:, np.newaxis]) for _, column in held]
        far = moments.MAX_RATIO * _movement(of_records)
        means = np.array([each.mean[0] for each in of_records])
        first = float(held[0][1][0])
        if np.abs(means).max() > max(far, HELPS * np.abs(means - first).max()):
            offsets[name] = first
        if np.abs(means - offsets.get(name, 0.0)).max() > far:
            low, high = np.argmin(means), np.argmax(means)
            warnings.warn(
                f"`{argument}`: {name!r} has means from {means[low]:.9g} in {held[low][0]} to "
                f"{means[high]:.9g} in {held[high][0]}: float32 holds too few digits of how it "
                "moves within a record. If that matters, subtract an offset from each record.",
                stacklevel=4,
            )
    return offsets


def _movement(of_records):
    """Returns the standard deviation of a column within records, or of all if it is constant."""
    everything = functools.reduce(moments.Moments.merge, of_records)
    within = np.sqrt(sum(each.squared_deviations[0] for each in of_records) / everything.count)
    return within if within > everything.resolution[0] else everything.stddev[0]


def columns_of(records, names):
    """Yields "observations" or "controls", the name of a column, and its values in each record."""
    for argument, columns in names.items():
        arrays = [getattr(record, argument) for record in records]
        for index, name in enumerate(columns):
            yield argument, name, [each[~np.isnan(each[:, index]), index] for each in arrays]


def warn_of_constants(records, names):
    """Warns of columns that do not change in the records that a model is trained on."""
    for argument, name, columns in columns_of(records, names):
        if is_constant(np.concatenate(columns)):
            warnings.warn(
                f"`{argument}`: {name!r} holds no value in the training part or does not change, "
                "so that no model can learn what it does. Split in another way.",
                stacklevel=3,
            )


def _check_column(place, column):
    """Raises ValueError unless a column holds numbers, not all of them the same."""
    if not len(column):
        raise ValueError(f"{place} must hold finite numbers; got none.")
    if is_constant(column) and len(column) > 1:
        raise ValueError(
            f"{place} must change; it is {column[0]:g} in all {len(column)} rows. Leave it out, or "
            "write it with more digits."
        )


def is_constant(column):
    """Returns whether values [rows] are the same as far as float64 can tell."""
    return bool(moments.Moments.of(column[:, np.newaxis]).is_constant[0])
