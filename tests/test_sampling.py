"""Draws from the posterior, past the last observation and from the generative model alone."""

import dataclasses

import models
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import data, evaluation, registry

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def assert_shapes(trajectory, samples, batch, steps):
    assert trajectory.states.shape == (samples, batch, steps, 2)
    assert trajectory.observation_mean.shape == (samples, batch, steps, 3)
    assert trajectory.observations.shape == (samples, batch, steps, 3)


def first_density(model, observations):
    """Returns q(z[0] | x[0:k])."""
    space = model.state_space_model
    observations = space.standardise_observations(observations)
    return model.recognition_model.initial(space, observations).normal


def next_density(model, states, controls):
    """Returns p(z[t] | z[t-1], u[t-1]) for controls in the user's units."""
    space = model.state_space_model
    return space.transition_distribution(states, space.control_standardization(controls))


@POSTERIORS
def test_shapes(sequences, posterior):
    model = models.cached_model(posterior)
    x, u = sequences.observations, sequences.controls
    assert_shapes(model.sample_posterior(x, u, num_samples=3, seed=1), 3, 12, 8)
    assert_shapes(model.reconstruct(x, u), 1, 12, 8)
    assert_shapes(model.generate(u, num_samples=3, seed=1), 3, 12, 8)
    assert_shapes(model.generate(u, x[:, :1], num_samples=3, seed=1), 3, 12, 8)
    assert_shapes(model.generate(u, initial_state=np.zeros((12, 2)), seed=1), 1, 12, 8)
    for context in [1, 2, 5]:
        assert_shapes(model.forecast(x[:, :context], u, num_samples=3, seed=1), 3, 12, 8)


def test_draws_are_a_function_of_the_seed(model, sequences):
    x, u = sequences.observations, sequences.controls
    for draw in [
        lambda seed: model.sample_posterior(x, u, 2, seed),
        lambda seed: model.generate(u, x[:, :1], None, 2, seed),
        lambda seed: model.forecast(x[:, :3], u, 2, seed),
    ]:
        for a, b, c in zip(draw(1), draw(1), draw(2)):
            np.testing.assert_array_equal(a, b)
            assert np.any(np.asarray(a) != c)
        assert np.any(np.asarray(draw(None).states) != draw(None).states)
    graph = tf.function(lambda: model.generate(u, x[:, :1]).states, autograph=False)
    assert np.any(np.asarray(graph()) != graph())


@POSTERIORS
def test_samples_differ_from_each_other(sequences, posterior):
    model = models.cached_model(posterior)
    states = model.sample_posterior(sequences.observations, sequences.controls, 2, seed=1).states
    assert np.all(np.asarray(states[0]) != states[1])


@pytest.mark.parametrize(
    "posterior, encoder, frames",
    [(*pair, 1) for pair in models.POSTERIOR_AND_ENCODER]
    + [("innovation", "filter", 3), ("innovation", "smoother", 3)],
)
def test_what_each_state_sees(make_model, sequences, posterior, encoder, frames):
    """The gradient of z[0:t] by x[t:] and u[t-1:], and of z[0] by all steps past the context."""
    model = make_model(posterior, encoder=encoder, initial_frames=frames)
    x, u = tf.constant(sequences.observations[:2]), tf.constant(sequences.controls[:2])
    noise = tf.random.stateless_normal([2, 8, 2], [0, 1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, u])
        states = models.sample_posterior(model, data.Batch(x, u), noise).states
        each = [states[:, : t + 1] for t in range(8)]

    def seen(target):
        gradients = tape.gradient(target, [x, u], unconnected_gradients="zero")
        sums = [np.abs(gradient).sum(axis=(0, 2)) for gradient in gradients]
        return [np.flatnonzero(each_step).tolist() for each_step in sums]

    assert seen(each[0]) == [list(range(frames)), []]
    for t in range(frames - 1, 8):
        future = encoder == "smoother" and t > 0
        last = 7 if future else t
        assert seen(each[t]) == [list(range(last + 1)), list(range(last))]


def test_generation_starts_where_it_is_told(model, sequences):
    x, u = sequences.observations, sequences.controls
    state = np.full((12, 2), 0.7, np.float32)
    generated = model.generate(u, initial_state=state, num_samples=4, seed=1)
    np.testing.assert_array_equal(generated.states[:, :, 0], np.broadcast_to(state, (4, 12, 2)))

    density = first_density(model, x[:, :1])
    draws = model.generate(u, x[:, :1], num_samples=4000, seed=1).states[:, :, 0]
    oracles.within_standard_error(draws, density.mean())
    oracles.within_standard_error(tf.square(draws - density.mean()), density.variance())

    draws = model.generate(u[:2], num_samples=4000, seed=1).states[:, :, 0]
    oracles.within_standard_error(draws, 0.0)
    oracles.within_standard_error(tf.square(draws), 1.0)


