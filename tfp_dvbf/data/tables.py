"""Records as their owner wrote them: from arrays, CSV files and DataFrames to float64 columns."""

from typing import NamedTuple

import numpy as np

from tfp_dvbf.data import cells, checks, csv_files


class Table(NamedTuple):
    """One record as its owner wrote it.

    Attributes:
      name: What errors call it, such as the path of its file.
      observations: float64 [rows, dx], NaN where a value is missing.
      controls: float64 [rows, du], NaN where a value is missing.
      time: float64 [rows], or None where the rows are one time step apart.
      lines: Line of each row in the file, or its number in the DataFrame or array, int [rows].
      counted: What `lines` counts, "line" or "row".
    """

    name: str
    observations: np.ndarray
    controls: np.ndarray
    time: np.ndarray | None
    lines: np.ndarray
    counted: str

    def place(self, row):
        """Returns in words where a row is."""
        return f"{self.name}, {self.counted} {self.lines[row]}"


class Names(NamedTuple):
    """Names of columns; `time` and `record` are None where there are no such columns."""

    observations: list
    controls: list
    time: str | None = None
    record: str | None = None

    @property
    def numbers(self):
        """The names of the columns of numbers."""
        return [*self.observations, *self.controls]


def check_names(observations, controls=(), time=None, record=None):
    """Returns the `Names` of columns, of which a string is one.

    Raises:
      ValueError: If there is no observation, one is not a string or empty, or one comes twice.
    """
    observations, controls = map(_listed, (observations, controls))
    names = [*observations, *controls, *(each for each in (time, record) if each is not None)]
    if not observations:
        raise ValueError("`observations` must name a column or more; got none.")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"Names of columns must be strings that are not empty; got {name!r}.")
    plain = list(map(cells.plain, names))
    for name in plain:
        if plain.count(name) > 1:
            raise ValueError(f"Each column must have one role; {name!r} is named twice.")
    return Names(observations, controls, time, record)


def _listed(names):
    """Returns the names of columns as a list; one that stands alone may be no list."""
    if names is None:
        return []
    return list(names) if np.iterable(names) and not isinstance(names, str) else [names]


def given_names(argument, names, letter, size):
    """Returns a name for each of `size` dimensions, numbered ones where none are given."""
    if names is None:
        return [f"{letter}[{index}]" for index in range(size)]
    names = [names] if isinstance(names, str) else list(names)
    if len(names) != size or len(set(names)) < size:
        raise ValueError(f"`{argument}` must be {size} different names; got {names}.")
    return names


def csv_tables(paths, names, **options):
    """Returns the `Table` of each record of CSV files; options are those of `read_columns`."""
    made = []
    for path in paths:
        columns = csv_files.read_columns(path, names.numbers, names.time, names.record, **options)
        made += _tables(columns.path, columns.values, names, columns.lines, "line")
    return made


def frame_tables(frames, names):
    """Returns the `Table` of each record of DataFrames, with `columns` and `to_numpy`."""
    made = []
    for index, frame in enumerate(frames):
        name = f"DataFrame {index}"
        values = _frame_columns(frame, name, names)
        made += _tables(name, values, names, np.arange(len(next(iter(values.values())))), "row")
    return made


def _frame_columns(frame, name, names):
    """Returns the values of the columns of a DataFrame by their names."""
    if not (hasattr(frame, "columns") and hasattr(frame, "__getitem__")):
        raise ValueError(f"`frame` must be a DataFrame; got {type(frame).__name__}.")
    held = list(frame.columns)
    parsers = cells.parsers(names.numbers, names.time, names.record)
    values = {}
    for column, parse in parsers.items():
        if held.count(column) != 1:
            found = "; it comes twice" if column in held else csv_files.nearest(column, held)
            columns = ", ".join(map(str, held))
            raise ValueError(f"{name} must have one column {column!r}{found}: {columns}.")
        parse_all = _parsed if parse is cells.label else _numbers
        values[column] = parse_all(f"{name}, column {column!r}", frame[column].to_numpy(), parse)
    return values


