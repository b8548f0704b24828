"""Missing steps at the end of a sequence: what the controls there still say, and where they end."""

import models
import numpy as np
import oracles
import pytest
import tensorflow as tf

import tfp_dvbf
from tfp_dvbf import layers
from tfp_dvbf.inference import kalman
from tfp_dvbf.layers import networks


class Linear:
    """A linear model whose q(z[0] | x[0]) is exact, and sequences of which x[0] alone is observed.

    x = K z + s v with a diagonal K, so that p(z[0] | x[0]) is a diagonal normal.
    """

    NUM_SAMPLES, STEPS = 4000, 5

    def __init__(self):
        self.model = tfp_dvbf.DVBF(
            2,
            1,
            2,
            posterior="gaussian",
            transition=layers.LocallyLinearTransition(num_bases=1),
            emission=layers.GaussianEmission(hidden_units=()),
            initial_posterior=layers.GaussianInitialPosterior(hidden_units=()),
            seed=1,
        )
        self.space = self.model.state_space_model
        gain, noise = np.array([1.5, -0.8]), 0.5
        raw_scale = raw(noise, self.space.emission.noise_floor) / networks.SCALE_SPEED
        self.space.emission.raw_scale.assign([raw_scale] * 2)
        kernel, bias = self.space.emission.network.layers[0].weights
        kernel.assign(np.diag(gain)), bias.assign([0.1, -0.2])
        variance = 1 / (1 + (gain / noise) ** 2)
        slope = np.diag(variance * gain / noise**2)
        q_kernel, q_bias = self.model.recognition_model.initial_posterior.network.layers[0].weights
        q_kernel.assign(np.concatenate([slope, np.zeros([2, 2])], axis=1))
        q_bias.assign([*(-slope @ bias.numpy()), *raw(np.sqrt(variance))])
        self.space.control_standardization.set([0.5], [2.0])
        self.space.observation_standardization.set([3.0, -20.0], [2.0, 0.1])
        self.space.transition.control_matrix.assign([[[0.8], [-0.5]]])
        self.controls = np.full([2, self.STEPS - 1, 1], [[[4.0]], [[-3.0]]], np.float32)
        self.observations = np.full([2, self.STEPS, 2], np.nan, np.float32)
        self.observations[:, 0] = [[4.0, -20.1], [0.0, -19.9]]
        self.mask = np.zeros([2, self.STEPS], bool)
        self.mask[:, 0] = True

    def kalman(self, controls):
        """Returns the exact mean and scale of z[t] and of x[t] given x[0], [batch, time, ...]."""
        exact = kalman.distribution(self.space, controls)
        filled = tf.constant(np.nan_to_num(self.observations))
        found = exact.forward_filter(filled, mask=~self.mask)
        _, means, covariances, _, _, predicted, predicted_covariances = found
        scales = (
            tf.sqrt(tf.linalg.diag_part(each)) for each in [covariances, predicted_covariances]
        )
        return means.numpy(), next(scales).numpy(), predicted.numpy(), next(scales).numpy()


def raw(scale, floor=networks.SCALE_FLOOR):
    """Returns what `networks.positive` maps to a scale."""
    return np.log(np.expm1(scale - floor)) - np.log(np.expm1(networks.INITIAL_SCALE))


@pytest.fixture(scope="module")
def linear():
    return Linear()


def forecast(linear, **run):
    return linear.model.forecast(linear.observations[:, :1], linear.controls, **run)


def sample_posterior(linear, **run):
    return linear.model.sample_posterior(
        linear.observations, linear.controls, mask=linear.mask, **run
    )


def impute(linear, **run):
    return linear.model.impute(linear.observations, linear.controls, linear.mask, **run)


@pytest.mark.parametrize("method", [forecast, sample_posterior, impute])
def test_predictions_use_the_controls_given(linear, method):
    """Mean and scale of states and observations, against the Kalman filter's prediction."""
    drawn = method(linear, num_samples=linear.NUM_SAMPLES, seed=1)
    mean, scale, predicted, predicted_scale = linear.kalman(linear.controls)
    oracles.within_standard_error(drawn.states, mean)
    oracles.within_standard_error((drawn.states - mean) ** 2, scale**2)
    later = drawn.observations[:, :, 1:] - predicted[:, 1:]
    oracles.within_standard_error(later, np.zeros_like(predicted[:, 1:]))
    oracles.within_standard_error(later**2, predicted_scale[:, 1:] ** 2)
    without = linear.kalman(np.full_like(linear.controls, 0.5))[0]  # The mean of the controls.
    error = scale / np.sqrt(linear.NUM_SAMPLES)
    assert np.all(np.abs(mean - without)[:, 1:] > 20 * error[:, 1:])


