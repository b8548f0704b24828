"""An ensemble is the equal mixture of its members."""

import os
import signal

import models
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import ensemble as ensembles
from tfp_dvbf import evaluation
from tfp_dvbf.data import batching
from tfp_dvbf.evaluation import forecasts
from tfp_dvbf.experiments import run_folder

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def trained():
    """An ensemble of three models after one epoch, and what `fit` returned."""
    made = tfp_dvbf.Ensemble(lambda seed: models.small_model("innovation", seed=seed), SEEDS)
    dataset = batching.as_dataset(models.pendulum(), 6)
    made.adapt(dataset)
    made.compile("adam", run_eagerly=True)
    return made, made.fit(dataset, epochs=1, verbose=0, callbacks=[tfp_dvbf.KLAnnealing(2)])


def arrays(num_steps=8):
    sequences = models.pendulum()
    return sequences.observations[:, :num_steps], sequences.controls[:, : num_steps - 1]


def test_fit_trains_each_member_as_it_would_be_alone(trained):
    made, histories = trained
    alone = models.small_model("innovation", seed=2)
    dataset = batching.as_dataset(models.pendulum(), 6)
    alone.adapt(dataset)
    alone.compile("adam", run_eagerly=True)
    history = alone.fit(dataset, epochs=1, verbose=0, callbacks=[tfp_dvbf.KLAnnealing(2)])
    assert len(histories) == 3
    np.testing.assert_allclose(history.history["loss"], histories[1].history["loss"], rtol=1e-5)
    for expected, actual in zip(models.weights_of(alone), models.weights_of(made.members[1])):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    optimizers = {id(member.optimizer) for member in made.members}
    assert len(optimizers) == 3


def fitted(num_threads, callbacks=lambda index: [tfp_dvbf.KLAnnealing(2)], epochs=2):
    """Returns a function that trains a new ensemble, each member in an order of its own; and it."""
    made = tfp_dvbf.Ensemble(lambda seed: models.small_model("innovation", seed=seed), SEEDS)
    made.adapt(batching.as_dataset(models.pendulum()))
    made.compile("adam", jit_compile=False)

    def dataset(index):
        return batching.as_dataset(models.pendulum(), 6, seed=index)

    settings = {"epochs": epochs, "verbose": 0, "callbacks": callbacks}
    settings |= {"num_threads": num_threads, "validation_data": dataset}
    return lambda: made.fit(dataset, **settings), made


def test_members_that_train_at_the_same_time_become_what_they_do_one_after_the_other():
    fits, (one, other) = zip(*(fitted(num_threads) for num_threads in (1, 2)))
    expected, actual = (fit() for fit in fits)
    losses = ([run.history["val_loss"] for run in runs] for runs in (actual, expected))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for one_member, other_member in zip(one.members, other.members):
        for weight, other_weight in zip(*map(models.weights_of, (one_member, other_member))):
            np.testing.assert_allclose(other_weight, weight, atol=1e-6)


class Fails(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise RuntimeError(f"batch {batch} of {self.model.seed}")


def refuse(index):
    """Returns no callbacks, but for the member of index 1."""
    if index == 1:
        raise RuntimeError("batch 0 of 2")
    return []


class PressesCtrlC(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_all():
    fit, made = fitted(2, lambda index: [PressesCtrlC()] if index == 1 else [], epochs=100)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Jobs of a shell ignore it.
    try:
        with pytest.raises(KeyboardInterrupt):
            fit()
    finally:
        signal.signal(signal.SIGINT, before)
    assert made.members[2].optimizer.iterations == 0


@pytest.mark.parametrize("callbacks", [lambda index: [Fails()] if index == 1 else [], refuse])
def test_what_fails_in_a_thread_ends_all(callbacks):
    """Before and after a member's first batch; a member that waits for a thread takes no step."""
    fit, made = fitted(2, callbacks, epochs=10_000)
    with pytest.raises(RuntimeError, match="batch 0 of 2"):
        fit()
    assert made.members[2].optimizer.iterations == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_threads": 0}, "`num_threads` must be at least 1; got 0"),
        ({"x": {}}, "`x` must be a function of the member's index .*; got dict"),
        ({"callbacks": [Fails()]}, "`callbacks` must be a function of the .*; got list"),
        ({"validation_data": {}}, "`validation_data` must be a function of the .*; got dict"),
    ],
)
def test_threads_need_data_and_callbacks_of_their_own(trained, change, message):
    given = {"x": lambda index: None, "num_threads": 2, **change}
    with pytest.raises(ValueError, match=message):
        trained[0].fit(**given)


