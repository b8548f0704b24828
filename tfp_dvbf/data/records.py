"""From the rows of a log to records on a regular grid of time steps."""

import numbers
from typing import NamedTuple

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.data import moments

TOLERANCE = 0.05  # Of a time step, by which a time may miss the grid.
MAX_GAP = 10_000  # Time steps.


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


def choose(records, start, stop):
    """Returns the whole records between two fractions of their number, a tuple.

    Raises:
      ValueError: If there is none.
    """
    first, last = (round(fraction * len(records)) for fraction in (start, stop))
    if first == last:
        raise ValueError(
            f"A log must have a record or more in each part of the split; its {len(records)} leave "
            f"none between {start:g} and {stop:g}."
        )
    return records[first:last]


def windows(records, length, stride):
    """Returns parts of `length` time steps, which start `stride` apart, of every record.

    Raises:
      ValueError: If a record is shorter than one.
    """
    parts = []
    for record in records:
        if len(record) < length:
            raise ValueError(
                f"`length` must not exceed the {len(record)} time steps of {record.name}; "
                f"got {length}."
            )
        for start in range(0, len(record) - length + 1, stride):
            parts.append(record.part(start, start + length))
    return parts


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


def make_record(table, control_lead=0, fill_controls=None):
    """Returns the `Record` of a table, and its time step, None where the table has no times.

    Args:
      table: `Table`.
      control_lead: Time steps by which the control that acts between x[t] and x[t+1] stands later
        than x[t]: -1, 0 or 1.
      fill_controls: None, or "hold": the last control before it takes the place of a missing one.

    Raises:
      ValueError: If times do not increase or miss the grid, a control that is applied is missing,
        or fewer than two time steps are left.
    """
    positions, step = np.arange(len(table.observations)), None
    if table.time is not None and len(positions) > 1:
        positions, step = grid_positions(table)
    first = max(0, -control_lead)
    observations = _spread(table.observations, positions)[first:]
    controls = _spread(table.controls, positions)
    if fill_controls == "hold":
        controls = _held(controls)
    start = first + control_lead
    applied = controls[start : start + len(observations) - 1]
    if control_lead == 1 and np.isnan(applied[-1:]).any():
        observations, applied = observations[:-1], applied[:-1]
    if len(observations) < 2:
        raise ValueError(f"{table.name} must have two time steps or more; got {len(observations)}.")
    _check_controls(table, applied, start, positions, fill_controls)
    return Record(table.name, observations, applied), step


def grid_positions(table):
    """Returns the time step of each row, int [rows], and the length of a time step.

    The length is the median difference of the times, or the mean of those differences that are one
    step by it: times are often rounded.

    Raises:
      ValueError: If a time is missing, does not increase or misses the grid by more than 5 % of a
        step, or if more than 10,000 time steps are missing in a row.
    """
    time = table.time
    for row in np.flatnonzero(np.isnan(time))[:1]:
        raise ValueError(f"{table.place(row)}: the time must be a number; got {time[row]}.")
    differences = np.diff(time)
    for row in np.flatnonzero(differences <= 0)[:1] + 1:
        times = f"got {time[row]:.15g} after {time[row - 1]:.15g}"
        raise ValueError(f"{table.place(row)}: the time must increase; {times}.")
    step = np.median(differences)
    single = differences[np.abs(differences / step - 1) < TOLERANCE]
    if np.ptp(single) > 1e-6 * step:
        step = single.mean()
    counts = np.round(differences / step)
    for row in np.flatnonzero(np.abs(differences / step - counts) > TOLERANCE)[:1] + 1:
        raise ValueError(
            f"{table.place(row)}: the times must lie on a grid of {step:g}, within 5 % of it; got "
            f"{differences[row - 1]:g} after the row before. Resample the log."
        )
    for row in np.flatnonzero(counts > MAX_GAP)[:1] + 1:
        raise ValueError(
            f"{table.place(row)}: at most {MAX_GAP} time steps may be missing; got "
            f"{counts[row - 1]:.0f}. Give the parts as records of their own."
        )
    rounded = float(f"{step:.6g}")  # Of times since 1970, float64 holds a step of 0.1 s no better.
    return np.concatenate([[0], np.cumsum(counts.astype(int))]), rounded


def _spread(values, positions):
    """Returns rows at their positions on the grid, NaN in all others."""
    if len(positions) == 0:
        return values
    spread = np.full([positions[-1] + 1, values.shape[1]], np.nan)
    spread[positions] = values
    return spread


def _held(values):
    """Returns values [steps, dim] where the last one before it takes the place of each NaN."""
    steps = np.arange(len(values))[:, np.newaxis]
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, steps), axis=0)
    return np.take_along_axis(values, last, axis=0)


def _check_controls(table, applied, start, positions, fill_controls):
    """Raises ValueError if a control that is applied is missing."""
    for step in np.flatnonzero(np.isnan(applied).any(axis=1))[:1] + start:
        row = np.searchsorted(positions, step)
        what = "its control" if positions[row] == step else "the control of a row before it"
        remedy = '`fill_controls` must be "hold" to go on with the last one before.'
        if fill_controls == "hold":
            remedy = "There is none before to hold; begin the log later."
        raise ValueError(f"{table.place(row)}: {what} is missing. {remedy}")


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


def common_step(made, steps):
    """Returns the time step of all records, None if it is unknown."""
    for record, step in zip(made, steps):
        if step is not None and abs(step / steps[0] - 1) > TOLERANCE:
            raise ValueError(
                f"{record.name} must have the time step of {made[0].name}, {steps[0]:g}; "
                f"got {step:g}."
            )
    return steps[0]


def column_offsets(argument, names, values):
    """Returns the first value by name of each column whose digits float32 cannot hold.

    Raises:
      ValueError: If a column holds no value, an infinite one or only one.
    """
    offsets = {}
    for index, name in enumerate(names):
        column = np.concatenate([each[:, index] for each in values])
        column = column[~np.isnan(column)]
        if not len(column) or not np.isfinite(column).all():
            got = column[~np.isfinite(column)][0] if len(column) else "none"
            raise ValueError(f"`{argument}`: {name!r} must hold finite numbers; got {got}.")
        of_column = moments.Moments.of(column[:, np.newaxis])
        constant = of_column.is_constant[0]
        if constant and len(column) > 1:
            raise ValueError(
                f"`{argument}`: {name!r} must change; it is {column[0]:g} in all {len(column)} "
                "rows. Leave it out, or write it with more digits."
            )
        if not constant and abs(of_column.mean[0]) > moments.MAX_RATIO * of_column.stddev[0]:
            offsets[name] = float(column[0])
    return offsets
