"""Records as their owner wrote them: from arrays, CSV files and DataFrames to float64 columns."""

import numbers
from typing import NamedTuple

import numpy as np

from tfp_dvbf.data import cells, checks, csv_files

INDEX = "(index)"  # What the times of a DataFrame are called that are its index.
SECONDS = "time (s)"
SEVERAL = "For several records give a list of arrays [steps, dim], one for each record."


class Table(NamedTuple):
    """One record as its owner wrote it.

    Attributes:
      name: What errors call it, such as the path of its file.
      observations: float64 [rows, dx], NaN where a value is missing.
      controls: float64 [rows, du], NaN where a value is missing.
      time: float64 [rows], or None where the rows are one time step apart.
      lines: Line of each row in the file, or its number in the DataFrame or array, int [rows].
      counted: What `lines` counts, "line" or "row".
      are_timestamps: Whether the times are timestamps or durations, and so in seconds.
    """

    name: str
    observations: np.ndarray
    controls: np.ndarray
    time: np.ndarray | None
    lines: np.ndarray
    counted: str
    are_timestamps: bool = False

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
    """Returns the `Names` of columns, of which a string is one; integers become strings.

    Raises:
      ValueError: If there is no observation, one is not a string or empty, or one comes twice.
    """
    observations, controls = map(_listed, (observations, controls))
    time, record = map(_as_name, (time, record))
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
    several = np.iterable(names) and not isinstance(names, str)
    return list(map(_as_name, names if several else [names]))


def _as_name(label):
    """Returns the label of a column of a DataFrame as a name: an integer as a string."""
    is_integer = isinstance(label, numbers.Integral) and not isinstance(label, bool)
    return str(label) if is_integer else label


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
        made += _tables(columns, names, "line")
    return made


def frame_tables(frames, names):
    """Returns the `Table` of each record of DataFrames, with `columns` and `to_numpy`."""
    made = []
    for index, frame in enumerate(frames):
        if not (hasattr(frame, "columns") and hasattr(frame, "__getitem__")):
            raise ValueError(f"`frame` must be a DataFrame; got {type(frame).__name__}.")
        of_index = _time_index(frame, names) if names.time is None else None
        own = names if of_index is None else names._replace(time=INDEX)
        made += _tables(_frame_columns(frame, f"DataFrame {index}", own, of_index), own, "row")
    if len({table.time is None for table in made}) > 1:
        raise ValueError(
            "`frame` must have an index of times in every DataFrame or in none; got both. `time` "
            "names the column or index of times."
        )
    return made


def _time_index(frame, names):
    """Returns the index of a DataFrame, or a level of no other use, if it holds times, or None.

    Text counts as times if its first value is one; numbers do not, since they may number the rows.
    """
    index = getattr(frame, "index", None)
    used = {names.record, *names.numbers} - {None, *map(_as_name, frame.columns)}
    for level, label in enumerate(getattr(index, "names", [])):
        if _as_name(label) not in used and cells.are_moments(values := _level(index, level)):
            return values
    return None


def _level(index, level):
    """Returns the values [rows] of a level of an index; periods stand for their starts."""
    values = index.get_level_values(level)
    return getattr(values, "to_timestamp", lambda: values)().to_numpy()


def _frame_columns(frame, name, names, of_index):
    """Returns the `Columns` of a DataFrame; `of_index` are those called `INDEX`, or None."""
    values, are_timestamps = {}, False
    for column, parse in cells.parsers(names.numbers, names.time, names.record).items():
        of_it = of_index if column == INDEX else _frame_column(frame, name, column)
        values[column] = cells.column(f"{name}, column {column!r}", of_it, parse)
        if parse is cells.timestamp:
            are_timestamps = cells.are_timestamps(of_it)
    rows = np.arange(len(values[names.observations[0]]))
    return csv_files.Columns(name, values, rows, are_timestamps)


