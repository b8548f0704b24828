"""Records that a column of one file or DataFrame tells apart, and splits that keep them whole."""

import numpy as np
import pytest
from test_logs import NAMES, STEPS, Frame, U, X

from tfp_dvbf import Log

RUNS = ["b", "a", "10"]


def rows(interleaved):
    """Returns (run, time, x, u) of three runs, each with rows 0 to 9, 10 to 19, 20 to 29 of X."""
    made = [(RUNS[k], t, X[10 * k + t], U[10 * k + t]) for k in range(3) for t in range(10)]
    return sorted(made, key=lambda row: row[1]) if interleaved else made


def write(path, made):
    lines = [f"{run};{t};{x[0]};{x[1]};{u[0]}\n".replace(".", ",") for run, t, x, u in made]
    path.write_bytes(("run;t;a [°];b;u [A]\n" + "".join(lines)).encode("cp1252"))
    return path


def from_csv(path, **others):
    options = {"record": "run", "decimal": ",", "encoding": "cp1252", **others}
    return Log.from_csv(path, ["a [°]", "b"], ["u [A]"], "t", **options)


def check(log):
    assert [len(record) for record in log.records] == [10, 10, 10] and log.time_step == 1.0
    for k, record in enumerate(log.records):
        assert record.name.endswith(f"run {RUNS[k]}")
        np.testing.assert_array_equal(record.observations, X[10 * k : 10 * k + 10])
        np.testing.assert_array_equal(record.controls, U[10 * k : 10 * k + 9])


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_column_tells_records_apart(tmp_path, interleaved):
    made = rows(interleaved)
    check(from_csv(write(tmp_path / "log.csv", made)))
    run, t, x, u = (np.array(each) for each in zip(*made))
    columns = {"t": t, "a [°]": x[:, 0], "b": x[:, 1], "u [A]": u[:, 0]}
    names = ["a [°]", "b"], ["u [A]"], "t", "run"
    check(Log.from_dataframe(Frame({"run": run.astype(object), **columns}), *names))
    numbers = np.array([RUNS.index(each) for each in run])
    log = Log.from_dataframe(Frame({"run": numbers, **columns}), *names)
    assert [record.name for record in log.records] == [f"DataFrame 0, run {k}" for k in range(3)]


def test_an_error_names_the_record_and_the_line_of_the_file(tmp_path):
    made = rows(interleaved=True)
    made[7] = ("a", 0, *made[7][2:])  # On line 9; its neighbours are of other runs.
    path = write(tmp_path / "log.csv", made)
    with pytest.raises(ValueError, match=r"run a, line 9: the time must increase; got 0 after 1"):
        from_csv(path)


@pytest.mark.parametrize("value", [None, np.nan, "", " NA "])
def test_a_row_of_no_record_is_refused(value):
    columns = {"run": np.array(["a", value, "a"], object), "x": np.arange(3.0)}
    with pytest.raises(
        ValueError, match=r"DataFrame 0, column 'run', row 1 must name a record; got "
    ):
        Log.from_dataframe(Frame(columns), "x", record="run")


def test_a_column_has_one_role():
    with pytest.raises(ValueError, match="must have one role; 'x' is named twice"):
        Log.from_dataframe(Frame({"x": np.arange(3.0)}), "x", record="x")


def records(count):
    return Log([X + k for k in range(count)], [U + k for k in range(count)], **NAMES)


@pytest.mark.parametrize(
    "count, fractions, sizes",
    [
        (10, (0.6, 0.2), [6, 2, 2]),
        (10, (0.7, 0.15), [7, 1, 2]),
        (10, (0.9, 0.04), [8, 1, 1]),
        (10, (0.01, 0.01), [1, 1, 8]),
        *[(k, (0.7, 0.15), [k - 2, 1, 1]) for k in range(3, 9)],
        (100, (0.7, 0.15), [70, 15, 15]),
    ],
)
def test_a_split_by_records_keeps_them_whole(count, fractions, sizes):
    parts = records(count).split(*fractions, by="record")
    assert [len(part.records) for part in parts] == sizes
    kept = [record.observations[0, 0] for part in parts for record in part.records]
    assert kept == list(range(count)) and {len(r) for p in parts for r in p.records} == {STEPS}
    assert parts[2].windows(STEPS).observations.shape == (sizes[2], STEPS, 2)


@pytest.mark.parametrize(
    "by, message",
    [
        ("row", "`by` must be one of time, record; got 'row'"),
        (["record"], "`by` must be one of time, record; got "),
        ("record", '`by="record"` must have three records or more; this log has 2'),
    ],
)
def test_splits_that_are_refused(by, message):
    with pytest.raises(ValueError, match=message):
        records(2).split(by=by)


def test_what_does_not_change_in_the_training_part_is_named():
    loads = [np.full([STEPS, 1], load) for load in (1.0, 1.0, 2.0, 3.0)]
    log = Log([X] * 4, loads, **NAMES)
    with pytest.warns(UserWarning, match=r"`controls`: 'u \[A\]' holds no value in the"):
        log.split(0.5, 0.25, by="record")


