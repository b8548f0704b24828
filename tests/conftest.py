"""Fixtures: a small data set and small models."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tf_keras

from tfp_dvbf import environments, model


@pytest.fixture(scope="session")
def sequences():
    return environments.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=1)


def small_model(posterior="gaussian", **kwargs):
    """Returns a small seeded DVBF of 3 observations, 1 control and 2 states."""
    tf_keras.utils.set_random_seed(0)
    units = {name: (16,) for name in ["encoder_units", "posterior_units", "transition_units"]}
    arguments = {**units, "decoder_units": (16,), "seed": 1, **kwargs}
    return model.DVBF(3, 1, 2, posterior=posterior, **arguments)


@pytest.fixture
def make_model():
    """Returns `small_model`."""
    return small_model
