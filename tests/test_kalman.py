"""Bounds and models against the exact answers of a linear model."""

import models
import numpy as np
import oracles
import pytest
import tensorflow as tf
import tf_keras

from tfp_dvbf import data
from tfp_dvbf.data import batching
from tfp_dvbf.inference import kalman
from tfp_dvbf.inference import particles as weighted

STEPS = 10


def make_sequences(count, steps=STEPS, seed=0):
    """Draws from a damped rotation with one control, seen through a square matrix and noise."""
    rng = np.random.default_rng(seed)
    angle, noise = 0.3, 0.2
    a = 0.95 * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    u = rng.normal(size=[count, steps - 1, 1])
    z = [rng.normal(size=[count, 2])]
    for t in range(steps - 1):
        z.append(z[-1] @ a.T + u[:, t] * [0.0, 0.5] + noise * rng.normal(size=[count, 2]))
    x = np.stack(z, axis=1) @ np.array([[1.0, 0.3], [-0.2, 0.8]]) + [1.0, -2.0]
    return data.Sequences(x + 0.3 * rng.normal(size=x.shape), u)


def fit(model, sequences, epochs, learning_rate=1e-2):
    dataset = batching.as_dataset(sequences, 64, seed=1)
    model.adapt(dataset)
    rate = tf_keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(dataset))
    model.compile(tf_keras.optimizers.Adam(rate, clipnorm=10.0), jit_compile=False)
    model.fit(dataset, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="module")
def sequences():
    return make_sequences(512)


@pytest.fixture(scope="module")
def test_sequences():
    return make_sequences(64, seed=1)


@pytest.fixture(scope="module")
def smoother(sequences):
    """A Gaussian posterior with the smoother, trained together with its linear model."""
    return fit(
        models.linear_model("gaussian", encoder="smoother", initial_frames=3), sequences, epochs=120
    )


def test_kalman_filter_against_the_dense_gaussian(sequences):
    x, u = sequences.observations[:5, :6], sequences.controls[:5, :5]
    model = models.linear_model("gaussian")
    model.adapt(batching.as_dataset(sequences))
    model = model.state_space_model
    rng = np.random.default_rng(0)
    for weight in [*model.transition.weights, *model.emission.weights]:
        weight.assign_add(0.03 * rng.normal(size=weight.shape).astype(np.float32))
    units = model.observation_standardization
    mean, scale = units.mean.numpy(), units.scale.numpy()
    kernel, bias = (w.numpy() for w in model.emission.network.layers[-1].weights)
    noise_scale = scale * model.emission(tf.zeros([1, 2])).stddev().numpy()[0]
    emission = (kernel * scale).T, mean + scale * bias, noise_scale
    matrices = [matrix[0].numpy() for matrix in model.transition.matrices()]
    standardised = model.control_standardization(u).numpy()
    expected = oracles.dense_log_prob(matrices, emission, x, standardised)
    np.testing.assert_allclose(kalman.log_prob(model, x, u), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_bases": 2}, r"`transition` must be linear, .*\(num_bases=1\)"),
        ({"transition": "mlp"}, "`transition` must be linear, .* got MLPTransition"),
        ({"decoder_units": (4,)}, r"`emission` must be linear, .*\(hidden_units=\(\)\)"),
        ({"emission": "bernoulli"}, "`emission` must be linear, .* got BernoulliEmission"),
    ],
)
def test_only_linear_models_are_taken(change, message):
    nonlinear = models.linear_model(**change).state_space_model
    with pytest.raises(ValueError, match=message):
        kalman.log_prob(nonlinear, np.zeros([1, 3, 2]), np.zeros([1, 2, 1]))


@pytest.mark.slow
def test_the_smoothing_posterior_is_almost_exact(smoother, test_sequences):
    """Below ln p(x), and within 0.05 nats a step of it."""
    x, u = test_sequences.observations, test_sequences.controls
    exact = np.mean(exact_log_prob(smoother, test_sequences))
    elbo = np.mean(smoother.log_prob_bound(x, u, 256, seed=1, objective="elbo"))
    assert exact - 0.05 * STEPS < elbo < exact


