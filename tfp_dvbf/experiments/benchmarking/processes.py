"""Programs in processes of their own, which take turns while the others sleep."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

import tfp_dvbf
from tfp_dvbf.experiments import startup

PACKAGE = "tfp_dvbf.experiments.benchmarking"
EXTRA = "benchmark"  # Of setup.py: what installs the peers.
POSTERIORS = ("gaussian", "innovation", "iaf")


class Program(NamedTuple):
    """A way in which a program trains.

    Attributes:
      name: What tables call it.
      module: Name of its module in this package.
      way: What its module calls the way.
      posteriors: Those that it trains.
      package: What has to be installed for it.
      slow_to_start: Whether it compiles for minutes at every size.
    """

    name: str
    module: str
    way: str
    posteriors: tuple = POSTERIORS
    package: str = "tensorflow"
    slow_to_start: bool = False


OURS = (
    Program("tfp_dvbf, XLA", "ours", "xla"),
    Program("tfp_dvbf, graph", "ours", "graph"),
    Program("tfp_dvbf, XLA, 32 steps a call", "ours", "xla_32"),
)
DEFAULT = OURS[0]  # What `compile()` chooses, as a test makes sure.
PEERS = {
    "jax": Program("JAX", "jax_peer", "jit", package="jax"),
    "torch": Program("PyTorch, eager", "torch_peer", "eager", ("gaussian",), package="torch"),
    "torch_compile": Program(
        "PyTorch, torch.compile",
        "torch_peer",
        "compiled",
        posteriors=("gaussian",),
        package="torch",
        slow_to_start=True,
    ),
}
INFERENCE = {  # What generates and filters, by the name of the package or peer.
    "tensorflow": Program("tfp_dvbf", "ours_inference", ""),
    "jax": Program("JAX", "jax_inference", "", package="jax"),
}
COMPILED_STEP = Program(OURS[0].name, "ours_inference", "compiled_filter_step")
IMAGE_STEPS = (
    INFERENCE["tensorflow"]._replace(way="image_step"),
    COMPILED_STEP._replace(way="compiled_image_step"),
)


def installed(peers):
    """Returns those of `peers` that are installed, and prints a line for each of the others."""
    found = [name for name in peers if importlib.util.find_spec(PEERS[name].package)]
    for package in dict.fromkeys(PEERS[name].package for name in peers if name not in found):
        print(f"{package} is not installed and left out: pip install tfp_dvbf[{EXTRA}]")
    return found


def quick(names):
    """Returns the peers of these names, without those that compile for minutes at every size."""
    peers = [PEERS[name] for name in names]
    for peer in peers:
        if peer.slow_to_start:
            print(f"{peer.name} is left out here: it compiles for minutes at every size")
    return [peer for peer in peers if not peer.slow_to_start]


def describe(peers):
    """Returns what is known of this machine and of the versions of what runs on it.

    Args:
      peers: Names of the peers that are installed.
    """
    cpu = platform.processor() or platform.machine()
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = {"python": platform.python_version(), "tfp_dvbf": tfp_dvbf.__version__}
    packages = dict.fromkeys(["tensorflow", *(PEERS[name].package for name in peers)])
    versions |= {name: importlib.metadata.version(name) for name in packages}
    return {
        "cpu": (names or [cpu])[0],
        "cores": startup.num_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


class Worker:
    """A program in a process of its own, which sleeps until it is asked.

    Args:
      module: Name of the program's module in this package.
      way: One of its ways.
      threads: Number of cores and threads that it may use.
      device: "cpu" or "gpu".

    Attributes:
      about: What the program says of its version and device.

    Raises:
      ValueError: If it cannot start.
    """

    def __init__(self, module, way, threads, device):
        self.errors = tempfile.TemporaryFile("w+")
        settings = {"module": f"{PACKAGE}.{module}", "way": way}
        settings |= {"threads": threads, "device": device}
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{PACKAGE}.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment(threads, device),
        )
        try:
            self.about = self._answer()
        except ValueError:
            self.close()
            raise

    def ask(self, do, **settings):
        """Returns the answer to a request, a dictionary; see `worker.Server`.

        Raises:
          ValueError: If the program says that it cannot do it, or ends.
        """
        self.process.stdin.write(json.dumps({"do": do, **settings}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines() or ["it printed nothing"]
            raise ValueError(f"a process of the benchmark ended: {lines[-1]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def close(self):
        """Ends the process and waits for it."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def started(programs, threads, device):
    """Starts a worker for each of the programs and yields them by program; ends them afterwards."""
    with contextlib.ExitStack() as stack:
        workers = {}
        for program in programs:
            worker = Worker(program.module, program.way, threads, device)
            workers[program] = stack.enter_context(worker)
        yield workers


def environment(threads, device):
    """Returns the environment of a process that uses so many threads on a device."""
    root = str(pathlib.Path(tfp_dvbf.__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    count = str(threads)
    about = {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}
    about |= {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    if device == "cpu":
        about |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return {**os.environ, **about}


def in_turns(workers, rounds, count):
    """Returns the seconds that a unit of work took in every round, by the key of each worker.

    Args:
      workers: Keys mapped to workers that are prepared.
      rounds: Number of rounds; in each of them every worker is asked once, in turn.
      count: Units of work that are timed together.
    """
    samples = {key: [] for key in workers}
    for worker in workers.values():
        worker.ask("run", count=count)  # To warm up.
    for _ in range(rounds):
        for key, worker in workers.items():
            samples[key].append(worker.ask("run", count=count)["seconds"] / count)
    return samples


def compared(samples, about):
    """Returns a row for each program, its time compared with that of the first.

    Args:
      samples: Names mapped to seconds, one a round, as `in_turns` returns them.
      about: What all rows hold.
    """
    first = next(iter(samples.values()))
    rows = []
    for name, seconds in samples.items():
        ratios = [own / other for own, other in zip(seconds, first)]
        times = [1e3 * value for value in seconds]
        row = {"program": name, "ratio": statistics.median(ratios)}
        row |= {"milliseconds": statistics.median(times), "least": min(times), "most": max(times)}
        rows.append({**about, **row})
    return rows


def write_reference(folder, threads, device, **settings):
    """Lets ours write an `agreement.Reference` into a folder; returns its path.

    Args:
      folder: The folder.
      threads, device: As for `Worker`.
      **settings: As `ours.write` takes them.
    """
    path = str(pathlib.Path(folder) / "reference.npz")
    with Worker("ours", "graph", threads, device) as worker:
        worker.ask("write", path=path, **settings)
    return path