def test_records_shorter_than_a_window_are_left_out_with_a_word():
    log = Log([X, X[:15], X])
    with pytest.warns(UserWarning, match="left out: 1 of 3 records, .* record 1 with 15"):
        assert len(log.windows(20)) == 4
    with pytest.raises(ValueError, match="must not exceed the 40 time steps of record 0; got 41"):
        log.windows(41)


def test_an_offset_that_does_not_fit_every_record_is_no_secret(recwarn):
    near = [5e5 + 0.02 * np.sin(np.arange(200.0) / k) for k in (5, 7)]
    log = Log(near)
    assert log.offsets == {"x[0]": near[0][0]}
    assert len(np.unique(log.windows(200).observations[1])) > 150
    rest = 3.0 + 1e-9 * np.sin(np.arange(200.0))  # Hardly moves, where the others do.
    assert Log([rest, np.sin(np.arange(200.0))]).offsets == {}
    set_points = [np.full(200, each) for each in (20.0, 30.0, 40.0)]
    set_points[0][7] = np.nextafter(20.0, 21.0)
    assert Log(set_points).offsets == {} and not recwarn.list
    with pytest.warns(
        UserWarning, match="from 500000.* in record 0 to 610000.* in record 1: float32"
    ):
        assert Log([near[0], near[1] + 1.1e5]).offsets == {}
    with pytest.warns(UserWarning, match="float32 holds too few digits"):  # But more than without.
        assert Log([near[0], near[1] + 1e4]).offsets == {"x[0]": near[0][0]}


@pytest.mark.parametrize("empty", [0, 1])
def test_a_column_may_have_no_value_in_a_record(empty, recwarn):
    columns = [np.stack([1e6 + np.sin(np.arange(50.0)), np.arange(50.0)], axis=1) for _ in range(2)]
    columns[empty][:, 0] = np.nan
    assert Log(columns).offsets == {"x[0]": 1e6} and not recwarn.list


def test_times_that_are_dates_are_refused_and_counts_are_not(tmp_path):
    days = [2024013100 + hour for hour in range(24)] + [2024020100 + hour for hour in range(24)]
    with pytest.raises(ValueError, match="2024013100 looks like a date. Write 2024-12-31T12:00"):
        Log(np.arange(48.0), time=np.array(days))
    for count in (20240101 + np.arange(90), 1910101000 + np.arange(20)):
        assert Log(np.arange(float(len(count))), time=count).time_step == 1.0


@pytest.mark.parametrize(
    "times, less, more",
    [
        ([0, 1, 4], 1, 3),
        ([0, 2, 3], 1, 2),
        ([0, 1, 4, 7, 8], 1, 3),
        (np.floor(1.5 * np.arange(601)), 1, 2),
    ],
)
def test_a_step_that_is_none_is_refused(times, less, more):
    with pytest.raises(
        ValueError, match=f"half of their differences are {less} or less and .* {more}"
    ):
        Log(np.arange(len(times)), time=np.array(times))


def test_bursts_are_refused():
    times = (7200.0 * np.arange(500)[:, np.newaxis] + np.arange(4)).ravel()
    with pytest.raises(ValueError, match="2000 rows must not lie on 3592804 time steps of 1, most"):
        Log(np.arange(2000.0), time=times)


def test_many_records_are_told_apart_at_once():
    count = 2000
    columns = {"run": np.repeat(np.arange(count), 50).astype(str), "x": np.arange(50.0 * count)}
    log = Log.from_dataframe(Frame(columns), "x", record="run")
    assert len(log.records) == count and log.records[7].observations[0, 0] == 350.0
    assert "2000 records of 50 time steps" in repr(log)


def test_rows_are_those_of_the_dataframe():
    times = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 3, 5, 4.0])
    columns = {"run": np.array(["a", "b"] * 6), "t": times, "x": np.arange(12.0)}
    with pytest.raises(ValueError, match="DataFrame 0, run b, row 9: the time must increase"):
        Log.from_dataframe(Frame(columns), "x", time="t", record="run")


def test_no_control_is_held_past_the_last_one():
    log = Log(np.arange(4.0), np.array([10.0, 11, 12]), control_lead=1, fill_controls="hold")
    assert log.records[0].controls.tolist() == [[11.0], [12.0]]


@pytest.mark.parametrize(
    "columns, names, message",
    [
        ({"x": np.arange(3.0)}, ["x", "x "], "must have one role; 'x' is named twice"),
        ({"x": np.arange(3.0)}, [""], "must be strings that are not empty; got ''"),
        (
            {"x": np.arange(3).astype("M8[s]")},
            ["x"],
            "column 'x' must hold numbers; it holds times",
        ),
    ],
)
def test_columns_that_are_refused(columns, names, message):
    with pytest.raises(ValueError, match=message):
        Log.from_dataframe(Frame(columns), names)


def test_names_may_be_an_array_and_a_record_needs_a_row():
    columns = {"x": np.arange(3.0), "y": np.arange(3.0) ** 2, "run": np.array([])}
    assert Log.from_dataframe(Frame(columns), np.array(["x", "y"])).observation_names == ["x", "y"]
    empty = Frame({"x": np.array([]), "run": np.array([])})
    with pytest.raises(ValueError, match="DataFrame 0 must have a row below the column names"):
        Log.from_dataframe(empty, "x", record="run")
