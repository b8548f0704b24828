"""What is timed of this package alone, in rows as those of `measures`."""

import itertools
import pathlib
import statistics
import tempfile

from tfp_dvbf import registry
from tfp_dvbf.experiments.benchmarking import processes

NUM_STEPS = 50  # Time steps of a sequence where they are not what is varied.
LENGTHS = (50, 200, 800, 3200)
TIME_STEPS = 12_800  # Of a batch, however long its sequences are.
NUM_BATCHES = 32  # Of an epoch that is fed.
FEEDS = {
    processes.DEFAULT._replace(name="one batch, over and over"): "batch",
    processes.DEFAULT._replace(name="sequences, as `fit` takes them"): "sequences",
}


def equal_work(args):
    """Times a training step on batches of as many time steps, in ever fewer and longer sequences.

    Memory is the most that a process of its own holds, beyond what it held before the model.
    """
    threads = max(args.threads)
    for posterior in registry.names("posterior"):
        shortest = None
        for num_steps in LENGTHS:
            sizes = {"batch_size": TIME_STEPS // num_steps, "num_steps": num_steps}
            about = {"what": "equal_work", "posterior": posterior, **sizes, "threads": threads}
            seconds, taken = trained_alone(args, threads, {"posterior": posterior, **sizes})
            time = statistics.median(seconds)
            shortest = shortest or time
            row = {"milliseconds": 1e3 * time, "ratio": time / shortest}
            yield [{**about, **row, "kibibytes": taken and taken / 1024 / TIME_STEPS}]


def trained_alone(args, threads, settings):
    """Returns the seconds of a training step in each round, and the bytes that it took at most."""
    program = processes.DEFAULT
    with tempfile.TemporaryDirectory() as folder:
        path = processes.write_reference(folder, threads, args.device, num_batches=1, **settings)
        with processes.Worker(program.module, program.way, threads, args.device) as worker:
            before = worker.ask("peak_memory")["bytes"]
            worker.ask("prepare", path=path)
            (seconds,) = processes.in_turns({program: worker}, args.rounds, 1).values()
            taken = worker.ask("peak_memory")["bytes"]
    return seconds, before and taken - before


def feeding(args):
    """Times a training step on one batch over and over, and on sequences as `fit` takes them."""
    for threads in args.threads:
        with processes.started(FEEDS, threads, args.device) as workers:
            for posterior, batch_size in itertools.product(args.posteriors, args.batch_sizes):
                sizes = {"batch_size": batch_size, "num_steps": NUM_STEPS}
                about = {"what": "feeding", "posterior": posterior, **sizes, "threads": threads}
                samples = fed(workers, args.rounds, {"posterior": posterior, **sizes})
                yield processes.compared(samples, about)


def fed(workers, rounds, settings):
    """Returns the seconds of a training step in each round, by the name of what feeds it."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "reference.npz")
        first = next(iter(workers.values()))
        first.ask("write", path=path, num_batches=NUM_BATCHES, **settings)
        for program, worker in workers.items():
            worker.ask("prepare", path=path, feed=FEEDS[program])
        named = {program.name: worker for program, worker in workers.items()}
        return processes.in_turns(named, rounds, NUM_BATCHES)
