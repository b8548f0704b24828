"""Training under strategies: the same losses as alone, and clear errors before it starts."""

import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import types

import conftest
import numpy as np
import pytest
import train

from tfp_dvbf.experiments import histories, multi_worker, run_folder

WORKER = """
import json, sys, tempfile
import tensorflow as tf
import tf_keras
sys.path[:0] = sys.argv[1].split(":")
if sys.argv[2] == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tfp_dvbf.experiments import multi_worker
strategy = multi_worker.make_strategy(sys.argv[2])
import models
from tfp_dvbf import callbacks, data
from tfp_dvbf.data import batching, environments
from tfp_dvbf.layers import philox
philox.normal = lambda shape, seed: tf.zeros(shape)
sequences = environments.collect("Pendulum-v1", num_sequences=13, num_steps=8, seed=1)
with strategy.scope():
    model = models.small_model("iaf")
    model.adapt(batching.as_dataset(sequences))
    model.compile(tf_keras.optimizers.Adam(1e-2, clipnorm=1.0))
with tempfile.TemporaryDirectory() as folder:  # Trains from memory, validates from files.
    for index in range(3):
        data.save(f"{folder}/{index}.npz", sequences[5 * index : 5 * index + 5])
    history = model.fit(
        batching.as_dataset(sequences, 4),
        validation_data=batching.as_dataset(folder, 4),
        epochs=3,
        verbose=0,
        callbacks=[callbacks.KLAnnealing(2)],
    ).history
whole = getattr(model._differentiate, "_jit_compile", None), model.jit_compile
print(json.dumps({"history": history, "jit": whole, "replicas": strategy.num_replicas_in_sync}))
"""
PATHS = ":".join(
    str(pathlib.Path(train.__file__).parent.parent / name) for name in [".", "scripts", "tests"]
)


