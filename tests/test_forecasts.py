"""Free runs and predictions against the exact densities of a linear Gaussian model."""

import os
import subprocess
import sys

import models
import numpy as np
import oracles
import pytest
import scipy.stats
import tensorflow as tf
import test_kalman

from tfp_dvbf import data, evaluation, registry
from tfp_dvbf.data import batching, shards
from tfp_dvbf.evaluation import arx, forecasts, measures
from tfp_dvbf.inference import kalman

STEPS, GIVEN = 14, 4


@pytest.fixture(scope="module")
def linear():
    """Returns a linear model and sequences of its own whose first steps are all missing.

    Without those q is p, so that the free run is the model's own density, which is Gaussian.
    """
    rng = np.random.default_rng(0)
    controls = rng.normal(size=[300, STEPS - 1, 1]).astype(np.float32)
    model = models.linear_model("innovation")
    units = data.Sequences(rng.normal(2.0, 3.0, size=[300, STEPS, 2]), controls)
    model.adapt(batching.as_dataset(units))
    space = model.state_space_model
    for weight in [*space.transition.weights, *space.emission.weights]:
        weight.assign_add(0.1 * rng.normal(size=weight.shape).astype(np.float32))
    # Noise as wide as the states are spread: 400 densities are then a good estimate of their mean.
    space.emission.raw_scale.assign([0.3, 0.3])
    observations = space.sample(tf.constant(controls), 1, [0, 1]).observations[0].numpy()
    mask = np.broadcast_to(np.arange(STEPS) >= GIVEN, [300, STEPS])
    return model, data.Sequences(observations, controls, mask=mask)


def exact_moments(density):
    """Returns means [batch, time, dx] and covariances [time, dx, dx] of a linear model's x[t]."""
    a, w = (np.asarray(m) for m in (density.transition_matrix, density.observation_matrix))
    state = np.diag(density.initial_state_prior.stddev()[0].numpy() ** 2)
    noise = density.transition_noise(0).covariance().numpy()[0]
    covariances = []
    for _ in range(STEPS):
        covariances.append(w @ state @ w.T + density.observation_noise.covariance().numpy())
        state = a @ state @ a.T + noise
    return density.mean().numpy(), np.stack(covariances)


def test_a_free_run_has_the_scores_of_the_exact_density(linear, monkeypatch):
    """Its draws are made in parts of three time steps and of 60 sequences."""
    model, sequences = linear
    monkeypatch.setattr(forecasts, "VALUES", 60 * 400 * STEPS * 2)
    monkeypatch.setattr(forecasts, "TIME_STEPS", 60 * 400 * 3)
    found, observed = evaluation.free_run_scores(model, sequences, GIVEN, num_draws=400, seed=1)
    mean, covariance = exact_moments(
        kalman.distribution(model.state_space_model, sequences.controls)
    )
    truth = sequences.observations[:, GIVEN:]
    scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))[GIVEN:]
    joint = [
        -scipy.stats.multivariate_normal([0, 0], covariance[t]).logpdf(
            sequences.observations[:, t] - mean[:, t]
        )
        for t in range(GIVEN, STEPS)
    ]
    expected = measures.score_gaussian(
        mean[:, GIVEN:], np.broadcast_to(scale, truth.shape), truth, np.stack(joint, axis=1)
    )
    assert observed.all() and found.nll.shape == (300, STEPS - GIVEN)
    for name in ["squared_error", "nll", "nll_mixture", "crps"]:
        difference = getattr(found, name) - getattr(expected, name)
        assert abs(difference.mean()) < 0.02 * getattr(expected, name).mean(), name
        assert difference.std() < 0.2 * getattr(expected, name).std(), name
    for name, share in measures.COVERAGES.items():  # One of a sequence: its steps are correlated.
        oracles.within_standard_error(getattr(found, name)[:, 0], share, num_errors=4.0)
        oracles.within_standard_error(getattr(found, name)[:, -1], share, num_errors=4.0)


