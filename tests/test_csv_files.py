"""CSV files as people bring them, and the line that each refusal names."""

import re

import numpy as np
import pytest

from tfp_dvbf.data import csv_files

ROWS = "0,1.5,5\n1,2.5,6\n2,4.5,7\n"
GERMAN = ROWS.replace(",", ";")


def read(tmp_path, text, names=("y", "u"), time=None):
    path = tmp_path / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return csv_files.read_columns(path, list(names), time)


@pytest.mark.parametrize(
    "text",
    [
        "t,y,u\n" + ROWS,
        "\ufefft,y,u\n" + ROWS,
        ("t,y,u\n" + ROWS).replace("\n", "\r\n"),
        "t;y;u\n" + GERMAN,
        "t\ty\tu\n" + ROWS.replace(",", "\t"),
        '"t","y","u"\n' + re.sub(r"([\d.]+)", r'"\1"', ROWS),
        " t , y ,u \n" + ROWS.replace(",", " , "),
        "t,y,u,\n" + ROWS.replace("\n", ",\n"),
        "t,y,u\n" + ROWS.replace("\n", ",\n"),
        "t,y,u,\n" + ROWS,
        "z,y,u,z\n" + ROWS.replace("\n", ",bad\n"),
    ],
    ids=[
        *["plain", "byte order mark", "CRLF", "semicolons", "tabs", "quotes", "spaces"],
        *[
            "trailing delimiters",
            "in rows alone",
            "in the header alone",
            "others twice, not numeric",
        ],
    ],
)
def test_files_that_hold_the_same(tmp_path, text):
    columns = read(tmp_path, text)
    np.testing.assert_array_equal(columns.values["y"], [1.5, 2.5, 4.5])
    np.testing.assert_array_equal(columns.values["u"], [5.0, 6.0, 7.0])
    assert list(columns.values) == ["y", "u"] and columns.lines.tolist() == [2, 3, 4]


def test_missing_cells_and_empty_lines(tmp_path):
    text = "y,u\n\n1,\nnan,NA\n,,\n N/A ,None\n+2.,1e-3\n"
    columns = read(tmp_path, text)
    np.testing.assert_array_equal(columns.values["y"], [1, np.nan, np.nan, 2])
    np.testing.assert_array_equal(columns.values["u"], [np.nan, np.nan, np.nan, 1e-3])
    assert columns.lines.tolist() == [3, 4, 6, 7]


def test_the_delimiter_is_the_one_that_finds_the_columns(tmp_path):
    text = 'a, b, c;y;"u [V, rms]"\n0;1;2\n'
    assert read(tmp_path, text, ["y", "u [V, rms]"]).values["u [V, rms]"].tolist() == [2.0]


def test_timestamps_become_seconds(tmp_path):
    times = ["1970-01-01T00:00:01", "1970-01-01 00:00:02.500", "1970-01-01T01:00:04+01:00", "5"]
    text = "t,y\n" + "".join(f"{time},1\n" for time in times)
    assert read(tmp_path, text, ["y"], "t").values["t"].tolist() == [1.0, 2.5, 4.0, 5.0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("t,level,u\n" + ROWS, r"log\.csv must have a column 'y'; its columns are: t, level, u\."),
        ("t,Y,u\n" + ROWS, r"a column 'y'; the nearest of its columns is 'Y': t, Y, u\."),
        ("y,y,u\n" + ROWS, r"must have one column 'y'; it has 2: y, y, u\."),
        (ROWS, r"must begin with a line of column names; its first line holds numbers\."),
        ("", r"must begin with a line of column names; its first line is empty\."),
        ("\n" + ROWS, r"must begin with a line of column names; its first line is empty\."),
        (
            "t,y,u\n0,1,2\n1,bad,2\n",
            r"line 3, column 'y' must be a finite number; got 'bad'",
        ),
        ("t;y;u\n0;0,5;2\n", r"line 2, .* got '0,5'\. Numbers have a decimal point and no comma\."),
        ("t,y,u\n\n0,inf,2\n", r"line 3, column 'y' must be a finite number; got 'inf'\."),
        ("t,y,u\n0,1_000,2\n", r"line 2, column 'y' must be a finite number; got '1_000'\."),
        (
            "t,y,u\nnoon,1,2\n",
            r"'t' must be a finite number or an ISO 8601 timestamp; got 'noon'",
        ),
        ("t,y,u\n0,1,2\n1,2\n", r"line 3 must have 3 cells as the first line; got 2\."),
        ("t,y,u\n0,1,2,3\n", r"line 2 must have 3 cells as the first line; got 4\."),
        ("t,y °C,u\n".encode("latin-1"), r"log\.csv must be text in UTF-8; "),
        ("t,y,u\n0,1," + "9" * 200_000, r"log\.csv must be a CSV file; field larger than"),
    ],
)
def test_refusals(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, time="t" if "t," in str(text) else None)