def test_each_draw_starts_at_its_own_initial_state(model, sequences):
    state = np.random.default_rng(0).normal(size=(4, 12, 2)).astype(np.float32)
    generated = model.generate(sequences.controls, initial_state=state, num_samples=4, seed=1)
    np.testing.assert_array_equal(generated.states[:, :, 0], state)


def test_one_step_of_generation_has_the_moments_of_the_transition(model, sequences):
    u = sequences.controls[:2, :1]
    state = np.array([[0.5, -0.5], [1.0, 0.0]], np.float32)
    density = next_density(model, state, u[:, 0])
    draws = model.generate(u, initial_state=state, num_samples=4000, seed=1).states[:, :, 1]
    oracles.within_standard_error(draws, density.mean())
    oracles.within_standard_error(tf.square(draws - density.mean()), density.variance())


def test_deterministic_generation_is_the_recursion_of_the_means(model, sequences):
    x, u = sequences.observations, sequences.controls
    generated = model.generate(u, x[:, :1], num_samples=2, seed=1, deterministic=True)
    state = first_density(model, x[:, :1]).mean()
    for t in range(8):
        np.testing.assert_allclose(generated.states[0, :, t], state, atol=1e-5)
        if t < 7:
            state = next_density(model, state, u[:, t]).mean()
    np.testing.assert_array_equal(generated.states[0], generated.states[1])
    np.testing.assert_array_equal(generated.observations, generated.observation_mean)


def test_forecast_goes_on_from_the_last_inferred_state_under_the_next_control(model, sequences):
    x, u = sequences.observations[:2], sequences.controls[:2]
    states = model.forecast(x[:, :4], u, num_samples=4000, seed=1).states
    next_control = np.broadcast_to(u[:, 3], (4000, 2, 1))
    density = next_density(model, states[:, :, 3], next_control)
    oracles.within_standard_error(states[:, :, 4] - density.mean(), 0.0)
    other = u.copy()
    other[:, 5:] = 1.0
    changed = model.forecast(x[:, :4], other, num_samples=4000, seed=1).states
    np.testing.assert_array_equal(changed[:, :, :6], states[:, :, :6])
    assert np.all(np.any(changed[:, :, 6] != states[:, :, 6], axis=-1))


def test_forecast_infers_its_context(model, sequences):
    x, u = sequences.observations, sequences.controls
    draws = model.forecast(x[:1, :4], u[:1], num_samples=3000, seed=1).states
    inferred = model.sample_posterior(x[:1, :4], u[:1, :3], num_samples=3000, seed=2).states
    oracles.within_standard_error(draws[:, :, :4], tf.reduce_mean(inferred, axis=0), num_errors=8)


@pytest.mark.parametrize("posterior, encoder", models.POSTERIOR_AND_ENCODER)
def test_generation_reads_no_step_past_its_context(make_model, sequences, posterior, encoder):
    model = make_model(posterior, encoder=encoder, initial_frames=2)
    u, x = sequences.controls, sequences.observations.copy()
    expected = model.generate(u, x[:, :2], num_samples=2, seed=1)
    forecast = model.forecast(x[:, :4], u, num_samples=2, seed=1)
    x[:, 4:] = np.nan
    np.testing.assert_array_equal(forecast.states, model.forecast(x[:, :4], u, 2, 1).states)
    whole = dataclasses.replace(sequences, observations=sequences.observations.copy())
    means = evaluation.generated_means(model, whole, num_samples=2, seed=1)
    np.testing.assert_array_equal(means, expected.observation_mean)
    whole.observations[:, 2:] = np.nan
    actual = evaluation.generated_means(model, whole, num_samples=2, seed=1)
    np.testing.assert_array_equal(actual, expected.observation_mean)


@pytest.fixture(scope="module")
def linear():
    """A linear and Gaussian model of the first two observations, whose moments are exact."""
    sequences = models.pendulum()
    model = models.linear_model("innovation")
    rng = np.random.default_rng(0)
    for weight in model.state_space_model.transition.weights:
        weight.assign_add(0.1 * rng.normal(size=weight.shape).astype(np.float32))
    observations = sequences.observations[..., :2] * [3.0, 0.5] + [10.0, -1.0]
    return models.adapted(model, data.Sequences(observations, sequences.controls + 2.0)), (
        observations.astype(np.float32),
        sequences.controls + 2.0,
    )


