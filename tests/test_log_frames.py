"""DataFrames whose index holds the times, and arrays that may be one record or several."""

import json

import numpy as np
import pytest
from test_logs import STEPS, Frame, U, X, column, frame

from tfp_dvbf import Log

ROWS = np.r_[0:10, 14:STEPS]  # Four rows are missing.
STAMPS = np.datetime64("2024-05-01") + np.arange(STEPS) * np.timedelta64(500, "ms")


class Periods(list):
    """What an index of periods is: objects, of which pandas makes timestamps."""

    def to_timestamp(self):
        return column(np.array(self))


class Index:
    """The index of a DataFrame as far as a `Log` knows: levels of rows, by name or number."""

    def __init__(self, *levels, names):
        self.levels, self.names = levels, names

    def get_level_values(self, level):
        values = self.levels[level if level not in self.names else self.names.index(level)]
        return values if isinstance(values, Periods) else column(values)


def indexed(made, *levels, names=(None,)):
    """Returns a `Frame` with an index."""
    made.index = Index(*levels, names=list(names))
    return made


def check_gap(log, name):
    assert log.time_step == 0.5 and log.time_name == name and len(log) == STEPS
    assert np.flatnonzero(np.isnan(log.records[0].observations[:, 0])).tolist() == [10, 11, 12, 13]
    assert log.sequences().spec["time_name"] == name


def gapped():
    return Frame({"a [V]": X[ROWS, 0], "b": X[ROWS, 1]})


@pytest.mark.parametrize(
    "levels, names, time, expected",
    [
        ([STAMPS[ROWS]], [None], None, "time (s)"),
        ([STAMPS[ROWS] - STAMPS[0]], ["a [V]"], None, "time (s)"),
        ([STAMPS[ROWS]], ["stamp"], "stamp", "time (s)"),
        ([STAMPS[ROWS].astype(str)], [None], None, "time (s)"),
        ([STAMPS[ROWS].astype(object)], [None], None, "time (s)"),
        ([ROWS.astype(str), STAMPS[ROWS].astype(str)], ["row", "at"], None, "time (s)"),
        ([Periods(STAMPS[ROWS])], [None], None, "time (s)"),
        ([Periods(STAMPS[ROWS])], ["stamp"], "stamp", "time (s)"),
        ([0.5 * ROWS], ["t [s]"], "t [s]", "t [s]"),
        ([0.5 * ROWS], [7], 7, "7"),
        ([ROWS % 2, STAMPS[ROWS]], ["odd", "stamp"], None, "time (s)"),
        ([ROWS % 2, STAMPS[ROWS]], ["odd", "stamp"], "stamp", "time (s)"),
    ],
)
def test_the_index_of_a_dataframe_may_hold_the_times(levels, names, time, expected):
    made = indexed(gapped(), *levels, names=names)
    check_gap(Log.from_dataframe(made, ["a [V]", "b"], time=time), expected)


def test_an_index_of_numbers_counts_rows_unless_it_is_named():
    made = indexed(gapped(), 0.5 * ROWS, names=["t [s]"])
    log = Log.from_dataframe(made, "b")
    assert log.time_step is None and log.time_name is None and len(log) == len(ROWS)
    assert "time_name" not in log.sequences().spec


def test_an_index_of_text_is_read_as_times_to_its_last_row():
    stamps = STAMPS[ROWS].astype(str)
    stamps[3] = "later"
    with pytest.raises(ValueError, match="row 3 must be a finite number or an ISO"):
        Log.from_dataframe(indexed(gapped(), stamps), "b")
    log = Log.from_dataframe(indexed(gapped(), np.array(["row"] * len(ROWS))), "b")
    assert log.time_step is None


@pytest.mark.parametrize("first", [None, np.datetime64("NaT")])
def test_a_missing_first_time_is_no_reason_to_leave_the_index_out(first):
    stamps = STAMPS[ROWS].astype(object)
    stamps[0] = first
    with pytest.raises(ValueError, match="DataFrame 0, row 0: the time must be a number; got nan"):
        Log.from_dataframe(indexed(gapped(), stamps), "b")


@pytest.mark.parametrize(
    "text", ["05.01.2024 08:00", "01/05/2024 08:00", "2024/01/05 08:00", "2024-01-05 08:00 UTC"]
)
def test_an_index_of_other_dates_is_refused(text):
    made = indexed(gapped(), np.array([text] * len(ROWS)))
    with pytest.raises(ValueError, match="row 0 must be .* ISO 8601 timestamp; got .* Write times"):
        Log.from_dataframe(made, "b")


