"""Training shared between devices or machines: strategies, and what has to hold before one starts.

Imports TensorFlow only when a strategy is made: TensorFlow must not have run before.
"""

import hashlib
import json
import os
import socket

STRATEGIES = ("none", "mirrored", "multiworker")


def check_strategy(name):
    """Raises ValueError unless the strategy called `name` can start here.

    For "multiworker" the environment variable TF_CONFIG must say which machines there are and which
    this one is, in TensorFlow's format, and its port must be free.
    """
    if name == "multiworker":
        cluster = _cluster()
        check_port(cluster["workers"][cluster["index"]])


def check_port(address):
    """Raises ValueError unless `address`, "host:port", can be listened on."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"An address must read host:port; got {address!r}.")
    try:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
    except OSError as error:
        raise ValueError(
            f"Port {port} of {host} cannot be listened on: {error.strerror}."
        ) from error


def is_chief(name):
    """Returns whether this process writes what a run leaves behind: the only one, or worker 0."""
    return name != "multiworker" or _cluster()["index"] == 0


def _cluster():
    """Returns the addresses of the workers and the index of this one, from TF_CONFIG."""
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, task = list(config["cluster"]["worker"]), config["task"]
        index = int(task["index"])
        valid = task["type"] == "worker" and 0 <= index < len(workers)
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "TF_CONFIG must read "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; '
            f"got {os.environ.get('TF_CONFIG')!r}."
        )
    return {"workers": workers, "index": index}


def make_strategy(name):
    """Returns the `tf.distribute.Strategy` called `name`: "none", "mirrored" or "multiworker".

    "mirrored" takes all GPUs of this machine, or all of its logical CPUs where it has none.
    """
    import tensorflow as tf

    if name == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def check_same(strategy, **values):
    """Raises ValueError in every worker unless each of `values` is the same in all of them.

    Args:
      strategy: The strategy; all workers must call this with the same names.
      **values: What JSON can hold.
    """
    import tensorflow as tf

    if strategy.num_replicas_in_sync == 1:
        return
    differing = []
    for name, value in values.items():
        digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
        number = tf.constant([int.from_bytes(digest[:7], "big")], tf.int64)
        gathered = strategy.gather(strategy.run(lambda number=number: number), axis=0)
        if len(set(gathered.numpy().tolist())) > 1:
            differing.append(name)
    if differing:
        raise ValueError(f"All workers must have the same {', '.join(differing)}.")