def _tables(name, values, names, lines, counted):
    """Returns a `Table`, or one for each record that the column `names.record` names."""
    if names.record is None:
        return [_table(name, values, names, lines, counted)]
    if not len(lines):
        raise ValueError(f"{name} must have a row below the column names.")
    labels, first, inverse, counts = np.unique(
        values[names.record], return_index=True, return_inverse=True, return_counts=True
    )
    rows = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    made = []
    for index in np.argsort(first):  # In the order in which they begin.
        of_record = {column: values[column][rows[index]] for column in values}
        title = f"{name}, {names.record} {labels[index]}"
        made.append(_table(title, of_record, names, lines[rows[index]], counted))
    return made


def _parsed(name, values, parse):
    """Returns values [rows] of any kind, each read as a cell of a CSV file is."""
    made = []
    for row, value in enumerate(values):
        try:
            made.append(parse(str(value).strip()))
        except ValueError:
            message = cells.refusal(f"{name}, row {row}", str(value), parse, ".")
            raise ValueError(message) from None
    return np.array(made)


def _table(name, values, names, lines, counted):
    observations, controls = (
        np.stack([values[column] for column in columns], axis=1)
        if columns
        else np.empty([len(lines), 0])
        for columns in names[:2]
    )
    times = None if names.time is None else values[names.time]
    return Table(name, observations, controls, times, lines, counted)


def _numbers(name, values, parse=cells.number):
    """Returns values [rows] as float64, timestamps and durations as seconds, text as CSV cells."""
    if values.dtype.kind in "mM" and parse is cells.number:
        raise ValueError(f"{name} must hold numbers; it holds times.")
    if values.dtype.kind in "mM":
        since = values if values.dtype.kind == "m" else values - values[:1]
        seconds = since.astype("timedelta64[ns]").astype(np.int64) / 1e9
        return np.where(np.isnat(values), np.nan, seconds)
    if values.dtype.kind in "fiub":
        return values.astype(float)
    return _parsed(name, values, parse).astype(float)


def array_tables(observations, controls=None, time=None):
    """Returns the `Table` of each record; lists of arrays are several records.

    Raises:
      ValueError: If the shapes do not fit each other, or an array is not numeric.
    """
    observations = _records(observations)
    controls, time = (
        [None] * len(observations) if each is None else _records(each) for each in (controls, time)
    )
    for name, each in {"controls": controls, "time": time}.items():
        if len(each) != len(observations):
            raise ValueError(
                f"`{name}` must have as many records as `observations`, {len(observations)}; "
                f"got {len(each)}."
            )
    made = [
        _array_table(f"record {index}", *arrays)
        for index, arrays in enumerate(zip(observations, controls, time))
    ]
    for name, shape in {"observations": "dx", "controls": "du"}.items():
        widths = {getattr(table, name).shape[1] for table in made}
        if len(widths) > 1:
            raise ValueError(f"`{name}` must have the same {shape} in all records; got {widths}.")
    return made


def _records(values):
    """Returns a list of arrays: that which was given, or one."""
    several = isinstance(values, (list, tuple)) and values and hasattr(values[0], "__array__")
    return list(values) if several and np.ndim(values[0]) else [values]


def _array_table(name, observations, controls, time):
    observations = _matrix("observations", observations)
    steps = len(observations)
    if controls is None:
        controls = np.empty([steps, 0])
    controls = _matrix("controls", controls)
    if len(controls) not in (steps - 1, steps):
        raise ValueError(
            f"`controls` must have {steps - 1} or {steps} steps as `observations` have {steps}; "
            f"got {len(controls)} in {name}."
        )
    unknown = np.full([steps - len(controls), controls.shape[1]], np.nan)
    if time is not None:
        time = np.asarray(time)
        if time.shape != (steps,):
            raise ValueError(f"`time` must have shape {(steps,)}; got {time.shape} in {name}.")
        time = _numbers(f"{name}, `time`", time, cells.timestamp)
    controls = np.concatenate([controls, unknown])
    return Table(name, observations, controls, time, np.arange(steps), "row")


def _matrix(name, values):
    """Returns values as float64 [steps, dim], NaN where they are masked."""
    values = checks.numeric_array(name, values)
    values = np.ma.filled(values.astype(float), np.nan)
    if values.ndim == 1:
        values = values[:, np.newaxis]
    if values.ndim != 2:
        raise ValueError(f"`{name}` must have shape [steps, dim]; got {values.shape}.")
    return values
