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
    assert [record.name for record in log.records] == [f"record 0, run {k}" for k in range(3)]


def test_an_error_names_the_record_and_the_line_of_the_file(tmp_path):
    made = rows(interleaved=True)
    made[7] = ("a", 0, *made[7][2:])  # On line 9; its neighbours are of other runs.
    path = write(tmp_path / "log.csv", made)
    with pytest.raises(ValueError, match=r"run a, line 9: the time must increase; got 0 after 1"):
        from_csv(path)


@pytest.mark.parametrize("value", [None, np.nan, "", " NA "])
def test_a_row_of_no_record_is_refused(value):
    columns = {"run": np.array(["a", value, "a"], object), "x": np.arange(3.0)}
    with pytest.raises(ValueError, match=r"record 0, column 'run' must name a record; .* in row 1"):
        Log.from_dataframe(Frame(columns), "x", record="run")


def test_a_column_has_one_role():
    with pytest.raises(ValueError, match="must have one role; 'x' is named twice"):
        Log.from_dataframe(Frame({"x": np.arange(3.0)}), "x", record="x")


def ten_records():
    return Log([X + k for k in range(10)], [U] * 10, **NAMES)


def test_a_split_by_records_keeps_them_whole():
    log = ten_records()
    parts = log.split(0.6, 0.2, by="record")
    assert [len(part.records) for part in parts] == [6, 2, 2]
    kept = [record.observations[0, 0] for part in parts for record in part.records]
    assert kept == list(range(10)) and {len(r) for p in parts for r in p.records} == {STEPS}
    assert parts[2].windows(STEPS).observations.shape == (2, STEPS, 2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"by": "row"}, r'`by` must be "time" or "record"; got \'row\'\.'),
        (
            {"train": 0.9, "validation": 0.04, "by": "record"},
            r"a record or more in each part of the split; its 10 leave none between 0\.9 and 0\.94",
        ),
    ],
)
def test_splits_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ten_records().split(**options)
