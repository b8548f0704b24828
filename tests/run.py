"""Runs the test files, two processes at a time; prints a line a file.

A process that ran all files would keep every graph that TensorFlow has traced: 6 GiB in the end.
Processes that each import TensorFlow anew would spend a quarter of their time on it. So this one
imports it, runs none of it, and forks a process for each file.
"""

import argparse
import gc
import importlib
import os
import pathlib
import re
import signal
import sys
import tempfile
import time
import xml.etree.ElementTree

TESTS = pathlib.Path(__file__).parent
# These listen on ports, so that they run one after the other.
PORTS = ("test_multi_worker.py", "test_tune.py")
# Those that take longest are started first, so that none is left alone at the end.
LONGEST = """multi_worker scripts quick_protocol readme callbacks combinations real_size
    long_sequences litert extending particle_filter""".split()
IMPORTS = ("gymnasium", "matplotlib.pyplot", "pytest", "scipy.stats")
IMPORTS += ("tensorflow", "tensorflow_probability", "tf_keras")
SLOWEST = 40
FAST = "not slow and not long"
NO_TESTS = 5  # The exit status of pytest where a file has no test of this kind.


def groups(kind):
    """Returns lists of test files: those of a list share a process."""
    names = [f"test_{name}.py" for name in LONGEST]
    files = sorted(TESTS.glob("test_*.py"), key=lambda file: (file.name not in names, file))
    if kind != FAST:
        files = [file for file in files if re.search(rf"mark\.{kind}|marked\(", file.read_text())]
    ports = [file for file in files if file.name in PORTS]
    return [*[ports] * bool(ports), *([file] for file in files if file not in ports)]


def fork(files, kind, folder):
    """Starts pytest on files in a process of its own; returns its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.chdir(TESTS.parent)
    log = os.open(folder / f"{files[0].stem}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import pytest

    arguments = ["-q", "-rs", "-m", kind, "-p", "no:cacheprovider"]
    arguments.append(f"--junitxml={folder / files[0].stem}.xml")
    status = 1
    try:
        status = int(pytest.main([*arguments, *map(str, files)]))
    finally:  # Whatever happens, the loop of the parent is not for the child.
        sys.stdout.flush()
        os._exit(status)


def import_quietly():
    """Imports what most tests do, without what TensorFlow prints before it reads its log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        for name in IMPORTS:
            importlib.import_module(name)
    finally:
        os.dup2(stderr, 2)
    gc.freeze()  # So that collections of garbage in the forked processes leave it out.


def report(files, status, seconds, peak, folder):
    """Prints how files did; returns {test: seconds}."""
    name = " ".join(file.name for file in files)
    output = (folder / f"{files[0].stem}.log").read_text(errors="replace")
    if status:
        print(output)
    counts = re.findall(r"\d+ (?:passed|failed|skipped|xfailed|errors?)", output)
    print(f"{name}: {', '.join(counts)}; {seconds:.0f} s, {peak / 2**30:.1f} GiB", flush=True)
    print("".join(f"{line}\n" for line in re.findall(r"^SKIPPED .*", output, re.M)), end="")
    times, path = {}, folder / f"{files[0].stem}.xml"
    if path.exists():
        for case in xml.etree.ElementTree.parse(path).iter("testcase"):
            times[f"{case.get('classname')}::{case.get('name')}"] = float(case.get("time"))
    return times


def main(arguments):
    import_quietly()
    waiting, running = groups(arguments.kind), {}
    failed, times, memory, start = [], {}, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFP_DVBF_EXPORTS"] = os.path.join(folder, "exported")
        folder = pathlib.Path(folder)
        while waiting or running:
            while waiting and len(running) < arguments.processes:
                files = waiting.pop(0)
                running[fork(files, arguments.kind, folder)] = files, time.monotonic()
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                for pid, (_, started) in running.items():
                    if time.monotonic() > started + arguments.timeout:
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)
                continue
            files, started = running.pop(pid)
            status = os.waitstatus_to_exitcode(status)
            if status == NO_TESTS:
                continue
            failed += [file.name for file in files] if status else []
            peak, seconds = usage.ru_maxrss * 1024, time.monotonic() - started
            times |= report(files, status, seconds, peak, folder)
            memory = max(memory, peak)
    print(f"\nslowest {SLOWEST} tests of {len(times)}:")
    for name, seconds in sorted(times.items(), key=lambda item: -item[1])[:SLOWEST]:
        print(f"{seconds:8.1f} s  {name}")
    print(f"{time.monotonic() - start:.0f} s; the largest process took {memory / 2**30:.1f} GiB")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["slow", "long"]:
        text = f"the tests marked {name}, not the others"
        parser.add_argument(
            f"--{name}", dest="kind", action="store_const", const=name, default=FAST, help=text
        )
    parser.add_argument("--processes", type=int, default=2, help="files at a time")
    parser.add_argument("--timeout", type=float, default=1500, help="seconds a file may take")
    main(parser.parse_args())
