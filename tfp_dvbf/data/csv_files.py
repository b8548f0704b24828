"""Columns of a CSV file, each error with its line."""

import csv
import difflib
import itertools
import re
from typing import NamedTuple

import numpy as np

from tfp_dvbf.data import cells

DELIMITERS = ";\t,"  # The comma is last, since it may be a decimal sign.
WORKBOOK = b"PK\x03\x04"  # What an .xlsx or .ods begins with: it is a ZIP archive.


class Columns(NamedTuple):
    """Some columns of a file or DataFrame.

    Attributes:
      path: Path of the file, or what errors call the DataFrame.
      values: By name of a column, float64 [rows], NaN where a cell is empty; of the column that
        tells records apart the cells themselves.
      lines: Line of the file on which each row ends, or its number, int [rows].
      are_timestamps: Whether the times are timestamps or durations, and so in seconds.
    """

    path: str
    values: dict
    lines: np.ndarray
    are_timestamps: bool = False


def read_columns(path, names, time=None, record=None, *, decimal=".", encoding="utf-8"):
    """Reads the columns `names`, `time` and `record` of a CSV file.

    The first line names the columns; its cells are divided by commas, semicolons or tabs. Cells
    that are empty, NaN, NA, N/A, null or None are missing. Empty lines are skipped, and so is a
    delimiter at the end of a line. So are rows of empty cells at the end, and elsewhere if `time`
    or `record` is given; without these they are rows of missing values.

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
    with open(path, "rb") as file:
        if file.read(len(WORKBOOK)) == WORKBOOK:
            raise ValueError(f"{path} must be a CSV file, and not a workbook; save it as one.")
    parsers = cells.parsers(names, time, record)
    with open(path, encoding=encoding, newline="") as file:
        try:
            return _read(path, file, parsers, decimal)
        except UnicodeError as error:
            raise ValueError(
                f"{path} must be text in {encoding}; {error}. `encoding` names another, such as "
                "utf-8, cp1252 or utf-16."
            ) from error


def check_format(decimal, encoding):
    """Raises ValueError unless numbers can be read with `decimal` and text in `encoding`."""
    if decimal not in cells.DECIMALS:
        raise ValueError(f'`decimal` must be "." or ","; got {decimal!r}.')
    try:
        "".encode(encoding)
    except (LookupError, TypeError):
        raise ValueError(
            f"`encoding` must be one of text that Python knows, such as cp1252; got {encoding!r}."
        ) from None


def _read(path, file, parsers, decimal):
    header, delimiter = _header(path, file, {cells.plain(name) for name in parsers})
    indices = {name: _index(path, header, name) for name in parsers}
    keeps_empty = set(parsers.values()) <= {cells.number}
    timed = [name for name, parse in parsers.items() if parse is cells.timestamp]
    found, lines, empty, first = {name: [] for name in parsers}, [], [], []
    for line, row, inside in _rows(path, file, delimiter):
        if not any(map(str.strip, row)):
            empty += [line] * (keeps_empty and len(row) > 1 and len(lines) > 0)
            continue
        if any(_is_row(text.split(delimiter), indices, parsers, decimal) for text in inside):
            raise ValueError(
                f"{path}: the row that ends on line {line} has a quotation mark that opens a cell "
                "of several rows. Close it or delete it."
            )
        _check_width(path, row, header, line)
        texts = {name: row[index].strip() for name, index in indices.items()}
        for name, value in _parsed(path, line, texts, parsers, decimal).items():
            found[name] += [np.nan] * len(empty)
            found[name].append(value)
        first = first or [texts[name] for name in timed]
        lines += [*empty, line]
        empty = []
    values = {name: np.array(column) for name, column in found.items()}
    are_timestamps = cells.are_timestamps(first, decimal)
    return Columns(str(path), values, np.array(lines, int), are_timestamps)


def _is_row(texts, indices, parsers, decimal):
    """Returns whether texts hold a value or nothing wherever a row has to."""
    try:
        for name, index in indices.items():
            parsers[name](texts[index].strip(), decimal)
    except (ValueError, IndexError):
        return False
    return True


def _parsed(path, line, texts, parsers, decimal):
    """Returns the value of each cell of a row by the name of its column.

    Raises:
      ValueError: If a cell has none; with its place and what to do.
    """
    made = {}
    for name, text in texts.items():
        try:
            made[name] = parsers[name](text, decimal)
        except ValueError:
            place = f"{path}, line {line}, column {name!r}"
            is_text = _is_text(texts, parsers, decimal)
            message = cells.refusal(place, text, parsers[name], decimal, is_text)
            raise ValueError(message) from None
    return made


def _is_text(texts, parsers, decimal):
    """Returns whether no cell of a row holds a value but the one that names its record."""
    for name, text in texts.items():
        try:
            value = parsers[name](text, decimal)
        except ValueError:
            continue
        if parsers[name] is not cells.label and not np.isnan(value):
            return False
    return True


def _text_lines(file):
    """Returns an iterator of a file's lines from its start, and how many it skips.

    It skips a byte order mark and a line `sep=;`, which spreadsheets write.
    """
    file.seek(0)
    first = file.readline().removeprefix("\ufeff")
    if re.fullmatch(r'"?sep=."?\s*', first, re.IGNORECASE):
        return file, 1
    return itertools.chain([first], file), 0


def _rows(path, file, delimiter):
    """Yields the line on which a row below the header ends, its cells and the lines inside."""
    text, skipped = _text_lines(file)
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
    line = skipped
    try:
        for index, row in enumerate(reader):
            before, line = line, skipped + reader.line_num
            inside = [] if line == before + 1 else _lines_inside(row)
            if index > 0:
                yield line, row, inside
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line + 1}: the row that begins here must be one of a CSV file; "
            f"{error}. Close or delete its quotation mark."
        ) from error


def _lines_inside(row):
    """Returns the lines of the cells of a row but the first of each."""
    return [line for cell in row for line in cell.splitlines()[1:]]


def _header(path, file, wanted):
    """Returns the names in the first row of a file, and the delimiter that divides them."""

    def names(delimiter):
        lines, _ = _text_lines(file)
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        return [cells.plain(name) for name in next(rows, [])]

    # The delimiter by which the wanted columns are found, or else most columns.
    delimiter = max(DELIMITERS, key=lambda each: (wanted <= set(names(each)), len(names(each))))
    header = names(delimiter)
    while header and not header[-1]:  # A delimiter at the end of the line.
        header.pop()
    if not header:
        raise ValueError(f"{path} must begin with a line of column names; its first line is empty.")
    if cells.are_numbers(header) and not wanted <= set(header):
        raise ValueError(
            f"{path} must begin with a line of column names; its first line holds numbers."
        )
    return header, delimiter


def _index(path, header, name):
    """Returns which column is called `name`."""
    found = [index for index, each in enumerate(header) if each == cells.plain(name)]
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
            f"{path}, line {line} must have {len(header)} cells as the first line; got {len(row)}. "
            "Put a cell that holds a delimiter in quotes."
        )
