"""Fixtures: a small data set, small models, exports of them, and what keeps a worker small."""

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import pathlib
import resource

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import generate_data
import models
import pytest
import tf_keras

import tfp_dvbf
from tfp_dvbf import registry
from tfp_dvbf.experiments import recipe
from tfp_dvbf.serving import saved_model

MUCH_MEMORY = 2**29
LEFT = pytest.StashKey()  # What stayed in memory when it was given back.
SHORT = {"epochs": 2, "kl_annealing_epochs": 1, "learning_rate": 1e-3}


def resident_memory():
    """Returns the bytes of this process that are in memory; 0 where the system does not say."""
    path = pathlib.Path("/proc/self/statm")
    pages = int(path.read_text().split()[1]) if path.exists() else 0
    return pages * resource.getpagesize()


def give_back_memory():
    """Frees what nothing refers to any more, and lets the C library return it to the system."""
    tf_keras.backend.clear_session()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # A C library that has no such function.
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def pytest_runtest_teardown(item):
    """Gives memory back whenever it has grown by much: to do so takes seconds."""
    if resident_memory() > item.config.stash.get(LEFT, 0) + MUCH_MEMORY:
        give_back_memory()
        item.config.stash[LEFT] = resident_memory()


@pytest.fixture(scope="module", autouse=True)
def small_memory():
    """Lets the models of a file go when its tests have ended."""
    yield
    models.cached_model.clear()
    models.loaded.cache_clear()
    give_back_memory()


@pytest.fixture(scope="session")
def sequences():
    return models.pendulum()


def write_dataset(path, **kwargs):
    """Writes a data folder of 12 training sequences of 8 steps; returns its path."""
    sizes = {"num_train": 12, "num_validation": 4, "num_test": 4, "num_steps": 8}
    generate_data.main(generate_data.Args(output=str(path), **sizes, **kwargs))
    return path


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "pendulum")


@pytest.fixture
def model():
    """Returns the small gaussian model, standardised, to read only."""
    return models.cached_model(adapt=True)


EXPORTED = {name: {"posterior": name} for name in registry.names("posterior")} | {
    "two_frames": {"posterior": "iaf", "initial_frames": 2, "encoder_steps": 3},
    "smoother": {"posterior": "gaussian", "encoder": "smoother", "initial_frames": 2},
}


class Exports:
    """Exported models in a folder that the processes of one test run share, each made once."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, name):
        """Returns the model of that name in `EXPORTED`, its path and the reasons."""
        model = models.cached_model(adapt=True, **EXPORTED[name])
        path, reasons = self.folder / name, self.folder / f"{name}.json"
        with open(self.folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not reasons.exists():
                made = saved_model.export(model, path, {"metrics": {"elbo": 1.5}})
                reasons.write_text(json.dumps(made))
        return model, path, json.loads(reasons.read_text())

    def items(self):
        return [(name, self[name]) for name in EXPORTED]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Exports of one model of each posterior, (model, path, reasons) by name."""
    shared = os.environ.get("TFP_DVBF_EXPORTS")  # That of all processes of `run.py`.
    return Exports(pathlib.Path(shared or tmp_path_factory.mktemp("exported")))


@pytest.fixture
def make_model():
    """Returns `small_model`."""
    return models.small_model


def replaced_compile(options):
    """Returns a `DVBF.compile` of which `options` are the defaults."""
    compile_model = tfp_dvbf.DVBF.compile

    def compile_with(self, *args, **kwargs):
        compile_model(self, *args, **{**options, **kwargs})

    return compile_with


@pytest.fixture
def without_xla(monkeypatch):
    """Lets the scripts train in graphs: XLA compiles for ten seconds a model."""
    monkeypatch.setattr(tfp_dvbf.DVBF, "compile", replaced_compile({"jit_compile": False}))


@pytest.fixture(scope="module")
def without_graphs():
    """Lets the methods of models run without graphs: to trace one takes seconds.

    That a graph computes the same is what test_graphs.py is for.
    """
    with models.functions_without_graphs():
        yield


@pytest.fixture
def evaluation_without_graphs(monkeypatch):
    """Lets `recipe.evaluate` run without graphs, while training keeps its own."""
    evaluate = models.functions_without_graphs()(recipe.evaluate)
    monkeypatch.setattr(recipe, "evaluate", evaluate)


@pytest.fixture
def eagerly(monkeypatch):
    """Lets the scripts train eagerly: that costs least for a handful of steps."""
    monkeypatch.setattr(tfp_dvbf.DVBF, "compile", replaced_compile({"run_eagerly": True}))