def bound(model, sequences, objective, num_samples, repeats=10):
    """Returns `repeats` independent estimates for each sequence, [repeats, batch]."""
    x, u = (np.repeat(a, repeats, 0) for a in (sequences.observations, sequences.controls))
    values = model.log_prob_bound(x, u, num_samples, seed=2, objective=objective)
    return values.numpy().reshape(len(sequences), repeats).T


def assert_increasing(estimates, exact):
    """Asserts that the means of paired estimates rise to `exact` within five standard errors."""
    estimates = [values.mean(axis=1) for values in estimates]
    for low, high in zip(estimates, [*estimates[1:], np.full_like(estimates[0], exact)]):
        difference = high - low
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        assert difference.mean() > -5 * error - 1e-3


@pytest.fixture(scope="module", params=["iaf", *models.marked(["gaussian", "trajectory_iaf"], [])])
def filtering(request, sequences):
    """A model whose posterior sees no future, so that its bounds are not tight."""
    return fit(models.linear_model(request.param, receptive_field=STEPS), sequences, epochs=25)


def exact_log_prob(model, sequences):
    space, x, u = model.state_space_model, sequences.observations, sequences.controls
    return kalman.log_prob(space, x, u).numpy()


def test_elbo_and_iwae_rise_to_the_exact_log_prob(filtering, test_sequences):
    exact = np.mean(exact_log_prob(filtering, test_sequences))
    bounds = [("elbo", 1), ("iwae", 4), ("iwae", 16), ("iwae", 64)]
    estimates = [bound(filtering, test_sequences, *each) for each in bounds]
    assert_increasing(estimates, exact)
    assert np.mean(estimates[1]) > np.mean(estimates[0]) + 0.5


def test_fivo_rises_to_the_exact_log_prob(filtering, test_sequences):
    few = test_sequences[:16]  # A particle of `trajectory_iaf` carries its past.
    exact = np.mean(exact_log_prob(filtering, few))
    estimates = [bound(filtering, few, "fivo", size) for size in [2, 16, 256]]
    assert_increasing(estimates, exact)
    gaps = [exact - np.mean(values) for values in estimates]
    assert gaps[2] < 0.25 * gaps[0]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["iwae", "fivo"])
def test_the_estimate_of_the_evidence_is_unbiased(smoother, test_sequences, objective):
    few = test_sequences[:4]
    exact = exact_log_prob(smoother, few)
    estimates = bound(smoother, few, objective, num_samples=16, repeats=1000)
    oracles.within_standard_error(np.exp(estimates - exact), 1.0)


def test_training_with_iwae_raises_it_above_the_elbo(sequences, test_sequences):
    model = models.linear_model("iaf", objective="iwae", num_samples=8)
    history = fit(model, sequences[:256], epochs=3).history.history
    assert history["loss"][-1] < history["loss"][0]
    assert history["loss"][-1] * STEPS < history["neg_elbo"][-1] - 0.1
    exact = np.mean(exact_log_prob(model, test_sequences))
    assert np.mean(bound(model, test_sequences, "iwae", 8)) < exact


def test_resampling_keeps_the_weighted_mean():
    states = tf.random.stateless_normal([4, 20000, 1], [0, 1])
    log_weights = tf.math.log_softmax(tf.random.stateless_normal([4, 20000], [0, 2]) * 3, axis=0)
    weights = tf.exp(log_weights)[..., tf.newaxis]
    offsets = tf.random.stateless_uniform([20000], [0, 3])
    particles = weighted.resample(weighted.Particles(states, log_weights), offsets)
    new_weights = tf.exp(particles.log_weights)[..., tf.newaxis]
    np.testing.assert_allclose(tf.reduce_sum(new_weights, axis=0), 1.0, rtol=1e-5)
    difference = tf.reduce_sum(new_weights * particles.states - weights * states, axis=0)
    oracles.within_standard_error(difference, 0.0)
    low = 1 / np.sum(np.square(weights), axis=0)[:, 0] < 2
    new_log_weights = particles.log_weights.numpy()[:, low]
    np.testing.assert_allclose(new_log_weights, np.log(0.25), rtol=1e-6)
    np.testing.assert_array_equal(particles.states.numpy()[:, ~low], states.numpy()[:, ~low])
    assert 0.2 < low.mean() < 1.0
