"""Logs: what becomes of rows, gaps, times and columns, exactly."""

import json
import types

import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf import Log

STEPS = 40
X = np.arange(2.0 * STEPS).reshape(STEPS, 2)  # x[t] = (2t, 2t + 1)
U = 100.0 + np.arange(STEPS)[:, np.newaxis]  # u[t] = 100 + t
NAMES = {"observation_names": ["a [V]", "b"], "control_names": ["u [A]"]}


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "log.csv")


def write(path, rows=range(STEPS), text="t [s],a [V],b,u [A]\n", dt=0.5):
    """Writes the rows of X and U as a CSV file; returns its path."""
    lines = [f"{dt * row},{X[row, 0]},{X[row, 1]},{U[row, 0]}\n" for row in rows]
    path.write_text(text + "".join(lines))
    return path


def from_csv(path, **kwargs):
    return Log.from_csv(path, ["a [V]", "b"], ["u [A]"], time="t [s]", **kwargs)


class Frame(dict):
    """A DataFrame as far as a `Log` knows: pandas is not needed."""

    columns = property(list)

    def __getitem__(self, name):
        return column(super().__getitem__(name))


def column(values):
    values = np.asarray(values)
    return types.SimpleNamespace(to_numpy=lambda: values, dtype=values.dtype)


def frame(**others):
    return Frame({"t [s]": 0.5 * np.arange(STEPS), "a [V]": X[:, 0], "b": X[:, 1], **others})


def test_csv_dataframe_and_arrays_give_the_same_log(path):
    times = np.datetime64("2024-05-01") + np.arange(STEPS) * np.timedelta64(500, "ms")
    names = ["a [V]", "b"], ["u [A]"], "t [s]"
    logs = [
        from_csv(path),
        Log.from_dataframe(frame(**{"u [A]": U[:, 0].astype(int)}), *names),
        Log.from_dataframe(frame(**{"u [A]": U[:, 0].astype(str), "t [s]": times}), *names),
        Log(X, U[:, 0], 0.5 * np.arange(STEPS), **NAMES),
        Log(X, U[:-1], times, **NAMES),
        Log(X, U[:-1], times - times[0], **NAMES),
        Log(X, U[:-1], np.datetime_as_string(times), **NAMES),
    ]
    for log in logs:
        (record,) = log.records
        np.testing.assert_array_equal(record.observations, X)
        np.testing.assert_array_equal(record.controls, U[:-1])
        assert log.time_step == 0.5 and len(log) == STEPS and log.offsets == {}
        assert (log.observation_names, log.control_names) == (["a [V]", "b"], ["u [A]"])


def test_split_and_windows_cover_each_part_in_time_order(path):
    parts = from_csv(path).split(0.5, 0.25)
    assert [len(part) for part in parts] == [20, 10, 10]
    starts = [part.windows(6, 2).observations[:, 0, 0] / 2 for part in parts]
    assert [each.tolist() for each in starts] == [
        [0, 2, 4, 6, 8, 10, 12, 14],
        [20, 22, 24],
        [30, 32, 34],
    ]
    windows = parts[1].windows(6, 2)
    np.testing.assert_array_equal(windows.observations[2], X[24:30])
    np.testing.assert_array_equal(windows.controls[2], U[24:29])
    assert windows.mask is None and len(parts[0].windows(6)) == 3
    spec = {"observation_names": ["a [V]", "b"], "control_names": ["u [A]"], "time_step": 0.5}
    spec |= {"source": str(path), "control_lead": 0, "offsets": {}, "window": 6, "stride": 2}
    spec["time_name"] = "t [s]"
    assert windows.spec == json.loads(json.dumps(spec))


def test_several_records_are_each_split_and_no_window_spans_two(tmp_path):
    paths = [write(tmp_path / "1.csv", range(20)), write(tmp_path / "2.csv", range(20, 36))]
    log = from_csv(paths)
    train = log.split(0.5, 0.25)[0]
    assert [len(record) for record in train.records] == [10, 8]
    assert (train.windows(4, 3).observations[:, 0, 0] / 2).tolist() == [0, 3, 6, 20, 23]
    whole = log.sequences()
    assert whole.observed.sum(axis=1).tolist() == [20, 16]
    np.testing.assert_array_equal(whole.observations[1, :16], X[20:36])
    np.testing.assert_array_equal(whole.controls[1, :15], U[20:35])
    assert whole.spec["source"] == [str(path) for path in paths]
    arrays = Log([X[:20], X[20:36]], [U[:19], U[20:36]], **NAMES).sequences()
    np.testing.assert_array_equal(arrays.observations, whole.observations)


