"""The chief of a search and its workers: what they print, and how long they wait for each other."""

import contextlib
import os
import threading
import time


@contextlib.contextmanager
def answering(time_limit):
    """Ends a worker's search by a TimeoutError when the chief is silent for `time_limit` seconds.

    Keras Tuner itself waits an hour, whatever has become of the chief, and raises gRPC's error.
    """
    import grpc
    from keras_tuner.src.distribute import oracle_client

    oracle_client.TIMEOUT = time_limit
    try:
        yield
    except grpc.RpcError as error:
        address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
        message = f"the chief at {address} has not answered for {time_limit:g} s."
        raise TimeoutError(message) from error


def serve(tuner, time_limit):
    """Runs the chief of a search until its workers have finished; prints what they do.

    Raises:
      TimeoutError: If no trial began or ended, and none finished an epoch, for `time_limit`
        seconds; says who is missing.
    """
    failure = []

    def run():
        try:
            tuner.search()
        except Exception as error:  # Of another thread: handed on below.
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seen, since, told = None, time.monotonic(), None
    while thread.is_alive():
        thread.join(0.5)
        oracle, state = tuner.oracle, _state(tuner)
        if state != seen:
            seen, since = state, time.monotonic()
        elif time.monotonic() - since > time_limit:
            raise TimeoutError(_missing(oracle, time_limit))
        line = _progress(oracle)
        if line != told:
            print(line, flush=True)
            told = line
    if failure:
        raise failure[0]


def _state(tuner):
    """Returns what changes as long as workers work."""
    oracle, times = tuner.oracle, []
    for path in tuner.trials_folder.glob("*/history.csv"):  # Written at the end of every epoch.
        with contextlib.suppress(FileNotFoundError):  # A worker empties the folder.
            times.append(path.stat().st_mtime_ns)
    return len(oracle.start_order), len(oracle.end_order), sorted(oracle.tuner_ids), sorted(times)


def _ongoing(oracle):
    """Returns the workers that have a trial, and which."""
    ongoing = {name: trial.trial_id for name, trial in dict(oracle.ongoing_trials).items()}
    return {name: f"{name} (trial {trial})" for name, trial in sorted(ongoing.items())}


def _progress(oracle):
    ongoing = ", ".join(_ongoing(oracle).values()) or "no worker"
    ended = f"{len(oracle.end_order)} of {oracle.max_trials} trials"
    return f"{ended} ended; at work: {ongoing}"


def _missing(oracle, time_limit):
    """Says whom the chief has waited for in vain."""
    ongoing = _ongoing(oracle)
    names = [*ongoing.values(), *sorted(oracle.tuner_ids - set(ongoing))]
    who = f"missing: {', '.join(names)}" if names else "no worker has reported"
    return f"no trial began, ended or finished an epoch for {time_limit:g} s; {who}."
