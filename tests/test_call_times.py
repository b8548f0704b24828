"""The programs of the benchmark that generate and filter do the same; how their calls are timed."""

import importlib.util

import numpy as np
import pytest

from tfp_dvbf.experiments.benchmarking import agreement, call_times, ours, processes


class Clock:
    """A worker whose calls take the seconds that it is told."""

    def __init__(self, rounds):
        self.rounds = iter(rounds)

    def ask(self, do, count):
        assert do == "run_each" and count == 2
        return {"seconds": next(self.rounds)}


def test_rows_of_single_calls_have_medians_of_rounds_and_a_late_one():
    ours, jax = processes.INFERENCE["tensorflow"], processes.INFERENCE["jax"]
    workers = {ours: Clock([[9.0, 9.0], [1.0, 3.0], [2.0, 2.0]])}
    workers[jax] = Clock([[9.0, 9.0], [1.0, 1.0], [3.0, 5.0]])
    rows = call_times.single_calls(
        workers, rounds=2, count=2, about={"what": "sampling", "size": 4}
    )
    assert [row["program"] for row in rows] == ["tfp_dvbf", "JAX"]
    assert [row["ratio"] for row in rows] == [1.0, 1.25]  # Of 1 / 2 and 4 / 2.
    assert [row["milliseconds"] for row in rows] == [2000.0, 2000.0]
    assert [row["99 % below"] for row in rows] == [3000.0, 5000.0]
    assert [row["a second"] for row in rows] == [2.0, 2.0]


@pytest.mark.parametrize(
    "way, posterior, size",
    [
        ("generate", "gaussian", 500),
        ("filter_step", "innovation", 1000),
        ("filter_step", "iaf", 1000),
    ],
)
def test_jax_generates_and_filters_alike(way, posterior, size, tmp_path):
    """With weights that make q differ from p and particles uneven."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip(f"jax is not installed; the extra `{processes.EXTRA}` has it")
    path = str(tmp_path / "reference.npz")
    ours.write(path, posterior, batch_size=2, num_steps=5, hidden_units=8)
    about, rng = agreement.load(path), np.random.default_rng(1)
    for name, weight in about.weights.items():
        weight += 0.3 * about.masks.get(name, 1.0) * rng.normal(size=weight.shape)
    perturbed = str(tmp_path / "perturbed.npz")
    agreement.save(perturbed, about)
    settings = {"path": perturbed, "size": size, "num_particles": 16}
    known = {}
    for program in call_times.programs_of(way, ["jax"]):
        with processes.Worker(program.module, program.way, 1, "cpu") as worker:
            known[program.name] = worker.ask("prepare", **settings)
            assert len(worker.ask("run_each", count=2)["seconds"]) == 2
    assert len(known) == (3 if way == "filter_step" else 2)
    for name in known:
        agreement.check_inference(name, known[name], known["tfp_dvbf"])
    for kind in known["JAX"]:
        wrong = {**known["JAX"], kind: (np.array(known["JAX"][kind]) * 1.5 + 0.3).tolist()}
        with pytest.raises(ValueError, match="JAX must "):
            agreement.check_inference("JAX", wrong, known["tfp_dvbf"])
