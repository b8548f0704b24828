"""The search: resumed by replay, failures, Hyperband's brackets."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf.experiments import hyperparameters, options, tuning


def score(values):
    """A made-up metric of the hyperparameters, in place of training."""
    return float(values["state_dim"] + np.log(values["learning_rate"]) / 10)


def search(folder, tuner="random", max_trials=5, epochs=9, seed=1, num_fail=0, log=None):
    """Runs a search on `score`; every trial leaves a checkpoint that tells its epochs."""
    log = [] if log is None else log
    oracle = tuning.make_oracle(tuner, "val_neg_elbo", max_trials, epochs, seed)
    searcher = tuning.Tuner(oracle, folder)

    def train_trial(values, trial_folder, num_epochs):
        before = trial_folder / "checkpoint" / "epochs"
        start = int(before.read_text()) if before.exists() else 0
        log.append((trial_folder.name, values, start, num_epochs))
        if len(log) <= num_fail:
            raise ValueError("Training stopped in epoch 1: `kl` became nan.")
        (trial_folder / "checkpoint").mkdir(exist_ok=True)
        before.write_text(str(num_epochs))
        (trial_folder / "history.csv").write_text("")
        return {"val_neg_elbo": score(values)}

    searcher.search(train=train_trial)
    return searcher


@pytest.mark.parametrize("tuner", options.TUNERS)
def test_a_search_started_again_keeps_what_has_finished(tuner, tmp_path):
    whole, again = [], []
    count = 17 if tuner == "bayesian" else 6  # 14 of them are random before a model of them is.
    limit = {"max_trials": count, "tuner": tuner}
    table = tuning.table(search(tmp_path / "a", log=whole, **limit))
    assert len(whole) == len(table) == count
    assert table == tuning.table(search(tmp_path / "a", log=again, **limit))
    assert again == []
    # As if killed in the fourth trial: no result yet, and a checkpoint that must not count.
    ids = [name for name, *_ in whole]
    for name in ids[3:]:
        (tmp_path / "a" / "trials" / name / tuning.RESULT).unlink()
    assert table == tuning.table(search(tmp_path / "a", log=again, **limit))
    assert [name for name, *_ in again] == ids[3:]
    assert [start for *_, start, _ in again] == [start for *_, start, _ in whole[3:]]
    other = tuning.table(search(tmp_path / "b", seed=2, **limit))
    assert [row["learning_rate"] for row in other] != [row["learning_rate"] for row in table]


def test_a_failed_trial_does_not_end_the_search(tmp_path):
    table = tuning.table(search(tmp_path / "a", num_fail=4, max_trials=5))
    assert [row["status"] for row in table] == ["completed"] + 4 * ["failed"]
    assert table[1]["error"] == "Training stopped in epoch 1: `kl` became nan."
    again = []
    assert table == tuning.table(search(tmp_path / "a", max_trials=5, log=again)) and not again


def test_a_metric_that_is_not_finite_fails_its_trial_alone(tmp_path):
    oracle = tuning.make_oracle("random", "val_neg_elbo", 3, 9, seed=1)
    searcher = tuning.Tuner(oracle, tmp_path)
    scores = iter([np.nan, 2.0, 1.0])
    searcher.search(train=lambda values, folder, epochs: {"val_neg_elbo": next(scores)})
    table = tuning.table(searcher)
    assert [row["trial"] for row in table] == ["2", "1", "0"]
    assert table[2]["status"] == "failed" and table[2]["error"] == "`val_neg_elbo` became nan."


def test_hyperband_trains_in_brackets(tmp_path):
    log = []
    searcher = search(tmp_path, tuner="hyperband", max_trials=None, epochs=9, log=log)
    trials = {name: (start, epochs) for name, _, start, epochs in log}
    assert len(trials) == searcher.oracle.max_trials
    for trial in searcher.oracle.trials.values():
        values = trial.hyperparameters.values
        expected = values["tuner/initial_epoch"], values["tuner/epochs"]
        assert trials[searcher.folder(trial).name] == expected
        if values["tuner/round"] > 0:  # It goes on where the best of the round before stopped.
            parent = searcher.oracle.trials[values["tuner/trial_id"]].hyperparameters.values
            assert parent["tuner/epochs"] == values["tuner/initial_epoch"]
            assert parent["learning_rate"] == values["learning_rate"]
    first = [epochs for start, epochs in trials.values() if start == 0]
    second = [epochs for start, epochs in trials.values() if start == 1]
    assert first.count(1) == 9 and second == [3] * 3
    assert [epochs for start, epochs in trials.values() if start == 3].count(9) >= 1


def test_a_trial_is_known_by_its_values(tmp_path):
    """Between workers the numbers of trials depend on chance, and so do those of their parents."""
    searcher = search(tmp_path, tuner="hyperband", max_trials=None, epochs=9)
    trials = searcher.oracle.trials
    child = next(t for t in trials.values() if t.hyperparameters.values["tuner/round"] > 0)
    parent = trials[child.hyperparameters.values["tuner/trial_id"]]
    before = [searcher.folder(trial) for trial in (child, parent)]
    trials["other"], parent.trial_id = trials.pop(parent.trial_id), "other"
    child.hyperparameters.values["tuner/trial_id"] = "other"
    assert before == [searcher.folder(trial) for trial in (child, parent)]
    parent.hyperparameters.values["learning_rate"] *= 2.0
    after = [searcher.folder(trial) for trial in (child, parent)]
    assert before[0] != after[0] and before[1] != after[1]


def test_what_a_search_prints(tmp_path, capsys):
    search(tmp_path, max_trials=2, num_fail=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trial 0 of 2: batch_size ")
    assert lines[1] == "  failed: Training stopped in epoch 1: `kl` became nan., 0 s"
    assert lines[3].startswith("  val_neg_elbo ") and ", best so far " in lines[3]
    search(tmp_path, max_trials=2)
    captured = capsys.readouterr()
    assert captured.out.count("kept from before") == 2 and captured.err == ""


def test_an_error_of_tensorflow_fails_its_trial(tmp_path):
    searcher = tuning.Tuner(tuning.make_oracle("random", "val_neg_elbo", 1, 9, seed=1), tmp_path)

    def train(values, folder, epochs):
        tf.io.read_file("/nowhere")

    searcher.search(train=train)
    (row,) = tuning.table(searcher)
    assert row["status"] == "failed" and row["error"].startswith("/nowhere; No such file")


def test_the_space_is_what_train_takes_from_a_search():
    assert sorted(hp.name for hp in tuning.search_space(9).space) == sorted(hyperparameters.TUNED)
