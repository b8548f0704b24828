"""The floor of a training step of `gaussian`: its products of matrices, at the rate of BLAS."""

import statistics
from typing import NamedTuple

from tfp_dvbf.experiments.benchmarking import processes

# Layers that read the state, and so one time step after the other.
RECURRENT = ("posterior/states", "posterior/rest")
# Layers that read data alone: no gradient flows through them.
FIRST = ("encoder/0", "initial/0")
BYTES = 4  # Of a float32.
PRODUCTS = 200  # Matrix products that are timed together.
COPIED = 2**26  # Bytes of the array that is copied, more than caches hold.


class Count(NamedTuple):
    """What one training step cannot do without.

    Attributes:
      recurrent: Operations of the products that follow one another in time, on `batch` rows each.
      parallel: Operations of the products that run over all time steps at once.
      optimizer_bytes: Bytes of weights, gradients and Adam's moments that are read and written.
    """

    recurrent: int
    parallel: int
    optimizer_bytes: int


def count(reference):
    """Returns the `Count` of an `agreement.Reference` of `gaussian`.

    A layer [m, n] costs 2 m n operations a row forward, as many for the gradient of its kernel, and
    as many again for that of its inputs, unless those are data.
    """
    batch, steps = reference.noise.shape[:2]
    times = {"initial": 1, "emission": steps}  # All others are called for t = 1 .. T-1.
    found = {"recurrent": 0, "parallel": 0}
    for name, kernel in reference.weights.items():
        if not name.endswith("/kernel"):
            continue
        products = 2 if name.startswith(FIRST) else 3
        rows = batch * times.get(name.split("/")[0], steps - 1)
        kind = "recurrent" if name.startswith(RECURRENT) else "parallel"
        found[kind] += products * 2 * kernel.size * rows
    weights = sum(weight.size for weight in reference.weights.values())
    # Weight and two moments are read and written, the gradient is read.
    return Count(**found, optimizer_bytes=7 * BYTES * weights)


def measure(reference, threads, rounds):
    """Returns the floor of a reference's training step, a row, with what was counted and measured.

    `milliseconds` is the sum of what the products and the optimizer take at the measured rates.

    Args:
      reference: An `agreement.Reference` of `gaussian`.
      threads: Number of cores and threads.
      rounds: Timings of each rate, of which the median counts.
    """
    counted = count(reference)
    batch, steps = reference.noise.shape[:2]
    width = reference.weights["posterior/states/kernel"].shape[1]
    with processes.Worker("blas", "product", threads, "cpu") as worker:
        rates = [
            2 * rows * width**2 / time_of(worker, rounds, PRODUCTS, rows=rows, width=width)
            for rows in (batch, batch * (steps - 1))
        ]
    with processes.Worker("blas", "copy", threads, "cpu") as worker:
        seconds = time_of(worker, rounds, 1, rows=COPIED // BYTES // width, width=width)
        bandwidth = 2 * COPIED / seconds
    seconds = counted.recurrent / rates[0] + counted.parallel / rates[1]
    return {
        **counted._asdict(),
        "recurrent_rate": rates[0],
        "parallel_rate": rates[1],
        "bandwidth": bandwidth,
        "milliseconds": 1e3 * (seconds + counted.optimizer_bytes / bandwidth),
    }


def time_of(worker, rounds, times, **sizes):
    """Returns the seconds of a unit of work, the median of `rounds` timings of `times` each."""
    worker.ask("prepare", **sizes)
    (samples,) = processes.in_turns({0: worker}, rounds, times).values()
    return statistics.median(samples)
