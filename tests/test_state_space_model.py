"""The generative model by itself: no posterior, no training."""

import numpy as np
import oracles
import pytest
import scipy.stats
import tensorflow as tf

from tfp_dvbf import layers
from tfp_dvbf.inference import random
from tfp_dvbf.layers import networks
from tfp_dvbf.layers.state_space_model import StateSpaceModel

DECAY, GAIN, SCALE = 0.9, 0.5, 0.3


class Linear(layers.Transition):
    """N(DECAY z + GAIN u, SCALE^2), in the unit that `units` says."""

    def call(self, states, controls):
        loc = DECAY * states + GAIN * controls
        return networks.diagonal_normal(loc, tf.fill(tf.shape(loc), SCALE))


class LinearInUserUnits(Linear):
    units = "user"


@pytest.fixture(scope="module")
def model():
    return StateSpaceModel((1,), 1, 1, Linear(), seed=1)


def test_rollout_of_a_linear_gaussian_model_has_the_exact_moments(model):
    controls = np.array([[[1.0], [-1.0], [2.0]]], np.float32)
    seed = random.stateless_seed(1)
    draws = model.rollout(tf.ones([20000, 1, 1]), controls, seed).numpy()[:, 0, :, 0]
    mean, variance = 1.0, 0.0
    for t, control in enumerate(controls[0, :, 0]):
        mean, variance = DECAY * mean + GAIN * control, DECAY**2 * variance + SCALE**2
        oracles.within_standard_error(draws[:, t + 1], mean)
        oracles.within_standard_error((draws[:, t + 1] - mean) ** 2, variance)


def test_deterministic_rollout_follows_the_means(model):
    controls = np.array([[[1.0], [-1.0]]], np.float32)
    seed = random.stateless_seed(1)
    states = model.rollout(tf.ones([2, 1, 1]), controls, seed, deterministic=True)
    np.testing.assert_allclose(states[1, 0, :, 0], [1.0, 1.4, 0.76], rtol=1e-6)


def test_controls_come_in_the_units_that_the_transition_asks_for():
    """Standardised, u = (5 - 3) / 2 = 1; in the user's units it is 5."""
    for transition, expected in [(Linear(), GAIN), (LinearInUserUnits(), 5.0 * GAIN)]:
        model = StateSpaceModel((1,), 1, 1, transition, seed=1)
        model.control_standardization.set([3.0], [2.0])
        seed = random.stateless_seed(1)
        states = model.rollout(tf.zeros([1, 1, 1]), [[[5.0]]], seed, deterministic=True)
        assert states.numpy().ravel().tolist() == pytest.approx([0.0, expected])


def test_log_prob_is_the_sum_of_the_documented_factors():
    model = StateSpaceModel((2,), 1, 1, Linear(), layers.GaussianEmission(()), seed=1)
    mean, scale = np.array([10.0, -3.0]), np.array([2.0, 0.5])
    model.observation_standardization.set(mean, scale)
    rng = np.random.default_rng(0)
    z, u = rng.normal(size=(3, 4, 1)), rng.normal(size=(3, 3, 1))
    x = mean + scale * rng.normal(size=(3, 4, 2))
    kernel, bias = (weight.numpy() for weight in model.emission.network.weights)
    noise = networks.INITIAL_SCALE + model.emission.noise_floor
    expected = scipy.stats.norm.logpdf(z[:, 0, 0])
    expected += scipy.stats.norm.logpdf(z[:, 1:], DECAY * z[:, :-1] + GAIN * u, SCALE).sum((1, 2))
    decoded = mean + scale * (z @ kernel + bias)
    expected += scipy.stats.norm.logpdf(x, decoded, scale * noise).sum((1, 2))
    actual = model.log_prob(*(tf.constant(array, tf.float32) for array in (z, x, u)))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_samples_have_the_moments_of_the_chain(model):
    controls = np.zeros([1, 3, 1], np.float32)
    states = model.sample(controls, 20000, random.stateless_seed(2)).states.numpy()[:, 0, :, 0]
    variance = 1.0
    for t in range(4):
        oracles.within_standard_error(states[:, t], 0.0)
        oracles.within_standard_error(states[:, t] ** 2, variance)
        variance = DECAY**2 * variance + SCALE**2


class NoDistribution(layers.Transition):
    def call(self, states, controls):
        return states


class WrongShape(layers.Transition):
    def call(self, states, controls):
        return networks.diagonal_normal(tf.concat([states, states], -1), tf.ones([2]))


class WrongEmission(layers.Emission):
    def call(self, states):
        return networks.diagonal_normal(states, tf.ones_like(states))


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"transition": NoDistribution()}, "`transition` must return a multivariate normal"),
        ({"transition": WrongShape()}, r"event shape \[1\]; got \[1\] and \[2\]"),
        ({"emission": WrongEmission()}, r"`emission` must .* event shape \[3\]; .* and \[1\]"),
    ],
)
def test_parts_that_return_the_wrong_thing_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        StateSpaceModel((3,), 1, 1, **parts)