def test_the_filter_predicts_missing_steps_under_the_controls_given(linear):
    filtered = linear.model.filter(
        linear.observations, linear.controls, linear.NUM_SAMPLES, seed=1, mask=linear.mask
    )
    mean, scale, predicted, predicted_scale = linear.kalman(linear.controls)
    oracles.within_standard_error(filtered.states, mean)
    oracles.within_standard_error((filtered.states - mean) ** 2, scale**2)
    error = predicted_scale / np.sqrt(linear.NUM_SAMPLES)
    assert np.all(np.abs(filtered.predicted_mean - predicted) < 5 * error)
    assert np.all(np.abs(filtered.predicted_scale - predicted_scale) < 5 * error)
    exact = kalman.log_prob(
        linear.space, np.nan_to_num(linear.observations), linear.controls, linear.mask
    )
    np.testing.assert_allclose(filtered.log_evidence[:, 0], exact, rtol=1e-4)
    np.testing.assert_array_equal(filtered.log_evidence[:, 1:], 0.0)


@pytest.mark.parametrize("posterior", ["innovation", "trajectory_iaf"])
@pytest.mark.parametrize("method", ["sample_posterior", "impute", "reconstruct", "filter"])
def test_the_first_nan_control_behind_the_last_observed_step_ends_a_sequence(
    sequences, posterior, method
):
    """What is returned from there on is NaN, and what comes before is as if it was not there."""
    model = models.cached_model(posterior)
    mask = np.ones([12, 8], bool)
    mask[2, 5:] = mask[3, 4:] = mask[4, 6:] = False
    x, u = sequences.observations, sequences.controls.copy()
    u[2, 5], u[3, 3] = np.nan, np.nan  # The second is the first behind the last observed step.
    known = np.ones([12, 8], bool)
    known[2, 6:] = known[3, 4:] = False
    run = {} if method == "reconstruct" else {"num_samples": 5, "seed": 1}
    found = getattr(model, method)(x, u, mask=mask, **run)
    expected = getattr(model, method)(x, sequences.controls, mask=mask, **run)
    for name, tensor in found._asdict().items():
        by_sample = tensor.numpy().reshape(-1, 12, 8, *tensor.shape[2 + (tensor.shape[0] != 12) :])
        for draw, same in zip(by_sample, np.reshape(expected._asdict()[name], by_sample.shape)):
            assert np.all(np.isnan(draw[~known])) and np.all(np.isfinite(draw[known]))
            np.testing.assert_array_equal(draw[known], same[known])


@pytest.mark.parametrize("objective", ["elbo", "iwae", "fivo"])
def test_an_unknown_control_behind_the_last_observed_step_changes_no_bound(sequences, objective):
    model = models.cached_model("innovation")
    mask = np.arange(8) < np.full([12, 1], 5)
    x, u = sequences.observations, sequences.controls.copy()
    u[:, 4:] = np.nan
    run = {"num_samples": 4, "seed": 1, "objective": objective, "mask": mask}
    expected = model.log_prob_bound(x, sequences.controls, **run)
    np.testing.assert_array_equal(model.log_prob_bound(x, u, **run), expected)


def test_a_control_before_the_last_observed_step_must_be_known(sequences):
    u = sequences.controls.copy()
    u[2, 3] = np.nan
    mask = np.ones([12, 8], bool)
    mask[2, 6:] = False
    with pytest.raises(
        ValueError, match="`controls` must be finite; got nan in sequence 2, step 3"
    ):
        models.cached_model("innovation").filter(sequences.observations, u, mask=mask)


def test_a_nan_control_ends_a_forecast(sequences):
    """From the last observed step of the context on, as where a whole sequence is given."""
    model = models.cached_model("innovation")
    mask = np.ones([12, 4], bool)
    mask[2, 2:] = False
    x, u = sequences.observations[:, :4], sequences.controls.copy()
    u[2, 2], u[3, 5] = np.nan, np.nan  # The first lies in the context, behind what is observed.
    known = np.ones([12, 8], bool)
    known[2, 3:] = known[3, 6:] = False
    found = model.forecast(x, u, 5, seed=1, mask=mask)
    expected = model.forecast(x, sequences.controls, 5, seed=1, mask=mask)
    for tensor, same in zip(found, expected):
        assert np.isnan(tensor.numpy()[:, ~known]).all()
        np.testing.assert_array_equal(tensor.numpy()[:, known], same.numpy()[:, known])
    u[3, 2] = np.nan  # Before the last observed step of the context.
    with pytest.raises(
        ValueError, match="`controls` must be finite; got nan in sequence 3, step 2"
    ):
        model.forecast(x, u, 5, seed=1, mask=mask)
