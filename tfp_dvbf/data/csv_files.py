"""Columns of a CSV file, each error with its line."""

import codecs
import csv
import difflib
from typing import NamedTuple

import numpy as np

from tfp_dvbf.data import cells

DELIMITERS = ",;\t"
UTF_8 = "utf-8-sig"  # With a byte order mark or without.


class Columns(NamedTuple):
    """Some columns of a file.

    Attributes:
      path: Path of the file.
      values: By name of a column, float64 [rows], NaN where a cell is empty; of the column that
        tells records apart the cells themselves.
      lines: Line of the file on which each row ends, int [rows].
    """

    path: str
    values: dict
    lines: np.ndarray


def read_columns(path, names, time=None, record=None, *, decimal=".", encoding=UTF_8):
    """Reads the columns `names`, `time` and `record` of a CSV file.

    The first line names the columns; its cells are divided by commas, semicolons or tabs. Cells
    that are empty, NaN, NA, N/A, null or None are missing. Empty lines are skipped, and so is a
    delimiter at the end of a line.

    Args:
      path: Path of a text file.
      names: Names of columns of numbers.
      time: Name of the column of times, numbers or ISO 8601 timestamps, or None.
      record: Name of the column that says which record a row belongs to, or None.
      decimal: What divides a number from its decimals, "." or ",".
      encoding: That of the file, by its name in Python.

    Returns:
      `Columns`; timestamps become seconds since 1970.

    Raises:
      ValueError: If a column is missing or comes twice, a cell is not a finite number or names no
        record, or the file is in another encoding; the message names the file, the line and the
        column.
    """
    check_format(decimal, encoding)
    parsers = dict.fromkeys(names, cells.number)
    parsers |= {
        name: parse for name, parse in [(time, cells.timestamp), (record, cells.label)] if name
    }
    with open(path, encoding=encoding, newline="") as file:
        try:
            return _read(path, file, parsers, decimal)
        except UnicodeError as error:
            remedy = "`encoding` names another, such as cp1252 or utf-16."
            raise ValueError(
                f"{path} must be text in {encoding.removesuffix('-sig')}; {error}. {remedy}"
            ) from error
        except csv.Error as error:
            raise ValueError(f"{path} must be a CSV file; {error}.") from error


def check_format(decimal, encoding):
    """Raises ValueError unless numbers can be read with `decimal` and text in `encoding`."""
    if decimal not in cells.DECIMALS:
        raise ValueError(f'`decimal` must be "." or ","; got {decimal!r}.')
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError):
        raise ValueError(
            f"`encoding` must be one that Python knows, such as cp1252; got {encoding!r}."
        ) from None


def _read(path, file, parsers, decimal):
    wanted, first = list(parsers), file.readline()
    header, delimiter = _header(path, first, wanted)
    indices = {name: _index(path, header, name) for name in wanted}
    found, lines = {name: [] for name in wanted}, []
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        line = reader.line_num + 1
        if not any(map(str.strip, row)):
            continue
        _check_width(path, row, header, line)
        lines.append(line)
        for name, index in indices.items():
            try:
                found[name].append(parsers[name](row[index].strip(), decimal))
            except ValueError:
                place = f"{path}, line {line}, column {name!r}"
                raise ValueError(cells.refusal(place, row[index], parsers[name], decimal)) from None
    values = {name: np.array(column) for name, column in found.items()}
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


def _are_numbers(row):
    try:
        return [cells.number(cell) for cell in row] != []
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
