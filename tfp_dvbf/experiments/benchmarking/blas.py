"""Matrix products and copies in NumPy: the rates that the floor of a training step stands on."""

import functools

import numpy as np

WAYS = ("product", "copy")


def start(threads, device):
    """Returns the version of NumPy; its threads are set by the environment of the process."""
    del threads
    if device != "cpu":
        raise ValueError(f"`device` must be cpu, since NumPy knows no other; got {device}.")
    return {"version": np.__version__, "device": device}


def prepare(way, rows, width):
    """Returns what works on a matrix [rows, width].

    A "product" multiplies it by a matrix [width, width], a "copy" reads and writes it.
    """
    rng = np.random.default_rng(1)
    left = rng.normal(size=[rows, width]).astype(np.float32)
    out = np.empty_like(left)
    if way == "copy":
        work = functools.partial(np.copyto, out, left)
    else:
        right = rng.normal(size=[width, width]).astype(np.float32)
        work = functools.partial(np.matmul, left, right, out=out)

    def run(count):
        for _ in range(count):
            work()

    return {}, run
