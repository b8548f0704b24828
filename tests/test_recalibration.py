"""Recalibration against noise that is known, and the noise scales that parts can shift."""

import models
import numpy as np
import pytest
import tensorflow as tf

import tfp_dvbf
from tfp_dvbf import data, evaluation, layers, registry
from tfp_dvbf.data import batching
from tfp_dvbf.evaluation import forecasts, recalibration
from tfp_dvbf.experiments import options, recipe, run_folder

Z = tf.random.stateless_normal([4, 2], [0, 1])
U = tf.random.stateless_normal([4, 1], [0, 2])


@pytest.fixture(scope="module")
def linear():
    """Returns a linear model, and sequences of its own whose first steps are all missing.

    Without those q is p, so that the free run is the model's own density.
    """
    model = models.linear_model("innovation")
    rng = np.random.default_rng(0)
    controls = rng.normal(size=[400, 9, 1]).astype(np.float32)
    model.adapt(batching.as_dataset(data.Sequences(rng.normal(size=[400, 10, 2]), controls)))
    space = model.state_space_model
    space.transition.shift_noise(1.0)
    space.emission.shift_noise(1.2)
    observations = space.sample(tf.constant(controls), 1, [0, 1]).observations[0].numpy()
    mask = np.broadcast_to(np.arange(10) >= 2, [400, 10])
    return model, data.Sequences(observations, controls, mask=mask)


def scales(model):
    space = model.state_space_model
    return [
        float(tf.reduce_mean(density.stddev()))
        for density in [space.transition(Z, U), space.emission(Z)]
    ]


@pytest.mark.slow
def test_noise_that_is_wrong_is_put_right(linear):
    """The noise of the emission is a small part of what is seen here, which does not decide it."""
    model, sequences = linear
    right, truth = scales(model), evaluation.free_run(model, sequences, 2, num_draws=200)
    model.state_space_model.transition.shift_noise(0.6)
    model.state_space_model.emission.shift_noise(-0.9)
    wrong = evaluation.free_run(model, sequences, 2, num_draws=200)
    found = evaluation.recalibrate(model, sequences, initial_steps=2, num_draws=200)
    again = evaluation.free_run(model, sequences, 2, num_draws=200)
    assert again["nll"] < truth["nll"] + 3e-3 < wrong["nll"] - 0.01
    assert found["error"] < 0.02 < 0.04 < found["error_before"]
    assert abs(again["coverage_90"] - 0.9) < 0.02 < 0.03 < abs(wrong["coverage_90"] - 0.9)
    np.testing.assert_allclose(scales(model)[0], right[0], rtol=0.2)  # It was off by 67 %.
    assert found["transition"] < 0.7


@pytest.mark.parametrize("name", registry.names("transition"))
def test_the_noise_of_a_transition_is_multiplied(name):
    transition = registry.class_of("transition", name)(noise_floor=1e-5)
    transition.build(layers.Spec((3,), 1, 2, seed=1))
    transition(Z, U)
    transition.shift_noise(-3.0)  # Down to where a softplus is an exponential.
    before = transition(Z, U)
    transition.shift_noise(-0.5)
    after = transition(Z, U)
    np.testing.assert_allclose(
        after.stddev() / before.stddev(), np.exp(-0.5) * np.ones([4, 2]), rtol=5e-3
    )
    np.testing.assert_array_equal(after.mean(), before.mean())


@pytest.mark.parametrize("name", ["gaussian", "student_t", "heteroscedastic"])
def test_the_noise_of_an_emission_is_multiplied(name):
    emission = registry.class_of("emission", name)(noise_floor=1e-5)
    emission.build(layers.Spec((3,), 1, 2, seed=1))
    emission(Z)
    emission.shift_noise(-3.0)
    before = emission(Z)
    emission.shift_noise(0.5)
    after = emission(Z)
    np.testing.assert_allclose(
        after.stddev() / before.stddev(), np.exp(0.5) * np.ones([4, 3]), rtol=5e-3
    )
    np.testing.assert_array_equal(after.mean(), before.mean())


def test_the_calibration_error_of_uniform_and_of_narrow_intervals():
    uniform = (np.arange(40 * 50) + 0.5).reshape(40, 50, 1) / 2000
    everything = np.ones([40, 50], bool)
    assert recalibration.calibration_error(uniform, everything) < 1e-5
    outside = np.round(uniform)  # Below or above all draws.
    expected = np.mean(recalibration.SHARES**2)
    assert recalibration.calibration_error(outside, everything) == pytest.approx(expected)
    half = np.concatenate([np.ones_like(uniform), uniform])
    observed = np.repeat([[False], [True]], 40, axis=0) & np.ones([1, 50], bool)
    both = recalibration.calibration_error(half[:, :1], np.ones([80, 1], bool))
    assert recalibration.calibration_error(half[:, :1], observed[:, :1]) < 0.01 < both
    wrong_early = np.where(np.arange(50)[:, np.newaxis] < 25, np.tile(outside, [2, 1, 1]), 0.5)
    assert recalibration.calibration_error(wrong_early[:60], np.ones([60, 50], bool)) > 0.2


