"""Filters of sequences and of streams: against each other and against the Kalman filter."""

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data, registry
from tfp_dvbf.data import batching
from tfp_dvbf.inference import kalman, streaming
from tfp_dvbf.serving import saved_model

REPLICAS = 24  # Independent filters of each sequence in `test_streaming_against_the_kalman_filter`.
STEPPED = [
    name for name in registry.names("posterior") if registry.class_of("posterior", name).steps
]


def stream(path, sequences, num_particles, seed, mask=None, initial_steps=1):
    """Steps an exported model through sequences; returns beliefs, predictions and scores by t."""
    signatures = models.signatures(path)
    x, u = sequences.observations, sequences.controls
    first, count, seed = map(tf.constant, [x[:, :initial_steps], num_particles, seed])
    out = signatures["filter_init"](initial_observations=first, num_particles=count, seed=seed)
    outputs = [out]
    for t in range(1, x.shape[1]):
        observed = np.ones(len(x)) if mask is None else mask[:, t]
        out = signatures["filter_step"](
            **streaming.belief_of(out),
            observations=tf.constant(x[:, t]),
            controls=tf.constant(u[:, t - 1]),
            observed=tf.constant(observed, tf.float32),
            seed=seed,
        )
        outputs.append(out)
    return outputs


def stream_in_memory(model, sequences, num_particles, seed, initial_steps=1):
    """Returns what `stream` does, of a model that was not exported."""
    x, u = sequences.observations, sequences.controls
    outputs = [model.filter_init(x[:, :initial_steps], num_particles, seed)]
    for t in range(1, x.shape[1]):
        belief = streaming.belief_of(outputs[-1])
        outputs.append(model.filter_step(belief, x[:, t], u[:, t - 1], seed=seed))
    return outputs


def evidence(outputs):
    """Returns ln p(x[t] | x[0:t]) of the steps of a stream, [batch, time]."""
    return np.array([out["log_evidence"] for out in outputs]).T


@pytest.mark.parametrize("name", [*STEPPED, "two_frames"])
def test_streaming_is_the_running_evidence_of_fivo(exported, sequences, name):
    """After every step; where q(z[0]) sees two, the second is filtered all the same."""
    model, path, _ = exported[name]
    initial_steps = model.recognition_model.initial_steps
    outputs = stream(path, sequences, num_particles=16, seed=5, initial_steps=initial_steps)
    scores = np.cumsum(evidence(outputs), axis=1)
    for steps in [2, 5, 8]:
        x, u = sequences.observations[:, :steps], sequences.controls[:, : steps - 1]
        fivo = model.log_prob_bound(x, u, 16, seed=5, objective="fivo")
        np.testing.assert_allclose(scores[:, steps - 1], fivo, rtol=1e-4)


@pytest.mark.parametrize("name", [*STEPPED, "two_frames"])
def test_the_filter_of_sequences_is_that_of_streams(exported, sequences, name):
    """The same seed gives the same predictions and evidence, with missing steps too."""
    model, path, _ = exported[name]
    initial_steps = model.recognition_model.initial_steps
    mask = np.ones([12, 8], bool)
    mask[2, 3:5] = mask[7, initial_steps] = False
    outputs = stream(path, sequences, 16, 5, mask, initial_steps)
    x, u = sequences.observations, sequences.controls
    filtered = model.filter(x, u, num_samples=16, seed=5, mask=mask)
    np.testing.assert_allclose(filtered.log_evidence, evidence(outputs), rtol=1e-4, atol=1e-4)
    for t, out in list(enumerate(outputs))[1:]:
        for mine, its in [(filtered.predicted_mean, "mean"), (filtered.predicted_scale, "scale")]:
            expected = out[f"predicted_observation_{its}"]
            np.testing.assert_allclose(mine[:, t], expected, rtol=1e-4, atol=1e-5)
    # An equally weighted draw of every step is one of its particles.
    draws, particles = filtered.states[:, :, 5].numpy(), outputs[5]["particles"].numpy()
    distances = np.abs(draws[:, np.newaxis] - np.swapaxes(particles, 0, 1)).max(-1).min(1)
    assert distances.max() < 1e-4