def test_parts_go_on_from_the_drawn_states(linear, monkeypatch):
    """The covariance of x[t] and x[t+1] is the exact one, also where a new part begins."""
    model, sequences = linear
    one = sequences[:1]
    monkeypatch.setattr(forecasts, "TIME_STEPS", 20000 * 3)
    parts = list(forecasts.draw(model, one, GIVEN, 20000, seed=1))
    assert [first for first, _ in parts] == [4, 7, 10, 13]
    draws = np.concatenate([part.observations for _, part in parts], axis=2)[:, 0]
    exact = kalman.distribution(model.state_space_model, one.controls)
    long_run = exact.sample(20000, seed=1).numpy()[:, 0, GIVEN:]
    deviations, expected = draws - draws.mean(axis=0), long_run - long_run.mean(axis=0)
    products = deviations[:, :-1, :, None] * deviations[:, 1:, None]
    others = expected[:, :-1, :, None] * expected[:, 1:, None]
    oracles.within_standard_error(products - others, 0.0)
    assert np.abs(others.mean(axis=0)).max() > 1.0  # They are correlated.


def test_one_step_ahead_is_the_kalman_filter():
    """Particles that a trained posterior moves; all steps are observed."""
    model = test_kalman.fit(
        models.linear_model("innovation"), test_kalman.make_sequences(512), epochs=25
    )
    sequences = test_kalman.make_sequences(64, seed=1)
    x, u, steps = sequences.observations, sequences.controls, test_kalman.STEPS
    found = evaluation.one_step(model, sequences, GIVEN, num_particles=1000, seed=1)
    exact = kalman.distribution(model.state_space_model, u)
    _, _, _, _, _, mean, covariance = exact.forward_filter(x)
    before = kalman.log_prob(model.state_space_model, x[:, :GIVEN], u[:, : GIVEN - 1])
    joint = (exact.log_prob(x) - before).numpy().mean() / (steps - GIVEN)
    scale = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    scores = measures.score_gaussian(mean[:, GIVEN:], scale[:, GIVEN:], x[:, GIVEN:])
    expected = measures.summarise(scores, np.ones([64, steps - GIVEN]), seed=1)
    assert found["log_evidence"] == pytest.approx(joint, abs=0.01)
    assert found["nll_mixture"] == -found["log_evidence"]
    for name in ["rmse", "nll", "crps", "coverage_50", "coverage_90"]:
        assert found[name] == pytest.approx(expected[name], rel=0.02, abs=0.01), name
    assert found["initial_steps"] == GIVEN and found["num_particles"] == 1000


def test_what_evaluate_adds(model, sequences, tmp_path):
    metrics = evaluation.evaluate(model, sequences, num_samples=2, initial_steps=3, train=sequences)
    run = dict(metrics["free_run"])
    hold, mean, autoregressive = rows = run.pop("baselines")
    assert run == evaluation.free_run(model, sequences, 3, 100, seed=1)
    assert metrics["one_step"] == evaluation.one_step(model, sequences, 3, 64, seed=1)
    assert rows == evaluation.forecast_baselines(sequences, sequences, 3, 100, seed=1)
    assert metrics["left_out"] == {} and len(run["by_horizon"]["rmse"]) == 5
    names = ["rmse", "nll", "nll_mixture", "crps", "coverage_50", "coverage_90"]
    for row in [run, autoregressive]:
        assert [*row["by_horizon"]] == [*row["intervals"]] == [*names, *registry.METRICS]
    for row in [metrics["one_step"], hold, mean]:  # A Gaussian has no draws to score.
        assert [*row["by_horizon"]] == [*row["intervals"]] == names
    for start in range(0, 12, 5):
        data.save(tmp_path / f"{start:02}.npz", sequences[start : start + 5])
    folder = shards.Shards(tmp_path)
    found = evaluation.forecast_baselines(folder, folder, 3)
    assert [row["model"] for row in found] == [row["model"] for row in rows]
    assert found[2]["rmse"] == pytest.approx(rows[2]["rmse"], rel=0.1)
    assert evaluation.free_run(model, folder, 3)["rmse"] == pytest.approx(run["rmse"], rel=0.05)


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"posterior": "chain_iaf"}, "chain_iaf: its states are one draw carried through time"),
        ({"encoder": "smoother"}, "smoother: the smoother needs time steps that are yet to come"),
    ],
)
def test_what_cannot_be_filtered_is_left_out_with_the_reason(options, reason, sequences):
    model = models.cached_model(**options, adapt=True)
    metrics = evaluation.evaluate(model, sequences, num_samples=2)
    assert metrics["left_out"]["one_step"].startswith(reason)
    assert "one_step" not in metrics and metrics["free_run"]["initial_steps"] == 1
    with pytest.raises(ValueError, match=f"`model` must be one that can be filtered: {reason}"):
        evaluation.one_step(model, sequences)


