"""Several starts of a model, of which the validation elbo chooses."""

import dataclasses

import models
import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf.experiments import options, starts

SETTINGS = options.Settings(epochs=2, batch_size=12, kl_annealing_epochs=0, verbose=0)


def make(seed):
    return models.small_model(seed=seed)


@pytest.fixture
def splits():
    return [models.pendulum()] * 3


def test_the_best_start_goes_on_and_is_kept(tmp_path, splits, eagerly, monkeypatch):
    arguments = make, (3, 4), splits, SETTINGS, tmp_path / "starts"
    model = starts.best(*arguments)
    rows = starts.rows_of(tmp_path / "starts")
    assert [row["seed"] for row in rows] == [3, 4]
    assert starts.seconds(tmp_path / "starts") == sum(row["seconds"] for row in rows) > 0
    model.compile(run_eagerly=True)
    dataset = tfp_dvbf.as_dataset(splits[1], 128)
    elbo = -model.evaluate(dataset, verbose=0, return_dict=True)["neg_elbo"]
    elbos = [row["elbo"] for row in rows]
    np.testing.assert_allclose(elbo, max(elbos), rtol=1e-6)
    assert abs(elbos[0] - elbos[1]) > 0.01
    with pytest.raises(ValueError, match="must not exist yet without `--resume`"):
        starts.best(*arguments)
    monkeypatch.setattr(starts, "_train", None)  # What has ended is not trained again.
    again = starts.best(*arguments, resume=True)
    for weight, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(weight, other)
    changed = dataclasses.replace(SETTINGS, epochs=3)
    with pytest.raises(ValueError, match="was started with other arguments: epochs"):
        starts.best(*arguments[:3], changed, arguments[4], resume=True)


def test_a_start_that_was_stopped_is_repeated(tmp_path, splits, monkeypatch):
    elbos = iter([1.0, None, 2.0])

    def train(model, *_):
        elbo = next(elbos)
        if elbo is None:
            raise KeyboardInterrupt
        return elbo

    monkeypatch.setattr(starts, "_train", train)
    arguments = make, (3, 4), splits, SETTINGS, tmp_path / "starts"
    with pytest.raises(KeyboardInterrupt):
        starts.best(*arguments)
    starts.best(*arguments, resume=True)
    rows = starts.rows_of(tmp_path / "starts")
    assert [(row["seed"], row["elbo"]) for row in rows] == [(3, 1.0), (4, 2.0)]
