"""A Keras callback that ends training with the weights that did best on a named figure."""

import os

import numpy as np
import tf_keras


class BestWeights(tf_keras.callbacks.Callback):
    """Ends training with the weights of the epoch in which a figure was least.

    Learned noise goes on falling on the training set after forecasts of other data have become
    worse: on a record of 800 time steps the negative log-density of a free run was 0.06 nats a step
    after 60 epochs and 0.5 after 150. A figure of validation data tells when.

        best = tfp_dvbf.BestWeights("run/best.npz", "val_neg_elbo", patience=20)

    The best weights lie in a file with all figures so far, so that a run that is resumed ends at
    the same weights. Keras' EarlyStopping(restore_best_weights=True) forgets them. Placed before
    `HistoryLogger` and `Checkpoint`, the history has the figure, and the last checkpoint the last
    weights.

    Args:
      path: File to write, `.npz`; one that exists is continued.
      monitor: Name of a figure in the logs, such as "val_neg_elbo"; with `score`, its new name.
      score: Function of the model that returns the figure, called after every epoch; None takes it
        from the logs.
      patience: Epochs without a better figure after which training stops; 0 never stops it.
      start_from_epoch: Epochs that do not count, such as those of KL annealing.

    Raises:
      ValueError: When training starts, if an epoch has no such figure.
    """

    def __init__(self, path, monitor="val_neg_elbo", score=None, patience=0, start_from_epoch=0):
        super().__init__()
        self.path = path
        self.monitor = monitor
        self.score = score
        self.patience = patience
        self.start_from_epoch = start_from_epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.score is not None:
            logs[self.monitor] = float(self.score(self.model))
        if self.monitor not in logs:
            raise ValueError(
                f"`monitor` must be one of the figures of an epoch, {', '.join(logs)}; "
                f"got {self.monitor!r}."
            )
        if epoch < self.start_from_epoch:
            return
        best = read(self.path)
        if logs[self.monitor] < best["value"]:
            best = {"epoch": epoch, "value": logs[self.monitor]}
            weights = {f"weight_{i}": w.numpy() for i, w in enumerate(self.model.trainable_weights)}
            write(self.path, {**best, "stopped": -1, **weights})
        elif 0 < self.patience <= epoch - best["epoch"]:
            self.model.stop_training = True
            write(self.path, {**best, "stopped": epoch + 1})

    def on_train_end(self, logs=None):
        best = read(self.path)
        for i, weight in enumerate(self.model.trainable_weights if "weight_0" in best else []):
            weight.assign(best[f"weight_{i}"])


def read(path):
    """Returns what a file holds: `epoch`, its `value`, where training `stopped`, and the weights.

    `stopped` is the number of epochs, -1 if training has not stopped.
    """
    if not os.path.exists(path):
        return {"epoch": -1, "value": np.inf, "stopped": -1}
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def sentence(path, monitor):
    """Returns one line that says where training stopped and which weights it ended with."""
    best = read(path)
    if best["epoch"] < 0:
        return f"No epoch has been judged by {monitor}; the weights are the last."
    ended = f"Stopped after epoch {best['stopped']}; the" if best["stopped"] >= 0 else "The"
    figure = f"{monitor} was least, {float(best['value']):.4g}"
    return f"{ended} weights are those of epoch {best['epoch'] + 1}, whose {figure}."


def write(path, values):
    """Writes the file, whole or not at all."""
    partial = f"{path}.partial.npz"
    np.savez(partial, **values)
    os.replace(partial, path)
