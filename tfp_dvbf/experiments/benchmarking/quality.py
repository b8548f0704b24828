"""How long programs train until what they generate is as close to the truth as asked for."""

import contextlib
import functools
import math
import pathlib
import statistics
import tempfile
from typing import NamedTuple

from tfp_dvbf.experiments import protocols
from tfp_dvbf.experiments.benchmarking import agreement, processes

# Sampled MAE in the unit of the data: that of the poster's `gaussian`, and about a third of it.
TARGETS = (protocols.POSTER_ROWS[0]["mae_sampled"], 0.05)
SEEDS = (11, 12, 13)  # Schedules were chosen by 1 to 6.
BATCH_SIZE, NUM_BATCHES, NUM_STEPS = 16, 31, 50
NUM_VALIDATION = 128
TURN = 16  # Updates after which a model is judged and the next one takes its turn.


class Contestant(NamedTuple):
    """What trains, and how.

    Attributes:
      program: A `processes.Program`.
      posterior: Name of the posterior.
      protocol: That of the whole training: `epochs`, `kl_annealing_epochs`, `learning_rate`;
        `beta_2`, where it is not `agreement.BETA_2`; and `window`, the time steps of the windows
        that sequences are cut into, where they are.
    """

    program: processes.Program
    posterior: str
    protocol: dict

    @property
    def window(self):
        """Time steps of a window; None for whole sequences."""
        return self.protocol.get("window")

    @property
    def name(self):
        """What tables call it."""
        cut = f", windows of {self.window}" if self.window else ""
        return f"{self.program.name}: {self.posterior}{cut}"


def quality(args):
    """Times training until the sampled MAE on fresh sequences is small.

    The recommended posterior of ours and the `gaussian` of every program on windows, and, by the
    quick protocol on whole sequences, the recommended one and the `gaussian` of the peers, take
    turns of `TURN` updates. The clock starts after the first training step, and stands while a
    model is judged.

    Args:
      args: Those of the script.

    Yields:
      The rows of a target. `seconds` is None where fewer than half of the seeds reached it,
      `ratio` where it or the first row missed it in one, and `trained` is how long training was.
    """
    quick = functools.partial(protocols.protocol_of, "quick")
    ours, peers = processes.DEFAULT, processes.quick(args.peers)
    contestants = [
        Contestant(ours, protocols.RECOMMENDED, protocols.WINDOWS),
        *(Contestant(program, "gaussian", protocols.WINDOWS) for program in [ours, *peers]),
        Contestant(ours, protocols.RECOMMENDED, quick(protocols.RECOMMENDED)),
        *(Contestant(program, "gaussian", quick("gaussian")) for program in peers),
    ]
    threads = max(args.threads)
    with contextlib.ExitStack() as stack:
        judge, *workers = (
            stack.enter_context(processes.Worker(each.module, each.way, threads, args.device))
            for each in [ours, *(contestant.program for contestant in contestants)]
        )
        races = [race(contestants, workers, judge, seed) for seed in SEEDS]
    for target in TARGETS:
        yield [{**row, "threads": threads} for row in rows(races, target)]


def race(contestants, workers, judge, seed):
    """Returns the `Run` of each contestant, trained on the same data until it is done.

    Args:
      contestants: `Contestant`s.
      workers: The `processes.Worker` of each.
      judge: The one that writes references and judges weights.
      seed: Seed of the data and the weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for index, (contestant, worker) in enumerate(zip(contestants, workers)):
            path = str(pathlib.Path(folder) / f"{index}.npz")
            sizes = {"batch_size": BATCH_SIZE, "num_steps": NUM_STEPS, "num_batches": NUM_BATCHES}
            sizes["window"] = contestant.window
            judge.ask("write", path=path, posterior=contestant.posterior, seed=seed, **sizes)
            runs.append(Run(contestant, worker, path))
        while not all(run.done for run in runs):
            for run in runs:
                if not run.done:
                    run.train(judge)
        for run in runs:
            found = ", ".join(f"{target} in {run.time(target):.1f} s" for target in TARGETS)
            print(f"quality, seed {seed}, {run.contestant.name}: {found}", flush=True)
        return runs


class Run:
    """A program on its way to the targets.

    Args:
      contestant: A `Contestant`.
      worker: Its `processes.Worker`.
      path: That of the reference.

    Attributes:
      seconds: Of training after its first step; the time that judging takes is left out.
      updates: Number of training steps that it has taken.
    """

    def __init__(self, contestant, worker, path):
        self.contestant, self.worker, self.path = contestant, worker, path
        self.seconds, self.updates, self.reached = 0.0, 1, {}
        known = worker.ask("prepare", path=path)
        agreement.check_agreement(contestant.name, known, agreement.load(path))
        worker.ask("prepare", path=path, schedule=schedule_of(contestant.protocol))

    @property
    def done(self):
        """Whether it has reached all targets, or come to the end of its schedule."""
        return set(self.reached) == set(TARGETS) or self.updates == self.num_updates

    @property
    def num_updates(self):
        """Training steps of its whole schedule."""
        return schedule_of(self.contestant.protocol)["num_updates"]

    def train(self, judge):
        """Trains `TURN` updates and lets a `processes.Worker` judge it."""
        count = min(TURN, self.num_updates - self.updates)
        self.seconds += self.worker.ask("run", count=count)["seconds"]
        self.updates += count
        weights = f"{self.path}.weights.npz"
        self.worker.ask("save", path=weights)
        sizes = {
            "trained_on": (NUM_BATCHES * BATCH_SIZE, NUM_STEPS),
            "num_sequences": NUM_VALIDATION,
        }
        found = judge.ask("judge", path=self.path, weights=weights, **sizes)
        for target in TARGETS:
            if found["mae_sampled"] <= target:
                self.reached.setdefault(target, self.seconds)

    def time(self, target):
        """Returns the seconds until a target was reached, infinite if it was not."""
        return self.reached.get(target, math.inf)


def schedule_of(protocol):
    """Returns the protocol of a training as arguments of an `agreement.Schedule`."""
    return {
        "beta_2": protocol.get("beta_2", agreement.BETA_2),
        "learning_rate": protocol["learning_rate"],
        "num_updates": NUM_BATCHES * protocol["epochs"],
        "num_annealing": NUM_BATCHES * protocol["kl_annealing_epochs"],
    }


def rows(races, target):
    """Returns a row for each contestant, over all seeds."""
    first = [runs[0].time(target) for runs in races]
    found = []
    for runs in zip(*races):
        times = [run.time(target) for run in runs]
        row = {"what": "quality", "program": runs[0].contestant.name}
        row |= {"target": target, "seeds": len(times)}
        row |= {"reached": sum(map(math.isfinite, times)), "seconds": _median(times)}
        row["ratio"] = None
        if all(map(math.isfinite, times + first)):  # Of all seeds, or else of the lucky ones.
            row["ratio"] = _median([own / other for own, other in zip(times, first)])
        row["trained"] = statistics.median(run.seconds for run in runs)
        found.append(row)
    return found


def _median(values):
    """Returns the median of numbers, None if it is not finite."""
    found = statistics.median(values)
    return found if math.isfinite(found) else None
