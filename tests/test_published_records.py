"""Files that are no records of a benchmark: one line, and nothing unpickled."""

import pickle

import numpy as np
import pytest
from test_data import GOOD, write_flipped, write_truncated, write_with

from tfp_dvbf.experiments import published_records


def write_npy(path):
    with open(path, "wb") as file:
        np.save(file, GOOD[0])


@pytest.mark.parametrize(
    "write, reason",
    [
        (write_truncated, "it is no archive as np.savez writes it, or not the whole of one."),
        (write_flipped, "Bad "),
        (write_npy, "it is no archive as"),
        (lambda path: path.write_text("u,y\n1,2\n"), "it is no archive as"),
        (lambda path: path.write_bytes(pickle.dumps({})), "it is no archive as"),
        (lambda path: path.mkdir(), ".*Is a directory"),
        (write_with(u_train=np.array([{}])), r"it holds objects, not numbers\.$"),
    ],
)
def test_records_of_a_benchmark_that_are_no_npz_are_refused_in_one_line(tmp_path, write, reason):
    path = tmp_path / "bad.npz"
    write(path)
    message = f"^`--data` must be an .npz file; {path}: {reason}"
    with pytest.raises(ValueError, match=message) as caught:
        published_records.read("tanks", path)
    assert "pickle" not in str(caught.value) and "\n" not in str(caught.value)
