"""Emissions of binary values, counts and symbols: exact densities, innovations and supports."""

import re

import models
import numpy as np
import oracles
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfp_dvbf import layers, registry
from tfp_dvbf.layers import discrete_emissions, networks

Z = tf.random.stateless_normal([2, 5, 2], [0, 1])


def make(name, observation_shape=(3,), **settings):
    emission = registry.class_of("emission", name)(**{"hidden_units": (8,), **settings})
    emission.build(layers.Spec(observation_shape, 1, 2))
    emission(Z)
    return emission


def one_hot(shape, size):
    return np.eye(size, dtype=np.float32)[np.random.default_rng(1).integers(0, size, shape)]


def test_bernoulli_density():
    x = np.array([[[0, 1, 1]] * 5] * 2, np.float32)
    emission = make("bernoulli")
    p = scipy.special.expit(emission.network(Z))
    expected = scipy.stats.bernoulli.logpmf(x, p).sum(axis=-1)
    np.testing.assert_allclose(emission(Z).log_prob(x), expected, rtol=1e-4)


def test_the_innovation_of_a_certain_pixel_is_finite():
    """At a logit of 200 the variance is 0 in float32 and is floored, and so is its root."""
    emission = make("bernoulli", hidden_units=())
    emission.network.layers[0].bias.assign([200.0, -200.0, 0.0])
    wrong = tf.constant([[0.0, 1.0, 0.0]])
    with tf.GradientTape() as tape:
        innovation = emission.innovation(tf.zeros([1, 2]), wrong)
    far = np.arcsinh(1.0 / networks.SCALE_FLOOR)
    np.testing.assert_allclose(innovation, [[-far, far, -np.arcsinh(1.0)]], rtol=1e-5)
    for gradient in tape.gradient(innovation, emission.trainable_variables):
        assert np.all(np.isfinite(gradient))


def test_poisson_density():
    emission = make("poisson")
    x = np.random.default_rng(1).poisson(3.0, [2, 5, 3])
    rate = np.exp(emission.network(Z))
    expected = scipy.stats.poisson.logpmf(x, rate).sum(axis=-1)
    density = emission(Z)
    np.testing.assert_allclose(density.log_prob(x.astype(np.float32)), expected, rtol=1e-4)
    np.testing.assert_allclose(density.mean(), rate, rtol=1e-5)
    np.testing.assert_allclose(density.variance(), rate, rtol=1e-5)
    innovation = np.arcsinh((x - rate) / np.sqrt(rate))
    found = emission.innovation(Z, x.astype(np.float32))
    np.testing.assert_allclose(found, innovation, rtol=1e-4, atol=1e-5)


