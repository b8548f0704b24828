"""Cells of a log: numbers, times and the names of records, and why one is none of them."""

import datetime
import re

import numpy as np

DECIMALS = ".", ","
# NaN has many spellings: -nan, nan(ind) and 1.#QNAN0 are those of C, #N/A that of spreadsheets.
MISSING = re.compile(
    r"|[+-]?nan(\(\w+\))?|[+-]?1[.,]#(qnan|snan|ind)0*|#?n/?a|#n/a n/a|null|none|<na>|nat",
    re.IGNORECASE,
)
INFINITE = re.compile(r"[+-]?(inf(inity)?|1[.,]#inf0*)", re.IGNORECASE)
# Digits in threes: 1.234,5 or 1 234; and those of which it is not sure: 1,234.
SEPARATED = re.compile(r"[+-]?\d{1,3}([.,' \u00a0\u202f]\d{3})+([.,]\d*)?")
SEPARATED_ONCE = re.compile(r"[+-]?\d{1,3}[.,]\d{3}")
DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b")
COMPACT = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def number(cell, decimal="."):
    """Returns a finite number, or NaN for a missing cell; raises ValueError for any other."""
    if MISSING.fullmatch(cell):
        return np.nan
    if decimal == "," and "." in cell:
        raise ValueError(f"{cell!r} has a decimal point")
    value = float(cell.replace(decimal, "."))
    if not np.isfinite(value) or "_" in cell:
        raise ValueError(f"{cell!r} is not a finite number")
    return value


def timestamp(cell, decimal="."):
    """Returns a number, or the seconds since 1970 of an ISO 8601 timestamp, in UTC by default."""
    try:
        return number(cell, decimal)
    except ValueError:
        moment = datetime.datetime.fromisoformat(cell.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (moment - epoch).total_seconds()


def are_moments(values):
    """Returns whether values [rows] are times or, to judge by the first of them, text of times."""
    if values.dtype.kind in "mM":
        return True
    texts = (str(value).strip() for value in values)
    first = next((text for text in texts if not MISSING.fullmatch(text)), None)
    if first is None or _is_number(first, "."):
        return False
    if DATE.match(first):  # It is read as one, and refused with its row where it is not ISO 8601.
        return True
    try:
        timestamp(first)
    except ValueError:
        return False
    return True


def label(cell, decimal="."):
    """Returns a cell that names a record; raises ValueError for a missing one."""
    if MISSING.fullmatch(cell):
        raise ValueError("it names no record")
    return cell


RULES = {
    number: "be a finite number",
    timestamp: "be a finite number or an ISO 8601 timestamp",
    label: "name a record",
}


def parsers(names, time=None, record=None):
    """Returns what reads the cells of each column, by its name."""
    special = {time: timestamp, record: label}
    return dict.fromkeys(names, number) | {k: parse for k, parse in special.items() if k}


def column(name, values, parse):
    """Returns values [rows] of any kind, each read by `parse` as a cell of a CSV file is.

    Args:
      name: What errors call them.
      values: Numbers, text or objects; timestamps and durations become seconds.
      parse: `number`, `timestamp` or `label`.

    Returns:
      float64 [rows], or text where `parse` is `label`.

    Raises:
      ValueError: If one is not what `parse` reads; with its row.
    """
    kind = values.dtype.kind
    if kind in "mM" and parse is number:
        raise ValueError(f"{name} must hold numbers; it holds times.")
    if kind in "mM" and parse is timestamp:
        since = values if kind == "m" else values - values[:1]
        seconds = since.astype("timedelta64[ns]").astype(np.int64) / 1e9
        return np.where(np.isnat(values), np.nan, seconds)
    if kind in "fiub" and parse is not label:
        return values.astype(float)
    made = []
    for row, value in enumerate(values):
        try:
            made.append(parse(str(value).strip()))
        except ValueError:
            message = refusal(f"{name}, row {row}", str(value), parse, ".")
            raise ValueError(message) from None
    return np.array(made) if parse is label else np.array(made, float)


def plain(name):
    """Returns the name of a column with single spaces in place of line breaks and the like."""
    return " ".join(name.split())


def refusal(place, cell, parse, decimal, is_text_line=None):
    """Returns what is wrong with a cell at a place, and what to do about it.

    Args:
      place: Where the cell is, in words.
      cell: The cell.
      parse: What refused it.
      decimal: "." or ",".
      is_text_line: Whether no other cell of its line holds a value; None where it is of no file.
    """
    hint = _hint(cell.strip(), parse, decimal, is_text_line)
    return f"{place} must {RULES[parse]}; got {cell!r}.{hint}"


def _hint(cell, parse, decimal, is_text_line):
    """Returns the likely remedy, or nothing."""
    other = DECIMALS[decimal == "."]
    if parse is label:
        return ""
    if INFINITE.fullmatch(cell):
        return " It is infinite; leave it empty where the value is missing."
    if SEPARATED.fullmatch(cell) and not SEPARATED_ONCE.fullmatch(cell):
        return " Write numbers without separators of thousands."
    if other in cell and _is_number(cell, other):
        return (
            f' Numbers have a decimal "{decimal}" and no separators of thousands; where "{other}" '
            "is the decimal sign, `decimal` says so."
        )
    if parse is timestamp:
        return " Write times as 2024-12-31T12:00."
    if re.search(r"\d", cell):
        return " Write numbers without units."
    if is_text_line is None:
        return " NaN or None means a missing value."
    if not is_text_line:
        return " It is text in a row of numbers; an empty cell means a missing value."
    return " Delete lines of text below the column names, and leave a cell without a value empty."


def _is_number(cell, decimal="."):
    try:
        return np.isfinite(number(cell, decimal))
    except ValueError:
        return False


def are_numbers(row):
    """Returns whether all cells are numbers, one or more."""
    return len(row) > 0 and all(map(_is_number, row))


def are_timestamps(times, decimal="."):
    """Returns whether times [rows], of any kind, are timestamps or durations and no numbers."""
    kind = np.asarray(times).dtype.kind
    if len(times) == 0 or kind in "fiub":
        return False
    return kind in "mM" or not _is_number(str(times[0]).strip(), decimal)


def are_dates(times):
    """Returns whether numbers are the digits of dates, such as 2024013112, and count nothing."""
    sample = times[np.unique(np.linspace(0, len(times) - 1, 50).astype(int))]
    return len(times) > 0 and all(map(_is_date, sample))


def _is_date(value):
    digits = f"{np.floor(value):.0f}"
    if not np.isfinite(value) or len(digits) not in COMPACT:
        return False
    try:
        return 1900 <= datetime.datetime.strptime(digits, COMPACT[len(digits)]).year <= 2100
    except ValueError:
        return False