@pytest.mark.parametrize("lead, first, applied", [(0, 0, 0), (1, 0, 1), (-1, 1, 0)])
def test_control_lead(path, lead, first, applied):
    """Between x[t] and x[t+1] stands u[t + lead]."""
    (record,) = from_csv(path, control_lead=lead).records
    np.testing.assert_array_equal(record.observations, X[first:])
    count = STEPS - 1 - first
    np.testing.assert_array_equal(record.controls, U[applied : applied + count])
    windows = from_csv(path, control_lead=lead).windows(5, 1)
    np.testing.assert_array_equal(
        windows.controls[..., 0] - 100, windows.observations[:, :-1, 0] / 2 + lead
    )


def test_the_last_step_is_dropped_if_its_own_control_is_not_known():
    (record,) = Log(X, U[:-1], control_lead=1).records
    np.testing.assert_array_equal(record.observations, X[:-1])
    np.testing.assert_array_equal(record.controls, U[1:-1])


def test_missing_rows_and_values_become_missing_steps(tmp_path):
    rows = [*range(6), *range(8, STEPS)]
    path = write(tmp_path / "log.csv", rows)
    path.write_text(path.read_text().replace("20.0,21.0", ",21.0").replace("22.0,23.0", "NA,nan"))
    log = from_csv(path, fill_controls="hold")
    observed = np.ones(STEPS, bool)
    observed[[6, 7, 10, 11]] = False
    sequences = log.sequences()
    np.testing.assert_array_equal(sequences.mask[0], observed)
    np.testing.assert_array_equal(sequences.observations[0, observed], X[observed])
    held = U[:-1].copy()
    held[6:8] = U[5]
    np.testing.assert_array_equal(sequences.controls[0], held)
    assert log.lost_values == 1
    assert "4 time steps missing and 1 measured values lost in them" in repr(log)
    assert log.split(0.5, 0.25)[1].lost_values == 0
    assert (log.windows(2, 2).observations[:, 0, 0] / 2).tolist()[:4] == [0, 2, 4, 8]  # Not 6.
    with pytest.raises(ValueError, match=r"log\.csv, line 8: rows before it are missing, and"):
        from_csv(path)


def test_rounded_times_lie_on_a_grid():
    times = np.round(np.delete(np.arange(3001), 5) / 30, 3)
    log = Log(np.arange(3000.0), time=times)
    assert log.time_step == pytest.approx(1 / 30, rel=1e-3)
    assert len(log) == 3001 and np.isnan(log.records[0].observations[5, 0])


def test_the_step_of_times_since_1970():
    times = (np.datetime64("2024-05-01") + 100 * np.arange(50) * np.timedelta64(1, "ms")).tolist()
    log = Log(np.arange(50.0), time=[str(time) for time in times])
    assert log.time_step == 0.1 and len(log) == 50


def test_large_offsets_are_subtracted_and_given_back(tmp_path):
    observations = np.stack([5e6 + 0.01 * np.arange(50) ** 2, np.arange(50.0)], axis=1)
    controls = 1.7e9 + np.sin(np.arange(50.0))
    log = Log(observations, controls, observation_names=["northing [m]", "b"])
    assert log.offsets == {"northing [m]": 5e6, "u[0]": 1.7e9}
    sequences = log.split(0.6, 0.2)[2].sequences()
    expected = observations[40:] - [5e6, 0]
    np.testing.assert_allclose(sequences.observations[0], expected, rtol=1e-6)
    np.testing.assert_allclose(log.restore(sequences.observations[0]), observations[40:], atol=1e-5)
    np.testing.assert_allclose(sequences.controls[0, :, 0], np.sin(np.arange(40, 49)), atol=1e-6)
    tfp_dvbf.save(tmp_path / "log.npz", sequences)
    assert tfp_dvbf.load(tmp_path / "log.npz").spec["offsets"] == log.offsets


def test_a_log_without_controls():
    log = Log(np.ma.masked_greater(X[:, 0], 70))
    sequences = log.windows(10)
    assert sequences.control_dim == 0 and sequences.spec["control_names"] == []
    assert sequences.observed.sum() == 36


@pytest.mark.parametrize(
    "rows, message",
    [
        ([0, 1, 3, 2, 4], r"log\.csv, line 5: the time must increase; got 1 after 1\.5\."),
        ([0, 1, 1, 2], r"log\.csv, line 4: the time must increase; got 0\.5 after 0\.5\."),
        ([0], r"log\.csv must have two time steps or more; got 1\."),
        ([], r"log\.csv must have two time steps or more; got 0\."),
    ],
)
def test_rows_that_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        from_csv(write(tmp_path / "log.csv", rows))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("1.5,6.0", "1.6,6.0", r"line 5: the times must lie on a grid of 0\.5, .* got 0\.6 after"),
        ("19.5,", "9e9,", r"line 41: at most 10000 time steps may be missing; got 17999999962\."),
        ("1.5,6.0", ",6.0", r"line 5: the time must be a number; got nan\."),
        (",103.0", ",", r"line 5: its control is missing\. `fill_controls"),
    ],
)
def test_cells_that_are_refused(path, old, new, message):
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        from_csv(path)


