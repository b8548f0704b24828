"""Members of an ensemble that train at the same time, each in a thread of its own."""

from concurrent import futures

import tf_keras


def check_own(own, members):
    """Raises ValueError unless each member that trains in a thread has data and callbacks alone."""
    for name, given in own.items():
        if given is not None and not callable(given) and not (name == "callbacks" and not given):
            raise ValueError(
                f"`{name}` must be a function of the member's index where `num_threads` is more "
                f"than 1; got {type(given).__name__}."
            )
    replicas = members[0].distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(f"`num_threads` must be 1 where a model has {replicas} replicas.")


class Stopped(Exception):
    """Ends the training of a member because that of another has failed."""


class StopsWithOthers(tf_keras.callbacks.Callback):
    """Raises `Stopped` at the next batch after an event, before anything of it is kept.

    Args:
      event: A `threading.Event`.
    """

    def __init__(self, event):
        super().__init__()
        self.event = event

    def on_train_begin(self, logs=None):
        if self.event.is_set():
            raise Stopped

    def on_train_batch_begin(self, batch, logs=None):
        self.on_train_begin()

    def on_test_batch_begin(self, batch, logs=None):
        self.on_train_begin()


def in_threads(train, count, num_threads, stopped):
    """Returns `train(index)` for `count` indices, so many of them at the same time.

    Args:
      train: Function of an index.
      count: Number of indices.
      num_threads: Number of threads.
      stopped: An event that is set when one has failed or Ctrl-C was pressed.
    """
    with futures.ThreadPoolExecutor(num_threads) as pool:
        runs = [pool.submit(train, index) for index in range(count)]
        try:
            futures.wait(runs, return_when=futures.FIRST_EXCEPTION)
        finally:
            stopped.set()
            for run in runs:
                run.cancel()
    found = [None if run.cancelled() else run.exception() for run in runs]
    for error in found:
        if error is not None and not isinstance(error, Stopped):
            raise error
    return [run.result() for run in runs]
