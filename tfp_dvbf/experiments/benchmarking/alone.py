"""What is timed of this package alone, in rows as those of `measures`."""

import itertools
import tempfile

from tfp_dvbf import registry
from tfp_dvbf.experiments.benchmarking import processes

NUM_STEPS = 50  # Time steps of a sequence where they are not what is varied.
LENGTHS = (50, 200, 800, 3200)
TIME_STEPS = 12_800  # Of a batch, however long its sequences are.
UPDATES = 4  # Training steps on such a batch that are timed together.
NUM_BATCHES = 32  # Of an epoch that is fed.
FEEDS = {  # Programs by what feeds their training step, mapped to its name in `ours.FEEDS`.
    processes.DEFAULT._replace(name="one batch, over and over"): "batch",
    processes.DEFAULT._replace(name="sequences, as `fit` takes them"): "sequences",
}


def equal_work(args):
    """Times a training step on batches of as many time steps, in ever fewer and longer sequences.

    Each length has a process of its own; its memory is the most that it holds on the host, beyond
    what it held before it had a model. All posteriors are timed, whatever `args.posteriors` says.
    """
    threads = max(args.threads)
    sizes = [{"batch_size": TIME_STEPS // steps, "num_steps": steps} for steps in LENGTHS]
    programs = [processes.DEFAULT._replace(name=f"T {steps:,}") for steps in LENGTHS]
    for posterior in registry.names("posterior"):
        about = {"what": "equal_work", "posterior": posterior, "threads": threads}
        with processes.started(programs, threads, args.device) as workers:
            before = peak_memory(workers)
            for worker, each in zip(workers.values(), sizes):
                settings = {"posterior": posterior, "num_batches": 1, **each}
                with tempfile.TemporaryDirectory() as folder:
                    path = processes.write_reference(folder, threads, args.device, **settings)
                    worker.ask("prepare", path=path)
            rows = processes.compared(timed(workers, args.rounds, UPDATES), about)
            taken = [last and last - first for first, last in zip(before, peak_memory(workers))]
        yield [
            {**row, **each, "kibibytes": held and held / 1024 / TIME_STEPS}
            for row, each, held in zip(rows, sizes, taken)
        ]


def peak_memory(workers):
    """Returns the most bytes that each process has held at a time, or None."""
    return [worker.ask("peak_memory")["bytes"] for worker in workers.values()]


def timed(workers, rounds, count):
    """Returns the seconds of a training step in each round, by the names of the programs."""
    named = {program.name: worker for program, worker in workers.items()}
    return processes.in_turns(named, rounds, count)


def feeding(args):
    """Times a training step on one batch over and over, and on sequences as `fit` takes them."""
    for threads in args.threads:
        with processes.started(FEEDS, threads, args.device) as workers:
            for posterior, batch_size in itertools.product(args.posteriors, args.batch_sizes):
                sizes = {"batch_size": batch_size, "num_steps": NUM_STEPS}
                about = {"what": "feeding", "posterior": posterior, **sizes, "threads": threads}
                settings = {"posterior": posterior, "num_batches": NUM_BATCHES, **sizes}
                with tempfile.TemporaryDirectory() as folder:
                    path = processes.write_reference(folder, threads, args.device, **settings)
                    for program, worker in workers.items():
                        worker.ask("prepare", path=path, feed=FEEDS[program])
                    yield processes.compared(timed(workers, args.rounds, NUM_BATCHES), about)
