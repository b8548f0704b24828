"""Keras callbacks: KL annealing, checkpoints that resume exactly, and a guard against NaN."""

import csv
import math
import os
import statistics
import time

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_dvbf import errors


class KLAnnealing(tf_keras.callbacks.Callback):
    """Leads the model's KL weight from `initial_weight` w0 to 1 over `num_epochs`.

        f(step) = min(1, step / (num_epochs steps_per_epoch))
        weight(step) = w0 + (1 - w0) f             for w0 <= 1
        weight(step) = 1 / (1/w0 + (1 - 1/w0) f)   for w0 > 1

    The first line gives the KL its weight late, so that the posterior learns to use the states
    (Bowman et al. 2016). The second is tempering, the likelihood's share of the bound rising
    linearly from 1/w0 (Rezende and Mohamed 2015, equation 20): the posterior starts wide and
    narrows where the data ask for it, which keeps modes that it would lose otherwise.

    `step` is the optimizer's, so that a resumed run continues the line. The weight never moves away
    from 1 while the optimizer is the same: where a later `fit` has more steps in an epoch, it
    waits until the new line is as near to 1, and a model that was trained with weight 1 keeps it.
    `compile` with a new optimizer starts at `initial_weight` again. With `steps_per_execution`
    the weight changes once an execution. The history has it as `kl_weight`.

    Validation always has weight 1, and its bound may get worse while the weight moves. Keras can be
    told not to stop before that is over:

        tf_keras.callbacks.EarlyStopping("val_neg_elbo", patience=20, start_from_epoch=num_epochs)

    Args:
      num_epochs: Epochs until the weight is 1; 0 trains with weight 1 from the start.
      initial_weight: Weight at step 0, not negative.

    Raises:
      ValueError: If an argument is out of its range or, when training starts, the number of
        steps in an epoch is not known.
    """

    def __init__(self, num_epochs, initial_weight=0.0):
        super().__init__()
        if not 0 <= num_epochs < np.inf:
            raise ValueError(f"`num_epochs` must be finite and not negative; got {num_epochs}.")
        if not 0 <= initial_weight < np.inf:
            raise ValueError(
                f"`initial_weight` must be finite and not negative; got {initial_weight}."
            )
        self.num_epochs = num_epochs
        self.initial_weight = initial_weight

    def weight(self, step, steps_per_epoch):
        """Returns the weight of the line at one step of the optimizer."""
        fraction = step / (self.num_epochs * steps_per_epoch) if self.num_epochs else 1.0
        fraction = min(1.0, fraction)
        if self.initial_weight <= 1:
            return self.initial_weight + (1 - self.initial_weight) * fraction
        return 1 / (1 / self.initial_weight + (1 - 1 / self.initial_weight) * fraction)

    def on_train_begin(self, logs=None):
        if self.params["steps"] is None:
            raise ValueError(
                "`KLAnnealing` needs to know the steps in an epoch; give `fit` a data set of known "
                "cardinality or `steps_per_epoch`."
            )

    def on_train_batch_begin(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        weight = self.weight(step, self.params["steps"])
        if step > 0:  # A new model's weight is 1, which is no point of the line.
            weight = min(weight, float(self.model.kl_weight.numpy()), key=_distance_from_one)
        self.model.kl_weight.assign(weight)

    def on_epoch_end(self, epoch, logs=None):
        logs["kl_weight"] = float(self.model.kl_weight.numpy())


def _distance_from_one(weight):
    """Returns how far a weight is from 1, as a factor on either side."""
    return abs(math.log(weight)) if weight else math.inf


class TerminateOnNonFinite(tf_keras.callbacks.Callback):
    """Stops training with a ValueError when a term of the loss, or a weight, is NaN or infinite.

    The terms are checked at every step, the weights at the end of every epoch. The error names the
    term, the epoch and the optimizer's step. Placed before `Checkpoint`, the guard keeps the last
    checkpoint from being overwritten. Keras' `TerminateOnNaN` stops silently, as if training had
    ended, and lets the next callback save. A second guard on the same `fit` changes nothing.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check_terms(logs or {})

    def on_epoch_end(self, epoch, logs=None):
        self._check_terms(logs or {})
        for weight in self.model.trainable_weights:
            values = weight.numpy()
            if not np.isfinite(values).all():
                self._stop(weight.name, values[~np.isfinite(values)].flat[0])

    def _check_terms(self, logs):
        if all(np.isfinite(value) for value in logs.values()):
            return
        terms = ["nll", "kl", "val_nll", "val_kl", *logs]
        term = next(name for name in terms if not np.isfinite(logs.get(name, 0.0)))
        self._stop(term, logs[term])

    def _stop(self, name, value):
        step = int(self.model.optimizer.iterations.numpy())
        raise errors.DivergenceError(
            f"Training stopped in epoch {self.epoch + 1}, step {step}: `{name}` became {value}; "
            "a lower learning rate or `clipnorm` may help."
        )


class ProgressLine(tf_keras.callbacks.Callback):
    """Prints short lines of progress, in place of Keras' line an epoch.

        epoch  40 of 200: loss -12.35, val_neg_elbo -617.2, 1:10 left

    A line comes at the end of an epoch, of the last one in any case, and tells how long the rest
    will take at the lower median of the epochs' times, once two epochs after the first are known.
    The first does not count in that, since it compiles the training step, and the lower median of
    two leaves out the second where that is slow, as it sometimes is in a new process.

    Args:
      min_seconds: Least time between two lines.
    """

    def __init__(self, min_seconds=10.0):
        super().__init__()
        self.min_seconds = min_seconds

    def on_train_begin(self, logs=None):
        self.printed_at = time.monotonic()
        self.ended_at = []

    def on_epoch_end(self, epoch, logs=None):
        self.ended_at.append(time.monotonic())
        remaining = self.params["epochs"] - 1 - epoch
        remaining = 0 if self.model.stop_training else remaining
        if self.ended_at[-1] - self.printed_at < self.min_seconds and remaining:
            return
        self.printed_at = self.ended_at[-1]
        parts = [f"{name} {logs[name]:.4g}" for name in ["loss", "val_neg_elbo"] if name in logs]
        if remaining and len(self.ended_at) > 2:
            pace = statistics.median_low(np.diff(self.ended_at).tolist())
            parts.append(f"{_clock(remaining * pace)} left")
        number = str(epoch + 1).rjust(len(str(self.params["epochs"])))
        print(f"  epoch {number} of {self.params['epochs']}: {', '.join(parts)}", flush=True)


def _clock(seconds):
    """Returns a duration as "minutes:seconds", or "hours:minutes:seconds"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Checkpoint(tf_keras.callbacks.Callback):
    """Saves weights and optimizer at the end of an epoch, at most once in `min_seconds`.

    Keras' `BackupAndRestore` saves every epoch, which takes longer than a short epoch, and
    restores inside `fit`, after the data set of the right epoch has had to be made.

    Args:
      directory: Folder of the checkpoint; the newest one replaces the one before. None writes
        none: under a strategy of several workers the chief alone writes, but every worker has to
        help to start.
      min_seconds: Least time between two checkpoints; the last epoch is always saved.
    """

    def __init__(self, directory, min_seconds=30.0):
        super().__init__()
        self.directory = directory
        self.min_seconds = min_seconds

    def on_train_begin(self, logs=None):
        checkpoint = _checkpoint(self.model)
        checkpoint.save_counter.assign(0)  # Makes the variable, together with the other workers.
        self.manager = None
        if self.directory is not None:
            self.manager = tf.train.CheckpointManager(checkpoint, self.directory, max_to_keep=1)
        self.saved_at = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        is_last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if is_last or time.monotonic() - self.saved_at >= self.min_seconds:
            self.save()

    def save(self):
        """Saves now, if this process is one that saves."""
        if self.manager is None:
            return
        self.manager.save(checkpoint_number=int(self.model.optimizer.iterations.numpy()))
        self.saved_at = time.monotonic()


def _checkpoint(model):
    """Returns the checkpoint of weights and optimizer.

    The metrics are left out: under a strategy every worker would have to help to read them.
    """
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    weights = [weight for weight in model.weights if id(weight) not in metrics]
    return tf.train.Checkpoint(weights=weights, optimizer=model.optimizer)


def restore_checkpoint(model, directory):
    """Restores a compiled model from the newest checkpoint that `Checkpoint` wrote, if any.

    Returns:
      The optimizer's step, 0 where there is no checkpoint.

    Raises:
      ValueError: If the checkpoint is damaged or belongs to another model.
    """
    path = tf.train.latest_checkpoint(directory)
    if path is None:
        if os.path.exists(os.path.join(directory, "checkpoint")):  # The list of those written.
            raise ValueError(f"{directory} must hold a whole checkpoint; a part of it is missing.")
        return 0
    try:
        _checkpoint(model).restore(path).assert_existing_objects_matched()
    except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
        reason = errors.first_line(error)
        raise ValueError(f"{path} must be a checkpoint of this model; {reason}") from error
    return int(model.optimizer.iterations.numpy())


class HistoryLogger(tf_keras.callbacks.CSVLogger):
    """`CSVLogger` that continues its file, less the rows of epochs that a resumed run repeats."""

    def __init__(self, filename):
        super().__init__(filename, append=True)

    def on_train_begin(self, logs=None):
        finished = int(self.model.optimizer.iterations.numpy()) // self.params["steps"]
        if os.path.exists(self.filename):
            with open(self.filename, newline="") as file:
                rows = list(csv.reader(file))
            partial = f"{self.filename}.partial"
            with open(partial, "w", newline="") as file:
                csv.writer(file).writerows(rows[: finished + 1 if finished else 0])
            os.replace(partial, self.filename)
        super().on_train_begin(logs)