def test_draws_are_those_of_the_members_one_after_the_other(trained):
    made, _ = trained
    x, u = arrays()
    calls = {
        "forecast": lambda model, seed: model.forecast(x[:, :3], u, num_samples=4, seed=seed),
        "generate": lambda model, seed: model.generate(u, x[:, :1], num_samples=4, seed=seed),
        "sample_posterior": lambda model, seed: model.sample_posterior(x, u, 4, seed),
        "impute": lambda model, seed: model.impute(x, u, None, 4, seed),
    }
    for name, call in calls.items():
        drawn = call(made, 5)
        for index, member in enumerate(made.members):
            expected = call(member, ensembles.member_seed(5, index))
            for mine, its in zip(drawn, expected):
                rows = slice(4 * index, 4 * index + 4)
                np.testing.assert_array_equal(mine[rows], its, err_msg=name)


def test_the_bound_is_that_of_the_mixture(trained):
    made, _ = trained
    x, u = arrays()
    members = [
        member.log_prob_bound(x, u, 8, ensembles.member_seed(1, index))
        for index, member in enumerate(made.members)
    ]
    expected = scipy.special.logsumexp(np.array(members), axis=0) - np.log(3)
    np.testing.assert_allclose(made.log_prob_bound(x, u, 8, seed=1), expected, rtol=1e-5)