def linear_moments(model, mean, covariance, controls):
    """Yields mean [batch, dz] and covariance [batch, dz, dz] of z[t] for t = 0 .. T-1."""
    space = model.state_space_model
    a, b, c = (matrix[0].numpy() for matrix in space.transition.matrices())
    yield mean, covariance
    for control in np.moveaxis(space.control_standardization(controls).numpy(), 1, 0):
        mean = mean @ a.T + control @ b.T
        covariance = a @ covariance @ a.T + c @ c.T
        yield mean, covariance


def check_moments(draws, mean, covariance):
    """Compares draws [sample, batch, dz] with their exact mean and covariance."""
    oracles.within_standard_error(draws, mean)
    deviations = draws - mean
    products = deviations[..., :, np.newaxis] * deviations[..., np.newaxis, :]
    oracles.within_standard_error(products, covariance)


def test_forecasts_of_padded_contexts_have_the_moments_of_the_short_ones(linear):
    """Contexts of 1 of 4 steps: the linear model's moments are exact at all steps."""
    model, (x, u) = linear
    mask = np.zeros([12, 4], bool)
    mask[:, 0] = True
    padded = np.where(mask[..., np.newaxis], x[:, :4], np.nan)
    states = model.forecast(padded, u, num_samples=4000, seed=1, mask=mask).states.numpy()
    short = model.forecast(x[:, :1], u, num_samples=4000, seed=1).states.numpy()
    first = first_density(model, x[:, :1])
    start = first.mean().numpy(), first.covariance().numpy()
    for t, (mean, covariance) in enumerate(linear_moments(model, *start, u)):
        check_moments(states[:, :, t], mean, covariance)
        check_moments(short[:, :, t], mean, covariance)


def test_contexts_of_different_lengths_in_one_batch(linear):
    """What was observed gives what it gives without a mask, and the transition goes on from it."""
    model, (x, u) = linear
    lengths = np.array([1, 2, 3, 4] * 3)
    mask = np.arange(4) < lengths[:, np.newaxis]
    padded = np.where(mask[..., np.newaxis], x[:, :4], np.nan)
    drawn = model.forecast(padded, u, num_samples=4000, seed=1, mask=mask)
    whole = model.forecast(x[:, :4], u, num_samples=4000, seed=1)
    for actual, expected in zip(drawn, whole):
        actual, expected = actual.numpy(), expected.numpy()
        for row, length in enumerate(lengths):
            steps = 8 if length == 4 else length
            np.testing.assert_allclose(
                actual[:, row, :steps], expected[:, row, :steps], rtol=1e-5, atol=1e-5
            )
    a, b, c = (matrix[0].numpy() for matrix in model.state_space_model.transition.matrices())
    controls = model.state_space_model.control_standardization(u).numpy()
    states = drawn.states.numpy()
    for row, length in enumerate(lengths):
        for t in range(length, 8):
            mean = states[:, row, t - 1] @ a.T + controls[row, t - 1] @ b.T
            check_moments(states[:, row, t] - mean, np.zeros(2), c @ c.T)


def test_a_gap_in_a_context_is_drawn_from_the_transition(linear):
    model, (x, u) = linear
    mask = np.ones([12, 5], bool)
    mask[:, 2] = False
    x = x[:, :5].copy()
    x[:, 2] = np.nan
    states = model.forecast(x, u, num_samples=4000, seed=1, mask=mask).states.numpy()
    a, b, c = (matrix[0].numpy() for matrix in model.state_space_model.transition.matrices())
    controls = model.state_space_model.control_standardization(u).numpy()
    mean = states[:, :, 1] @ a.T + controls[:, 1] @ b.T
    check_moments(states[:, :, 2] - mean, np.zeros(2), c @ c.T)


def test_generation_from_steps_of_which_some_are_missing(make_model, sequences):
    """Whole rows start as without a mask, the others at p(z[0])."""
    model = make_model(initial_frames=2)
    x, u = sequences.observations[:3, :2].copy(), sequences.controls[:3]
    expected = model.generate(u, x, num_samples=4000, seed=1)
    mask = np.array([[1, 1], [0, 1], [1, 0]], bool)
    x[~mask] = np.nan
    drawn = model.generate(u, x, num_samples=4000, seed=1, mask=mask)
    for actual, values in zip(drawn, expected):
        np.testing.assert_array_equal(actual[:, 0], values[:, 0])
    check_moments(drawn.states.numpy()[:, 1:, 0], np.zeros([2, 2]), np.eye(2))
