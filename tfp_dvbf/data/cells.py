"""Cells of a log: numbers, times and the names of records, and why one is none of them."""

import datetime

import numpy as np

DECIMALS = ".", ","
MISSING = {"", "nan", "na", "n/a", "null", "none", "<na>", "nat"}


def number(cell, decimal="."):
    """Returns a finite number, or NaN for a missing cell; raises ValueError for any other."""
    if cell.lower() in MISSING:
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


def label(cell, decimal="."):
    """Returns a cell that names a record; raises ValueError for a missing one."""
    if cell.lower() in MISSING:
        raise ValueError("it names no record")
    return cell


RULES = {
    number: "be a finite number",
    timestamp: "be a finite number or an ISO 8601 timestamp",
    label: "name a record",
}


def refusal(place, cell, parse, decimal):
    hint = ""
    if parse is not label and (other := DECIMALS[decimal == "."]) in cell:
        hint = f' Numbers have a decimal "{decimal}"; `decimal` chooses "{other}".'
    return f"{place} must {RULES[parse]}; got {cell!r}.{hint}"
