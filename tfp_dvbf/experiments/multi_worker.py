"""Training shared between devices or machines: strategies, and what has to hold before one starts.

Imports TensorFlow only when a strategy is made: TensorFlow must not have run before.
"""

import hashlib
import json
import os
import socket
import time

STRATEGIES = ("none", "mirrored", "multiworker")


def check_strategy(name):
    """Raises ValueError unless the strategy called `name` can start here.

    For "multiworker" the environment variable TF_CONFIG must say which machines there are and which
    this one is, in TensorFlow's format, and its port must be free.
    """
    if name == "multiworker":
        _listen_as_worker().close()


def check_port(address):
    """Raises ValueError unless `address`, "host:port", can be listened on."""
    host, port = check_address(address)
    _listen(host, port, family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()


def check_address(address):
    """Returns host and port of `address`; ValueError unless it reads "host:port"."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")  # Of an IPv6 address.
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"An address must read host:port, a port below 65536; got {address!r}.")
    return host, int(port)


def _listen(host, port, **kwargs):
    """Returns a socket that listens; ValueError where none can. Host "" is all of this machine."""
    try:
        return socket.create_server((host, port), **kwargs)
    except OSError as error:
        reason = error.strerror.partition(" (while")[0]  # Which repeats the address.
        raise ValueError(
            f"Port {port} of {host or 'this machine'} cannot be listened on: {reason}."
        ) from error


def _listen_as_worker():
    """Returns a socket that listens where TensorFlow will: at the own port, on all interfaces.

    The host of the own address is what the other workers call, which a machine behind a proxy, such
    as a pod behind its service, does not have itself.
    """
    cluster, both = _cluster(), socket.has_dualstack_ipv6()
    _, port = check_address(cluster["workers"][cluster["index"]])
    family = socket.AF_INET6 if both else socket.AF_INET
    return _listen("", port, family=family, dualstack_ipv6=both)


def wait_for_workers(time_limit):
    """Returns when all workers of TF_CONFIG have started.

    Each listens until it has reached all others. TensorFlow itself would wait in silence, for an
    hour.

    Args:
      time_limit: Seconds.

    Raises:
      TimeoutError: If a worker cannot be reached; says which.
    """
    cluster = _cluster()
    own = cluster["workers"][cluster["index"]]
    missing = [address for address in cluster["workers"] if address != own]
    since, told = time.monotonic(), False
    with _listen_as_worker():
        while missing := [address for address in missing if not _answers(address)]:
            if time.monotonic() - since > time_limit:
                raise TimeoutError(f"no worker at {', '.join(missing)} for {time_limit:g} s.")
            if not told:
                print(f"waiting for the worker at {', '.join(missing)}", flush=True)
                told = True
            time.sleep(0.2)


def _answers(address):
    """Returns whether something listens at `address`, "host:port"."""
    try:
        socket.create_connection(check_address(address), timeout=1.0).close()
    except OSError:
        return False
    return True


def is_chief(strategy):
    """Returns whether this process writes what a run leaves behind: the only one, or worker 0."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def _cluster():
    """Returns the addresses of the workers and the index of this one, from TF_CONFIG."""
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, task = list(config["cluster"]["worker"]), config["task"]
        index = int(task["index"])
        valid = task["type"] == "worker" and 0 <= index < len(workers)
        valid = valid and all(isinstance(address, str) for address in workers)
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "TF_CONFIG must read "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}; '
            f"got {os.environ.get('TF_CONFIG')!r}."
        )
    return {"workers": workers, "index": index}


def make_strategy(name, time_limit=600.0):
    """Returns the `tf.distribute.Strategy` called `name`: "none", "mirrored" or "multiworker".

    "mirrored" takes all GPUs of this machine, or all of its logical CPUs where it has none;
    "multiworker" waits `time_limit` seconds at most for the other workers.
    """
    import tensorflow as tf

    if name == "multiworker":
        wait_for_workers(time_limit)
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
