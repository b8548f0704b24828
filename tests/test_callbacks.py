import signal
import subprocess
import sys
import time

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import train
import train_without_xla
from conftest import replaced_compile

import tfp_dvbf
from tfp_dvbf import callbacks, data
from tfp_dvbf.data import batching
from tfp_dvbf.experiments import histories, run_folder


@pytest.fixture(scope="module")
def sequences():
    """Returns 12 sequences of 3 steps, since an eager update costs as much as it has steps."""
    return data.Sequences(models.pendulum().observations[:, :3], models.pendulum().controls[:, :2])


def fit(model, sequences, epochs, directory, initial_epoch=0, extra=()):
    directory.mkdir(exist_ok=True)
    dataset = batching.as_dataset(sequences, 4, seed=1, first_epoch=initial_epoch)
    return model.fit(
        dataset,
        epochs=epochs,
        initial_epoch=initial_epoch,
        verbose=0,
        callbacks=[
            callbacks.KLAnnealing(4),
            *extra,
            callbacks.HistoryLogger(directory / "history.csv"),
            callbacks.Checkpoint(directory / "checkpoint", min_seconds=0.0),
        ],
    )


def compiled(make_model, sequences, **kwargs):
    model = make_model(**kwargs)
    model.adapt(batching.as_dataset(sequences))
    rate = tf_keras.optimizers.schedules.CosineDecay(1e-2, 18)
    model.compile(tf_keras.optimizers.Adam(rate, clipnorm=10.0), run_eagerly=True)
    return model


