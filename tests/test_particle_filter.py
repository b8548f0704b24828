"""Streaming from an exported model, against the filter in memory and the Kalman filter."""

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data
from tfp_dvbf.data import batching
from tfp_dvbf.inference import kalman
from tfp_dvbf.serving import saved_model

REPLICAS = 24  # Independent filters of each sequence in `test_streaming_against_the_kalman_filter`.
STEPPED = ["gaussian", "iaf", "trajectory_iaf"]


def belief(out):
    """Returns what a step hands on to the next."""
    names = ["particles", "log_weights", "step", "past", "previous"]
    return {name: out[name] for name in names if name in out}


def stream(path, sequences, num_particles, seed, mask=None, initial_frames=1):
    """Steps an exported model through sequences; returns beliefs, predictions and scores by t."""
    signatures = models.signatures(path)
    x, u = sequences.observations, sequences.controls
    scalars = {"seed": tf.constant(seed)}
    out = signatures["init"](
        initial_observations=tf.constant(x[:, :initial_frames]),
        num_particles=tf.constant(num_particles),
        **scalars,
    )
    outputs = [out]
    for t in range(1, x.shape[1]):
        present = np.ones(len(x)) if mask is None else mask[:, t]
        out = signatures["filter_step"](
            **belief(out),
            observations=tf.constant(x[:, t]),
            controls=tf.constant(u[:, t - 1]),
            present=tf.constant(present, tf.float32),
            **scalars,
        )
        outputs.append(out)
    return outputs


@pytest.mark.parametrize("name", [*STEPPED, "two_frames"])
def test_streaming_is_the_running_evidence_of_fivo(exported, sequences, name):
    """After every frame; where q(z[0]) sees two frames, the second is filtered all the same."""
    model, path, _ = exported[name]
    frames = model.config["initial_frames"]
    outputs = stream(path, sequences, num_particles=16, seed=5, initial_frames=frames)
    scores = np.cumsum([out["log_score"] for out in outputs], axis=0)
    for steps in [2, 5, 8]:
        x, u = sequences.observations[:, :steps], sequences.controls[:, : steps - 1]
        fivo = model.log_prob_bound(x, u, 16, seed=5, objective="fivo")
        np.testing.assert_allclose(scores[steps - 1], fivo, rtol=1e-4)


@pytest.mark.parametrize("posterior", ["gaussian", "iaf", "iaf, flow", "trajectory_iaf"])
def test_streaming_against_the_kalman_filter(tmp_path, sequences, posterior):
    """Predicted mean and scale, filtered mean and scale, and the log score of every frame."""
    posterior, *flow = posterior.split(", ")
    model = models.small_model(posterior, num_flows=len(flow), **models.LINEAR)
    part = data.Sequences(sequences.observations[:2, :5], sequences.controls[:2, :4])
    model.adapt(batching.as_dataset(sequences))
    model.emission.raw_scale.assign([0.3] * 3)
    model.transition.raw_noise.assign([[[2.0, 0.0], [0.5, 2.0]]])
    # q(z[0] | x[0]) = N(0, 0.9^2): a proposal close to p(z[0]).
    for weight in model.initial_posterior.network.weights:
        weight.assign(tf.zeros_like(weight))
    model.initial_posterior.network.layers[-1].bias.assign([0.0, 0.0, 2.6, 2.6])
    wide = {
        "gaussian": lambda: model.posterior.cell.layers[-1],
        "trajectory_iaf": lambda: model.posterior.dense_part.layers[-1],
    }
    if posterior in wide:  # Wide enough to propose what p draws.
        kernel, bias = wide[posterior]().weights
        kernel.assign(tf.zeros_like(kernel))
        bias.assign([0.0, 0.0, 3.7, 3.7])
    saved_model.export(model, tmp_path / "linear")
    outputs = stream(tmp_path / "linear", part[np.arange(2 * REPLICAS) % 2], 2000, seed=1)
    exact = kalman.state_space_model(model, part.controls)
    result = exact.forward_filter(tf.constant(part.observations))
    scores, means, covariances, _, _, predicted, predicted_covariances = result
    for t, out in enumerate(outputs):
        assert_estimates(out["log_score"], scores[:, t])
        weights = np.exp(out["log_weights"])[..., np.newaxis]
        mean = np.sum(weights * out["particles"], axis=1)
        assert_estimates(mean, means[:, t])
        spread = np.sum(weights * out["particles"] ** 2, axis=1) - mean**2
        assert_estimates(spread, np.diagonal(covariances[:, t], axis1=1, axis2=2))
        if t > 0:
            assert_estimates(out["predicted_observation_mean"], predicted[:, t])
            exact = np.diagonal(predicted_covariances[:, t], axis1=1, axis2=2)
            assert_estimates(out["predicted_observation_scale"], np.sqrt(exact))


def assert_estimates(estimates, exact):
    """Asserts that replicas [replicas * 2, ...] agree with `exact` [2, ...] in their mean.

    A particle filter's estimates have a bias of the order of their variance: weights are
    normalised, and the evidence is scored by its logarithm.
    """
    estimates = np.reshape(estimates, [REPLICAS, *np.shape(exact)])
    variance = estimates.var(axis=0, ddof=1)
    tolerance = 5 * np.sqrt(variance / REPLICAS) + variance
    assert np.all(tolerance < 0.4)  # Sharp enough to tell.
    assert np.all(np.abs(estimates.mean(axis=0) - exact) < tolerance)


