"""One program in a process of its own: each line it reads is a request, each it writes an answer.

A program is a module with at least two functions,

    start(threads, device) -> {"version": ..., "device": ...}
    prepare(way, **settings) -> what is known of it, a dictionary; run(count) -> None

where `run` does a unit of work `count` times and returns when it is done. A program that trains
returns an `agreement.Training`, which has a third part: its weights.
"""

import importlib
import itertools
import json
import os
import pathlib
import re
import sys
import time

import numpy as np

KINDS = (ValueError, RuntimeError, ImportError, TypeError, NotImplementedError)


def hold_cores(threads):
    """Keeps this process on the first `threads` of the cores that it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


class Server:
    """Answers the requests to one program.

    Args:
      module: Name of the program's module.
      way: One of the ways in which it can run.
      threads: Number of cores and threads that it may use.
      device: "cpu" or "gpu".
    """

    def __init__(self, module, way, threads, device):
        hold_cores(threads)
        self.program = importlib.import_module(module)
        self.way = way
        self.about = self.program.start(threads, device)

    def prepare(self, **settings):
        """Gets ready for `run`; returns what the program tells of itself."""
        known, self.work, *rest = self.program.prepare(self.way, **settings)
        self.weights = rest[0] if rest else None
        return known

    def run(self, count):
        """Returns the seconds that `count` units of work took."""
        start = time.perf_counter()
        self.work(count)
        return {"seconds": time.perf_counter() - start}

    def run_each(self, count):
        """Returns the seconds of each of `count` units of work."""
        return {"seconds": [self.run(1)["seconds"] for _ in range(count)]}

    def peak_memory(self):
        """Returns the most bytes that this process has held at a time; None where Linux is not."""
        status = pathlib.Path("/proc/self/status")
        held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else "")
        return {"bytes": held and 1024 * int(held[1])}

    def write(self, **settings):
        """Lets the program write a reference."""
        self.program.write(**settings)
        return {}

    def save(self, path):
        """Writes the weights that have been trained to an .npz file."""
        np.savez(path, **{name: np.asarray(value) for name, value in self.weights().items()})
        return {}

    def judge(self, **settings):
        """Returns how well a model with given weights does."""
        return self.program.judge(**settings)


def main():
    """Serves the program that the command line describes until its input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is no answer.
    server = None
    for line in itertools.chain([sys.argv[1]], iter(sys.stdin.readline, "")):
        request = json.loads(line)
        try:
            if server is None:
                server = Server(**request)
                answer = server.about
            else:
                answer = getattr(server, request.pop("do"))(**request)
        except KINDS as error:
            answer = {"error": " ".join(str(error).split())[:300] or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
