"""The programs of the benchmark train the same model, and what is made of their timings."""

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys

import benchmark
import models
import numpy as np
import pytest
import tensorflow as tf

import tfp_dvbf
from tfp_dvbf.experiments import protocols
from tfp_dvbf.experiments.benchmarking import (
    agreement,
    alone,
    call_times,
    floor,
    measures,
    ours,
    processes,
    quality,
    summary,
)

SIZES = {"batch_size": 2, "num_steps": 5, "hidden_units": 8}
PEERS = [*processes.PEERS.values()]
QUICK = {"epochs": 2, "kl_annealing_epochs": 1, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Returns the paths of the references of small models by posterior."""
    folder = tmp_path_factory.mktemp("references")
    paths = {name: str(folder / f"{name}.npz") for name in processes.POSTERIORS}
    for name, path in paths.items():
        ours.write(path, name, **SIZES)
    return paths


def skip_unless_installed(program):
    if importlib.util.find_spec(program.package) is None:
        pytest.skip(f"{program.package} is not installed; the extra `{processes.EXTRA}` has it")


@pytest.mark.parametrize("posterior", processes.POSTERIORS)
@pytest.mark.parametrize(
    "program",
    [pytest.param(each, marks=[pytest.mark.slow] * each.slow_to_start) for each in PEERS],
    ids=lambda program: program.name,
)
def test_a_peer_trains_the_same_model(references, program, posterior):
    skip_unless_installed(program)
    if posterior not in program.posteriors:
        pytest.skip(f"{program.name} trains {', '.join(program.posteriors)} alone")
    expected = agreement.load(references[posterior])
    with processes.Worker(program.module, program.way, 1, "cpu") as peer:
        known = peer.ask("prepare", path=references[posterior])
        agreement.check_agreement(program.name, known, expected)
        assert set(known) == {"loss", "gradient_norm"}
        assert peer.ask("run", count=2)["seconds"] > 0.0


@pytest.mark.gpu
@pytest.mark.parametrize("program", [processes.OURS[1], *PEERS[:2]], ids=lambda each: each.name)
def test_programs_run_on_a_gpu(tmp_path, program):
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("there is no GPU")
    skip_unless_installed(program)
    path = str(tmp_path / "reference.npz")
    with processes.Worker("ours", "graph", 1, "gpu") as maker:
        maker.ask("write", path=path, posterior="gaussian", **SIZES)
    with processes.Worker(program.module, program.way, 1, "gpu") as peer:
        agreement.check_agreement("it", peer.ask("prepare", path=path), agreement.load(path))


@pytest.mark.parametrize("posterior", processes.POSTERIORS)
def test_our_training_step_is_that_of_the_reference(references, posterior):
    known, run, _ = ours.prepare("graph", references[posterior])
    agreement.check_agreement("ours", known, agreement.load(references[posterior]))
    assert set(known) == {"loss"}
    run(1)


def test_the_default_is_what_compile_chooses():
    model = ours.make_model("gaussian", 8, 3, 1)
    model.compile()
    assert (model.jit_compile, 1) == ours.WAYS[processes.DEFAULT.way]
    assert processes.DEFAULT == processes.OURS[0]


def test_a_reference_is_read_as_it_was_written(references, tmp_path):
    found = agreement.load(references["iaf"])
    agreement.save(tmp_path / "again.npz", found)
    again = agreement.load(tmp_path / "again.npz")
    for name, value in vars(found).items():
        tf.nest.map_structure(np.testing.assert_array_equal, value, getattr(again, name))
    assert set(found.masks) == {"flow/0/states/kernel", "flow/0/parameters/kernel"}
    assert found.observations.shape == (4, 2, 5, 3)
    assert found.controls.shape == (4, 2, 4, 1)


@pytest.mark.parametrize("kind", ["loss", "gradient_norm"])
@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_a_program_that_trains_another_model_is_refused(references, kind, factor):
    expected = agreement.load(references["gaussian"])
    known = {"loss": expected.loss * (1.0 + 1e-5), "gradient_norm": expected.gradient_norm}
    agreement.check_agreement("a peer", known, expected)
    known[kind] *= factor
    message = f"a peer must train the same model; its {kind.replace('_', ' ')} at the same"
    with pytest.raises(ValueError, match=message):
        agreement.check_agreement("a peer", known, expected)


class Clock:
    """A worker that takes the seconds that it is told to."""

    def __init__(self, calls, name, seconds):
        self.calls, self.name, self.seconds = calls, name, iter(seconds)

    def ask(self, do, count):
        self.calls.append((self.name, do, count))
        return {"seconds": count * next(self.seconds)}


def test_programs_take_turns_and_ratios_are_medians_over_rounds():
    calls, default = [], processes.DEFAULT.name
    clocks = {default: Clock(calls, "a", [9.0, 1.0, 2.0, 4.0])}
    clocks["peer"] = Clock(calls, "b", [9.0, 3.0, 1.0, 4.0])
    samples = processes.in_turns(clocks, rounds=3, count=5)
    assert [name for name, _, _ in calls] == ["a", "b"] * 4
    assert samples == {default: [1.0, 2.0, 4.0], "peer": [3.0, 1.0, 4.0]}
    rows = processes.compared(samples, {"threads": 1})
    assert rows[1] == {
        "threads": 1,
        "program": "peer",
        "ratio": 1.0,
        "milliseconds": 3000.0,
        "least": 1000.0,
        "most": 4000.0,
    }


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_of_a_reference_come_in_epochs(references, shuffle):
    about = agreement.load(references["gaussian"])
    found = list(itertools.islice(agreement.batches(about, shuffle), 12))
    epochs = [np.concatenate([x for x, _ in found[start : start + 4]]) for start in (0, 4, 8)]
    assert np.array_equal(epochs[0], about.observations.reshape(8, 5, 3)) != shuffle
    rows = [
        {(x.tobytes(), u.tobytes()) for batch in found[start : start + 4] for x, u in zip(*batch)}
        for start in (0, 4, 8)
    ]
    assert rows[0] == rows[1] == rows[2] and len(rows[0]) == 8
    assert np.array_equal(epochs[0], epochs[1]) != shuffle
    assert np.array_equal(epochs[1], epochs[2]) != shuffle


def test_a_worker_says_what_went_wrong(references, monkeypatch):
    with pytest.raises(ValueError, match="`device` must be cpu, since NumPy knows no other"):
        processes.Worker("blas", "product", 1, "gpu")
    with processes.Worker("blas", "product", 1, "cpu") as found:
        assert found.about == {"version": np.__version__, "device": "cpu"}
        assert found.ask("prepare", rows=4, width=4) == {}
        with pytest.raises(ValueError, match="unexpected keyword"):
            found.ask("prepare", columns=4)
        found.process.kill()
        with pytest.raises((ValueError, OSError)):
            found.ask("run", count=1)


def test_tensorflow_without_a_gpu_is_refused():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="`device` must be cpu, since TensorFlow sees no GPU"):
        ours.start(threads=1, device="gpu")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system holds no cores")
def test_a_worker_keeps_to_its_cores():
    code = "import os\nfrom tfp_dvbf.experiments.benchmarking import worker\nworker.hold_cores(1)\n"
    code += "assert len(os.sched_getaffinity(0)) == 1"
    subprocess.run([sys.executable, "-c", code], check=True, env=models.environment())


def test_peers_that_are_not_installed_are_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "jax" or None)
    assert processes.installed(["jax", "torch", "torch_compile"]) == ["jax"]
    expected = "torch is not installed and left out: pip install tfp_dvbf[benchmark]\n"
    assert capsys.readouterr().out == expected


def test_a_peer_that_compiles_for_minutes_is_left_out_where_there_are_many_sizes(capsys):
    found = processes.quick(processes.PEERS)
    assert [peer.name for peer in found] == ["JAX", "PyTorch, eager"]
    assert "PyTorch, torch.compile is left out here" in capsys.readouterr().out


def test_the_operations_of_a_training_step(references):
    """By hand, for layers of 8 units, 2 sequences of 5 steps, 3 observations, 1 control."""
    found = floor.count(agreement.load(references["gaussian"]))
    rows = 2 * 4
    assert found.recurrent == 6 * rows * (4 * 8 + 8 * 8 + 8 * 8)
    transition = 6 * rows * (5 * 8 + 8 * 8 + 8 * 8)
    emission = 6 * 2 * 5 * (4 * 8 + 8 * 3)
    encoder, inputs = 4 * rows * 3 * 8, 6 * rows * 9 * 8
    initial = 2 * (4 * 3 * 8 + 6 * 8 * 8)
    assert found.parallel == transition + emission + encoder + inputs + initial
    weights = ours.make_model("gaussian", 8, 3, 1).count_params()
    assert abs(found.optimizer_bytes / 28 - weights) < 20  # Less what is not trained.


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rounds": 0}, "`rounds` must be at least 1; got 0"),
        ({"batch_sizes": (0,)}, "`batch_sizes` must be at least 1; got 0"),
        ({"threads": (0,)}, "`threads` must be at least 1; got 0"),
        ({"threads": (1, 1)}, "`threads` must differ; got 1, 1"),
        ({"threads": (10**6,)}, "`threads` must not exceed the .* cores; got 1000000"),
        ({"device": "tpu"}, "`device` must be one of cpu, gpu; got 'tpu'"),
        ({"posteriors": ("chain_iaf",)}, "`posteriors` must be one of gaussian, innovation, iaf"),
        ({"peers": ("mxnet",)}, "`peers` must be one of jax, torch, torch_compile; got 'mxnet'"),
        ({"what": ("all",)}, "`what` must be one of training, quality, length, equal_work, "),
        ({"json": "no/such/folder.json"}, "`--json` must lie in a folder that exists"),
    ],
)
def test_the_script_refuses_before_it_starts_a_process(change, message, monkeypatch):
    monkeypatch.setattr(processes, "Worker", None)
    with pytest.raises(ValueError, match=message):
        benchmark.main(benchmark.Args(**{"threads": (1,), **change}))


def test_tables_put_ratios_first():
    rows = processes.compared({processes.DEFAULT.name: [0.02], "JAX": [0.01]}, {"what": "training"})
    rows = [{**row, "posterior": "iaf", "batch_size": 16, "threads": 1} for row in rows]
    lines = summary.table(rows, "training").splitlines()
    assert re.sub(" +", " ", lines[0]).startswith("| program | ratio | ms / step |")
    assert re.sub(" +", " ", lines[3]).startswith("| JAX | 0.50 | 10.0 |")
    assert summary.table(rows, "floor") == summary.NONE
    expected = "training, iaf, batch 16, 1 core(s): tfp_dvbf, XLA 20.0 ms, JAX 10.0 ms"
    assert summary.line(rows) == expected


@pytest.fixture
def few_steps(monkeypatch):
    """Lets each measure take few steps, in graphs, which compile faster."""
    graph = processes.OURS[1]
    sizes = {"generate": {1: 2, 8: 1}, "filter_step": {1: 2, 8: 1}}
    feeds = {graph._replace(name=feed): feed for feed in ("batch", "sequences")}
    alike = {"NUM_STEPS": 4, "NUM_BATCHES": 2}
    few = {
        processes: {"OURS": (graph,), "DEFAULT": graph},
        measures: {"UPDATES": 1},
        alone: {**alike, "LENGTHS": (4, 8), "TIME_STEPS": 16, "FEEDS": feeds},
        call_times: {"SIZES": sizes, "IMAGE_SIZES": {2: 1}},
        quality: {**alike, "SEEDS": (1,), "NUM_VALIDATION": 4, "TARGETS": (10.0, 0.0)},
        protocols: {"protocol_of": lambda *_: QUICK, "WINDOWS": {**QUICK, "window": 2}},
    }
    for module, values in few.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.mark.long
@pytest.mark.usefixtures("few_steps")
def test_benchmark(tmp_path, capsys):
    """Each measure once, with no peer."""
    file = tmp_path / "timings.json"
    sizes = {"posteriors": ("gaussian", "innovation"), "batch_sizes": (2,)}
    sizes |= {"threads": (1,), "rounds": 1}
    benchmark.main(benchmark.Args(**sizes, peers=(), json=str(file)))
    found = json.loads(file.read_text())
    assert found["about"]["versions"]["tfp_dvbf"] == tfp_dvbf.__version__
    rows = {
        what: [row for row in found["rows"] if row["what"] == what] for what in measures.MEASURES
    }
    assert {what: len(of) for what, of in rows.items()} == {
        "training": 2,
        "length": 4,
        "equal_work": 10,
        "feeding": 4,
        "quality": 6,
        "streaming": 4,
        "images": 2,
        "sampling": 2,
        "starting": 8,
        "floor": 1,
    }
    printed = capsys.readouterr().out
    for what in rows:
        assert summary.table(found["rows"], what) != summary.NONE
        assert re.search(rf"^{what}, .* m?s$", printed, re.MULTILINE)
