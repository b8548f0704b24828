"""Columns of a CSV file, each error with its line."""

import csv
import difflib
import re
from typing import NamedTuple

import numpy as np

from tfp_dvbf.data import cells

DELIMITERS = ",;\t"
WORKBOOK = b"PK\x03\x04"  # What an .xlsx or .ods begins with: it is a ZIP archive.
BETWEEN = " Delete lines of text below the column names."


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


def read_columns(path, names, time=None, record=None, *, decimal=".", encoding="utf-8"):
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
    with open(path, "rb") as file:
        if file.read(len(WORKBOOK)) == WORKBOOK:
            raise ValueError(f"{path} must be a CSV file, and not a workbook; save it as one.")
    parsers = dict.fromkeys(names, cells.number)
    parsers |= {time: cells.timestamp, record: cells.label}
    parsers.pop(None, None)
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
    text, before = _header_text(file)
    header, delimiter = _header(path, text, list(parsers))
    indices = {name: _index(path, header, name) for name in parsers}
    found, lines = {name: [] for name in parsers}, []
    for line, row in _rows(path, file, delimiter, before):
        if not any(map(str.strip, row)):
            continue
        _check_width(path, row, header, line)
        lines.append(line)
        for name, index in indices.items():
            cell = row[index].strip()
            try:
                found[name].append(parsers[name](cell, decimal))
            except ValueError:
                place = f"{path}, line {line}, column {name!r}"
                message = cells.refusal(place, row[index], parsers[name], decimal)
                between = len(lines) == 1 or cell == name
                raise ValueError(message + BETWEEN * (between and message[-1] == ".")) from None
    values = {name: np.array(column) for name, column in found.items()}
    return Columns(str(path), values, np.array(lines, int))


def _header_text(file):
    """Returns the line of column names, without a byte order mark, and how many lines it ends.

    Line breaks in quotes belong to it; a line `sep=;` before it does not.
    """
    text, count = file.readline().removeprefix("\ufeff"), 1
    if re.fullmatch(r'"?sep=."?\s*', text, re.IGNORECASE):
        text, count = file.readline(), 2
    while text.count('"') % 2 and (more := file.readline()):
        text, count = text + more, count + 1
    return text, count


def _rows(path, file, delimiter, line):
    """Yields the line on which a row ends, and its cells."""
    reader, before = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True), line
    try:
        for row in reader:
            line = before + reader.line_num
            yield line, row
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line + 1}: the row that begins here must be one of a CSV file; {error}."
        ) from error


def _header(path, text, wanted):
    """Returns the names in the first row of a file, and the delimiter that divides them.

    A line break in a name counts as a space.
    """
    wanted = {" ".join(name.split()) for name in wanted}

    def names(delimiter):
        lines = text.splitlines(keepends=True)
        row = next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])
        return [" ".join(name.split()) for name in row]

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
    found = [index for index, each in enumerate(header) if each == " ".join(name.split())]
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
