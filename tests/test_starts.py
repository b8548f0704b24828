"""Several starts of a model, of which the validation elbo chooses."""

import dataclasses
import functools

import models
import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf import errors
from tfp_dvbf.experiments import options, recipe, starts

SETTINGS = options.Settings(epochs=2, batch_size=12, kl_annealing_epochs=0, verbose=0)
SEEDS = (3, 4)


def make(seed):
    return models.small_model(seed=seed)


@pytest.fixture
def best(tmp_path):
    """Returns `starts.best` of two seeds with a folder."""
    splits = [models.pendulum()] * 3
    return functools.partial(
        starts.best, make, SEEDS, splits, folder=tmp_path / "starts", settings=SETTINGS
    )


@pytest.fixture
def rows(tmp_path):
    return functools.partial(starts.rows_of, tmp_path / "starts")


def replace_training(monkeypatch, *results):
    """Lets the training of the starts return these elbos, or raise an exception among them."""
    found = iter(results)

    def elbo(*_):
        result = next(found)
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(starts, "_elbo", elbo)


@pytest.mark.usefixtures("eagerly")
def test_the_best_start_goes_on_and_is_kept(best, rows, monkeypatch):
    model = best()
    assert [row["seed"] for row in rows()] == [3, 4]
    assert all(row["seconds"] > 0 for row in rows())
    model.compile(run_eagerly=True)
    dataset = tfp_dvbf.as_dataset(models.pendulum(), 128)
    elbo = -model.evaluate(dataset, verbose=0, return_dict=True)["neg_elbo"]
    elbos = [row["elbo"] for row in rows()]
    np.testing.assert_allclose(elbo, max(elbos), rtol=1e-6)
    assert abs(elbos[0] - elbos[1]) > 0.01
    with pytest.raises(ValueError, match="must not exist yet without `--resume`"):
        best()
    replace_training(monkeypatch)  # What has ended is not trained again.
    again = best(resume=True)
    for weight, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(weight, other)
    changed = dataclasses.replace(SETTINGS, epochs=3)
    with pytest.raises(ValueError, match="was started with other arguments: epochs"):
        best(settings=changed, resume=True)


def test_a_start_that_was_stopped_is_repeated(best, rows, monkeypatch):
    replace_training(monkeypatch, 1.0, KeyboardInterrupt(), 2.0)
    with pytest.raises(KeyboardInterrupt):
        best()
    best(resume=True)
    assert [(row["seed"], row["elbo"]) for row in rows()] == [(3, 1.0), (4, 2.0)]


def test_a_start_that_diverged_is_not_chosen(best, rows, monkeypatch):
    replace_training(monkeypatch, None, -5.0)
    chosen = best()
    assert [row["elbo"] for row in rows()] == [None, -5.0]
    for weight, other in zip(chosen.get_weights(), make(4).get_weights()):
        np.testing.assert_array_equal(weight, other)


def test_all_starts_diverged(best, monkeypatch):
    replace_training(monkeypatch, None, None)
    with pytest.raises(ValueError, match="All 2 starts diverged; lower the learning rate"):
        best()


def test_divergence_is_no_elbo(monkeypatch):
    def fit(*_, **__):
        raise errors.DivergenceError("the loss is nan")

    model = make(1)
    monkeypatch.setattr(model, "fit", fit)
    assert starts._elbo(model, [models.pendulum()] * 3, SETTINGS) is None


def test_seeds_of_starts_begin_with_the_own_one():
    seeds = [starts.seeds_of(seed, 4) for seed in range(20)]
    assert [each[0] for each in seeds] == list(range(20))
    assert len({seed for each in seeds for seed in each}) == 80
    assert starts.seeds_of(7, 2) == starts.seeds_of(7, 4)[:2]
    assert starts.seeds_of(5, 1) == [5]


@pytest.mark.usefixtures("eagerly")
def test_starts_train_on_windows(best, monkeypatch):
    made, batches = [], recipe.batches

    def spy(*args):
        made.append(batches(*args))
        return made[-1]

    monkeypatch.setattr(recipe, "batches", spy)
    best(settings=dataclasses.replace(SETTINGS, window=4, epochs=1))
    assert len(made) == 4  # Of each start the schedule asks for their number, and `fit` trains.
    assert {dataset.element_spec["observations"].shape[:2] for dataset in made} == {(24, 4)}
