"""The chief of a search, in this process: what it prints, what counts as news, whom it misses."""

import pathlib
import threading
import time
from typing import NamedTuple

import pytest

from tfp_dvbf.experiments import tuning_chief


class Trial(NamedTuple):
    trial_id: str


class Oracle:
    """What the chief looks at of Keras Tuner's oracle."""

    def __init__(self):
        self.max_trials = 2
        self.start_order, self.end_order, self.tuner_ids = [], [], set()
        self.ongoing_trials = {}

    def begin(self, worker, trial):
        self.start_order.append(trial)
        self.tuner_ids.add(worker)
        self.ongoing_trials[worker] = Trial(trial)

    def end(self, worker):
        self.end_order.append(self.ongoing_trials.pop(worker).trial_id)


class Tuner:
    """A tuner whose search is the function `work` of it."""

    def __init__(self, folder, work):
        self.oracle, self.trials_folder, self.work = Oracle(), pathlib.Path(folder), work

    def search(self):
        self.work(self)


def wait_until(condition):
    """Returns when the chief, in its own thread, has got so far that `condition()` holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_chief_prints_what_changes(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        tuning_chief, "print", lambda line, flush: lines.append(line), raising=False
    )

    def work(tuner):
        changes = [("begin", "worker1", "a"), ("begin", "worker2", "b"), ("end", "worker1")]
        for count, (name, *arguments) in enumerate(changes, start=1):
            getattr(tuner.oracle, name)(*arguments)
            wait_until(lambda count=count: len(lines) == count)

    tuning_chief.serve(Tuner(tmp_path, work), time_limit=60)
    assert lines == [
        "0 of 2 trials ended; at work: worker1 (trial a)",
        "0 of 2 trials ended; at work: worker1 (trial a), worker2 (trial b)",
        "1 of 2 trials ended; at work: worker2 (trial b)",
    ]


def test_an_error_of_the_search_is_handed_on(tmp_path):
    def work(tuner):
        raise ValueError("no space left")

    with pytest.raises(ValueError, match="no space left"):
        tuning_chief.serve(Tuner(tmp_path, work), time_limit=60)


@pytest.mark.parametrize(
    "workers, message",
    [
        ((), "for 1 s; no worker has reported"),
        (["worker1"], r"for 1 s; missing: worker1 \(trial 0"),
    ],
)
def test_the_chief_says_who_is_missing(tmp_path, workers, message):
    over = threading.Event()

    def work(tuner):
        for index, worker in enumerate(workers):
            tuner.oracle.begin(worker, str(index))
        over.wait()

    with pytest.raises(TimeoutError, match=message):
        tuning_chief.serve(Tuner(tmp_path, work), time_limit=1)
    over.set()


class Clock:
    """A clock that stands still unless it is put forward; counts how often it is looked at."""

    def __init__(self):
        self.now, self.looks = 0.0, 0

    def monotonic(self):
        self.looks += 1
        return self.now


def test_an_epoch_is_news(tmp_path, monkeypatch):
    """No trial begins or ends for longer than the limit, but one of them goes on."""
    history, clock = tmp_path / "a" / "history.csv", Clock()
    history.parent.mkdir()
    monkeypatch.setattr(tuning_chief, "time", clock)

    def work(tuner):
        tuner.oracle.begin("worker1", "a")
        for epoch in range(3):
            history.write_text("epoch\n" * epoch)
            looks = clock.looks
            wait_until(lambda looks=looks: clock.looks > looks + 1)  # The chief has seen it.
            clock.now += 1.5

    tuning_chief.serve(Tuner(tmp_path, work), time_limit=2)
    assert clock.now == 4.5
