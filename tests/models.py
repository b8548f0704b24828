"""The models of the tests. A change of the constructor of `DVBF` is a change of this file alone."""

import functools

import numpy as np
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf.data import batching, environments

# With these options p(x, z | u) is linear and Gaussian, so that the Kalman filter is exact.
LINEAR = {"transition": "locally_linear", "num_bases": 1, "decoder_units": ()}


@functools.cache
def pendulum():
    """Returns 12 sequences of 8 steps of the pendulum."""
    return environments.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=1)


def make(observation_dim=3, control_dim=1, state_dim=2, **options):
    """Returns a DVBF; `options` are those of its constructor."""
    return tfp_dvbf.DVBF(observation_dim, control_dim, state_dim, **options)


def small_model(posterior="gaussian", **options):
    """Returns a small seeded DVBF of 3 observations, 1 control and 2 states."""
    tf_keras.utils.set_random_seed(0)
    units = ["encoder_units", "posterior_units", "transition_units", "decoder_units"]
    return make(posterior=posterior, **{"seed": 1, **dict.fromkeys(units, (16,)), **options})


def linear_model(posterior="gaussian", **options):
    """Returns a seeded linear and Gaussian DVBF of 2 observations, 1 control and 2 states."""
    tf_keras.utils.set_random_seed(0)
    units = {"encoder_units": (32,), "posterior_units": (32,), "flow_units": (16,)}
    return make(2, posterior=posterior, **{"seed": 1, **LINEAR, **units, **options})


def adapted(model, sequences):
    """Returns the model, standardised by `sequences`."""
    model.adapt(batching.as_dataset(sequences))
    return model


class Cache:
    """Models that tests share, because they only read them."""

    def __init__(self):
        self.models = {}

    def __call__(self, posterior="gaussian", adapt=False, **options):
        """Returns the `small_model` of these options, standardised by `pendulum` if `adapt`."""
        key = posterior, adapt, *sorted(options.items())
        if key not in self.models:
            model = small_model(posterior, **options)
            model = adapted(model, pendulum()) if adapt else model
            self.models[key] = model, model.get_weights()
        return self.models[key][0]

    def clear(self):
        """Lets all models go; raises AssertionError if a test has changed one."""
        models, self.models = self.models, {}
        for key, (model, before) in models.items():
            for expected, actual in zip(before, model.get_weights()):
                np.testing.assert_array_equal(actual, expected, err_msg=f"{key} was changed")


cached_model = Cache()


@functools.cache
def loaded(path):
    """Returns the SavedModel in the folder `path`, loaded once."""
    return tf.saved_model.load(path)


def signatures(path):
    """Returns the signatures of the SavedModel in the folder `path`, which stays loaded."""
    return loaded(str(path)).signatures


# What tests of single terms reach inside a model.


def sample_posterior(model, batch, noise):
    """Returns the `PosteriorSample` of a batch for noise eps[0:T], [batch, time, dz]."""
    return model._sample_posterior(batch, noise)


def encode(model, batch):
    """Returns q(z[0] | x[0:k]) and the `PosteriorInputs` of t = 1 .. T-1 of a batch."""
    return model._encode(batch)


def kl(model, sample, controls, closed_form=True):
    """Returns ln q - ln p of each step of a `PosteriorSample`, [batch, time]."""
    return model._kl(sample, controls, closed_form=closed_form)