def test_missing_steps_do_not_count(model, sequences):
    """Whatever stands in them; one sequence lacks the steps that are given."""
    mask = np.ones([12, 8], bool)
    mask[:5, 6:] = False
    mask[9, :2] = False
    masked = data.Sequences(sequences.observations, sequences.controls, mask=mask)
    scores, observed = evaluation.free_run_scores(model, masked, 2, seed=1)
    np.testing.assert_array_equal(observed, mask[:, 2:])
    found = evaluation.free_run(model, masked, 2, seed=1)
    squares = scores.squared_error[observed]
    assert found["rmse"] == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
    whole, _ = evaluation.free_run_scores(model, sequences, 2, seed=1)
    seen = observed & (np.arange(12) != 9)[:, np.newaxis]
    np.testing.assert_allclose(scores.crps[seen], whole.crps[seen], rtol=1e-4)


def test_a_sequence_that_ends_before_the_run_is_left_out(model, sequences):
    def ending(rows):
        mask = ~np.isin(np.arange(12), rows)[:, np.newaxis] | (np.arange(8) < 1)
        return data.Sequences(sequences.observations, sequences.controls, mask=mask)

    with pytest.warns(UserWarning, match="1 of 12 sequences have no .* after the first 1 and are"):
        metrics = evaluation.evaluate(model, ending([7]), num_samples=2)
    assert metrics["free_run"]["num_scored"] == 11 and not metrics["left_out"]
    pair = ending([7]), sequences[np.arange(12) != 7]
    found, expected = (evaluation.free_run_scores(model, each, seed=1) for each in pair)
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
    left_out = evaluation.evaluate(model, ending(range(12)), num_samples=2)["left_out"]
    assert "after the first 1; none has one" in left_out["free_run"]


