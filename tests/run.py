"""Runs the test files, two processes at a time; prints a line a process.

A process that ran all files would keep every graph that TensorFlow has traced: 6 GiB in the end.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

TESTS = pathlib.Path(__file__).parent
# These listen on ports, so that they run one after the other.
PORTS = ("test_multi_worker.py", "test_tune.py")
# The tests of these take a few seconds, less than to import TensorFlow: they share processes.
QUICK = """alignment bad_input buckets command_line compare csv_files data emissions encoders
    environments intervals known_physics layering load_model log_folds logs measures missing_steps
    moments networks particles plots random readme registry run_folder sharded_training shards
    standardization tables transitions""".split()
SHARE = 10  # Files a process.
SLOWEST = 40
NO_TESTS = 5  # The exit status of pytest where a file has no test of this kind.


def groups(slow):
    """Returns lists of test files: those of a list share a process."""
    files = sorted(TESTS.glob("test_*.py"))
    files = [file for file in files if not slow or "mark.slow" in file.read_text()]
    ports = [file for file in files if file.name in PORTS]
    quick = [file for file in files if not slow and file.stem.removeprefix("test_") in QUICK]
    shared = [quick[start : start + SHARE] for start in range(0, len(quick), SHARE)]
    alone = [[file] for file in files if file not in [*ports, *quick]]
    return [*[ports] * bool(ports), *alone, *shared]


def run(files, slow, folder, seconds):
    """Runs files; returns exit status, output, seconds, peak memory in bytes, {test: seconds}."""
    report = folder / f"{files[0].stem}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-m", "slow" if slow else "not slow"]
    command += ["-p", "no:cacheprovider", f"--junitxml={report}", *map(str, files)]
    environment = {**os.environ, "TFP_DVBF_EXPORTS": str(folder / "exported")}
    start = time.monotonic()
    with open(folder / f"{files[0].stem}.log", "w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=TESTS.parent
        )
        status, usage = wait(process, start + seconds)
        log.seek(0)
        output = log.read()
    passed = time.monotonic() - start
    times = {}
    if report.exists():
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            times[f"{case.get('classname')}::{case.get('name')}"] = float(case.get("time"))
    return status, output, passed, usage.ru_maxrss * 1024, times


def wait(process, deadline):
    """Returns a process's exit status and `resource.struct_rusage`; kills it at the deadline."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.2)


def main(arguments):
    failed, times, memory, start = [], {}, 0, time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(arguments.processes) as pool,
    ):
        folder = pathlib.Path(folder)
        futures = {
            pool.submit(run, files, arguments.slow, folder, arguments.timeout): files
            for files in groups(arguments.slow)
        }
        for future in concurrent.futures.as_completed(futures):
            name = " ".join(file.name for file in futures[future])
            status, output, seconds, peak, durations = future.result()
            if status == NO_TESTS:
                continue
            if status:
                failed.append(name)
                print(output)
            counts = re.findall(r"\d+ (?:passed|failed|skipped|xfailed|errors?)", output)
            print(
                f"{name}: {', '.join(counts)}; {seconds:.0f} s, {peak / 2**30:.1f} GiB", flush=True
            )
            print("".join(f"{line}\n" for line in re.findall(r"^SKIPPED .*", output, re.M)), end="")
            times, memory = {**times, **durations}, max(memory, peak)
    print(f"\nslowest {SLOWEST} tests of {len(times)}:")
    for name, seconds in sorted(times.items(), key=lambda item: -item[1])[:SLOWEST]:
        print(f"{seconds:8.1f} s  {name}")
    print(f"{time.monotonic() - start:.0f} s; the largest process took {memory / 2**30:.1f} GiB")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slow", action="store_true", help="the tests marked slow, not the others")
    parser.add_argument("--processes", type=int, default=2, help="files at a time")
    parser.add_argument("--timeout", type=float, default=1500, help="seconds a file may take")
    main(parser.parse_args())