@pytest.mark.usefixtures("without_graphs")
def test_noise_that_cannot_be_scaled_is_named_before_training(tmp_path):
    model = models.small_model("innovation", emission="bernoulli")
    sequences = data.Sequences(np.zeros([2, 4, 3]), np.zeros([2, 3, 1]))
    before = models.weights_of(model)
    settings = options.Settings(epochs=1, recalibrate=True, verbose=0)
    for call in [
        lambda: evaluation.recalibrate(model, sequences),
        lambda: recipe.train(model, (sequences,) * 3, tmp_path / "run", settings),
    ]:
        with pytest.raises(ValueError, match="the noise of BernoulliEmission cannot be scaled"):
            call()
    assert not (tmp_path / "run").exists()
    for weight, other in zip(before, models.weights_of(model)):
        np.testing.assert_array_equal(weight, other)


@pytest.mark.usefixtures("without_graphs")
def test_a_factor_at_its_bound_gives_a_warning(sequences, monkeypatch):
    monkeypatch.setattr(recalibration, "_least", lambda measure: [5.0, 0.0])
    with pytest.warns(UserWarning, match="would scale the noise by more than 7.4"):
        found = evaluation.recalibrate(models.small_model("innovation"), sequences, num_draws=2)
    np.testing.assert_allclose([found["transition"], found["emission"]], [np.exp(2.0), 1.0])


def test_an_exception_leaves_the_model_as_it_was(linear, monkeypatch):
    model, sequences = linear
    before, counts, score = models.weights_of(model), [], forecasts.free_run_scores

    def interrupted(*args):
        counts.append(1)
        if len(counts) == 4:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(forecasts, "free_run_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluation.recalibrate(model, sequences[:20], initial_steps=2, num_draws=2)
    for weight, other in zip(before, models.weights_of(model)):
        np.testing.assert_array_equal(weight, other)


def test_the_columns_of_correlated_noise_are_multiplied():
    transition = layers.LocallyLinearTransition(num_bases=1)
    transition.build(layers.Spec((3,), 1, 2, seed=1))
    transition.raw_noise.assign([[[1.0, 0.0], [0.7, -2.0]]])
    before = transition.matrices()[-1].numpy()[0]
    transition.shift_noise(0.8)
    after = transition.matrices()[-1].numpy()[0]
    ratios = np.diag(after) / np.diag(before)
    np.testing.assert_allclose(after, before * ratios, rtol=1e-5)
    assert np.all((ratios > 1.4) & (ratios < np.exp(0.8)))


@pytest.mark.slow
def test_the_members_of_an_ensemble_are_scaled_alike():
    members = [models.linear_model("innovation", seed=seed) for seed in (1, 2)]
    rng = np.random.default_rng(0)
    sequences = data.Sequences(rng.normal(size=[20, 6, 2]), rng.normal(size=[20, 5, 1]))
    for member in members:
        models.adapted(member, sequences)
        for part in (member.state_space_model.transition, member.state_space_model.emission):
            part.shift_noise(-2.0)
    before = [scales(each) for each in members]
    found = evaluation.recalibrate(tfp_dvbf.Ensemble.of(members), sequences, num_draws=20)
    ratios = np.divide([scales(each) for each in members], before)
    assert found["error"] < found["error_before"] and np.all(ratios > 1.5)
    np.testing.assert_allclose(ratios[0], ratios[1], rtol=0.02)


@pytest.mark.usefixtures("without_graphs")
def test_a_run_says_that_it_was_recalibrated(sequences, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recalibration, "_least", lambda measure: [0.4, -0.4])
    settings = options.Settings(epochs=1, batch_size=6, recalibrate=True, num_samples=2, verbose=0)
    model = models.small_model("innovation")
    metrics = recipe.train(model, (sequences,) * 3, tmp_path / "run", settings)
    assert "The noise was recalibrated on the validation set" in capsys.readouterr().out
    assert set(metrics["recalibration"]) == {"transition", "emission", "error_before", "error"}
    assert "The noise was recalibrated" in (tmp_path / "run" / "report.html").read_text()
    kept = run_folder.load_model(tmp_path / "run")
    np.testing.assert_allclose(metrics["recalibration"]["transition"], np.exp(0.4))
    for weight, other in zip(models.weights_of(kept), models.weights_of(model), strict=True):
        np.testing.assert_array_equal(weight, other)
