"""What the benchmark times of this package alone, and how it says so."""

import subprocess
import sys

import numpy as np
import pytest

from tfp_dvbf.experiments.benchmarking import agreement, ours, summary

SIZES = {"batch_size": 2, "num_steps": 4, "hidden_units": 8, "num_batches": 3}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("reference") / "reference.npz")
    ours.write(path, "gaussian", **SIZES)
    return agreement.load(path)


@pytest.fixture(scope="module")
def rules(reference):
    return ours.model_of(reference).rules


@pytest.mark.parametrize("feed, first", [("batch", [0, 0, 0, 0]), ("batches", [0, 1, 2, 0])])
def test_batches_are_fed_in_their_order(reference, rules, feed, first):
    found = list(ours.dataset_of(reference, feed, rules).take(4).as_numpy_iterator())
    for batch, index in zip(found, first, strict=True):
        np.testing.assert_array_equal(batch["observations"], reference.observations[index])
        np.testing.assert_array_equal(batch["controls"], reference.controls[index])


def test_sequences_are_fed_shuffled_and_each_once_an_epoch(reference, rules):
    found = ours.dataset_of(reference, "sequences", rules).take(6).as_numpy_iterator()
    epochs = np.reshape([batch["observations"] for batch in found], [2, 6, 4, 3])
    expected = reference.observations.reshape(6, 4, 3)
    assert not np.array_equal(*epochs)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(expected, axis=0))


HOLD = """
import numpy as np
from tfp_dvbf.experiments.benchmarking import worker

server = worker.Server.__new__(worker.Server)
before = server.peak_memory()["bytes"]
held = np.ones(2**28, np.uint8)
del held
print(before and server.peak_memory()["bytes"] - before)
"""


def test_a_process_knows_the_most_memory_that_it_has_held():
    run = subprocess.run([sys.executable, "-c", HOLD], check=True, capture_output=True, text=True)
    if run.stdout.strip() == "None":
        pytest.skip("The peak of memory is read where Linux is.")
    assert int(run.stdout) == pytest.approx(2**28, rel=0.1)


def test_a_line_says_what_all_rows_have_in_common():
    about = {"what": "equal_work", "posterior": "iaf", "threads": 2}
    sizes = [{"num_steps": 50, "batch_size": 256}, {"num_steps": 200, "batch_size": 64}]
    rows = [
        {**about, **each, "program": f"T {each['num_steps']}", "milliseconds": 10.0}
        for each in sizes
    ]
    assert summary.line(rows) == "equal_work, iaf, 2 core(s): T 50 10.0 ms, T 200 10.0 ms"