def known_system(num_sequences=30, steps=200, noise=0.1, seed=0):
    """Draws x[t] = 0.3 + 1.2 x[t-1] - 0.5 x[t-2] + 0.7 u[t-1] - 0.2 u[t-2] + e[t]."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=[num_sequences, steps - 1, 1])
    x = np.zeros([num_sequences, steps, 1])
    for t in range(2, steps):
        x[:, t] = 0.3 + 1.2 * x[:, t - 1] - 0.5 * x[:, t - 2] + 0.7 * u[:, t - 1]
        x[:, t] += -0.2 * u[:, t - 2] + noise * rng.normal(size=[num_sequences, 1])
    return data.Sequences(x[:, 20:], u[:, 20:])


def test_arx_finds_a_linear_system_and_its_noise():
    sequences = known_system()
    mask = np.random.default_rng(1).uniform(size=[30, 180]) < 0.9
    gaps = data.Sequences(
        np.where(mask[..., None], sequences.observations, 9.0), sequences.controls, mask=mask
    )
    for train in (sequences, gaps):
        model = arx.fit(train, 2)
        expected = [0.3, 1.2, 0.7, -0.5, -0.2]
        np.testing.assert_allclose(model.coefficients[:, 0], expected, atol=0.02)
        assert model.covariance[0, 0] == pytest.approx(0.01, rel=0.1)
    assert arx.select_order(known_system(noise=1e-3), 20) == 2
    assert arx.select_order(known_system(num_sequences=1, steps=2000, noise=1e-3), 20) == 2
    assert arx.select_order(sequences, 1) == 1


def test_the_intervals_of_arx_cover_its_own_system():
    train, test = known_system(), known_system(num_sequences=400, steps=60, seed=1)
    rows = evaluation.forecast_baselines(train, test, initial_steps=5, seed=1)
    row = {row["model"]: row for row in rows}["ARX, order 2"]
    for name, share in measures.COVERAGES.items():
        assert row[name] == pytest.approx(share, abs=0.02)
    # e[t] + 1.2 e[t-1] + (1.2^2 - 0.5) e[t-2]: the error three steps ahead.
    expected = 0.1 * np.sqrt(1.0 + 1.2**2 + 0.94**2)
    assert row["by_horizon"]["rmse"][2] == pytest.approx(expected, rel=0.1)
    assert row["nll"] == row["nll_mixture"]


def test_hold_and_mean_by_hand(sequences):
    rows = evaluation.forecast_baselines(sequences, sequences, initial_steps=3)
    hold, mean = rows[:2]
    x = sequences.observations.astype(np.float64)
    assert (hold["model"], mean["model"]) == ("hold", "mean")
    assert hold["rmse"] == pytest.approx(np.sqrt(np.mean((x[:, 3:] - x[:, 2:3]) ** 2)), rel=1e-6)
    scale = np.sqrt(np.mean((x[:, 2:] - x[:, :-2]) ** 2, axis=(0, 1)))  # Two steps ahead.
    nll = measures.gaussian_nll(x[:, 2], scale**2, x[:, 4]).sum(axis=-1).mean()
    assert hold["by_horizon"]["nll"][1] == pytest.approx(nll, rel=1e-6)
    moments = np.broadcast_arrays(x.mean((0, 1)), x.std((0, 1)), x[:, 3:])
    expected = measures.summarise(measures.score_gaussian(*moments), np.ones([12, 5]))
    assert mean["nll"] == pytest.approx(expected["nll"], rel=1e-6)
    assert mean["crps"] == pytest.approx(expected["crps"], rel=1e-6)


MEMORY = """
import resource
import numpy as np, scipy.special, tensorflow as tf, tf_keras, tfp_dvbf
from tfp_dvbf import data, evaluation
angle = 0.1 * np.arange(40000)
record = data.Sequences(np.sin(angle)[None, :, None], np.cos(angle)[None, :-1, None])
model = tfp_dvbf.DVBF(1, 1, 4, seed=1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
found = evaluation.free_run(model, record, initial_steps=50, num_draws=100)
assert len(found["by_horizon"]["nll"]) == 39950
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_of_a_long_record():
    run = {"capture_output": True, "text": True, "check": True, "env": models.environment()}
    grown = int(subprocess.run([sys.executable, "-c", MEMORY], **run).stdout)
    assert grown < 2**31 and os.name == "posix"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, s: evaluation.free_run(m, s, 8), "less than the 8 steps of a sequence; got 8"),
        (lambda m, s: evaluation.free_run(m, s, 0), "`initial_steps` must be at least 1; got 0"),
        (lambda m, s: evaluation.free_run(m, s, 2.5), "`initial_steps` must be an integer"),
        (lambda m, s: evaluation.free_run(m, s, 2, 1), "`num_draws` must be at least 2; got 1"),
        (lambda m, s: evaluation.one_step(m, s, 8), "less than the 8 steps of a sequence; got 8"),
        (lambda m, s: evaluation.free_run(m, s.observations), "`sequences` must be Sequences or"),
        (lambda m, s: evaluation.evaluate(m, s, initial_steps=9), "`initial_steps` must be less"),
        (lambda m, s: evaluation.forecast_baselines(None, s, 2), "`train` must be Sequences or"),
        (
            lambda m, s: evaluation.forecast_baselines(known_system(2), s, 2),
            "`train` must have the shapes of `sequences`",
        ),
        (
            lambda m, s: evaluation.forecast_baselines(arx.cut(s[:1], 0, 4), s, 2),
            "`train` must have more than 5 steps",
        ),
    ],
)
def test_one_line_each_for_bad_input(call, message, model, sequences):
    with pytest.raises(ValueError, match=message):
        call(model, sequences)


def test_too_few_initial_steps(sequences):
    model = models.cached_model("gaussian", initial_frames=2, adapt=True)
    with pytest.raises(ValueError, match="at least the 2 that q.*sees; got 1"):
        evaluation.free_run(model, sequences, 1)
