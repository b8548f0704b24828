"""Keras Tuner's search, resumed by replay, alone or with a chief and workers."""

import json
import math
import os
import pathlib
import shutil
import threading
import time

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.src.engine import conditions

from tfp_dvbf import runs

conditions.print = lambda *values: None  # Keras Tuner 1.4 prints every condition that it sends.

RESULT = "result.json"
NEVER = 10**9  # Failed trials that end a search.
NUM_TRIALS = 20
FACTOR = 3  # Hyperband keeps one trial in 3 for 3 times the epochs.


def search_space(epochs):
    """Returns the hyperparameters searched; their names are those of the options of `train.py`.

    `chain_iaf` is not among the posteriors, since its objective bounds nothing.
    """
    space = keras_tuner.HyperParameters()
    space.Choice("posterior", ["iaf", "gaussian", "trajectory_iaf"])
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
      tuner: One of `choices.TUNERS`.
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
        oracle.max_trials = max_trials
    else:
        kinds = {
            "random": keras_tuner.oracles.RandomSearchOracle,
            "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        }
        oracle = kinds[tuner](**shared, max_trials=max_trials or NUM_TRIALS)
    oracle.verbose = 0  # `Tuner` prints a line a trial.
    return oracle


class Tuner(base_tuner.BaseTuner):
    """A Keras Tuner search that is resumed by running it again.

    Every trial leaves its result in a file. An oracle's choices are a function of its seed and of
    the results so far, so a search that starts anew meets the trials of one that was killed:
    finished ones return what they stored, at once; the one that was killed trains from its start.

    Args:
      oracle: A Keras Tuner oracle, as `make_oracle` makes it.
      folder: Folder of the search; `trials/<id>` in it belongs to a trial.
    """

    def __init__(self, oracle, folder):
        self.kept = False
        self.trials_folder = pathlib.Path(folder) / "trials"
        name = os.environ.get("KERASTUNER_TUNER_ID", "tuner0")
        state = str(pathlib.Path(folder) / "oracle")
        super().__init__(oracle, directory=state, project_name=name, overwrite=True)

    def run_trial(self, trial, train):
        """Returns the metrics of a trial, stored ones if it has finished before.

        Args:
          trial: The `Trial`.
          train: Function of the hyperparameters, the trial's folder and the number of epochs (None
            but for Hyperband) that returns a dictionary of metrics. What a trial goes on from, the
            `checkpoint` and `history.csv` of an earlier one, lies in the folder already. A
            ValueError, or a metric that is not finite, marks the trial as failed.
        """
        values = dict(trial.hyperparameters.values)
        folder = self.trials_folder / trial.trial_id
        result = read_result(folder)
        self.kept = result is not None and result["values"] == values
        if not self.kept:
            self._prepare(folder, values.get("tuner/trial_id"))
            result = {"values": values, **_outcome(train, values, folder)}
            runs.write_json(folder / RESULT, result)
        if result["error"] is not None:
            raise keras_tuner.errors.FailedTrialError(result["error"])
        return result["metrics"]

    def _prepare(self, folder, parent):
        """Empties a trial's folder and puts in what its parent left, if it has one."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if parent is not None:
            before = self.trials_folder / parent
            shutil.copytree(before / "checkpoint", folder / "checkpoint")
            shutil.copy(before / "history.csv", folder)

    def on_trial_begin(self, trial):
        values = ", ".join(f"{name} {_brief(value)}" for name, value in searched(trial).items())
        print(f"trial {trial.trial_id}: {values}", flush=True)

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        ended = self.oracle.get_trial(trial.trial_id)
        best = self.oracle.get_best_trials(1)[0].score
        score = "failed" if ended.score is None else f"{ended.score:.4g}"
        best = "" if best is None else f", best so far {best:.4g}"
        kept = ", kept from before" if self.kept else ""
        print(f"  {self.oracle.objective.name} {score}{best}{kept}", flush=True)

    def load_model(self, trial):
        raise NotImplementedError("Train the best hyperparameters with `train.py`.")


def _outcome(train, values, folder):
    """Trains a trial; returns its `metrics` and, where it failed, the `error`."""
    own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    try:
        metrics = train(own, folder, values.get("tuner/epochs"))
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"`{name}` became {value}.")
    except ValueError as error:
        return {"metrics": None, "error": " ".join(str(error).split())}
    return {"metrics": metrics, "error": None}


def read_result(folder):
    """Returns what a finished trial left in its folder, None if it has not finished."""
    path = pathlib.Path(folder) / RESULT
    return json.loads(path.read_text()) if path.exists() else None


def searched(trial):
    """Returns the hyperparameters of a trial, less what Hyperband adds."""
    values = trial.hyperparameters.values
    epochs = {"epochs": values["tuner/epochs"]} if "tuner/epochs" in values else {}
    own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    return {**own, **epochs}


def _brief(value):
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def table(tuner):
    """Returns a row for each trial of a search, the best first: what `trials.json` holds."""
    rows = []
    for trial in tuner.oracle.trials.values():
        result = read_result(tuner.trials_folder / trial.trial_id) or {}
        status = {"trial": trial.trial_id, "status": trial.status.lower()}
        error = result.get("error") or (trial.message or "").strip().split("\n")[-1]
        rows.append({**status, **(result.get("metrics") or {}), **searched(trial), "error": error})
    objective = tuner.oracle.objective.name

    def rank(row):
        completed = row["status"] == "completed"
        return not completed, row[objective] if completed else 0.0, row["trial"]

    return sorted(rows, key=rank)


def serve(tuner, time_limit):
    """Runs the chief of a search until its workers have finished.

    Raises:
      TimeoutError: If no trial began or ended for `time_limit` seconds; says who is missing.
    """
    failure = []

    def run():
        try:
            tuner.search()
        except Exception as error:  # Of another thread: handed on below.
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seen, since = None, time.monotonic()
    while thread.is_alive():
        thread.join(0.5)
        oracle = tuner.oracle
        state = len(oracle.start_order), len(oracle.end_order), sorted(oracle.tuner_ids)
        if state != seen:
            seen, since = state, time.monotonic()
        elif time.monotonic() - since > time_limit:
            raise TimeoutError(_missing(oracle, time_limit))
    if failure:
        raise failure[0]


def _missing(oracle, time_limit):
    """Says whom the chief has waited for in vain."""
    waiting = {name: trial.trial_id for name, trial in oracle.ongoing_trials.items()}
    names = [f"{name} (trial {trial})" for name, trial in waiting.items()]
    names += sorted(oracle.tuner_ids - set(waiting))
    who = f"missing: {', '.join(names)}" if names else "no worker has reported"
    return f"no trial began or ended for {time_limit:g} s; {who}."
