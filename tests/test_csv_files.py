"""CSV files as people bring them, and the line that each refusal names."""

import re

import numpy as np
import pytest

from tfp_dvbf.data import csv_files

ROWS = "0,1.5,5\n1,2.5,6\n2,4.5,7\n"
GERMAN = ROWS.replace(",", ";")


def read(tmp_path, text, names=("y", "u"), time=None, record=None, **options):
    path = tmp_path / "log.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return csv_files.read_columns(path, list(names), time, record, **options)


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
    np.testing.assert_array_equal(columns.values["y"], [1, *[np.nan] * 3, 2])
    np.testing.assert_array_equal(columns.values["u"], [*[np.nan] * 4, 1e-3])
    assert columns.lines.tolist() == [3, 4, 5, 6, 7]


def test_rows_of_empty_cells(tmp_path):
    """Without times they are time steps, but for those at the end, which spreadsheets write."""
    text = "t,y\n,\n0,1\n,\n2,3\n,\n,\n"
    assert read(tmp_path, text, ["y"]).lines.tolist() == [3, 4, 5]
    assert read(tmp_path, text, ["y"], "t").values["t"].tolist() == [0, 2]
    assert read(tmp_path, text, ["y"], record="t").lines.tolist() == [3, 5]


def test_the_delimiter_is_the_one_that_finds_the_columns(tmp_path):
    text = 'a, b, c;y;"u [V, rms]"\n0;1;2\n'
    assert read(tmp_path, text, ["y", "u [V, rms]"]).values["u [V, rms]"].tolist() == [2.0]


def test_timestamps_become_seconds(tmp_path):
    times = ["1970-01-01T00:00:01", "1970-01-01 00:00:02.500", "1970-01-01T01:00:04+01:00", "5"]
    text = "t,y\n" + "".join(f"{time},1\n" for time in times)
    assert read(tmp_path, text, ["y"], "t").values["t"].tolist() == [1.0, 2.5, 4.0, 5.0]


def test_decimal_commas(tmp_path):
    text = "t;y;u\n0,5;1,5;-2\n1970-01-01T00:00:01;,5;1e-3\n"
    columns = read(tmp_path, text, time="t", decimal=",")
    assert [columns.values[name].tolist() for name in "tyu"] == [[0.5, 1], [1.5, 0.5], [-2, 1e-3]]
    with pytest.raises(
        ValueError, match=r"line 2, .* got '1\.5'\. Numbers have a decimal \",\" and"
    ):
        read(tmp_path, "t;y;u\n0;1.5;2\n", decimal=",")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_other_encodings(tmp_path, encoding):
    text = "T [°C],u\n20,1\n".encode(encoding)
    assert read(tmp_path, text, ["T [°C]"], encoding=encoding).values["T [°C]"].tolist() == [20]
    with pytest.raises(ValueError, match="must be text in utf-8; .* `encoding` names another"):
        read(tmp_path, text, ["T [°C]"])


def test_a_column_that_names_records_is_kept_as_text(tmp_path):
    text = "run,y\n01,1\nb a,2\n 01 ,3\n"
    assert read(tmp_path, text, ["y"], record="run").values["run"].tolist() == ["01", "b a", "01"]
    with pytest.raises(ValueError, match=r"line 3, column 'run' must name a record; got ''\."):
        read(tmp_path, "run,y\n1,1\n ,2\n", ["y"], record="run")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_byte_order_marks(tmp_path, encoding):
    text = "\ufeff" * (encoding != "utf-16") + "y,u\n1,2\n"
    assert read(tmp_path, text.encode(encoding), encoding=encoding).values["y"].tolist() == [1.0]


def test_what_spreadsheets_write_above_and_into_the_names(tmp_path):
    text = 'sep=;\n"y\n[V]";u\n1;2\n\n3;bad\n'
    with pytest.raises(ValueError, match=r"line 6, column 'u' must be a finite number; got 'bad'"):
        read(tmp_path, text, ["y [V]", "u"])
    columns = read(tmp_path, text, ["y [V]"])
    assert columns.values["y [V]"].tolist() == [1, 3] and columns.lines.tolist() == [4, 6]
    path = tmp_path / "log.xlsx"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match=r"log\.xlsx must be a CSV file, and not a workbook"):
        csv_files.read_columns(path, ["y"])


@pytest.mark.parametrize(
    "notes",
    [
        {5: '"3 inch', 50: '"3 inch'},
        {5: '"3 inch'},
        {5: '"', 50: '"'},
        {5: '"valve open', 50: 'valve closed"'},
    ],
)
def test_a_quotation_mark_costs_no_rows_in_silence(tmp_path, notes):
    rows = [f"{t},{t % 3},{notes.get(t, '')}\n" for t in range(100)]
    with pytest.raises(
        ValueError, match=r"ends on line \d+ has a quotation mark that opens a cell"
    ):
        read(tmp_path, "y,u,note\n" + "".join(rows))
    rows = [f"{t},z,{t % 3},{notes.get(t, '')},z\n" for t in range(100)]
    with pytest.raises(ValueError, match="a quotation mark that opens a cell"):
        read(tmp_path, "y,z,u,note,z\n" + "".join(rows))  # Two columns that nobody asks for.


