"""Columns of a CSV file, each error with its line."""

import csv
import datetime
import difflib
from typing import NamedTuple

import numpy as np

DELIMITERS = ",;\t"
MISSING = {"", "nan", "na", "n/a", "null", "none", "<na>", "nat"}


class Columns(NamedTuple):
    """Some columns of a file.

    Attributes:
      path: Path of the file.
      values: float64 [rows] by name of a column, NaN where a cell is empty.
      lines: Line of the file on which each row ends, int [rows].
    """

    path: str
    values: dict
    lines: np.ndarray


def read_columns(path, names, time=None):
    """Reads the columns `names` and the column `time` of a CSV file.

    The first line names the columns; its cells are divided by commas, semicolons or tabs. Numbers
    have a decimal point. Cells that are empty, NaN, NA, N/A, null or None are missing. Empty lines
    are skipped, and so is a delimiter at the end of a line.

    Args:
      path: Path of a text file in UTF-8.
      names: Names of columns of numbers.
      time: Name of the column of times, numbers or ISO 8601 timestamps, or None.

    Returns:
      `Columns`; timestamps become seconds since 1970.

    Raises:
      ValueError: If a column is missing or comes twice, or a cell is not a finite number; the
        message names the file, the line and the column.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            return _read(path, file, names, time)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} must be text in UTF-8; {error}.") from error
        except csv.Error as error:
            raise ValueError(f"{path} must be a CSV file; {error}.") from error


def _read(path, file, names, time):
    wanted = [*names, *([] if time is None else [time])]
    first = file.readline()
    header, delimiter = _header(path, first, wanted)
    indices = {name: _index(path, header, name) for name in wanted}
    cells, lines = {name: [] for name in wanted}, []
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        line = reader.line_num + 1
        if not any(map(str.strip, row)):
            continue
        _check_width(path, row, header, line)
        lines.append(line)
        for name, index in indices.items():
            parse = timestamp if name == time else number
            try:
                cells[name].append(parse(row[index].strip()))
            except ValueError:
                raise ValueError(_refusal(path, line, name, row[index], parse)) from None
    values = {name: np.array(column, float) for name, column in cells.items()}
    return Columns(str(path), values, np.array(lines, int))


def _header(path, line, wanted):
    """Returns the names in the first line of a file, and the delimiter that divides them."""

    def names(delimiter):
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        return [name.strip() for name in row]

    # The delimiter by which the wanted columns are found, or else most columns.
    delimiter = max(
        DELIMITERS, key=lambda each: (set(wanted) <= set(names(each)), len(names(each)))
    )
    header = names(delimiter)
    while header and not header[-1]:  # A delimiter at the end of the line.
        header.pop()
    if not header:
        raise ValueError(f"{path} must begin with a line of column names; its first line is empty.")
    if _are_numbers(header) and not set(wanted) <= set(header):
        raise ValueError(
            f"{path} must begin with a line of column names; its first line holds numbers."
        )
    return header, delimiter


def _are_numbers(cells):
    try:
        return [number(cell) for cell in cells] != []
    except ValueError:
        return False


def _index(path, header, name):
    """Returns which column is called `name`."""
    found = [index for index, each in enumerate(header) if each == name.strip()]
    if len(found) == 1:
        return found[0]
    columns = ", ".join(filter(None, header))
    if found:
        raise ValueError(f"{path} must have one column {name!r}; it has {len(found)}: {columns}.")
    raise ValueError(f"{path} must have a column {name!r}{nearest(name, header)}: {columns}.")


def nearest(name, names):
    """Returns what an error says of the names that there are, the nearest first."""
    spelled = {str(each).lower(): each for each in reversed(names)}
    close = [each for each in reversed(spelled) if each and each.startswith(name.lower())]
    close += difflib.get_close_matches(name.lower(), spelled, 1, 0.5)
    if close:
        return f"; the nearest of its columns is {spelled[close[0]]!r}"
    return "; its columns are"


def _check_width(path, row, header, line):
    if len(row) < len(header) or any(map(str.strip, row[len(header) :])):
        raise ValueError(
            f"{path}, line {line} must have {len(header)} cells as the first line; got {len(row)}."
        )


def number(cell):
    """Returns a finite number, or NaN for a missing cell; raises ValueError for any other."""
    if cell.lower() in MISSING:
        return np.nan
    value = float(cell)
    if not np.isfinite(value) or "_" in cell:
        raise ValueError(f"{cell!r} is not a finite number")
    return value


def timestamp(cell):
    """Returns a number, or the seconds since 1970 of an ISO 8601 timestamp, in UTC by default."""
    try:
        return number(cell)
    except ValueError:
        moment = datetime.datetime.fromisoformat(cell.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (moment - epoch).total_seconds()


def _refusal(path, line, name, cell, parse):
    rule = "a finite number"
    if parse is timestamp:
        rule += " or an ISO 8601 timestamp"
    hint = " Numbers have a decimal point and no comma." if "," in cell else ""
    return f"{path}, line {line}, column {name!r} must be {rule}; got {cell!r}.{hint}"
