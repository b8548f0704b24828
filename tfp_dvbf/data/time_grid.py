"""From the rows of a table to a record on a regular grid of time steps."""

import numpy as np

from tfp_dvbf.data import cells, records

TOLERANCE = 0.05  # Of a time step, by which a time may miss the grid.
MAX_GAP = 10_000  # Time steps.
MAX_MISSING = 100  # Time steps by row, beyond which a log is no regular one.


def make_record(table, control_lead=0, fill_controls=None):
    """Returns the `records.Record` of a table, and its time step, None where it has no times.

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
        # With control_lead=1 the control of the last row may not be known yet: it is dropped.
        unknown = control_lead == 1 and np.isnan(controls[-1:]).all()
        held = controls[:-1] if unknown else controls
        held[:] = _held(held)
    start = first + control_lead
    applied = controls[start : start + len(observations) - 1]
    if control_lead == 1 and np.isnan(applied[-1:]).any():
        observations, applied = observations[:-1], applied[:-1]
    if len(observations) < 2:
        raise ValueError(
            f"{table.name} must have two time steps or more; got {len(observations)}. Leave it out."
        )
    _check_controls(table, applied, start, positions, fill_controls)
    return records.Record(table.name, observations, applied), step


def grid_positions(table):
    """Returns the time step of each row, int [rows], and the length of a time step.

    The length is the median difference of the times, or the mean of those differences that are one
    step by it: times are often rounded.

    Raises:
      ValueError: If a time is missing, does not increase, is a date written as a number or misses
        the grid by more than 5 % of a step; or if more than 10,000 time steps are missing in a row,
        or more than 10,000 and 99 of 100 in all.
    """
    differences = _differences(table)
    step = np.median(differences)
    single = differences[np.abs(differences / step - 1) < TOLERANCE]
    if len(single) and np.ptp(single) > 1e-6 * step:
        step = single.mean()
    counts = np.round(differences / step)
    _check_counts(table, differences, counts, step)
    rounded = float(f"{step:.6g}")  # Of times since 1970, float64 holds a step of 0.1 s no better.
    return np.concatenate([[0], np.cumsum(counts.astype(int))]), rounded


def _differences(table):
    """Returns the differences of the times of a table, or raises ValueError if they are none."""
    time = table.time
    for row in np.flatnonzero(~np.isfinite(time))[:1]:
        raise ValueError(f"{table.place(row)}: the time must be a number; got {time[row]}.")
    differences = np.diff(time)
    for row in np.flatnonzero(differences <= 0)[:1] + 1:
        times = f"got {time[row]:.15g} after {time[row - 1]:.15g}"
        twice = differences[row - 1] == 0
        hint = "The same time comes twice" if twice else "Sort the rows"
        raise ValueError(
            f"{table.place(row)}: the time must increase; {times}. {hint}, or another record "
            "begins, and `record` names the column that tells them apart."
        )
    rolls_over = len(time) > 31 or np.ptp(differences) > 0  # As a count of few rows does not.
    if rolls_over and cells.are_dates(time):
        raise ValueError(
            f"{table.name}: the times must count seconds or the like; {time[0]:.0f} looks like a "
            "date. Write 2024-12-31T12:00, or subtract the first if it is a count."
        )
    return differences


def _check_counts(table, differences, counts, step):
    """Raises ValueError unless differences are `counts` time steps, few of them missing."""
    less, more = np.sort(differences)[[(len(differences) - 1) // 2, len(differences) // 2]]
    if more > (1 + TOLERANCE) * less:
        raise ValueError(
            f"{table.name}: the times must lie on a grid; half of their differences are {less:g} "
            f"or less and half are {more:g} or more. Resample the log."
        )
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
    rows, steps = len(table.time), counts.sum() + 1
    if steps > max(MAX_GAP, MAX_MISSING * rows):
        raise ValueError(
            f"{table.name}: its {rows} rows must not lie on {steps:.0f} time steps of {step:g}, "
            "most of them missing. Resample the log, or give its parts as records."
        )


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
        what = "its control is missing"
        if positions[row] > step:
            what = "rows before it are missing, and their controls"
        remedy = '`fill_controls="hold"`, `--fill-controls hold`, goes on with the last one before.'
        if fill_controls == "hold":
            remedy = "There is none before to hold; begin the log later."
        raise ValueError(f"{table.place(row)}: {what}. {remedy}")


def common_step(made, steps):
    """Returns the time step of all records, None if it is unknown."""
    for record, step in zip(made, steps):
        if step is not None and abs(step / steps[0] - 1) > TOLERANCE:
            raise ValueError(
                f"{record.name} must have the time step of {made[0].name}, {steps[0]:g}; "
                f"got {step:g}. Resample it."
            )
    return steps[0]
