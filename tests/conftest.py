"""Fixtures: a small data set and small models."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import generate_data
import pytest
import tf_keras

import tfp_dvbf
from tfp_dvbf import registry
from tfp_dvbf.data import batching, environments
from tfp_dvbf.serving import saved_model

SHORT = {"epochs": 2, "kl_annealing_epochs": 1, "learning_rate": 1e-3}


@pytest.fixture(scope="session")
def sequences():
    return environments.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=1)


def write_dataset(path, **kwargs):
    """Writes a data folder of 12 training sequences of 8 steps; returns its path."""
    sizes = {"num_train": 12, "num_validation": 4, "num_test": 4, "num_steps": 8}
    generate_data.main(generate_data.Args(output=str(path), **sizes, **kwargs))
    return path


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "pendulum")


def small_model(posterior="gaussian", **kwargs):
    """Returns a small seeded DVBF of 3 observations, 1 control and 2 states."""
    tf_keras.utils.set_random_seed(0)
    units = {name: (16,) for name in ["encoder_units", "posterior_units", "transition_units"]}
    arguments = {**units, "decoder_units": (16,), "seed": 1, **kwargs}
    return tfp_dvbf.DVBF(3, 1, 2, posterior=posterior, **arguments)


def adapted(model, sequences):
    """Returns the model, standardised by `sequences`."""
    model.adapt(batching.as_dataset(sequences))
    return model


@pytest.fixture
def model(sequences):
    """Returns a small gaussian model, standardised."""
    return adapted(small_model(), sequences)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, sequences):
    """Exports one model of each posterior; returns names mapped to (model, path, reasons)."""
    folder = tmp_path_factory.mktemp("export")
    models = {name: small_model(name) for name in registry.POSTERIORS}
    models["two_frames"] = small_model("iaf", initial_frames=2)
    models["smoother"] = small_model("gaussian", encoder="smoother", initial_frames=2)
    results = {}
    for name, model in models.items():
        adapted(model, sequences)
        reasons = saved_model.export(model, folder / name, {"metrics": {"elbo": 1.5}})
        results[name] = model, folder / name, reasons
    return results


@pytest.fixture
def make_model():
    """Returns `small_model`."""
    return small_model
