"""Keras Tuner's search, resumed by replay, alone or with a chief and workers."""

import hashlib
import json
import math
import os
import pathlib
import shutil
import time

import keras_tuner
import tensorflow as tf
from keras_tuner.engine import base_tuner
from keras_tuner.src import config
from keras_tuner.src.engine import conditions

from tfp_dvbf import errors
from tfp_dvbf.experiments import run_folder

conditions.print = lambda *values: None  # Keras Tuner 1.4 prints every condition that it sends,
config.DEBUG = False  # and the traceback of every trial that failed.

EPOCHS = "tuner/epochs"  # What Hyperband adds to the hyperparameters.
RESULT = "result.json"
NEVER = 10**9  # Failed trials that end a search.
NUM_TRIALS = 20
FACTOR = 3  # Hyperband keeps one trial in 3 for 3 times the epochs.


def search_space(epochs):
    """Returns the hyperparameters searched; their names are those of the options of `train.py`.

    `chain_iaf` is not among the posteriors, since its objective bounds nothing.
    """
    space = keras_tuner.HyperParameters()
    space.Choice("posterior", ["innovation", "iaf", "gaussian", "trajectory_iaf"])
    with space.conditional_scope("posterior", ["iaf", "trajectory_iaf"]):
        space.Int("num_flows", 1, 3)
    space.Int("state_dim", 3, 8)
    space.Choice("hidden_units", [64, 128, 256])
    space.Float("learning_rate", 5e-4, 8e-3, sampling="log")
    space.Int("kl_annealing_epochs", 0, max(1, epochs // 2))
    space.Choice("batch_size", [16, 32, 64])
    return space


def make_oracle(tuner, objective, max_trials, epochs, seed):
    """Returns the Keras Tuner oracle that chooses the trials.

    Args:
      tuner: One of `options.TUNERS`.
      objective: Name of the metric to minimise.
      max_trials: Trials at most; None takes 20, and for Hyperband as many as its brackets have.
      epochs: Epochs of a whole training.
      seed: Seed of the choice, at least 1: 0 means random to Keras Tuner.
    """
    shared = {
        "objective": keras_tuner.Objective(objective, "min"),
        "hyperparameters": search_space(epochs),
        "allow_new_entries": False,
        "tune_new_entries": False,
        "seed": seed,
        "max_consecutive_failed_trials": NEVER,
    }
    if tuner == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(**shared, max_epochs=epochs, factor=FACTOR)
        oracle.max_trials = max_trials or _num_trials(epochs)
    else:
        kinds = {
            "random": keras_tuner.oracles.RandomSearchOracle,
            "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        }
        oracle = kinds[tuner](**shared, max_trials=max_trials or NUM_TRIALS)
    oracle.verbose = 0  # `Tuner` prints a line a trial.
    return oracle


def _num_trials(max_epochs):
    """Returns the number of trials in all brackets of a `HyperbandOracle`, one for each round.

    Round k of bracket s takes ceil(n / (s + 1) * 3^(s - k)) trials, n = 1 + log_3 max_epochs (Li
    et al. 2018, algorithm 1). Where n is no integer Keras Tuner rounds it up.
    """
    num_brackets, epochs = 1, max_epochs / FACTOR
    while epochs >= 1:
        num_brackets, epochs = num_brackets + 1, epochs / FACTOR
    size = math.ceil(1 + math.log(max_epochs, FACTOR))
    rounds = [(s, k) for s in range(num_brackets) for k in range(s + 1)]
    return sum(math.ceil(size / (s + 1) * FACTOR ** (s - k)) for s, k in rounds)


class Tuner(base_tuner.BaseTuner):
    """A Keras Tuner search that is resumed by running it again.

    Every trial leaves its result in a folder named after its hyperparameters. An oracle's choices
    are a function of its seed and of the results so far, so a search that starts anew meets the
    trials of one that was killed: finished ones return what they stored, at once; the one that was
    killed trains from its start.

    Args:
      oracle: A Keras Tuner oracle, as `make_oracle` makes it.
      folder: Folder of the search; the folders of the trials are in its `trials`.
    """

    def __init__(self, oracle, folder):
        self.trials_folder = pathlib.Path(folder) / "trials"
        name = os.environ.get("KERASTUNER_TUNER_ID", "tuner0")
        state = str(pathlib.Path(folder) / "oracle")
        super().__init__(oracle, directory=state, project_name=name, overwrite=True)

    def folder(self, trial):
        """Returns the folder of a trial; workers get its values again, but not its number."""
        return self.trials_folder / self._digest(trial)

    def _digest(self, trial):
        """Returns a hash of a trial's hyperparameters and of those of the one it goes on from."""
        values = {name: trial.hyperparameters.values[name] for name in searched(trial)}
        parent = self._parent(trial)
        values["parent"] = None if parent is None else self._digest(parent)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def _parent(self, trial):
        """Returns the trial whose weights a trial goes on from, or None."""
        parent = trial.hyperparameters.values.get("tuner/trial_id")
        return None if parent is None else self.oracle.get_trial(parent)

    def run_trial(self, trial, train):
        """Returns the metrics of a trial, stored ones if it has finished before.

        Args:
          trial: The `Trial`.
          train: Function of the hyperparameters, the trial's folder and the number of epochs (None
            but for Hyperband) that returns a dictionary of metrics. What a trial goes on from, the
            `checkpoint` and `history.csv` of an earlier one, lies in the folder already. A
            ValueError or an error of TensorFlow, or a metric that is not finite, marks the trial as
            failed.
        """
        folder, parent = self.folder(trial), self._parent(trial)
        result = read_result(folder)
        self.kept = result is not None
        if result is None:
            _prepare(folder, None if parent is None else self.folder(parent))
            values = trial.hyperparameters.values
            result = {"values": values, **_outcome(train, values, folder)}
            run_folder.write_json(folder / RESULT, result)
        if result["error"] is not None:
            raise keras_tuner.errors.FailedTrialError(result["error"])
        return result["metrics"]

    def pre_create_trial(self):
        """Keeps a worker that Hyperband lets wait from asking the chief without a pause."""
        time.sleep(0.1)

    def on_trial_begin(self, trial):
        self.began = time.monotonic()
        values = ", ".join(f"{name} {_brief(value)}" for name, value in _named(trial).items())
        print(f"trial {trial.trial_id} of {self.oracle.max_trials}: {values}", flush=True)

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        name, score = self.oracle.objective.name, self.oracle.get_trial(trial.trial_id).score
        score = _failure(self, trial) if score is None else f"{name} {score:.4g}"
        best = self.oracle.get_best_trials(1)[0].score
        best = "" if best is None else f", best so far {best:.4g}"
        took = "kept from before" if self.kept else f"{time.monotonic() - self.began:.0f} s"
        print(f"  {score}{best}, {took}", flush=True)

    def load_model(self, trial):
        raise NotImplementedError("Train the best hyperparameters with `train.py`.")


def _prepare(folder, before):
    """Empties a trial's folder and puts in what the trial before it left, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if before is not None:
        shutil.copytree(before / "checkpoint", folder / "checkpoint")
        shutil.copy(before / "history.csv", folder)


def _outcome(train, values, folder):
    """Trains a trial; returns its `metrics` and, where it failed, the `error`."""
    own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    try:
        metrics = train(own, folder, values.get(EPOCHS))
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"`{name}` became {value}.")
    except (ValueError, tf.errors.OpError) as error:
        return {"metrics": None, "error": " ".join(errors.first_line(error).split())}
    return {"metrics": metrics, "error": None}


def read_result(folder):
    """Returns what a finished trial left in its folder, None if it has not finished."""
    path = pathlib.Path(folder) / RESULT
    return run_folder.read_json(path) if path.exists() else None


def searched(trial):
    """Returns the names of the hyperparameters that define a trial, in order."""
    values = trial.hyperparameters.values
    return sorted(name for name in values if not name.startswith("tuner/") or name == EPOCHS)


def _named(trial):
    """Returns the hyperparameters of a trial by the names of the options of `train.py`."""
    values = trial.hyperparameters.values
    return {name.removeprefix("tuner/"): values[name] for name in searched(trial)}


def _brief(value):
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _failure(tuner, trial):
    """Returns why a trial failed."""
    result = read_result(tuner.folder(trial)) or {}
    lines = (trial.message or "").strip().splitlines() or ["no result"]  # A traceback.
    return f"failed: {result.get('error') or lines[-1]}"


def table(tuner):
    """Returns a row for each trial of a search, the best first: what `trials.json` holds."""
    rows = []
    for trial in tuner.oracle.trials.values():
        result, status = read_result(tuner.folder(trial)) or {}, trial.status.lower()
        row = {"trial": trial.trial_id, "status": status, **(result.get("metrics") or {})}
        error = "" if status == "completed" else _failure(tuner, trial).removeprefix("failed: ")
        rows.append({**row, **_named(trial), "error": error})
    objective = tuner.oracle.objective.name

    def rank(row):
        completed = row["status"] == "completed"
        return not completed, row[objective] if completed else 0.0, row["trial"]

    return sorted(rows, key=rank)