def start(command, index=0, addresses=None):
    """Starts a Python process, worker `index` of a cluster if there are `addresses`."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if addresses:
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], env=environment, **pipes)


def outcome(process):
    """Waits for a process; returns its exit status, stdout and stderr."""
    stdout, stderr = process.communicate(timeout=600)
    return process.returncode, stdout, stderr


def free_addresses(count=2):
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in with_sockets]
    for listener in with_sockets:
        listener.close()
    return addresses


@pytest.mark.slow
def test_losses_are_those_of_a_single_process():
    """Noise off, no shuffling, 13 sequences in batches of 4: the last batch is uneven."""
    addresses = free_addresses()
    results = {}
    for name, count in {"none": 1, "mirrored": 1, "multiworker": 2}.items():
        cluster = addresses if count == 2 else None
        processes = [start(["-c", WORKER, PATHS, name], i, cluster) for i in range(count)]
        for index, process in enumerate(processes):
            status, stdout, stderr = outcome(process)
            assert status == 0, stderr
            results[name, index] = json.loads(stdout.splitlines()[-1])
    alone = results["none", 0]
    assert alone["replicas"] == 1 and alone["jit"] == [None, True]
    for key, result in results.items():
        if key != ("none", 0):
            assert result["replicas"] == 2 and result["jit"] == [True, False]
        assert set(result["history"]) == set(alone["history"])
        for name, values in result["history"].items():
            np.testing.assert_allclose(values, alone["history"][name], rtol=1e-4, err_msg=name)


def start_two_workers(folders, output, epochs=2, *flags):
    """Starts two workers of `train.py`."""
    addresses = free_addresses()
    options = {"--epochs": epochs, "--kl-annealing-epochs": 1, "--batch-size": 4}
    options |= {"--strategy": "multiworker", "--output": output, "--checkpoint-seconds": 0}
    command = [train.__file__, *(str(word) for pair in options.items() for word in pair), *flags]
    return [start([*command, "--data", str(folders[i])], i, addresses) for i in range(2)]


def train_two_workers(*args):
    """Runs two workers of `train.py`; returns the outcome of each."""
    return [outcome(worker) for worker in start_two_workers(*args)]


def wait_for_epochs(run, count, workers):
    """Returns when a run of `workers` has logged `count` epochs."""
    history = run / "history.csv"
    while not history.exists() or history.read_text().count("\n") <= count:
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.05)


def kill_one(workers, killed, run, count):
    """Kills one of two workers after `count` epochs; asserts that the other says so and ends."""
    wait_for_epochs(run, count, workers)
    workers[killed].kill()
    status, _, stderr = outcome(workers[1 - killed])
    assert status == 2 and "a worker is gone; start all of them again" in stderr
    workers[killed].communicate()


@pytest.mark.long
def test_workers_of_which_one_is_killed_resume_to_the_same_weights(dataset, tmp_path):
    """First the one that writes the run folder is killed, then the other one."""
    folders, run = [dataset, dataset], tmp_path / "killed"
    for status, _, stderr in train_two_workers(folders, tmp_path / "straight", 30):
        assert status == 0, stderr
    metrics = json.loads((tmp_path / "straight" / "metrics.json").read_text())
    assert metrics["updates"] == 90 and np.isfinite(metrics["elbo"])
    kill_one(start_two_workers(folders, run, 30), 0, run, 5)
    resumed = len(histories.read(run / "history.csv")["loss"])
    kill_one(start_two_workers(folders, run, 30, "--resume"), 1, run, resumed + 5)
    assert not (run / "metrics.json").exists()
    for status, _, stderr in train_two_workers(folders, run, 30, "--resume"):
        assert status == 0, stderr
    models = [run_folder.load_model(tmp_path / name) for name in ["straight", "killed"]]
    for expected, actual in zip(*(model.get_weights() for model in models)):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    for name in ["straight", "killed"]:
        assert len(histories.read(tmp_path / name / "history.csv")["loss"]) == 30


@pytest.mark.long
def test_the_mirrored_strategy_of_the_script(
    dataset, tmp_path, without_xla, evaluation_without_graphs
):
    """On one device the weights are those without a strategy."""
    for name in ["none", "mirrored"]:
        options = {"epochs": 2, "kl_annealing_epochs": 1, "hidden_units": 16, "verbose": 0}
        paths = {"data": str(dataset), "output": str(tmp_path / name)}
        train.main(train.Args(strategy=name, **options, **paths))
    models = [run_folder.load_model(tmp_path / name) for name in ["none", "mirrored"]]
    for expected, actual in zip(*(model.trainable_weights for model in models)):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.slow
def test_workers_with_other_data_are_refused(dataset, tmp_path):
    other = conftest.write_dataset(tmp_path / "other", seed=2)
    for status, _, stderr in train_two_workers([dataset, other], tmp_path / "run"):
        assert status == 2
        assert "error: All workers must have the same data." in stderr
    assert not (tmp_path / "run").exists()


def test_a_strategy_needs_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert multi_worker.is_chief(multi_worker.make_strategy("none"))
    for index in [0, 1]:
        resolver = types.SimpleNamespace(task_id=index)
        strategy = types.SimpleNamespace(cluster_resolver=resolver)
        assert multi_worker.is_chief(strategy) == (index == 0)
    with pytest.raises(ValueError, match="TF_CONFIG must read"):
        multi_worker.check_strategy("multiworker")
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    first = {"type": "worker", "index": 0}
    cases = [(cluster, {"type": "chief", "index": 0}), (cluster, {"type": "worker", "index": 2})]
    for workers, task in [*cases, (cluster, {}), ({"worker": [1, 2]}, first)]:
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": workers, "task": task}))
        with pytest.raises(ValueError, match="TF_CONFIG must read"):
            multi_worker.check_strategy("multiworker")


def test_a_port_that_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        cluster = {"worker": [f"127.0.0.1:{port}"]}
        task = {"type": "worker", "index": 0}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
        with pytest.raises(ValueError, match=f"Port {port} of this machine cannot be listened on"):
            multi_worker.check_strategy("multiworker")
        with pytest.raises(ValueError, match=f"Port {port} of 127.0.0.1 cannot be listened on"):
            multi_worker.check_port(f"127.0.0.1:{port}")
    multi_worker.check_strategy("multiworker")
    # As other workers call it, behind a proxy.
    elsewhere = {"cluster": {"worker": [f"192.0.2.1:{port}"]}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(elsewhere))
    multi_worker.check_strategy("multiworker")
    assert multi_worker.check_address("[::1]:80") == ("::1", 80)
    for address in ["nowhere", ":80", "[]:80", "127.0.0.1:http", "127.0.0.1:99999"]:
        with pytest.raises(ValueError, match=re.escape(f"below 65536; got {address!r}")):
            multi_worker.check_port(address)


def test_a_worker_that_does_not_start(monkeypatch, capsys):
    addresses = free_addresses(3)
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": addresses}, "task": task}))
    host, port = addresses[1].split(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(TimeoutError, match=f"^no worker at {addresses[2]} for 0.5 s"):
            multi_worker.wait_for_workers(0.5)
    assert f"waiting for the worker at {addresses[2]}" in capsys.readouterr().out
    others = [("127.0.0.1", int(address.split(":")[1])) for address in addresses[1:]]
    with socket.create_server(others[0]), socket.create_server(others[1]):
        multi_worker.wait_for_workers(0.5)


def test_a_worker_whose_partner_was_refused(dataset, tmp_path, monkeypatch):
    """The one is refused at once; the other ends after its time limit and leaves nothing behind."""
    cluster = {"worker": free_addresses()}
    args = train.Args(strategy="multiworker", output=str(tmp_path / "new"), time_limit=1.0)
    for index, folder, error, message in [
        (1, tmp_path / "nowhere", ValueError, "nowhere does not exist"),
        (0, dataset, TimeoutError, f"no worker at {cluster['worker'][1]} for 1 s."),
    ]:
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        with pytest.raises(error, match=message):
            train.main(dataclasses.replace(args, data=str(folder)))
    assert not (tmp_path / "new").exists()
