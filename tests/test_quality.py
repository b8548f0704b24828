"""How long programs train until a target, by a clock of one's own."""

import functools

import numpy as np

from tfp_dvbf.experiments import protocols
from tfp_dvbf.experiments.benchmarking import agreement, ours, processes, quality, summary

SIZES = {"batch_size": 2, "num_steps": 5, "hidden_units": 8}


class Trainee:
    """A worker that trains a step a second, or a judge that finds what it is told to."""

    def __init__(self, errors=()):
        self.errors, self.steps, self.asked = iter(errors), [], {}

    def ask(self, do, **settings):
        self.asked.setdefault(do, []).append(settings)
        if do == "run":
            self.steps.append(settings["count"])
            return {"seconds": float(settings["count"])}
        return {"mae_sampled": next(self.errors)} if do == "judge" else {}


def test_the_clock_of_quality_runs_from_the_first_step_to_the_targets(monkeypatch):
    monkeypatch.setattr(quality, "NUM_BATCHES", 10)
    monkeypatch.setattr(quality, "TURN", 7)
    monkeypatch.setattr(agreement, "load", lambda path: None)
    fast, slow, judge = Trainee(), Trainee(), Trainee([0.1, 0.9, 0.04, 0.9, *[0.1] * 300])
    protocol = protocols.protocol_of("quick", "gaussian")
    contestants = [
        quality.Contestant(processes.DEFAULT, "innovation", protocols.WINDOWS),
        quality.Contestant(processes.PEERS["jax"], "gaussian", protocol),
    ]
    runs = quality.race(contestants, [fast, slow], judge, seed=1)
    assert [run.contestant.name for run in runs] == [
        "tfp_dvbf, XLA: innovation, windows of 10",
        "JAX: gaussian",
    ]
    assert [asked["window"] for asked in judge.asked["write"]] == [10, None]
    assert {asked["trained_on"] for asked in judge.asked["judge"]} == {(160, 50)}
    assert fast.steps == [7, 7] and slow.steps == 285 * [7] + [4]
    assert [runs[0].time(target) for target in quality.TARGETS] == [7.0, 14.0]
    assert [runs[1].time(target) for target in quality.TARGETS] == [21.0, np.inf]
    poster, third = (quality.rows([runs], target) for target in quality.TARGETS)
    assert [row["ratio"] for row in poster] == [1.0, 3.0]
    assert [row["seconds"] for row in third] == [14.0, None]
    assert [row["reached"] for row in third] == [1, 0]
    assert " - |" in summary.table([{**row, "threads": 1} for row in third], "quality")


def test_a_schedule_is_that_of_the_quick_protocol():
    protocol = protocols.protocol_of("quick", "innovation")
    schedule = agreement.Schedule(**quality.schedule_of(protocol))
    assert schedule == (4e-3, 200 * 31, 10 * 31, 0.999)
    assert quality.schedule_of(protocols.WINDOWS)["beta_2"] == protocols.WINDOWS["beta_2"] < 0.999
    assert [schedule.kl_weight(step) for step in (0, 31, 310, 400)] == [0.0, 0.1, 1.0, 1.0]


def test_windows_of_a_reference_are_those_of_the_same_sequences(tmp_path):
    paths = [str(tmp_path / name) for name in ["whole.npz", "cut.npz"]]
    for path, window in zip(paths, [None, 2]):
        ours.write(path, "gaussian", **SIZES, window=window)
    whole, cut = map(agreement.load, paths)
    assert cut.observations.shape == (4, 4, 2, 3) and cut.controls.shape == (4, 4, 1, 1)
    assert cut.noise.shape == (4, 2, 4)
    np.testing.assert_array_equal(cut.observations[1, 3], whole.observations[1, 1, 2:4])
    np.testing.assert_array_equal(cut.controls[1, 3], whole.controls[1, 1, 2:3])


def test_weights_that_were_trained_are_judged_in_the_unit_of_the_data(tmp_path):
    path = str(tmp_path / "reference.npz")
    ours.write(path, "gaussian", **SIZES, window=2)
    with processes.Worker("ours", "graph", 1, "cpu") as worker:
        worker.ask("prepare", path=path, schedule=quality.schedule_of(protocols.WINDOWS))
        worker.ask("save", path=str(tmp_path / "weights.npz"))
    judge = functools.partial(ours.judge, path, trained_on=(8, 5), num_sequences=6)
    with np.load(tmp_path / "weights.npz") as found:
        weights = dict(found)
    before = agreement.load(path).weights
    assert not np.array_equal(weights["transition/0/bias"], before["transition/0/bias"])
    assert 0.0 < judge(tmp_path / "weights.npz")["mae_sampled"] < 2.0
    # An emission that says the mean of the training set everywhere.
    weights |= {name: 0.0 * weights[name] for name in ["emission/1/kernel", "emission/1/bias"]}
    np.savez(tmp_path / "means.npz", **weights)
    x, fresh = (ours.pendulum(size, 5, seed)[0] for size, seed in [(8, 1), (6, 1001)])
    expected = np.mean(np.abs(fresh - x.mean((0, 1))))
    np.testing.assert_allclose(judge(tmp_path / "means.npz")["mae_sampled"], expected, rtol=1e-5)
