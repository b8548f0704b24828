"""How a script starts TensorFlow: quietly, with GPU memory growth, naming the device."""

import contextlib
import os
import sys
import tempfile
from typing import Any, NamedTuple

from tfp_dvbf.experiments import multi_worker


class Runtime(NamedTuple):
    """What TensorFlow was started with.

    Attributes:
      device: Name of the device, or of the devices.
      strategy: The `tf.distribute.Strategy`.
    """

    device: str
    strategy: Any


def start(seed=None, strategy="none", time_limit=600.0):
    """Imports TensorFlow, prints its device once and sets the seeds.

    Args:
      seed: Seed of Python, NumPy and TensorFlow, or None.
      strategy: Name of the strategy to make, as `multi_worker.make_strategy` takes it.
      time_limit: Seconds that the workers of a strategy wait for each other.

    Returns:
      A `Runtime`.
    """
    first = "tensorflow" not in sys.modules
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Failures raise; the rest is noise.
    with _stderr_held_back():
        import tensorflow as tf
        import tensorflow_probability  # noqa: F401
        import tf_keras

        tf.get_logger().setLevel("ERROR")
        gpus = tf.config.list_physical_devices("GPU")
        with contextlib.suppress(RuntimeError):  # TensorFlow runs already, growth is set or not.
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
        made = multi_worker.make_strategy(strategy, time_limit)
        tf.config.list_logical_devices()  # Starts the devices while stderr is held back.
    details = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    device = ", ".join(details) or f"CPU, {num_cores()} core{'s' * (num_cores() > 1)}"
    if first:
        print("device:", device, flush=True)
    if seed is not None:
        tf_keras.utils.set_random_seed(seed)
    return Runtime(device, made)


def num_cores():
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextlib.contextmanager
def _stderr_held_back():
    """Holds back what C++ prints while TensorFlow loads; shows it if loading fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