def test_a_level_that_tells_records_apart_is_no_time():
    day = np.repeat(["2024-05-01", "2024-05-02"], STEPS // 2)
    made = indexed(frame(), day, names=["day"])
    log = Log.from_dataframe(made, "b", record="day")
    assert len(log.records) == 2 and log.time_step is None


def test_periods_of_different_lengths_are_refused():
    months = np.datetime64("2024-01", "M") + np.arange(STEPS)
    made = indexed(frame(), Periods(months.astype("datetime64[s]")))
    with pytest.raises(ValueError, match="the times must lie on a grid"):
        Log.from_dataframe(made, "b")


def test_a_column_of_times_is_preferred_to_an_index_of_times():
    made = indexed(frame(), STAMPS[0] + 3 * (STAMPS - STAMPS[0]))
    assert Log.from_dataframe(made, "b", time="t [s]").time_step == 0.5


def test_an_index_of_times_tells_records_apart_by_another_level():
    run = np.repeat([4, 5], STEPS // 2)
    made = indexed(frame(), run, np.tile(STAMPS[: STEPS // 2], 2), names=["run", None])
    log = Log.from_dataframe(made, "b", record="run")
    assert [record.name for record in log.records] == ["DataFrame 0, run 4", "DataFrame 0, run 5"]
    with pytest.raises(ValueError, match="DataFrame 0, row 20: the time must increase"):
        Log.from_dataframe(made, "b")


def test_dataframes_with_and_without_an_index_of_times_do_not_mix():
    for frames in ([frame(), indexed(frame(), STAMPS)], [indexed(frame(), STAMPS), frame()]):
        with pytest.raises(ValueError, match="an index of times in every DataFrame or in none"):
            Log.from_dataframe(frames, "b")


def test_columns_may_be_called_by_integers():
    made = Frame({0: 0.5 * np.arange(STEPS), np.int64(1): X[:, 0], "b": X[:, 1], 3: U[:, 0]})
    log = Log.from_dataframe(made, [1, "b"], 3, time=0)
    np.testing.assert_array_equal(log.records[0].observations, X)
    assert (log.observation_names, log.control_names) == (["1", "b"], ["3"])
    assert log.time_name == "0" and json.dumps(log.sequences().spec)
    with pytest.raises(ValueError, match="must have one column '1'; it comes twice: 1, 1"):
        Log.from_dataframe(Frame({1: X[:, 0], "1": X[:, 1]}), 1)


def test_an_infinite_value_of_a_dataframe_is_named_by_its_row():
    values = X[:, 0].copy()
    values[17] = np.inf
    with pytest.raises(ValueError, match=r"'a \[V\]' .* got inf in DataFrame 1, row 17\."):
        Log.from_dataframe([frame(), frame(**{"a [V]": values})], "a [V]", time="t [s]")


SEVERAL = r"For several records give a list of arrays \[steps, dim\], one for each record\.$"
HALVES = [X[:20, 0].tolist(), X[20:, 0].tolist()]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((HALVES,), r"`observations` must be an array, .* got lists within a list of 2, which"),
        (([HALVES[0], HALVES[1][:5]],), "`observations` must be an array, or a list of arrays"),
        (([X[:20], X[20:]], [[1.0] * 20] * 2), "`controls` must be an array, or a list of arrays"),
        (([X[:20], X[20:]], None, [[*range(20)]] * 2), "`time` must be an array, or a list of"),
        ((np.zeros([6, 100, 1]),), r"must have shape \[steps, dim\]; got \(6, 100, 1\)\."),
        ((np.array([X[:20], X[20:35]], object),), "`observations` must be numeric; got dtype obj"),
    ],
)
def test_what_may_be_several_records_is_refused_with_the_way_to_give_them(arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*{SEVERAL}"):
        Log(*arguments)


@pytest.mark.parametrize(
    "time, name",
    [
        (None, None),
        (0.5 * np.arange(STEPS), "time"),
        ([str(each) for each in range(STEPS)], "time"),
        (STAMPS, "time (s)"),
        (np.datetime_as_string(STAMPS), "time (s)"),
    ],
)
def test_times_of_arrays_are_in_seconds_if_they_are_timestamps(time, name):
    assert Log(X, time=time).time_name == name


def test_times_of_a_file_are_in_seconds_if_they_are_timestamps(tmp_path):
    for first, name in [("2024-05-01T00:00:0", "time (s)"), ("", "t")]:
        rows = "".join(f"{first}{t};{t},5\n" for t in range(9))
        (tmp_path / "log.csv").write_text("t;y\n" + rows)
        log = Log.from_csv(tmp_path / "log.csv", "y", time="t", decimal=",")
        assert log.time_name == name and log.time_step == 1.0
