"""What is timed: each function yields lists of rows that were measured together.

Rows are dictionaries of numbers that JSON can hold. One names the program and, in `ratio`, how its
time compares with that of the first, most often the package's default, the median over rounds:
above 1 it takes longer.
`milliseconds` is the median time itself.
"""

import functools
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from tfp_dvbf import registry
from tfp_dvbf.experiments.benchmarking import (
    agreement,
    alone,
    call_times,
    floor,
    processes,
    quality,
)

NUM_STEPS = 50  # Time steps of a sequence of the poster.
UPDATES = 32  # Training steps that are timed together.
LENGTH_BATCH = 16
COLLECT = """
import time
from tfp_dvbf.data import environments
start = time.perf_counter()
environments.collect("Pendulum-v1", 500, 50, seed=1, max_episode_steps=50)
print(time.perf_counter() - start)
"""
PROCESSES = {
    "train.py --help": "from tfp_dvbf.experiments import command_line, options;"
    "command_line.parse(options.RunOptions, ['--help'])",
    "import tfp_dvbf and TensorFlow": "import tfp_dvbf; tfp_dvbf.DVBF",
}


def training(args):
    """Times a training step of every program, posterior, batch size and number of threads."""
    peers = [processes.PEERS[name] for name in args.peers]
    for threads in args.threads:
        with processes.started([*processes.OURS, *peers], threads, args.device) as workers:
            for posterior in args.posteriors:
                for batch_size in args.batch_sizes:
                    sizes = {"batch_size": batch_size, "num_steps": NUM_STEPS}
                    samples = trained(workers, posterior, sizes, args.rounds, UPDATES)
                    about = {"what": "training", "posterior": posterior, **sizes}
                    yield processes.compared(samples, about | {"threads": threads})


def length(args):
    """Times a training step of one program of each package on sequences of several lengths."""
    programs = [processes.DEFAULT, *processes.quick(args.peers)]
    threads = max(args.threads)
    with processes.started(programs, threads, args.device) as workers:
        for posterior in args.posteriors:
            for num_steps in alone.LENGTHS:
                sizes = {"batch_size": LENGTH_BATCH, "num_steps": num_steps}
                updates = max(1, UPDATES * NUM_STEPS // num_steps)
                samples = trained(workers, posterior, sizes, args.rounds, updates)
                about = {"what": "length", "posterior": posterior, **sizes, "threads": threads}
                yield [
                    row | {"microseconds_a_time_step": 1e3 * row["milliseconds"] / num_steps}
                    for row in processes.compared(samples, about)
                ]


def trained(workers, posterior, sizes, rounds, updates):
    """Returns the seconds a training step of each program in every round, by its name.

    A program that trains another model, or that fails, is left out with a line that says why.

    Args:
      workers: Programs mapped to their workers, the package's default first.
      posterior: Name of the posterior.
      sizes: `batch_size` and `num_steps`.
      rounds: Number of rounds.
      updates: Training steps that are timed together.
    """
    ready = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "reference.npz")
        workers[processes.DEFAULT].ask("write", path=path, posterior=posterior, **sizes)
        reference = agreement.load(path)
        for program, worker in workers.items():
            if posterior not in program.posteriors:
                continue
            try:
                known = worker.ask("prepare", path=path)
                agreement.check_agreement(program.name, known, reference)
            except ValueError as error:
                if program == processes.DEFAULT:  # Which the others are compared with.
                    raise
                print(f"{program.name} is left out for {posterior}, {sizes}: {error}", flush=True)
                continue
            ready[program.name] = worker
        return processes.in_turns(ready, rounds, updates)


def starting(args):
    """Times what a user waits for: `--help`, the import, data, and the first training step.

    The latter is the time from the start of a process until its first training step is done: of
    every posterior by the package's default, of `gaussian` by the other programs.
    """
    threads = max(args.threads)
    functions = {name: functools.partial(time_process, code) for name, code in PROCESSES.items()}
    functions["data: 500 episodes of the pendulum, 50 steps"] = time_collecting
    programs = {name: [processes.DEFAULT] for name in registry.names("posterior")}
    programs["gaussian"] = [*processes.OURS[:2], *processes.quick(args.peers)]
    with tempfile.TemporaryDirectory() as folder:
        for posterior, each in programs.items():
            sizes = {"batch_size": LENGTH_BATCH, "num_steps": NUM_STEPS}
            own = pathlib.Path(folder) / posterior
            own.mkdir()
            path = processes.write_reference(
                own, threads, args.device, posterior=posterior, **sizes
            )
            functions |= {
                f"first training step, {program.name}: {posterior}": functools.partial(
                    time_first_step, program, threads, args.device, path
                )
                for program in each
            }
        samples = {name: [] for name in functions}
        for _ in range(args.rounds):
            for name, function in functions.items():
                samples[name].append(function())
    about = {"what": "starting", "threads": threads}
    yield [
        {**about, "step": name, "seconds": statistics.median(found)}
        for name, found in samples.items()
    ]


def least(args):
    """Counts what a training step of `gaussian` cannot do without, and at which rate it could."""
    for threads in args.threads:
        for batch_size in args.batch_sizes:
            with tempfile.TemporaryDirectory() as folder:
                path = processes.write_reference(
                    folder,
                    threads,
                    "cpu",
                    posterior="gaussian",
                    batch_size=batch_size,
                    num_steps=NUM_STEPS,
                )
                found = floor.measure(agreement.load(path), threads, args.rounds)
            about = {"what": "floor", "posterior": "gaussian", "batch_size": batch_size}
            yield [{**about, "num_steps": NUM_STEPS, "threads": threads, **found}]


MEASURES = {
    "training": training,
    "quality": quality.quality,
    "length": length,
    "equal_work": alone.equal_work,
    "feeding": alone.feeding,
    "streaming": call_times.streaming,
    "images": call_times.images,
    "sampling": call_times.sampling,
    "starting": starting,
    "floor": least,
}


def time_process(code):
    """Returns the seconds that a process takes to run a line of Python."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def time_collecting():
    """Returns the seconds that collecting the pendulum's data takes, once all is imported."""
    run = subprocess.run([sys.executable, "-c", COLLECT], check=True, capture_output=True)
    return float(run.stdout)


def time_first_step(program, threads, device, path):
    """Returns the seconds from the start of a program to the end of its first training step."""
    start = time.perf_counter()
    with processes.Worker(program.module, program.way, threads, device) as worker:
        worker.ask("prepare", path=path)
        return time.perf_counter() - start
