"""Training that ends with the weights that did best, resumed or not."""

import json

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import best_weights
from tfp_dvbf.data import batching
from tfp_dvbf.experiments import histories, options, recipe, run_folder


def fit(model, values, path, epochs=None, **kwargs):
    """Trains by steps of 1 of a weight w; returns w after each epoch and at the end.

    The figure of each epoch is given.
    """
    weight = model.trainable_weights[0]
    figures, seen = iter(values), []

    def step(epoch, logs):
        weight.assign_add(tf.ones_like(weight))
        logs["val_error"] = next(figures)
        seen.append(float(weight.numpy().flat[0]))

    best = tfp_dvbf.BestWeights(path, "val_error", **kwargs)
    model.fit(
        batching.as_dataset(models.pendulum(), 12),
        epochs=epochs or len(values),
        verbose=0,
        callbacks=[tf_keras.callbacks.LambdaCallback(on_epoch_end=step), best],
    )
    return seen, float(weight.numpy().flat[0])


@pytest.fixture
def model(make_model):
    model = make_model()
    model.adapt(batching.as_dataset(models.pendulum()))
    model.compile(tf_keras.optimizers.SGD(0.0), run_eagerly=True)
    return model


def test_the_weights_of_the_best_epoch(model, tmp_path):
    seen, last = fit(model, [3.0, 1.0, 2.0, 5.0], tmp_path / "best.npz")
    assert len(seen) == 4 and last == seen[1]
    found = best_weights.read(tmp_path / "best.npz")
    assert found["epoch"] == 1 and found["value"] == 1.0 and found["stopped"] == -1


def test_patience_and_epochs_that_do_not_count(model, tmp_path):
    values = [0.0, 3.0, 2.5, 4.0, 4.0, 1.0]
    path = tmp_path / "best.npz"
    seen, last = fit(model, values, path, patience=2, start_from_epoch=1)
    assert len(seen) == 5 and last == seen[2]
    assert best_weights.read(path)["stopped"] == 5
    assert best_weights.sentence(path, "val_error") == (
        "Stopped after epoch 5; the weights are those of epoch 3, whose val_error was least, 2.5."
    )


def test_no_figure_leaves_the_last_weights(model, tmp_path):
    seen, last = fit(model, [1.0, 2.0], tmp_path / "best.npz", start_from_epoch=2)
    assert last == seen[1]
    sentence = best_weights.sentence(tmp_path / "best.npz", "val_error")
    assert sentence == "No epoch has been judged by val_error; the weights are the last."


def test_a_figure_that_is_none_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="`monitor` must be one of .*loss.*; got 'val_rmse'"):
        model.fit(
            batching.as_dataset(models.pendulum(), 12),
            verbose=0,
            callbacks=[tfp_dvbf.BestWeights(tmp_path / "best.npz", "val_rmse")],
        )


def test_a_score_of_ones_own_is_in_the_history(model, tmp_path):
    scores = iter([2.0, 1.0])
    best = tfp_dvbf.BestWeights(tmp_path / "best.npz", "val_mine", lambda model: next(scores))
    dataset = batching.as_dataset(models.pendulum(), 12)
    history = model.fit(dataset, epochs=2, verbose=0, callbacks=[best])
    assert history.history["val_mine"] == [2.0, 1.0]


def run(sequences, folder, callbacks=(), **changes):
    """Trains by the recipe, eagerly, with a rate at which validation gets worse in between."""
    settings = {"epochs": 8, "batch_size": 6, "learning_rate": 0.05, "kl_annealing_epochs": 0}
    settings = options.Settings(
        **{**settings, "early_stopping": 2, "verbose": 0, "checkpoint_seconds": 0.0, **changes}
    )
    model = models.small_model("innovation")
    model.compile(tf_keras.optimizers.Adam(settings.learning_rate), run_eagerly=True)
    splits = [sequences, sequences[:6], sequences[:2]]
    recipe.train(model, splits, folder, settings, resume=True, callbacks=callbacks)
    return model


class Crash(tf_keras.callbacks.Callback):
    """Ends the process, as far as a test can, in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_stops_at_its_best_weights_and_resumes_to_the_same(
    sequences, tmp_path, evaluation_without_graphs, capsys
):
    whole = run(sequences, tmp_path / "whole", verbose=1)
    history = histories.read(tmp_path / "whole" / "history.csv")
    stopped = len(history["val_neg_elbo"])
    best = int(np.argmin(history["val_neg_elbo"]))
    assert stopped == min(8, best + 3)
    *_, line, sentence = capsys.readouterr().out.splitlines()
    assert line.startswith(f"  epoch {stopped} of 8: loss ")
    assert f"the weights are those of epoch {best + 1}, whose val_neg_elbo" in sentence.lower()
    for epoch in sorted({best, stopped - 1}):
        folder = tmp_path / f"stopped-{epoch}"
        with pytest.raises(KeyboardInterrupt):
            run(sequences, folder, [Crash(epoch)])
        resumed = run(sequences, folder)
        for expected, weight in zip(models.weights_of(whole), models.weights_of(resumed)):
            np.testing.assert_array_equal(weight, expected)
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    loaded = run_folder.load_model(tmp_path / "whole")
    for expected, weight in zip(models.weights_of(whole), models.weights_of(loaded)):
        np.testing.assert_array_equal(weight, expected)
    assert metrics["updates"] == 2 * stopped


def test_bad_options():
    with pytest.raises(ValueError, match="`early_stopping` must not be negative; got -1"):
        options.check_settings(options.Settings(early_stopping=-1))
    with pytest.raises(ValueError, match="`monitor` must be one of .* did you mean 'val_neg_elbo'"):
        options.check_run(options.RunOptions(early_stopping=1, monitor="val_nelbo"))
    with pytest.raises(ValueError, match="`early_stopping` must be 0 with the strategy"):
        options.check_run(options.RunOptions(early_stopping=1, strategy="multiworker"))