@pytest.mark.parametrize("name", [*STEPPED, "two_frames"])
def test_streams_in_memory_are_those_of_the_export(exported, sequences, name):
    model, path, _ = exported[name]
    initial_steps = model.recognition_model.initial_steps
    exported = stream(path, sequences, num_particles=16, seed=5, initial_steps=initial_steps)
    in_memory = stream_in_memory(model, sequences, 16, 5, initial_steps)
    for out, expected in zip(in_memory, exported, strict=True):
        assert set(out) == set(expected)
        for key, tensor in out.items():
            # Log weights are what is left of up to 350 nats, which float32 holds to 3e-5.
            atol = 1e-4 if key == "log_weights" else 1e-5
            np.testing.assert_allclose(tensor, expected[key], rtol=1e-4, atol=atol)


@pytest.mark.parametrize("name, reason", [("chain_iaf", "one draw"), ("smoother", "yet to come")])
def test_what_cannot_be_stepped_says_why(exported, sequences, name, reason):
    model, _, _ = exported[name]
    x, u = sequences.observations, sequences.controls
    calls = {
        "filter": lambda: model.filter(x, u),
        "filter_init": lambda: model.filter_init(x[:, : model.recognition_model.initial_steps]),
    }
    for method, call in calls.items():
        with pytest.raises(ValueError, match=f"`{method}` is not for .*: .*{reason}"):
            call()


@pytest.mark.parametrize(
    "posterior, compiled", [*((name, False) for name in STEPPED), ("innovation", True)]
)
def test_streaming_against_the_kalman_filter(sequences, tmp_path, posterior, compiled):
    """Predicted mean and scale, filtered mean and scale, and the log evidence of every step."""
    model = linear_model(posterior, sequences)
    part = data.Sequences(sequences.observations[:2, :5], sequences.controls[:2, :4])
    # Its proposals know nothing of the model, so that it takes more of them to be as sharp.
    particles = 5_000 if posterior == "trajectory_iaf" else 500 if compiled else 2000
    replicas = part[np.arange(2 * REPLICAS) % 2]
    if compiled:
        names = ["filter_init", "filter_step"]
        saved_model.export(model, tmp_path / "model", signatures=names, jit_compile=True)
        outputs = stream(tmp_path / "model", replicas, particles, seed=1)
    else:
        with models.functions_without_graphs():
            outputs = stream_in_memory(model, replicas, particles, seed=1)
    exact = kalman.distribution(model.state_space_model, part.controls)
    result = exact.forward_filter(tf.constant(part.observations))
    scores, means, covariances, _, _, predicted, predicted_covariances = result
    for t, out in enumerate(outputs):
        assert_estimates(out["log_evidence"], scores[:, t])
        weights = np.exp(out["log_weights"])[..., np.newaxis]
        mean = np.sum(weights * out["particles"], axis=1)
        assert_estimates(mean, means[:, t])
        spread = np.sum(weights * out["particles"] ** 2, axis=1) - mean**2
        assert_estimates(spread, np.diagonal(covariances[:, t], axis1=1, axis2=2))
        if t > 0:
            assert_estimates(out["predicted_observation_mean"], predicted[:, t])
            exact = np.diagonal(predicted_covariances[:, t], axis1=1, axis2=2)
            assert_estimates(out["predicted_observation_scale"], np.sqrt(exact))