@pytest.mark.parametrize("posterior", STEPPED)
def test_streams_go_over_missing_frames(exported, sequences, posterior):
    model, path, _ = exported[posterior]
    mask = np.ones([12, 8], bool)
    mask[2, 3:5] = mask[7, 1] = False
    broken = data.Sequences(sequences.observations, sequences.controls)
    broken.observations[~mask] = np.nan
    outputs = stream(path, broken, 16, 5, mask)
    scores = np.array([out["log_score"] for out in outputs]).T
    if posterior != "trajectory_iaf":  # Where it is not p, its weights estimate ln 1.
        np.testing.assert_array_equal(scores[~mask], 0.0)
    assert np.all(np.isfinite(scores))
    fivo = model.log_prob_bound(
        sequences.observations, sequences.controls, 16, 5, "fivo", mask=mask
    )
    np.testing.assert_allclose(scores.sum(axis=1), fivo, rtol=1e-4)


@pytest.mark.parametrize("posterior", STEPPED)
def test_a_stream_does_not_depend_on_its_company(exported, sequences, posterior):
    """Neither on how many others there are nor on how far they are."""
    _, path, _ = exported[posterior]
    signatures = models.signatures(path)

    def step(out, frames):
        """Steps streams, the first of which are those of `sequences`, each by its own frame."""
        rows = np.arange(len(frames))
        return signatures["filter_step"](
            **belief(out),
            observations=tf.constant(sequences.observations[rows, frames]),
            controls=tf.constant(sequences.controls[rows, np.subtract(frames, 1)]),
            present=tf.ones(len(frames)),
            seed=tf.constant(5),
        )

    def rows(out, index):
        return {name: tensor[index] for name, tensor in out.items()}

    first, second, third = stream(path, sequences, num_particles=16, seed=5)[:3]
    np.testing.assert_array_equal(first["step"], np.zeros(12))
    alone = step(rows(first, slice(2)), [1, 1])
    ages = {name: tf.concat([second[name][:5], first[name][5:]], axis=0) for name in first}
    together = step(ages, [2] * 5 + [1] * 7)
    np.testing.assert_array_equal(together["step"], [2] * 5 + [1] * 7)
    for name in third:
        np.testing.assert_allclose(alone[name], second[name][:2], rtol=1e-4, atol=1e-5)
        expected = np.concatenate([third[name][:5], second[name][5:]])
        np.testing.assert_allclose(together[name], expected, rtol=1e-4, atol=1e-5)


def test_streams_do_not_share_their_noise(exported, sequences):
    twins = stream(exported["iaf"][1], sequences[[0, 0]], num_particles=16, seed=5)
    for out in twins:
        assert np.abs(np.subtract(*out["particles"])).min() > 0
    others = stream(exported["iaf"][1], sequences[[0, 0]], num_particles=16, seed=6)
    assert np.abs(np.subtract(others[3]["particles"], twins[3]["particles"])).min() > 0


@pytest.mark.parametrize("posterior", STEPPED)
def test_a_control_too_far_off_is_clipped(exported, sequences, posterior):
    outputs = {}
    for size in [2e3, 1e30]:
        controls = sequences.controls.copy()
        controls[3, 2] = size
        spoiled = data.Sequences(sequences.observations, controls)
        outputs[size] = stream(exported[posterior][1], spoiled, 16, seed=5)[-1]
    for name, tensor in outputs[2e3].items():
        assert np.all(np.isfinite(tensor))
        np.testing.assert_array_equal(outputs[1e30][name], tensor)


@pytest.mark.parametrize("far", [0, 1])
def test_a_start_with_one_frame_too_far_off(exported, sequences, far):
    """q(z[0]) sees two frames and becomes p(z[0]); x[0] is weighed if it is the other one."""
    model, path, _ = exported["two_frames"]
    mask = np.ones([12, 8], bool)
    mask[3, far] = False
    spoiled = data.Sequences(sequences.observations.copy(), sequences.controls)
    spoiled.observations[3, far] = 1e30
    outputs = stream(path, spoiled, 16, seed=5, mask=mask, initial_frames=2)
    scores = np.array([out["log_score"] for out in outputs]).T
    assert np.isfinite(scores[3, 0]) == (far == 1)
    scores[3, 0] = 0.0 if far == 0 else scores[3, 0]
    x, u = sequences.observations, sequences.controls
    fivo = model.log_prob_bound(x, u, 16, 5, "fivo", mask=mask)
    np.testing.assert_allclose(scores.sum(axis=1), fivo, rtol=1e-4)


@pytest.mark.parametrize("posterior", STEPPED)
def test_a_frame_too_far_off_counts_as_missing(exported, sequences, posterior):
    """Nothing becomes NaN, and the other streams notice nothing."""
    _, path, _ = exported[posterior]
    mask = np.ones([12, 8])
    mask[3, 2] = 0
    expected = stream(path, sequences, 16, seed=5, mask=mask)
    spoiled = data.Sequences(sequences.observations.copy(), sequences.controls)
    spoiled.observations[3, 2, 0] = 2e3  # In standard deviations: that of `sequences` is below 1.
    spoiled.observations[7, 0] = -1e30
    actual = stream(path, spoiled, 16, seed=5)
    assert actual[2]["log_score"][3] == actual[0]["log_score"][7] == -np.inf
    for out in actual:
        assert all(np.all(np.isfinite(tensor)) for tensor in belief(out).values())
    rest = np.arange(12) != 7
    for name in belief(expected[-1]):
        np.testing.assert_allclose(
            actual[-1][name].numpy()[rest], expected[-1][name].numpy()[rest], rtol=1e-5, atol=1e-5
        )


def test_a_posterior_without_a_past_is_filtered(sequences):
    model = models.cached_model("trajectory_iaf", receptive_field=1)
    x, u = sequences.observations, sequences.controls
    assert np.all(np.isfinite(model.log_prob_bound(x, u, 16, seed=1, objective="fivo")))