def test_a_first_control_cannot_be_held(path):
    path.write_text(path.read_text().replace(",100.0", ","))
    with pytest.raises(ValueError, match=r"line 2: its control is missing\. There is none before"):
        from_csv(path, fill_controls="hold")
    assert len(from_csv(path, control_lead=1)) == STEPS  # That control never acts.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"observations": np.ones(9)}, r"`observations`: 'x\[0\]' must change; it is 1 in all 9"),
        ({"controls": np.ones(40)}, r"`controls`: 'u\[0\]' must change; it is 1 in all 39 rows\."),
        ({"observations": np.full(9, np.nan)}, r"'x\[0\]' must hold finite numbers; got none\."),
        (
            {"observations": [1.0, np.inf]},
            r"'x\[0\]' must hold finite numbers; got inf in record 0, row 1\.",
        ),
        (
            {"observations": [X, X], "controls": [U, np.where(U == 103, -np.inf, U)]},
            r"`controls`: 'u\[0\]' must hold finite numbers; got -inf in record 1, row 3\.",
        ),
        ({"observations": np.zeros([2, 3, 4])}, r"`observations` must have shape \[steps, dim\]"),
        ({"controls": U[:9]}, r"`controls` must have 39 or 40 steps .* got 9 in record 0\."),
        ({"time": np.arange(9)}, r"`time` must have shape \(40,\); got \(9,\) in record 0\."),
        ({"controls": [U, U]}, r"`controls` must have as many records as `observations`, 1; got 2"),
        ({"observations": [X, X[:, :1]]}, r"`observations` must have the same dx in all records"),
        ({"observation_names": ["a"]}, r"`observation_names` must be 2 different names; got \['a'"),
        ({"control_lead": 2}, r"`control_lead` must be -1, 0 or 1; got 2\."),
        ({"fill_controls": "zero"}, r"`fill_controls` must be None or \"hold\"; got 'zero'\."),
        (
            {"observations": [X, X], "time": [np.arange(40), 2 * np.arange(40)]},
            r"record 1 must have the time step of record 0, 1; got 2\.",
        ),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Log(**{"observations": X, **arguments})


@pytest.mark.parametrize(
    "names, message",
    [
        (([], "b"), r"`observations` must name a column or more; got none\."),
        ((["b"], ["b"]), r"Each column must have one role; 'b' is named twice\."),
        (([3.5],), r"Names of columns must be strings that are not empty; got 3\.5\."),
        (([True],), r"Names of columns must be strings that are not empty; got True\."),
        (([3],), r"DataFrame 0 must have one column '3'; its columns are: t \[s\], a"),
        (("a [V]", (), "day"), r"DataFrame 0 must have one column 'day'; its columns are"),
        ((["a"],), r"DataFrame 0 must have one column 'a'; .* is 'a \[V\]': t \[s\], a"),
        ((["text"],), r"DataFrame 0, column 'text', row 0 must be a finite number; got 'x'\."),
    ],
)
def test_columns_that_are_refused(names, message):
    others = {"text": ["x"] * STEPS} if "text" in names[0] else {}
    with pytest.raises(ValueError, match=message):
        Log.from_dataframe(frame(**others), *names)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda log: log.split(0.7, 0.3),
            r"must be .* a sum below 1, .*; got 0\.7 and 0\.3",
        ),
        (lambda log: log.split(0.7, 0), r"must be positive fractions .*; got 0\.7 and 0\."),
        (lambda log: log.split("0.7"), r"`train` must be a number; got '0\.7'\."),
        (lambda log: log.split(0.95, 0.02), r"record 0 must have two time steps .* its 40 leave 1"),
        (
            lambda log: log.windows(41),
            r"`length` must not exceed the 40 time steps of record 0",
        ),
        (lambda log: log.windows(5, 0), r"`stride` must be at least 1; got 0\."),
    ],
)
def test_cuts_that_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Log(X))


def test_a_part_without_an_observed_step_is_refused():
    observations = np.where(np.arange(STEPS) < 30, X[:, 0], np.nan)
    with pytest.raises(ValueError, match=r"A log must have an observed time step; all are missing"):
        Log(observations).split(0.5, 0.25)[2].windows(5)