def test_resumed_training_ends_at_the_same_weights(make_model, sequences, tmp_path):
    straight = compiled(make_model, sequences)
    fit(straight, sequences, epochs=6, directory=tmp_path / "a")

    fit(compiled(make_model, sequences), sequences, epochs=3, directory=tmp_path / "b")
    resumed = compiled(make_model, sequences)
    step = callbacks.restore_checkpoint(resumed, tmp_path / "b" / "checkpoint")
    assert step == 9
    fit(resumed, sequences, epochs=6, directory=tmp_path / "b", initial_epoch=3)

    for expected, actual in zip(straight.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    whole, both = (histories.read(tmp_path / name / "history.csv") for name in "ab")
    assert list(both["epoch"]) == [0, 1, 2, 3, 4, 5]
    for name in whole:
        np.testing.assert_allclose(both[name], whole[name], rtol=1e-5)


def test_history_drops_rows_that_the_resumed_run_repeats(make_model, sequences, tmp_path):
    fit(compiled(make_model, sequences), sequences, epochs=2, directory=tmp_path)
    with open(tmp_path / "history.csv", "a") as file:
        file.write("2,0.1,0.2,0.3,0.4,0.5\n3,0.1,")  # Killed in the middle of a line.
    model = compiled(make_model, sequences)
    callbacks.restore_checkpoint(model, tmp_path / "checkpoint")
    fit(model, sequences, epochs=4, directory=tmp_path, initial_epoch=2)
    history = histories.read(tmp_path / "history.csv")
    assert list(history["epoch"]) == [0, 1, 2, 3]
    assert 0.1 not in history["loss"]


def test_restore_without_a_checkpoint_is_the_start(make_model, sequences, tmp_path):
    assert callbacks.restore_checkpoint(compiled(make_model, sequences), tmp_path) == 0


def test_restore_refuses_another_models_checkpoint(make_model, sequences, tmp_path):
    fit(compiled(make_model, sequences), sequences, epochs=1, directory=tmp_path)
    other = compiled(make_model, sequences, posterior_units=(9,))
    with pytest.raises(ValueError, match="must be a checkpoint of this model"):
        callbacks.restore_checkpoint(other, tmp_path / "checkpoint")


@pytest.mark.parametrize("spoil", ["index", "state"])
def test_restore_refuses_a_checkpoint_in_parts(make_model, sequences, tmp_path, spoil):
    model = compiled(make_model, sequences)
    fit(model, sequences, epochs=1, directory=tmp_path)
    folder = tmp_path / "checkpoint"
    if spoil == "index":
        next(folder.glob("*.index")).unlink()
    else:
        (folder / "checkpoint").write_bytes((folder / "checkpoint").read_bytes()[:20])
    with pytest.raises(ValueError, match="must hold a whole checkpoint"):
        callbacks.restore_checkpoint(model, folder)


def test_restore_refuses_a_damaged_checkpoint(make_model, sequences, tmp_path):
    model = compiled(make_model, sequences)
    fit(model, sequences, epochs=1, directory=tmp_path)
    (data_file,) = (tmp_path / "checkpoint").glob("*.data*")
    data_file.write_bytes(data_file.read_bytes()[:100])
    with pytest.raises(ValueError, match="must be a checkpoint of this model"):
        callbacks.restore_checkpoint(model, tmp_path / "checkpoint")


class Diverge(tf_keras.callbacks.Callback):
    """Makes the transition NaN at the start of epoch 3 (index 2)."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            kernel = self.model.state_space_model.transition.network.layers[0].kernel
            kernel.assign(tf.fill(kernel.shape, np.nan))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    make_model, sequences, tmp_path
):
    model = compiled(make_model, sequences)
    guard = [Diverge(), callbacks.TerminateOnNonFinite()]
    with pytest.raises(ValueError, match="Training stopped in epoch 3, step 7: `kl` became nan; a"):
        fit(model, sequences, epochs=5, directory=tmp_path, extra=guard)
    restored = compiled(make_model, sequences)
    assert callbacks.restore_checkpoint(restored, tmp_path / "checkpoint") == 6
    assert all(np.all(np.isfinite(weight)) for weight in restored.get_weights())


class DivergeAtTheEnd(tf_keras.callbacks.Callback):
    """Makes a weight infinite after the last step of epoch 2, of three steps."""

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 6:
            bias = self.model.state_space_model.transition.network.layers[0].bias
            bias.assign(tf.fill(bias.shape, np.inf))


def test_two_guards_see_a_weight_that_no_loss_has_met(make_model, sequences, tmp_path):
    model = compiled(make_model, sequences)
    guard = tfp_dvbf.TerminateOnNonFinite
    message = r"Training stopped in epoch 2, step 6: `\S*bias\S*` became inf"
    with pytest.raises(ValueError, match=message):
        fit(model, sequences, 5, tmp_path, extra=[DivergeAtTheEnd(), guard(), guard()])
    assert callbacks.restore_checkpoint(compiled(make_model, sequences), tmp_path / "checkpoint")
    assert list(histories.read(tmp_path / "history.csv")["epoch"]) == [0]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, sequences):
    """A run that nothing interrupts: its folder and its options."""
    folder = tmp_path_factory.mktemp("straight")
    data.save(folder / "data.npz", sequences)
    options = {"data": str(folder / "data.npz"), "epochs": 50, "kl_annealing_epochs": 25}
    options |= {"hidden_units": 16, "checkpoint_seconds": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfp_dvbf.DVBF, "compile", replaced_compile({"jit_compile": False}))
        train.main(train.Args(output=str(folder / "run"), verbose=0, **options))
    return folder / "run", options


@pytest.mark.parametrize("kill", models.marked([signal.SIGKILL], [signal.SIGINT]))
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, straight, kill):
    # Children of a process that ignores Ctrl-C, as one in the background does, would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    expected_run, options = straight
    run = tmp_path / "killed"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, train_without_xla.__file__, *words, "--output", str(run)]

    def start(*extra):
        pipes = {"env": models.environment(), "stdout": subprocess.DEVNULL}
        return subprocess.Popen([*command, *extra], **pipes)

    killed, history = start(), run / "history.csv"
    while killed.poll() is None and (not history.exists() or history.read_text().count("\n") < 20):
        time.sleep(0.05)
    assert killed.poll() is None
    killed.send_signal(kill)
    assert killed.wait() == (-signal.SIGKILL if kill is signal.SIGKILL else 130)
    assert not (run / "metrics.json").exists()
    assert start("--resume").wait() == 0
    found = [run_folder.load_model(folder) for folder in [expected_run, run]]
    for expected, actual in zip(*(model.get_weights() for model in found)):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    rows = [histories.read(folder / "history.csv") for folder in [expected_run, run]]
    np.testing.assert_allclose(rows[1]["loss"], rows[0]["loss"], rtol=1e-5)


class Clock(tf_keras.callbacks.Callback):
    """A clock that goes on by 50 s in the first two epochs, by 20 s in the third, then by 4 s."""

    now = 0.0

    def on_epoch_end(self, epoch, logs=None):
        Clock.now += {0: 50.0, 1: 50.0, 2: 20.0}.get(epoch, 4.0)


def test_progress_lines_are_short_and_tell_the_time_left(
    make_model, sequences, capsys, monkeypatch
):
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: Clock.now)
    model = compiled(make_model, sequences)
    dataset = batching.as_dataset(sequences, 12)
    lines = [Clock(), callbacks.ProgressLine(min_seconds=10.0)]
    data = {"x": dataset, "validation_data": dataset}
    history = model.fit(**data, epochs=20, verbose=0, callbacks=lines).history
    printed = capsys.readouterr().out.splitlines()

    def line(epoch, left):
        terms = [f"{name} {history[name][epoch - 1]:.4g}" for name in ["loss", "val_neg_elbo"]]
        return f"  epoch {epoch:2} of 20: {', '.join([*terms, *left])}"

    # Nothing is known of the pace yet: the step has just been compiled.
    assert printed[:2] == [line(1, []), line(2, [])]
    times = {3: "5:40", 6: "0:56", 9: "0:44", 12: "0:32", 15: "0:20", 18: "0:08"}
    expected = [line(epoch, [f"{clock} left"]) for epoch, clock in times.items()]
    assert printed[2:] == [*expected, line(20, [])]
