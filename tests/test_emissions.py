"""Emission densities: what they are, in which units, and how far an observation lies off."""

import models
import numpy as np
import oracles
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfp_dvbf import layers, registry
from tfp_dvbf.layers import emissions, networks
from tfp_dvbf.layers.state_space_model import StateSpaceModel

EMISSIONS = pytest.mark.parametrize("name", models.VECTOR_EMISSIONS)
Z = tf.random.stateless_normal([2, 5, 2], [0, 1])
X = tf.random.stateless_normal([2, 5, 3], [0, 2])


def make(name, observation_shape=(3,), **settings):
    emission = registry.class_of("emission", name)(**{"hidden_units": (8,), **settings})
    emission.build(layers.Spec(observation_shape, 1, 2))
    return emission


@EMISSIONS
def test_layer_battery(name):
    emission = make(name)
    emission(Z)
    oracles.check_layer(emission, lambda p: p(Z).log_prob(tf.ones([2, 5, 3])))


@pytest.mark.parametrize("name", [n for n in models.VECTOR_EMISSIONS if n != "categorical"])
def test_the_event_has_the_shape_of_an_observation(name):
    density = make(name, (4, 4, 1))(Z)
    assert density.batch_shape == (2, 5) and density.event_shape == (4, 4, 1)
    flat = make(name, (16,))
    flat(Z)
    image = make(name, (4, 4, 1))
    image(Z)
    for target, source in zip(image.weights, flat.weights):
        target.assign(tf.reshape(source, target.shape))
    x = tf.cast(tf.random.stateless_normal([2, 5, 4, 4, 1], [0, 3]) > 0, tf.float32)
    expected = flat(Z).log_prob(tf.reshape(x, [2, 5, 16]))
    np.testing.assert_allclose(image(Z).log_prob(x), expected, rtol=1e-5)


def test_standardised_density_against_the_raw_one():
    mean, scale = np.array([1.0, -2.0, 300.0]), np.array([0.1, 5.0, 40.0])
    model = StateSpaceModel((3,), 1, 2, emission=layers.GaussianEmission((8,)), seed=1)
    model.observation_standardization.set(mean, scale)
    noise_scale = scale * (networks.INITIAL_SCALE + model.emission.noise_floor)
    loc = mean + scale * model.emission.network(Z)
    raw = scipy.stats.norm.logpdf(mean + scale * X, loc, noise_scale).sum(axis=-1)
    np.testing.assert_allclose(model.log_likelihood(Z, mean + scale * X), raw, rtol=1e-3)
    standardised = model.emission(Z).log_prob(X) - np.log(scale).sum()
    np.testing.assert_allclose(raw, standardised, rtol=1e-3)
    found_mean, found_scale = model.observation_moments(Z)
    np.testing.assert_allclose(found_mean, loc, rtol=1e-5)
    np.testing.assert_allclose(found_scale, np.broadcast_to(noise_scale, loc.shape), rtol=1e-5)


def test_the_noise_of_a_gaussian_emission_stays_above_its_floor():
    emission = make("gaussian", noise_floor=0.02)
    emission(Z)
    emission.raw_scale.assign([-100.0, 0.0, 0.1])
    scale = emission(Z).stddev()[0, 0]
    expected = 0.02 + np.log1p(np.expm1(0.1) * np.exp(networks.SCALE_SPEED * 0.1))
    np.testing.assert_allclose(scale, [0.02, 0.12, expected], rtol=1e-5)


@pytest.mark.parametrize("value", [0, 1.0, -1e-3])
def test_a_noise_floor_is_a_fraction(value):
    with pytest.raises(ValueError, match=rf"`noise_floor` must lie in \(0, 1\); got {value}"):
        layers.GaussianEmission(noise_floor=value)


@pytest.mark.parametrize(
    "name", [n for n in models.VECTOR_EMISSIONS if n not in ("categorical", "student_t")]
)
def test_innovation_is_the_distance_from_the_mean_in_standard_deviations(name):
    emission = make(name)
    density = emission(Z)
    expected = np.arcsinh((X - density.mean()) / np.sqrt(density.variance()))
    np.testing.assert_allclose(emission.innovation(Z, X), expected, rtol=1e-5)


def test_student_t_density():
    emission = make("student_t", df=3.0, noise_floor=0.02)
    density = emission(Z)
    emission.raw_scale.assign([-1.0, 0.0, 0.1])
    loc, scale = emission.location_and_scale(Z)
    expected = scipy.stats.t.logpdf(X, 3.0, loc, scale).sum(axis=-1)
    np.testing.assert_allclose(emission(Z).log_prob(X), expected, rtol=1e-4)
    np.testing.assert_allclose(emission(Z).stddev()[0, 0], np.sqrt(3.0) * scale, rtol=1e-5)
    innovation = np.arcsinh((X - loc) / scale)
    np.testing.assert_allclose(emission.innovation(Z, X), innovation, rtol=1e-4)
    far = density.log_prob(X + 1e3) - density.log_prob(X + 1e4)
    np.testing.assert_allclose(far, np.full([2, 5], 3 * 4.0 * np.log(10.0)), rtol=1e-2)


@pytest.mark.parametrize("df", [2, 0.0, np.nan, np.inf])
def test_a_student_t_has_a_variance(df):
    with pytest.raises(ValueError, match=rf"`df` must be finite and above 2, .*; got {df}"):
        layers.StudentTEmission(df=df)


def test_heteroscedastic_density():
    emission = make("heteroscedastic", noise_floor=0.02)
    density = emission(Z)
    loc, raw = np.split(emission.network(Z), 2, axis=-1)
    scale = 0.02 + np.log1p(np.expm1(networks.INITIAL_SCALE) * np.exp(raw))
    expected = scipy.stats.norm.logpdf(X, loc, scale).sum(axis=-1)
    np.testing.assert_allclose(density.log_prob(X), expected, rtol=1e-4)
    assert np.ptp(density.stddev(), axis=1).min() > 1e-4  # It differs from state to state.


def test_the_innovation_of_an_image_is_flat():
    emission = make("gaussian", (2, 3, 1))
    x = tf.random.stateless_normal([2, 5, 2, 3, 1], [0, 3])
    density = emission(Z)
    expected = np.arcsinh((x - density.mean()) / density.stddev()).reshape(2, 5, 6)
    np.testing.assert_allclose(emission.innovation(Z, x), expected, rtol=1e-5)


def test_asinh_and_its_gradient_are_those_of_numpy():
    values = np.array([-1e18, -1e6, -2.0, -1e-3, 0.0, 1e-7, 0.5, 30.0, 1e6, 1e18])
    tensor = tf.constant(values, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        found = emissions.asinh(tensor)
    np.testing.assert_allclose(found, np.arcsinh(values), rtol=1e-6)
    gradient = tape.gradient(found, tensor)
    np.testing.assert_allclose(gradient, 1 / np.hypot(1.0, values), rtol=1e-5)