@pytest.mark.parametrize(
    "text",
    [
        'y ["],u,note\n1,2,""\n3,4,""\n',
        '"y ["""],u,note\n1,2,"two\nlines, of\nprose, and, commas"\n3,4,"a ""word"", too"\n',
        '"y [""]" ,"u" ,note\n"1" ,"2" ,\n"3" ,4,he said "stop" now\n',
        'y ["],u,note\n1,2,"he said "stop" now"\n3,4,"said \\"stop\\""\n',
        'y ["],"u",note\n1,2,\n  \n\t\n\n3,4,\n,,\n',
    ],
)
def test_quotation_marks_and_blanks_that_cost_nothing(tmp_path, text):
    columns = read(tmp_path, text, ['y ["]', "u"])
    assert columns.values['y ["]'].tolist() == [1, 3] and columns.values["u"].tolist() == [2, 4]


def test_one_column_of_decimal_commas(tmp_path):
    assert read(tmp_path, "y\n1,5\n2,5\n", ["y"], decimal=",").values["y"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    "cell",
    [
        *["", "NaN", "-nan", "+NAN", "nan(ind)", "-nan(ind)", "1.#QNAN", "-1.#IND", "1.#QNAN0"],
        *["1,#QNAN", "NA", "#NA", "#N/A", "#n/a", "#N/A N/A", "n/a", "NULL", "None", "<NA>", "NaT"],
    ],
)
def test_spellings_of_a_missing_value(tmp_path, cell):
    columns = read(tmp_path, f"y;u\n1;2\n {cell} ;3\n4;5\n")
    np.testing.assert_array_equal(columns.values["y"], [1, np.nan, 4])


THOUSANDS = r"\. Write numbers without separators of thousands\."
TEXT = r"\. Delete lines of text below the column names, and leave a cell without a value empty\."
ODD = r"\. It is text in a row of numbers; an empty cell means a missing value\."
INFINITE = r"\. It is infinite; leave it empty where the value is missing\."
OTHER = (
    r'\. Numbers have a decimal "{}" and no separators .*; where "{}" is .*, `decimal` says so\.'
)


@pytest.mark.parametrize(
    "cell, decimal, hint",
    [
        ("1.234,5", ".", THOUSANDS),
        ("1.234,5", ",", THOUSANDS),
        ("1,234.5", ".", THOUSANDS),
        ("1 234", ".", THOUSANDS),
        ("1\u202f234,5", ",", THOUSANDS),
        ("1'234.5", ".", THOUSANDS),
        ("1,234,567", ".", THOUSANDS),
        ("1,012", ".", OTHER.format(r"\.", ",")),
        ("0.5", ",", OTHER.format(",", r"\.")),
        ("[V]", ".", ODD),
        ("---", ".", ODD),
        ("#REF!", ".", ODD),
        ("-inf", ".", INFINITE),
        ("1.#INF", ".", INFINITE),
        ("12 V", ".", r"\. Write numbers without units\."),
    ],
)
def test_the_remedy_fits_the_cell(tmp_path, cell, decimal, hint):
    with pytest.raises(ValueError, match=f"got {re.escape(repr(cell))}{hint}$"):
        read(tmp_path, f"y;u\n{cell};2\n", decimal=decimal)


def test_a_line_of_units_is_told_from_one_odd_cell(tmp_path):
    with pytest.raises(ValueError, match=rf"line 2, .* got '\[V\]'{TEXT}$"):
        read(tmp_path, "run,t,y,u\n-,,[V],[A]\nb,0,2,2\n", record="run")
    for row in ["7,bad,", "2024-01-01,bad,NA", "3,1,bad"]:
        with pytest.raises(ValueError, match=rf"line 3, .* got 'bad'{ODD}$"):
            read(tmp_path, f"t,y,u\n0,1,2\n{row}\n", time="t")


def test_names_that_are_repeated_and_times_of_another_form(tmp_path):
    with pytest.raises(ValueError, match=r"line 4, .* got 'y'\. Delete lines of text below"):
        read(tmp_path, "y,u\n1,2\n3,4\ny,u\n")
    with pytest.raises(ValueError, match=r"got '31\.12\.2024 12:00'\. Write times as 2024-12-31T"):
        read(tmp_path, "t;y;u\n0;1;2\n31.12.2024 12:00;1;2\n", time="t", decimal=",")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"decimal": ";"}, r'`decimal` must be "\." or ","; got \';\'\.'),
        ({"encoding": "utf-9"}, "`encoding` must be one of text .*; got 'utf-9'"),
        ({"encoding": None}, "`encoding` must be one of text .*; got None"),
        ({"encoding": "rot13"}, "`encoding` must be one of text .*; got 'rot13'"),
    ],
)
def test_bad_formats(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "y,u\n1,2\n", **options)


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
        (
            "t;y;u\n0;0,5;2\n",
            r"line 2, .* got '0,5'\. Numbers have a decimal \"\.\" and no .*, `decimal` says so\.",
        ),
        ("t,y,u\n\n0,inf,2\n", r"line 3, column 'y' must be a finite number; got 'inf'\."),
        ("t,y,u\n0,1_000,2\n", r"line 2, column 'y' must be a finite number; got '1_000'\."),
        (
            "t,y,u\nnoon,1,2\n",
            r"'t' must be a finite number or an ISO 8601 timestamp; got 'noon'",
        ),
        ("t,y,u\n0,1,2\n1,2\n", r"line 3 must have 3 cells as the first line; got 2\."),
        ("t,y,u\n0,1,2,3\n", r"line 2 must have 3 cells as the first line; got 4\."),
        ("t,y,u\n0,1," + "9" * 200_000, r"line 2: the row that .* a CSV file; field larger than"),
    ],
)
def test_refusals(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, time="t" if "t," in str(text) else None)