def test_filtering_predicts_by_the_mixture_in_batches_and_in_streams(trained):
    made, _ = trained
    x, u = arrays(4)
    filtered = made.filter(x, u, num_samples=16, seed=3)
    assert filtered.states.shape == (48, 12, 4, 2)
    parts = [
        member.filter(x, u, 16, ensembles.member_seed(3, index))
        for index, member in enumerate(made.members)
    ]
    means = np.array([part.predicted_mean for part in parts])
    scales = np.array([part.predicted_scale for part in parts])
    mean = means.mean(axis=0)
    variance = (scales**2 + means**2).mean(axis=0) - mean**2
    np.testing.assert_allclose(filtered.predicted_mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(filtered.predicted_scale, np.sqrt(variance), rtol=1e-4)
    evidence = scipy.special.logsumexp([part.log_evidence for part in parts], axis=0) - np.log(3)
    np.testing.assert_allclose(filtered.log_evidence, evidence, rtol=1e-4, atol=1e-5)
    out = made.filter_init(x[:, :1], num_particles=16, seed=3)
    np.testing.assert_allclose(out["log_evidence"], evidence[:, 0], rtol=1e-4, atol=1e-4)
    for t in range(1, 4):
        out = made.filter_step(out, x[:, t], u[:, t - 1], seed=3)
        expected = filtered.predicted_mean[:, t]
        np.testing.assert_allclose(
            out["predicted_observation_mean"], expected, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(out["log_evidence"], evidence[:, t], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_gradients_flow_to_the_controls(trained):
    made, _ = trained
    x, u = arrays()
    u = tf.constant(u)
    with tf.GradientTape() as tape:
        tape.watch(u)
        loss = tf.reduce_mean(made.forecast(x[:, :3], u, seed=1).observations ** 2)
    assert np.any(tape.gradient(loss, u))


def test_seeds_of_members_wrap_alike_as_numbers_and_as_tensors():
    for seed in [0, 1, -(2**31), 2**31 - 1]:
        seeds = [ensembles.member_seed(seed, index) for index in range(4)]
        tensors = [ensembles.member_seed(tf.constant(seed), index) for index in range(4)]
        assert seeds == [int(tensor) for tensor in tensors] and len(set(seeds)) == 4


@pytest.mark.parametrize(
    "build, seeds, message",
    [
        (None, [], "`seeds` must be different integers"),
        (None, [1, 1], "`seeds` must be different integers"),
        (lambda seed: "model", [1], "`build` must return a DVBF; got str"),
        (lambda seed: models.cached_model(), [1, 2], "a new model for every seed"),
        (lambda seed: models.small_model(state_dim=seed), [1, 2], "must have the same sizes"),
    ],
)
def test_what_is_no_ensemble_is_refused(build, seeds, message):
    with pytest.raises(ValueError, match=message):
        tfp_dvbf.Ensemble(build, seeds)


def test_states_of_ones_own_are_refused(trained):
    made, _ = trained
    with pytest.raises(ValueError, match="every member has its own states"):
        made.generate(arrays()[1], initial_state=np.zeros([12, 2]))


def test_an_ensemble_is_saved_as_one_folder(trained, tmp_path):
    made, _ = trained
    made.save(tmp_path / "ensemble")
    loaded = run_folder.load_model(tmp_path / "ensemble")
    x, u = arrays()
    for expected, actual in zip(
        made.forecast(x[:, :3], u, 2, seed=1), loaded.forecast(x[:, :3], u, 2, seed=1)
    ):
        np.testing.assert_array_equal(actual, expected)
    with pytest.raises(ValueError, match="`path` must not exist yet"):
        made.save(tmp_path / "ensemble")


def test_a_folder_that_lacks_a_member_is_refused(trained, tmp_path):
    made, _ = trained
    made.save(tmp_path / "ensemble")
    (tmp_path / "ensemble" / "member-1.keras").unlink()
    with pytest.raises(ValueError, match="member-1.keras does not exist"):
        run_folder.load_model(tmp_path / "ensemble")


@pytest.mark.slow
def test_an_ensemble_is_exported_as_one_model(trained, tmp_path):
    """The signatures draw, stream and score as the ensemble in memory does."""
    made, _ = trained
    reasons = tfp_dvbf.export(made, tmp_path / "exported")
    assert set(reasons.values()) == {None}
    signatures = tfp_dvbf.load_exported(tmp_path / "exported").signatures
    x, u = arrays(4)
    seed, count = tf.constant(7), tf.constant(4)
    common = {"observations": tf.constant(x), "controls": tf.constant(u), "seed": seed}
    mask = tf.ones(x.shape[:2])
    found = signatures["log_prob_bound"](num_samples=count, mask=mask, **common)["log_prob_bound"]
    np.testing.assert_allclose(found, made.log_prob_bound(x, u, 4, seed=7), rtol=1e-5)
    expected = made.sample_posterior(x, u, seed=7)
    drawn = signatures["sample_posterior"](mask=mask, **common)
    np.testing.assert_allclose(drawn["observations"], expected.observations, atol=1e-5)
    common["observations"] = tf.constant(x[:, :2])
    expected = made.forecast(x[:, :2], u, 4, seed=7)
    drawn = signatures["forecast"](mask=mask[:, :2], num_samples=count, **common)
    np.testing.assert_allclose(drawn["observations"], expected.observations, atol=1e-5)
    out = signatures["filter_init"](
        initial_observations=tf.constant(x[:, :1]), num_particles=count, seed=seed
    )
    expected = made.filter_init(x[:, :1], 4, seed=7)
    for t in range(1, 4):
        belief = {name: tensor for name, tensor in out.items() if name.startswith("member_")}
        step = {"observations": tf.constant(x[:, t]), "controls": tf.constant(u[:, t - 1])}
        out = signatures["filter_step"](observed=tf.ones([12]), seed=seed, **step, **belief)
        expected = made.filter_step(expected, x[:, t], u[:, t - 1], seed=7)
        for name in ["predicted_observation_mean", "predicted_observation_scale", "log_evidence"]:
            np.testing.assert_allclose(out[name], expected[name], rtol=1e-4, atol=1e-5)


def test_the_free_run_of_an_ensemble_scores_the_draws_of_all_members(trained, sequences):
    made, _ = trained
    draws = [
        np.concatenate(
            [part.observations for _, part in forecasts.draw(member, sequences, 3, 10, [1, 0, m])],
            axis=2,
        )
        for m, member in enumerate(made.members)
    ]
    expected = evaluation.score_draws(np.concatenate(draws), sequences.observations[:, 3:])
    scores, _ = evaluation.free_run_scores(made, sequences, 3, num_draws=10, seed=1)
    for name in ["squared_error", "nll", "crps", "coverage_90", "pit"]:
        np.testing.assert_allclose(getattr(scores, name), getattr(expected, name), rtol=1e-6)
    report = evaluation.report(made, sequences, initial_steps=3)
    assert report["model"] == "3 of innovation" and report["training_seed"] == [1, 2, 3]
    assert set(report) >= {"free_run", "one_step", "parameters"} and "elbo" not in report