def test_the_rate_of_a_poisson_is_finite():
    emission = make("poisson", hidden_units=())
    emission.network.layers[0].bias.assign([1e4, -1e4, 0.0])
    x = tf.constant([[7.0, 7.0, 7.0]])
    with tf.GradientTape() as tape:
        value = emission(tf.zeros([1, 2])).log_prob(x) + tf.reduce_sum(
            emission.innovation(tf.zeros([1, 2]), x)
        )
    rate = emission(tf.zeros([1, 2])).mean()[0, 0]
    np.testing.assert_allclose(rate, np.exp(discrete_emissions.LARGEST_LOG_RATE), rtol=1e-5)
    drawn = emission(tf.zeros([1, 2])).sample(100, seed=[1, 2])
    assert np.all(emission.supports(drawn)) and np.max(drawn) > np.exp(20.0)
    assert np.all(np.isfinite(value))
    for gradient in tape.gradient(value, emission.trainable_variables):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_categorical_density(shape):
    emission = make("categorical", shape)
    x = one_hot([2, 5, *shape[:-1]], shape[-1])
    logits = emission.network(Z).numpy().reshape(2, 5, *shape)
    p = scipy.special.softmax(logits, axis=-1)
    axes = tuple(range(2, 2 + len(shape) - 1))
    expected = np.log((p * x).sum(axis=-1)).sum(axis=axes)
    density = emission(Z)
    assert density.batch_shape == (2, 5) and density.event_shape == shape
    np.testing.assert_allclose(density.log_prob(x), expected, rtol=1e-4)
    found = emission.innovation(Z, x)
    np.testing.assert_allclose(found, (x - p).reshape(2, 5, -1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(density.mean(), p, rtol=1e-4)
    drawn = density.sample(seed=[1, 2]).numpy()
    assert np.all(emission.supports(tf.constant(drawn)))
    oracles.check_layer(emission, lambda emission: emission(Z).log_prob(x))


@pytest.mark.parametrize("shape", [(1,), (4, 4, 1)])
def test_a_symbol_is_one_of_two_or_more(shape):
    with pytest.raises(ValueError, match="must end in the number of symbols, 2 or more, for Cat"):
        make("categorical", shape)


@pytest.mark.parametrize(
    "name, good, bad, message",
    [
        ("poisson", [0, 3, 250], [0, -1, 2], "`observations` must be counts, whole numbers from"),
        ("poisson", [0, 3, 250], [0, 0.5, 2], "0 to 500000000, for the poisson emission"),
        ("poisson", [0, 3, 250], [0, 6e8, 2], "0 to 500000000, for the poisson emission"),
        ("categorical", [0, 1, 0], [0, 0, 0], "must be one-hot, a single 1 along the last axis"),
        ("categorical", [0, 1, 0], [1, 1, 0], "for the categorical emission"),
        ("categorical", [0, 1, 0], [0, 2, -1], "must be one-hot"),
        ("bernoulli", [0, 1, 1], [0, 2, 1], "must be 0 or 1 for the bernoulli emission"),
    ],
)
def test_what_an_emission_never_makes_is_refused_in_arrays_and_graphs(name, good, bad, message):
    model = models.small_model("innovation", emission=name)
    x, u = np.tile(np.float32(good), [2, 4, 1]), np.zeros([2, 3, 1], np.float32)
    mask = np.ones([2, 4], bool)
    mask[1, 2:] = False
    assert np.all(np.isfinite(model.bound_terms(x, u, seed=1, mask=mask).nll))
    x[1, 2] = bad
    assert np.all(np.isfinite(model.bound_terms(x, u, seed=1, mask=mask).nll))
    with pytest.raises(ValueError, match=message) as refusal:
        model.bound_terms(x, u, seed=1)
    assert re.search(r"; got \S+ in sequence 1, step 2, dimension \d\.$", str(refusal.value))
    with pytest.raises(ValueError, match=message):
        model.adapt(tf.data.Dataset.from_tensors({"observations": x, "controls": u}))


@pytest.mark.parametrize("name", ["poisson", "categorical"])
def test_counts_and_symbols_are_trained_and_drawn(name):
    rng = np.random.default_rng(1)
    x = rng.poisson(20.0, [4, 5, 3]) if name == "poisson" else one_hot([4, 5], 3).astype(int)
    u = rng.normal(size=[4, 4, 1]).astype(np.float32)
    model = models.small_model("innovation", emission=name)
    batch = {"observations": x, "controls": u}
    model.adapt(batch)
    mean = model.state_space_model.observation_standardization.mean
    assert np.all(mean.numpy() > 15.0 if name == "poisson" else mean.numpy() == 0.0)
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(model.fit(batch, batch_size=4, verbose=0).history["loss"]).all()
    drawn = model.forecast(x[:, :2], u, num_samples=3, seed=1).observations
    assert np.all(model.state_space_model.emission.supports(drawn))
    belief = model.filter_init(x[:, :1], 8, seed=1)
    belief = model.filter_step(belief, x[:, 1], u[:, 0], seed=2)
    assert np.all(np.isfinite(belief["predicted_observation_mean"]))
