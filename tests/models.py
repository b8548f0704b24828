"""The models of the tests. A change of the constructor of `DVBF` is a change of this file alone."""

import contextlib
import functools
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import tfp_dvbf
from tfp_dvbf import registry
from tfp_dvbf.data import batching, environments
from tfp_dvbf.experiments import options
from tfp_dvbf.inference import bounds

ROOT = pathlib.Path(__file__).parent.parent

# With these options p(x, z | u) is linear and Gaussian, so that the Kalman filter is exact.
LINEAR = {"transition": "locally_linear", "num_bases": 1, "decoder_units": ()}


def marked(slow, long):
    """Returns the parameters of a test, those for `make test-slow` and for `make test-long`."""
    kinds = {"slow": slow, "long": long}
    return [
        pytest.param(*each if isinstance(each, tuple) else [each], marks=getattr(pytest.mark, kind))
        for kind, values in kinds.items()
        for each in values
    ]


@contextlib.contextmanager
def functions_without_graphs():
    """Lets each `tf.function` run as the Python that it is."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@functools.cache
def pendulum():
    """Returns 12 sequences of 8 steps of the pendulum."""
    return environments.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=1)


# The names of parts that take vectors, and not images alone.
VECTOR_EMISSIONS = [name for name in registry.names("emission") if not name.startswith("image")]
VECTOR_ENCODERS = [name for name in registry.names("encoder") if name != "convolutional"]

# Posteriors see no more of an encoder than its features, so that one pair has another encoder.
POSTERIOR_AND_ENCODER = [(name, "filter") for name in registry.names("posterior")]
POSTERIOR_AND_ENCODER += [("innovation", "smoother")]
KINDS = ("posterior", "transition", "emission", "encoder")


def make(observation_shape=3, control_dim=1, state_dim=2, **flat):
    """Returns a DVBF from flat options: those of its constructor and the settings of its parts."""
    settings = {name for names in options.SETTINGS.values() for name in names}
    parts = {name: flat.pop(name) for name in [*KINDS, *settings] if name in flat}
    parts = {"posterior": "gaussian", **parts}
    objects = {kind: parts.pop(kind) for kind in KINDS if not isinstance(parts.get(kind, ""), str)}
    configs = {**options.part_configs(parts), **objects}
    return tfp_dvbf.DVBF(observation_shape, control_dim, state_dim, **configs, **flat)


def small_model(posterior="gaussian", **flat):
    """Returns a small seeded DVBF of 3 observations, 1 control and 2 states."""
    units = ["encoder_units", "posterior_units", "transition_units", "decoder_units"]
    return make(posterior=posterior, **{"seed": 1, **dict.fromkeys(units, (16,)), **flat})


def linear_model(posterior="gaussian", **flat):
    """Returns a seeded linear and Gaussian DVBF of 2 observations, 1 control and 2 states."""
    units = {"encoder_units": (32,), "posterior_units": (32,), "flow_units": (16,)}
    return make(2, posterior=posterior, **{"seed": 1, **LINEAR, **units, **flat})


def adapted(model, sequences):
    """Returns the model, standardised by `sequences`."""
    model.adapt(batching.as_dataset(sequences))
    return model


def environment(**variables):
    """Returns the environment of a process that imports this package, the tests and the scripts."""
    folders = [str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), **variables}


def weights_of(model):
    """Returns the weights of both models of a DVBF as arrays, without Keras' metrics."""
    return [
        weight.numpy()
        for part in (model.state_space_model, model.recognition_model)
        for weight in part.weights
    ]


class Cache:
    """Models that tests share, because they only read them."""

    def __init__(self):
        self.models = {}

    def __call__(self, posterior="gaussian", adapt=False, **flat):
        """Returns the `small_model` of these options, standardised by `pendulum` if `adapt`."""
        key = posterior, adapt, *sorted(flat.items())
        if key not in self.models:
            model = small_model(posterior, **flat)
            model = adapted(model, pendulum()) if adapt else model
            self.models[key] = model, weights_of(model)
        return self.models[key][0]

    def clear(self):
        """Lets all models go; raises AssertionError if a test has changed one."""
        models, self.models = self.models, {}
        for key, (model, before) in models.items():
            for expected, actual in zip(before, weights_of(model)):
                np.testing.assert_array_equal(actual, expected, err_msg=f"{key} was changed")


cached_model = Cache()


@functools.cache
def loaded(path):
    """Returns the SavedModel in the folder `path`, loaded once."""
    return tf.saved_model.load(path)


def signatures(path):
    """Returns the signatures of the SavedModel in the folder `path`, which stays loaded."""
    return loaded(str(path)).signatures


def sample_posterior(model, batch, noise):
    """Returns the `PosteriorSample` of a batch for noise eps[0:T], [batch, time, dz]."""
    return model.recognition_model.sample(model.state_space_model, batch, noise)


def encode(model, batch):
    """Returns q(z[0] | x[0:k]) and the `PosteriorInputs` of t = 1 .. T-1 of a batch."""
    return model.recognition_model.encode(model.state_space_model, batch)


def kl(model, sample, controls, closed_form=True):
    """Returns ln q - ln p of each step of a `PosteriorSample`, [batch, time]."""
    space = model.state_space_model
    return bounds.kl(space, sample, space.control_standardization(controls), closed_form)
