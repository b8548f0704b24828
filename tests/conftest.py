"""Fixtures: a small data set and small models."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tf_keras

from tfp_dvbf import environments, model


@pytest.fixture(scope="session")
def sequences():
    return environments.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=1)


@pytest.fixture
def make_model():
    """Returns a function that makes a small seeded DVBF."""

    def make(posterior="gaussian", **kwargs):
        tf_keras.utils.set_random_seed(0)
        units = {name: (16,) for name in ["encoder_units", "posterior_units", "transition_units"]}
        arguments = {**units, "decoder_units": (16,), "seed": 1, **kwargs}
        return model.DVBF(3, 1, 2, posterior=posterior, **arguments)

    return make
