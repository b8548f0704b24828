import models
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import evaluation, registry

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def test_generation_starts_where_it_is_told(model, sequences):
    x, u = sequences.observations, sequences.controls
    state = np.full((12, 2), 0.7, np.float32)
    generated = model.generate(u, initial_state=state, num_samples=4, seed=1)
    np.testing.assert_array_equal(generated.states[:, :, 0], np.broadcast_to(state, (4, 12, 2)))

    density = model.initial_posterior(model.observation_standardization(x[:, :1]))
    draws = model.generate(u, x[:, :1], num_samples=4000, seed=1).states[:, :, 0]
    oracles.within_standard_error(draws, density.mean())
    oracles.within_standard_error(tf.square(draws - density.mean()), density.variance())

    draws = model.generate(u[:2], num_samples=4000, seed=1).states[:, :, 0]
    oracles.within_standard_error(draws, 0.0)
    oracles.within_standard_error(tf.square(draws), 1.0)


def test_one_step_of_generation_has_the_moments_of_the_transition(model, sequences):
    u = sequences.controls[:2, :1]
    state = np.array([[0.5, -0.5], [1.0, 0.0]], np.float32)
    density = model.transition(state, model.control_standardization(u)[:, 0])
    draws = model.generate(u, initial_state=state, num_samples=4000, seed=1).states[:, :, 1]
    oracles.within_standard_error(draws, density.mean())
    oracles.within_standard_error(tf.square(draws - density.mean()), density.variance())


def test_deterministic_generation_is_the_recursion_of_the_means(model, sequences):
    x, u = sequences.observations, sequences.controls
    generated = model.generate(u, x[:, :1], num_samples=2, seed=1, deterministic=True)
    state = model.initial_posterior(model.observation_standardization(x[:, :1])).mean()
    standardised = model.control_standardization(u)
    for t in range(8):
        np.testing.assert_allclose(generated.states[0, :, t], state, atol=1e-5)
        if t < 7:
            state = model.transition(state, standardised[:, t]).mean()
    np.testing.assert_array_equal(generated.states[0], generated.states[1])
    np.testing.assert_array_equal(generated.observations, generated.observation_mean)


def test_forecast_goes_on_from_the_last_filtered_state_under_the_next_control(model, sequences):
    x, u = sequences.observations[:2], sequences.controls[:2]
    states = model.forecast(x[:, :4], u, num_samples=4000, seed=1).states
    next_control = np.broadcast_to(model.control_standardization(u[:, 3]), (4000, 2, 1))
    density = model.transition(states[:, :, 3], next_control)
    oracles.within_standard_error(states[:, :, 4] - density.mean(), 0.0)
    other = u.copy()
    other[:, 5:] = 1.0
    changed = model.forecast(x[:, :4], other, num_samples=4000, seed=1).states
    np.testing.assert_array_equal(changed[:, :, :6], states[:, :, :6])
    assert np.all(np.any(changed[:, :, 6] != states[:, :, 6], axis=-1))


def test_forecast_filters_its_context(model, sequences):
    x, u = sequences.observations, sequences.controls
    draws = model.forecast(x[:1, :4], u[:1], num_samples=3000, seed=1).states
    filtered = model.filter(x[:1, :4], u[:1, :3], num_samples=3000, seed=2).states
    oracles.within_standard_error(draws[:, :, :4], tf.reduce_mean(filtered, axis=0), num_errors=8)


@POSTERIORS
@pytest.mark.parametrize("encoder", ["filter", "smoother"])
def test_generation_reads_no_frame_past_its_context(sequences, posterior, encoder):
    model = models.cached_model(posterior, encoder=encoder, initial_frames=2)
    u, frames = sequences.controls, sequences.observations.copy()
    expected = model.generate(u, frames[:, :2], num_samples=2, seed=1)
    forecast = model.forecast(frames[:, :4], u, num_samples=2, seed=1)
    frames[:, 4:] = np.nan
    np.testing.assert_array_equal(forecast.states, model.forecast(frames[:, :4], u, 2, 1).states)
    whole = sequences[:]
    means = evaluation.generated_means(model, whole, num_samples=2, seed=1)
    np.testing.assert_array_equal(means, expected.observation_mean)
    whole.observations[:, 2:] = np.nan
    actual = evaluation.generated_means(model, whole, num_samples=2, seed=1)
    np.testing.assert_array_equal(actual, expected.observation_mean)
