"""`tune.py` on a data set of 12 sequences: trials, the winner, kills, a chief and workers."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import conftest
import grpc
import keras_tuner
import pytest
import train
import tune
from keras_tuner.src import protos

from tfp_dvbf import callbacks
from tfp_dvbf.experiments import histories, hyperparameters, options, recipe, run_folder, tuning


@pytest.mark.slow
def test_a_promoted_trial_goes_on_from_the_weights_of_its_parent(dataset, tmp_path, eagerly):
    args = tune.Args(data=str(dataset), epochs=3, tuner="hyperband", max_trials=2)
    splits, values = run_folder.read_splits(dataset), {"hidden_units": 16, "batch_size": 12}
    folder = tmp_path / "trial"
    folder.mkdir()
    tune.train_trial(args, splits, values, folder, 1)
    run_options = options.RunOptions(**values, epochs=3)
    model = recipe.make_model(run_options, splits[0], seed=1)
    recipe.prepare(model, splits[0], run_options)
    assert callbacks.restore_checkpoint(model, folder / "checkpoint") == 1
    metrics = tune.train_trial(args, splits, values, folder, 3)
    assert callbacks.restore_checkpoint(model, folder / "checkpoint") == 3
    assert len(histories.read(folder / "history.csv")["loss"]) == 3
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = tune.train_trial(args, splits, values, whole, None)
    assert metrics == pytest.approx(expected, rel=1e-4)


def one_trial_space(epochs, learning_rate=1e-3):
    space = keras_tuner.HyperParameters()
    space.Fixed("learning_rate", learning_rate)
    space.Fixed("hidden_units", 16)
    space.Int("kl_annealing_epochs", 0, epochs + 4)
    return space


def test_the_script_writes_trials_and_a_winner_that_train_takes(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "search_space", one_trial_space)
    monkeypatch.setattr(
        tune,
        "train_trial",
        lambda args, splits, values, folder, num_epochs: {
            "val_neg_elbo": 1.0,
            "val_mae_sampled": values["kl_annealing_epochs"],
        },
    )
    output = tmp_path / "search"
    args = {"data": str(dataset), "epochs": 1, "max_trials": 2, "objective": "val_mae_sampled"}
    tune.main(tune.Args(output=str(output), **args))
    rows = json.loads((output / "trials.json").read_text())
    assert len(rows) == 2 and rows[0]["val_mae_sampled"] < rows[1]["val_mae_sampled"]
    best = json.loads((output / "best.json").read_text())
    assert best["score"] == rows[0]["val_mae_sampled"]
    run = train.Args(hyperparameters=str(output / "best.json"), data=str(dataset))
    replaced = hyperparameters.with_hyperparameters(run)
    assert (replaced.hidden_units, replaced.learning_rate) == (16, 1e-3)
    transition = options.model_arguments(replaced)["transition"]
    assert tuple(transition["config"]["hidden_units"]) == (16, 16)
    with pytest.raises(ValueError, match="was started with other arguments: epochs"):
        tune.main(tune.Args(output=str(output), **{**args, "epochs": 2}))
    with pytest.raises(ValueError, match="`learning_rate` must be left out, since .* got 0.5"):
        hyperparameters.with_hyperparameters(dataclasses.replace(run, learning_rate=0.5))
    with (
        run_folder.only_process(output),
        pytest.raises(ValueError, match="Another process is at work"),
    ):
        tune.main(tune.Args(output=str(output), **args))
    tune.main(tune.Args(output=str(output), **{**args, "max_trials": 4}))
    assert len(json.loads((output / "trials.json").read_text())) == 4


def test_a_search_without_a_trial_that_completes(dataset, tmp_path, monkeypatch, eagerly):
    monkeypatch.setattr(tuning, "search_space", lambda epochs: one_trial_space(epochs, 1e30))
    args = tune.Args(data=str(dataset), output=str(tmp_path / "search"), epochs=1, max_trials=2)
    with pytest.raises(ValueError, match="no trial completed; .*trials.json says why"):
        tune.main(args)
    rows = json.loads((tmp_path / "search" / "trials.json").read_text())
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "Training stopped in epoch 1" in rows[0]["error"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tuner": "grid"}, "`tuner` must be one of random, hyperband, bayesian; got 'grid'"),
        ({"objective": "loss"}, "`objective` must be one of val_neg_elbo, val_mae_sampled"),
        ({"epochs": 0}, "`epochs` must be at least 1; got 0"),
        ({"max_trials": 0}, "`max_trials` must be at least 1; got 0"),
        ({"seed": 0}, "`seed` must be at least 1; got 0"),
        ({"data": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_tune_refuses_before_anything_is_written(dataset, tmp_path, change, message):
    args = tune.Args(**{"data": str(dataset), "output": str(tmp_path / "run"), **change})
    with pytest.raises(ValueError, match=message):
        tune.main(args)
    assert not (tmp_path / "run").exists()


def test_bayesian_needs_its_extra(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"pip install tfp_dvbf\[bayesian\]"):
        tune.main(tune.Args(data=str(dataset), tuner="bayesian"))


@pytest.mark.parametrize(
    "values",
    [
        "",
        "[1]",
        "1",
        '{"size": 1}',
        '{"output": "x"}',
        '{"num_flows": "2"}',
        '{"learning_rate": null}',
    ],
)
def test_train_refuses_hyperparameters(tmp_path, values):
    path = tmp_path / "best.json"
    path.write_text(f'{{"hyperparameters": {values}}}')
    with pytest.raises(ValueError, match="must be a best.json of tune.py|must hold what tune.py"):
        train.main(train.Args(hyperparameters=str(path)))


def chief_environment(name, port):
    return {
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }


def test_a_chief_whose_port_is_taken(dataset, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for name, value in chief_environment("chief", port).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f"Port {port} of 127.0.0.1 cannot be listened on"):
            tune.main(tune.Args(data=str(dataset)))
    monkeypatch.delenv("KERASTUNER_ORACLE_PORT")
    with pytest.raises(ValueError, match="KERASTUNER_ORACLE_PORT must be"):
        tune.main(tune.Args(data=str(dataset)))


def test_a_worker_without_a_chief(dataset, tmp_path, monkeypatch):
    for name, value in chief_environment("worker1", 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TimeoutError, match="the chief has not made .* within 1 s"):
        tune.main(tune.Args(data=str(dataset), output=str(tmp_path / "none"), time_limit=1))


def test_a_worker_whose_chief_is_gone(dataset, tmp_path, monkeypatch):
    """The folder of the search is there, but nobody answers."""
    for name, value in chief_environment("worker1", free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tune, "_wait_for", lambda path, time_limit: None)
    args = tune.Args(data=str(dataset), output=str(tmp_path / "search"), time_limit=1)
    with pytest.raises(TimeoutError, match=r"the chief at 127.0.0.1:\d+ has not answered for 1 s"):
        tune.main(args)


def start(dataset, output, environment=(), **options):
    """Starts `tune.py` in a process of its own."""
    options = {"data": str(dataset), "output": output, "epochs": 2, "max_trials": 3, **options}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return subprocess.Popen(
        [sys.executable, tune.__file__, *words],
        env={**os.environ, **dict(environment)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_line(process, start_of_line):
    for line in process.stdout:
        if line.startswith(start_of_line):
            return
    raise AssertionError(f"{start_of_line} was never printed")


@pytest.mark.slow
def test_a_killed_search_ends_like_one_that_was_not(dataset, tmp_path):
    outputs, options = [tmp_path / "whole", tmp_path / "killed"], {"epochs": 2, "max_trials": 2}
    tune.main(tune.Args(data=str(dataset), output=str(outputs[0]), **options))
    process = start(dataset, outputs[1], **options)
    wait_for_line(process, "trial 1")
    while len(list(outputs[1].glob("trials/*/history.csv"))) < 2:  # Until it has a checkpoint.
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stdout, _ = start(dataset, outputs[1], **options).communicate(timeout=300)
    assert stdout.count("kept from before") == 1
    rows, expected = (json.loads((output / "trials.json").read_text()) for output in outputs)
    assert len(expected) == 2
    for row, other in zip(rows, expected):
        numbers = [name for name, value in other.items() if isinstance(value, float)]
        assert {name: row.pop(name) for name in numbers} == pytest.approx(
            {name: other.pop(name) for name in numbers}, rel=1e-4
        )
        assert row == other


@pytest.mark.long
def test_a_worker_that_was_killed_gets_its_trial_back(dataset, tmp_path):
    port = free_port()
    chief = start(dataset, tmp_path / "out", chief_environment("chief", port), max_trials=2)
    worker = start(dataset, tmp_path / "out", chief_environment("worker1", port), max_trials=2)
    wait_for_line(worker, "trial 0")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker = start(dataset, tmp_path / "out", chief_environment("worker1", port), max_trials=2)
    wait_for_line(worker, "trial 0")
    printed, _ = worker.communicate(timeout=300)
    assert worker.returncode == 0, printed
    stdout, _ = chief.communicate(timeout=300)
    assert chief.returncode == 0, stdout
    assert not {"iaf", "gaussian"} & set(f"{printed}{stdout}".split("\n"))
    rows = json.loads((tmp_path / "out" / "trials.json").read_text())
    assert [row["status"] for row in rows] == ["completed", "completed"]


def ask_for_a_trial(port):
    """Asks a chief for a trial as a worker that is never heard of again."""
    stub = protos.get_service_grpc().OracleStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    request = protos.get_service().CreateTrialRequest(tuner_id="worker1")
    stub.CreateTrial(request, wait_for_ready=True, timeout=60)


def test_the_chief_says_who_is_missing(dataset, tmp_path, monkeypatch, capsys):
    port = free_port()
    for name, value in chief_environment("chief", port).items():
        monkeypatch.setenv(name, value)
    threading.Thread(target=ask_for_a_trial, args=[port], daemon=True).start()
    args = tune.Args(data=str(dataset), output=str(tmp_path / "out"), max_trials=2, time_limit=4)
    with pytest.raises(TimeoutError, match=r"an epoch for 4 s; missing: worker1 \(trial 0\)."):
        tune.main(args)
    assert "0 of 2 trials ended; at work: worker1 (trial 0)" in capsys.readouterr().out


def test_a_worker_with_other_data_is_refused(dataset, tmp_path, monkeypatch):
    """By the folder that its chief has made, who waits for another one in vain."""
    port, output = free_port(), str(tmp_path / "out")
    for name, value in chief_environment("chief", port).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TimeoutError, match="no worker has reported"):
        tune.main(tune.Args(data=str(dataset), output=output, time_limit=1))
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker1")
    other = conftest.write_dataset(tmp_path / "other", seed=7)
    with pytest.raises(ValueError, match="started with other arguments: data_sha256"):
        tune.main(tune.Args(data=str(other), output=output, time_limit=1))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