def _frame_column(frame, name, column):
    """Returns the values [rows] of a column of a DataFrame, or of its index of that name."""
    held = list(map(_as_name, frame.columns))
    if held.count(column) == 1:
        return frame[list(frame.columns)[held.index(column)]].to_numpy()
    index = getattr(frame, "index", None)
    labels = list(getattr(index, "names", []))
    levels = list(map(_as_name, labels))
    if column in levels and column not in held:
        return _level(index, labels[levels.index(column)])
    found = "; it comes twice" if column in held else csv_files.nearest(column, held)
    columns = ", ".join(map(str, held))
    raise ValueError(f"{name} must have one column {column!r}{found}: {columns}.")


def _tables(columns, names, counted):
    """Returns a `Table`, or one for each record that the column `names.record` names."""
    name, values, lines, are_timestamps = columns
    if names.record is None:
        return [_table(name, values, names, lines, counted, are_timestamps)]
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
        of_lines = lines[rows[index]]
        made.append(_table(title, of_record, names, of_lines, counted, are_timestamps))
    return made


def _table(name, values, names, lines, counted, are_timestamps):
    observations, controls = (
        np.stack([values[column] for column in columns], axis=1)
        if columns
        else np.empty([len(lines), 0])
        for columns in names[:2]
    )
    times = None if names.time is None else values[names.time]
    return Table(name, observations, controls, times, lines, counted, are_timestamps)


def time_name(made, names):
    """Returns what the times of tables are called, None where they have none."""
    if made[0].time is None:
        return None
    return SECONDS if made[0].are_timestamps else names.time or "time"


def check_finite(made, names):
    """Raises ValueError with the place of the first infinite value of tables."""
    for table in made:
        for argument in ("observations", "controls"):
            values = getattr(table, argument)
            for row, column in np.argwhere(np.isinf(values))[:1]:
                name = getattr(names, argument)[column]
                raise ValueError(
                    f"`{argument}`: {name!r} must hold finite numbers; got {values[row, column]} "
                    f"in {table.place(row)}."
                )


def array_tables(observations, controls=None, time=None):
    """Returns the `Table` of each record; lists of arrays are several records.

    Raises:
      ValueError: If the shapes do not fit each other, or an array is not numeric.
    """
    observations = _records("observations", observations)
    others = {
        name: [None] * len(observations) if each is None else _records(name, each)
        for name, each in {"controls": controls, "time": time}.items()
    }
    for name, each in others.items():
        if len(each) != len(observations):
            raise ValueError(
                f"`{name}` must have as many records as `observations`, {len(observations)}; "
                f"got {len(each)}."
            )
    made = [
        _array_table(f"record {index}", *arrays)
        for index, arrays in enumerate(zip(observations, *others.values()))
    ]
    for name, shape in {"observations": "dx", "controls": "du"}.items():
        widths = {getattr(table, name).shape[1] for table in made}
        if len(widths) > 1:
            raise ValueError(f"`{name}` must have the same {shape} in all records; got {widths}.")
    return made


def _records(name, values):
    """Returns a list of arrays; raises ValueError for lists, rows of one record or several."""
    if not isinstance(values, (list, tuple)) or not values:
        return [values]
    if any(isinstance(each, (list, tuple)) for each in values):
        raise ValueError(
            f"`{name}` must be an array, or a list of arrays; got lists within a list of "
            f"{len(values)}, which may be the rows of one record or several records. For one "
            f"record give an array [steps, dim]. {SEVERAL}"
        )
    several = hasattr(values[0], "__array__") and np.ndim(values[0]) > 0
    return list(values) if several else [values]


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
    are_timestamps = False
    if time is not None:
        time = np.asarray(time)
        if time.shape != (steps,):
            raise ValueError(f"`time` must have shape {(steps,)}; got {time.shape} in {name}.")
        are_timestamps = cells.are_timestamps(time)
        time = cells.column(f"{name}, `time`", time, cells.timestamp)
    controls = np.concatenate([controls, unknown])
    return Table(name, observations, controls, time, np.arange(steps), "row", are_timestamps)


def _matrix(name, values):
    """Returns values as float64 [steps, dim], NaN where they are masked."""
    values = checks.numeric_array(name, values, SEVERAL)
    values = np.ma.filled(values.astype(float), np.nan)
    if values.ndim == 1:
        values = values[:, np.newaxis]
    if values.ndim != 2:
        got = f"got {values.shape}. {SEVERAL}"
        raise ValueError(f"`{name}` must have shape [steps, dim]; {got}")
    return values
