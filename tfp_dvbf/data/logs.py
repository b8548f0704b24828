"""One long record of a system, or several: read, split in time, cut into windows."""

import copy
import os

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.data import records, tables, time_grid
from tfp_dvbf.data.sequences import Sequences

LEADS = (-1, 0, 1)
FILLS = (None, "hold")
SPLITS = {"time": records.in_three, "record": records.whole_in_three}


class Log:
    """What a real system's owner has logged: records of named observations and controls.

        log = Log.from_csv("pump.csv", observations=["level [V]"], controls=["pump [V]"], time="t")
        train, validation, test = log.split(0.7, 0.15)
        sequences = train.windows(length=200, stride=10)

    Row t of a record holds x[t], and u[t + control_lead], the control that acts between x[t] and
    x[t+1]. One bit says whether a time step is observed: where one of several sensors is missing,
    the whole time step is, and `lost_values` counts the values that were measured in such steps.

    Args:
      observations: x[0:T], [steps, dx] or [steps], NaN (or masked) where a value is missing; a list
        of arrays is a list of records, and then so are controls and time.
      controls: [steps or steps - 1, du] or [steps], or None where there are none.
      time: Time of each row, [steps]; None where no row is missing. Its step is the median
        difference, and rows that are missing on that grid become missing time steps.
      observation_names: A name for each dimension, with its unit: "level [V]"; by default x[0], ...
      control_names: The same for controls, by default u[0], ...
      control_lead: 0; 1 where u[t] acts on x[t] at once (feed-through); -1 where it acts one time
        step late. An x at the end or the start is dropped if the control before it is not known.
      fill_controls: None refuses missing controls; "hold" takes the last one before.

    Attributes:
      records: Tuple of `data.records.Record`.
      observation_names: List of names.
      control_names: List of names, empty without controls.
      time_step: Length of a time step, in the unit of the times, s for timestamps; None if unknown.
      time_name: Name of the times, "time (s)" for timestamps; None if there are none.
      control_lead: As given.
      offsets: What `windows` and `sequences` subtract, by name of a column: float32 would hold too
        few digits of a mean above 1e5 times the deviation in a record. `restore` adds it again.
      source: Path or paths of the files, or None.

    Raises:
      ValueError: If shapes do not fit, a value is infinite, a column is constant or has no value,
        times do not increase or miss the grid, or a control is missing.
    """

    def __init__(
        self,
        observations,
        controls=None,
        time=None,
        *,
        observation_names=None,
        control_names=None,
        control_lead=0,
        fill_controls=None,
    ):
        made = tables.array_tables(observations, controls, time)
        sizes = made[0].observations.shape[1], made[0].controls.shape[1]
        names = tables.Names(
            tables.given_names("observation_names", observation_names, "x", sizes[0]),
            tables.given_names("control_names", control_names, "u", sizes[1]),
        )
        self._set(made, names, control_lead, fill_controls)

    @classmethod
    def from_csv(
        cls,
        path,
        observations,
        controls=(),
        time=None,
        record=None,
        *,
        decimal=".",
        encoding="utf-8",
        control_lead=0,
        fill_controls=None,
    ):
        """Reads a CSV file, or several.

        Commas, semicolons or tabs divide cells; those that are empty, NaN or NA are missing.

        Args:
          path: Path of a file, or a list of paths.
          observations: Names of columns, which stand in the first line, such as ["level [V]"].
          controls: Names of columns.
          time: Name of the column of times, numbers or ISO 8601 timestamps, or None.
          record: Name of the column that tells records apart, or None if each file is one.
          decimal: What divides a number from its decimals, "." or ",".
          encoding: That of the files, by its name in Python.
          control_lead: As of `Log`.
          fill_controls: As of `Log`.

        Raises:
          ValueError: As `Log`, or if a column is missing or a cell not a number; the message names
            the line.
        """
        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        names = tables.check_names(observations, controls, time, record)
        if not paths:
            raise ValueError("`path` must be the path of a file, or several; got none.")
        made = tables.csv_tables(paths, names, decimal=decimal, encoding=encoding)
        source = [str(each) for each in paths]
        log = cls._set(cls.__new__(cls), made, names, control_lead, fill_controls)
        log.source = source[0] if len(source) == 1 else source
        return log

    @classmethod
    def from_dataframe(
        cls,
        frame,
        observations,
        controls=(),
        time=None,
        record=None,
        *,
        control_lead=0,
        fill_controls=None,
    ):
        """Takes columns of a pandas DataFrame, or of any with `columns` and `to_numpy`.

        Args:
          frame: The DataFrame, or a list of them.
          observations: Names of columns, strings or integers.
          controls: Names of columns.
          time: Name of the column or the index of times, numbers or timestamps; None for an index
            of timestamps, text of them or periods, or else for rows one time step apart.
          record: Name of the column that tells records apart, or None if each DataFrame is one.
          control_lead: As of `Log`.
          fill_controls: As of `Log`.

        Raises:
          ValueError: As `Log`, or if a column is missing or not numeric.
        """
        frames = frame if isinstance(frame, (list, tuple)) else [frame]
        names = tables.check_names(observations, controls, time, record)
        if not frames:
            raise ValueError("`frame` must be a DataFrame, or several; got none.")
        made = tables.frame_tables(frames, names)
        return cls._set(cls.__new__(cls), made, names, control_lead, fill_controls)

    def _set(self, read, names, control_lead, fill_controls):
        """Sets the attributes from tables of the same columns; returns the log."""
        control_lead = errors.check_integer("control_lead", control_lead, least=None)
        if control_lead not in LEADS:
            raise ValueError(f"`control_lead` must be -1, 0 or 1; got {control_lead}.")
        if fill_controls not in FILLS:
            raise ValueError(f'`fill_controls` must be None or "hold"; got {fill_controls!r}.')
        tables.check_finite(read, names)
        made = [time_grid.make_record(table, control_lead, fill_controls) for table in read]
        self.records, steps = (tuple(each) for each in zip(*made))
        self.time_step = time_grid.common_step(self.records, steps)
        self.time_name = tables.time_name(read, names)
        self.observation_names, self.control_names = names.observations, names.controls
        self.control_lead, self.source = control_lead, None
        self.offsets = records.column_offsets(self.records, self._names())
        return self

    def _names(self):
        return {"observations": self.observation_names, "controls": self.control_names}

    def __len__(self):
        """Returns the number of time steps in all records."""
        return sum(map(len, self.records))

    @property
    def lost_values(self):
        """Values that were measured in time steps where another sensor's value is missing."""
        missing = [np.isnan(record.observations) for record in self.records]
        return int(sum((each.any(axis=1, keepdims=True) & ~each).sum() for each in missing))

    def __repr__(self):
        sizes = list(map(len, self.records))
        many = f"{len(sizes)} records of " + " to ".join(map(str, sorted({min(sizes), max(sizes)})))
        listed = many if len(sizes) > 10 else "records of " + ", ".join(map(str, sizes))
        missing = sum(np.isnan(each.observations).any(axis=1).sum() for each in self.records)
        return (
            f"Log(observations {self.observation_names}, controls {self.control_names}, "
            f"{listed} time steps, time step {self.time_step}, {missing} time steps missing and "
            f"{self.lost_values} measured values lost in them)"
        )

    def split(self, train=0.7, validation=0.15, by="time"):
        """Splits in order: what comes first trains, what comes last tests.

        Args:
          train: Fraction of the time steps of each record, or of the records.
          validation: Fraction after it; the rest is the test part.
          by: "time", so that each record is cut in three, or "record", so that none is.

        Returns:
          Three `Log`s: training, validation and test.

        Raises:
          ValueError: If a fraction is not positive or they leave nothing to test, a record is too
            short for three parts of two time steps, or there are too few records.
        """
        records.check_fractions(train, validation)
        errors.check_choice("by", by, list(SPLITS))
        parts = tuple(map(self._with, SPLITS[by](self.records, train, validation)))
        records.warn_of_constants(parts[0].records, self._names())
        return parts

    def _with(self, parts):
        """Returns the log of these records, with names and offsets of this one."""
        log = copy.copy(self)
        log.records = tuple(parts)
        return log

    def fold(self, index, count, min_length=2):
        """Leaves a block of each record out: cross-validation in time.

        Args:
          index: Which of the blocks, from 0 on.
          count: Number of blocks that each record is divided into, 2 or more.
          min_length: Least number of time steps of what is left before or behind a block.

        Returns:
          Two `Log`s: what is left, and the blocks.

        Raises:
          ValueError: If there is no such block, it is shorter than two time steps, or nothing is
            left.
        """
        held_out = records.block(self.records, index, count)
        rest = records.leave_out(self.records, index, count, min_length)
        return self._with(rest), self._with(held_out)

    def windows(self, length, stride=None):
        """Cuts each record into windows, none of which spans two records.

        A record's last time steps, too few for another window, are left out; so are windows
        without an observed time step and, with a warning, records shorter than a window.

        Args:
          length: Time steps of a window.
          stride: Time steps from the start of a window to that of the next; None for `length`, so
            that windows do not overlap.

        Returns:
          `Sequences`, whose `spec` holds names, time step, offsets, source and the arguments.

        Raises:
          ValueError: If every record is shorter than a window, or no time step is observed.
        """
        length = errors.check_integer("length", length, least=2)
        stride = errors.check_integer("stride", length if stride is None else stride, least=1)
        parts = records.windows(self.records, length, stride)
        return self._sequences(parts, {"window": length, "stride": stride})

    def sequences(self):
        """Returns the records as `Sequences`, one each, the shorter ones padded at their end.

        Records without an observed time step are left out.

        Raises:
          ValueError: If no time step is observed.
        """
        return self._sequences(self.records, {})

    def _sequences(self, parts, spec):
        """Returns the `Sequences` of records that have an observed time step."""
        observations, controls, mask = records.stack_records(parts)
        return Sequences(
            observations - self._offsets_of(self.observation_names),
            controls - self._offsets_of(self.control_names),
            mask=mask,
            spec=self._spec() | spec,
        )

    def _spec(self):
        """Returns where the data come from, as JSON can hold it."""
        names = ["source", "observation_names", "control_names", "time_step", "time_name"]
        spec = {name: getattr(self, name) for name in [*names, "control_lead", "offsets"]}
        return {name: value for name, value in spec.items() if value is not None}

    def _offsets_of(self, names):
        return np.array([self.offsets.get(name, 0.0) for name in names])

    def restore(self, observations):
        """Adds the offsets again to observations, such as a model's forecast.

        Args:
          observations: [..., dx].

        Returns:
          float64 [..., dx], in the unit of the log.
        """
        return np.asarray(observations, float) + self._offsets_of(self.observation_names)