def linear_model(posterior, sequences):
    """Returns a linear model with known noise, and with proposals that are wide enough for it."""
    # The convolutions' past is what a particle costs: the 64 steps of the default are not needed.
    past = {"receptive_field": 4} if posterior == "trajectory_iaf" else {}
    model = models.small_model(posterior, **models.LINEAR, **past)
    space, recognition = model.state_space_model, model.recognition_model
    model.adapt(batching.as_dataset(sequences))
    space.emission.raw_scale.assign([0.3] * 3)
    space.transition.raw_noise.assign([[[2.0, 0.0], [0.5, 2.0]]])
    # q(z[0] | x[0]) = N(0, 0.9^2): a proposal close to p(z[0]).
    for weight in recognition.initial_posterior.network.weights:
        weight.assign(tf.zeros_like(weight))
    recognition.initial_posterior.network.layers[-1].bias.assign([0.0, 0.0, 2.6, 2.6])
    # Proposals wider than p(z[t] | x[0:t]): narrower ones weigh its tails without bound.
    wide = {"gaussian": ("rest", 3.7), "trajectory_iaf": ("dense_part", 8.0)}
    if posterior in wide:
        part_name, scale = wide[posterior]
        kernel, bias = getattr(recognition.posterior, part_name).layers[-1].weights
        kernel.assign(tf.zeros_like(kernel))
        bias.assign([0.0, 0.0, scale, scale])
    return model


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
def test_streams_go_over_missing_steps(exported, sequences, posterior):
    model, path, _ = exported[posterior]
    mask = np.ones([12, 8], bool)
    mask[2, 3:5] = mask[7, 1] = False
    broken = data.Sequences(sequences.observations.copy(), sequences.controls)
    broken.observations[~mask] = np.nan
    outputs = stream(path, broken, 16, 5, mask)
    scores = evidence(outputs)
    np.testing.assert_array_equal(scores[~mask], 0.0)  # There q is p.
    assert np.all(np.isfinite(scores))
    arrays = sequences.observations, sequences.controls
    fivo = model.log_prob_bound(*arrays, 16, 5, "fivo", mask=mask)
    np.testing.assert_allclose(scores.sum(axis=1), fivo, rtol=1e-4)


@pytest.mark.parametrize("posterior", STEPPED)
def test_a_stream_does_not_depend_on_its_company(exported, sequences, posterior):
    """Neither on how many others there are nor on how far they are."""
    _, path, _ = exported[posterior]
    signatures = models.signatures(path)

    def step(out, steps):
        """Steps streams, the first of which are those of `sequences`, each at its own step."""
        rows = np.arange(len(steps))
        return signatures["filter_step"](
            **streaming.belief_of(out),
            observations=tf.constant(sequences.observations[rows, steps]),
            controls=tf.constant(sequences.controls[rows, np.subtract(steps, 1)]),
            observed=tf.ones(len(steps)),
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
def test_a_start_with_one_step_too_far_off(exported, sequences, far):
    """q(z[0]) sees two steps and becomes p(z[0]); x[0] is weighed if it is the other one."""
    model, path, _ = exported["two_frames"]
    mask = np.ones([12, 8], bool)
    mask[3, far] = False
    spoiled = data.Sequences(sequences.observations.copy(), sequences.controls)
    spoiled.observations[3, far] = 1e30
    outputs = stream(path, spoiled, 16, seed=5, mask=mask, initial_steps=2)
    scores = evidence(outputs)
    assert np.isfinite(scores[3, 0]) == (far == 1)
    scores[3, 0] = 0.0 if far == 0 else scores[3, 0]
    x, u = sequences.observations, sequences.controls
    fivo = model.log_prob_bound(x, u, 16, 5, "fivo", mask=mask)
    np.testing.assert_allclose(scores.sum(axis=1), fivo, rtol=1e-4)


@pytest.mark.parametrize("posterior", STEPPED)
def test_an_observation_too_far_off_counts_as_missing(exported, sequences, posterior):
    """Nothing becomes NaN, and the other streams notice nothing."""
    _, path, _ = exported[posterior]
    mask = np.ones([12, 8])
    mask[3, 2] = 0
    expected = stream(path, sequences, 16, seed=5, mask=mask)
    spoiled = data.Sequences(sequences.observations.copy(), sequences.controls)
    spoiled.observations[3, 2, 0] = 2e3  # In standard deviations: that of `sequences` is below 1.
    spoiled.observations[7, 0] = -1e30
    actual = stream(path, spoiled, 16, seed=5)
    assert actual[2]["log_evidence"][3] == actual[0]["log_evidence"][7] == -np.inf
    for out in actual:
        assert all(np.all(np.isfinite(tensor)) for tensor in streaming.belief_of(out).values())
    rest = np.arange(12) != 7
    for name in streaming.belief_of(expected[-1]):
        np.testing.assert_allclose(
            actual[-1][name].numpy()[rest], expected[-1][name].numpy()[rest], rtol=1e-5, atol=1e-5
        )
