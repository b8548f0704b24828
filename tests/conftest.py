"""Fixtures: a small data set, small models, exports of them, and what keeps a worker small."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import generate_data
import models
import pytest
import tf_keras

import tfp_dvbf
from tfp_dvbf import registry
from tfp_dvbf.serving import saved_model

SHORT = {"epochs": 2, "kl_annealing_epochs": 1, "learning_rate": 1e-3}


@pytest.fixture(scope="module", autouse=True)
def small_memory():
    """Lets the models of a file go when its tests have ended."""
    yield
    models.cached_model.clear()
    tf_keras.backend.clear_session()
    gc.collect()


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


@pytest.fixture(scope="session")
def exported(tmp_path_factory, sequences):
    """Exports one model of each posterior; returns names mapped to (model, path, reasons)."""
    folder = tmp_path_factory.mktemp("export")
    made = {name: models.small_model(name) for name in registry.names("posterior")}
    made["two_frames"] = models.small_model("iaf", initial_frames=2)
    made["smoother"] = models.small_model("gaussian", encoder="smoother", initial_frames=2)
    results = {}
    for name, model in made.items():
        models.adapted(model, sequences)
        reasons = saved_model.export(model, folder / name, {"metrics": {"elbo": 1.5}})
        results[name] = model, folder / name, reasons
    return results


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


@pytest.fixture
def eagerly(monkeypatch):
    """Lets the scripts train eagerly: that costs least for a handful of steps."""
    monkeypatch.setattr(tfp_dvbf.DVBF, "compile", replaced_compile({"run_eagerly": True}))
