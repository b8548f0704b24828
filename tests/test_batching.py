"""Batches from memory and from folders of shards: order, content, errors, memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfp_dvbf
from tfp_dvbf import data
from tfp_dvbf.data import batching, shards

SIZES = [5, 3, 1, 6]


def numbered(count, masked=False, first=0):
    """Returns sequences of which every value is the number of its sequence."""
    numbers = np.arange(first, first + count, dtype=np.float32)[:, np.newaxis, np.newaxis]
    mask = np.ones([count, 4], bool)
    mask[:, 2] = not masked
    x, u = np.tile(numbers, [1, 4, 2]), np.tile(-numbers, [1, 3, 1])
    return data.Sequences(x, u, mask=mask)


def write(folder, masked=()):
    """Writes `SIZES` numbered sequences into as many files; `masked` are the files with a mask."""
    folder.mkdir()
    for index, size in enumerate(SIZES):
        part = numbered(size, index in masked, sum(SIZES[:index]))
        data.save(folder / f"{index:05}.npz", part)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shards") / "train")


def order(dataset):
    """Returns the number of each sequence in the order in which they come."""
    numbers = [batch["observations"][:, 0, 0].numpy()[real(batch)] for batch in dataset]
    return np.concatenate(numbers).astype(int)


def real(batch):
    """Returns which rows of a batch are sequences, not repeated to fill it."""
    return batch["weights"].numpy() == 1 if "weights" in batch else slice(None)


def files_of(numbers):
    return np.searchsorted(np.cumsum(SIZES), numbers, side="right")


SOURCES = pytest.mark.parametrize("kind", ["memory", "shards", "path"])


@pytest.fixture
def source(folder, kind):
    return {"memory": numbered(15), "shards": shards.Shards(folder), "path": folder}[kind]


@SOURCES
def test_batches_in_order(source):
    dataset = tfp_dvbf.as_dataset(source, batch_size=4)
    assert len(dataset) == 4
    shapes = [(batch["observations"].shape, batch["controls"].shape) for batch in dataset]
    assert shapes == [((4, 4, 2), (4, 3, 1))] * 4
    np.testing.assert_array_equal(order(dataset), np.arange(15))
    assert dataset.element_spec == {
        "observations": tf.TensorSpec([4, 4, 2], tf.float32),
        "controls": tf.TensorSpec([4, 3, 1], tf.float32),
        "weights": tf.TensorSpec([4], tf.float32),
    }


@SOURCES
@pytest.mark.parametrize("seed", [None, 1])
def test_the_last_batch_is_filled_with_rows_of_weight_0(source, seed):
    for batch_size, fillers in [(4, 1), (7, 6), (40, 25)]:
        *whole, last = batching.as_dataset(source, batch_size, seed)
        for batch in whole:
            np.testing.assert_array_equal(batch["weights"], np.ones(batch_size))
        count = batch_size - fillers
        np.testing.assert_array_equal(last["weights"], np.arange(batch_size) < count)
        rows = np.arange(batch_size) % count
        for name in ["observations", "controls"]:
            np.testing.assert_array_equal(last[name], last[name].numpy()[rows])


@SOURCES
def test_batches_that_come_out_even_have_no_weights(source):
    dataset = batching.as_dataset(source, np.int64(5), seed=np.int64(1))
    assert len(dataset) == 3 == len(list(dataset))
    assert dataset.element_spec == {
        "observations": tf.TensorSpec([5, 4, 2], tf.float32),
        "controls": tf.TensorSpec([5, 3, 1], tf.float32),
    }


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64", "float32"])
@pytest.mark.parametrize("seed", [None, 1])
def test_images_come_in_their_type_without_controls(tmp_path, dtype, seed):
    images = np.arange(7 * 3 * 4).reshape(7, 3, 2, 2, 1).astype(dtype)
    sequences = data.Sequences(images)
    for index in range(2):
        data.save(tmp_path / f"{index}.npz", sequences[4 * index : 4 * index + 4])
    for source in [sequences, tmp_path]:
        dataset = batching.as_dataset(source, 4, seed)
        assert dataset.element_spec["observations"] == tf.TensorSpec([4, 3, 2, 2, 1], dtype)
        assert dataset.element_spec["controls"] == tf.TensorSpec([4, 2, 0], tf.float32)
        rows = np.concatenate([batch["observations"].numpy()[real(batch)] for batch in dataset])
        rows = rows[np.argsort(rows[:, 0, 0, 0, 0])]
        np.testing.assert_array_equal(rows, images)


def test_files_of_different_types_come_in_one(tmp_path):
    for index, dtype in enumerate(["uint8", "float64"]):
        values = np.full([2, 3, 1], index + 0.5).astype(dtype)
        np.savez(tmp_path / f"{index}.npz", observations=values)
    (batch,) = batching.as_dataset(tmp_path, 4)
    np.testing.assert_array_equal(batch["observations"][:, 0, 0], [0, 0, 1.5, 1.5])
    assert batch["observations"].dtype == tf.float32


@SOURCES
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_sequence_comes_once_an_epoch_with_its_controls(source, batch_size):
    dataset = batching.as_dataset(source, batch_size, seed=1)
    for _ in range(2):
        batches = list(dataset)
        assert len(batches) == len(dataset)
        np.testing.assert_array_equal(np.sort(order(batches)), np.arange(15))
        for batch in batches:
            x, u = batch["observations"].numpy(), batch["controls"].numpy()
            assert len(x) == len(u) == batch_size
            np.testing.assert_array_equal(x, np.tile(x[:, :1, :1], [1, 4, 2]))
            np.testing.assert_array_equal(u, np.tile(-x[:, :1, :1], [1, 3, 1]))


@SOURCES
def test_the_order_depends_on_seed_and_epoch_alone(source):
    dataset = batching.as_dataset(source, 4, seed=1)
    first = [order(dataset) for _ in range(3)]
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], order(batching.as_dataset(source, 4, seed=2)))
    resumed = batching.as_dataset(source, 4, seed=1, first_epoch=1)
    np.testing.assert_array_equal(first[1:], [order(resumed) for _ in range(2)])
    np.testing.assert_array_equal(first[0], order(batching.as_dataset(source, 7, seed=1)))


def test_files_and_the_sequences_within_are_shuffled(folder):
    dataset = batching.as_dataset(folder, 4, seed=1)
    orders = [order(dataset) for _ in range(6)]
    visits = [list(dict.fromkeys(files_of(numbers))) for numbers in orders]
    assert all(sorted(visit) == [0, 1, 2, 3] for visit in visits)  # One file after the other.
    assert len(set(map(tuple, visits))) > 1
    within = {tuple(numbers[files_of(numbers) == 3]) for numbers in orders}
    assert len(within) == len(orders)


def test_masks_of_some_files(tmp_path):
    folder = write(tmp_path / "train", masked=[1])
    for seed in [None, 1]:
        for batch in batching.as_dataset(folder, 4, seed):
            gap = files_of(batch["observations"][:, 0, 0]) == 1
            expected = np.ones([len(gap), 4], bool)
            expected[gap, 2] = False
            np.testing.assert_array_equal(batch["mask"], expected)


def test_fit_on_shards_is_fit_on_their_arrays(make_model, sequences, tmp_path):
    (tmp_path / "train").mkdir()
    for start, stop in [(0, 5), (5, 7), (7, 12)]:
        data.save(tmp_path / "train" / f"{start:02}.npz", sequences[start:stop])
    weights = []
    for source in [sequences, tmp_path / "train"]:
        dataset = batching.as_dataset(source, 4)
        model = make_model()
        model.adapt(dataset)
        model.compile(run_eagerly=True)
        model.fit(dataset, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


def test_a_bad_file_ends_fit_with_its_name(make_model, sequences, tmp_path):
    for index in range(2):
        data.save(tmp_path / f"{index}.npz", sequences[6 * index : 6 * index + 6])
    dataset = batching.as_dataset(tmp_path, 4)
    x = sequences.observations[6:].copy()
    x[2, 3, 1] = np.nan
    np.savez(tmp_path / "1.npz", observations=x, controls=sequences.controls[6:])
    model = make_model()
    model.compile(run_eagerly=True)
    for call in [model.fit, model.evaluate, model.predict]:
        with pytest.raises(ValueError, match="1.npz: `observations` must be finite; got nan"):
            call(dataset, verbose=0)
    with pytest.raises(ValueError, match="1.npz: .* observed.$") as refusal:
        model.adapt(dataset)
    assert "\n" not in str(refusal.value)
    (tmp_path / "1.npz").write_bytes((tmp_path / "0.npz").read_bytes()[:-200])
    with pytest.raises(tf.errors.InvalidArgumentError, match="1.npz must be an .npz file"):
        list(dataset)


@pytest.mark.parametrize(
    "source, batch_size, message",
    [
        (numbered(3), 0, "`batch_size` must be at least 1; got 0"),
        (numbered(3), True, "`batch_size` must be an integer; got True"),
        (numbered(3), 2.0, "`batch_size` must be an integer; got 2.0"),
        (np.zeros([3, 4, 2]), 4, "`sequences` must be Sequences, Shards or a folder; got ndarray"),
        ("nowhere", 4, "`folder` must hold .npz files; got nowhere"),
    ],
)
def test_as_dataset_refuses(source, batch_size, message):
    with pytest.raises(ValueError, match=message):
        batching.as_dataset(source, batch_size)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"seed": True}, "`seed` must be an integer; got True"),
        ({"seed": 1.5}, "`seed` must be an integer; got 1.5"),
        ({"first_epoch": True}, "`first_epoch` must be an integer; got True"),
        ({"first_epoch": -1}, "`first_epoch` must be at least 0; got -1"),
    ],
)
def test_as_dataset_refuses_seeds_and_epochs(arguments, message):
    with pytest.raises(ValueError, match=message):
        batching.as_dataset(numbered(3), 1, **arguments)


# Not `ru_maxrss`: it begins at the memory of the process that starts this one.
PEAK_MEMORY = """
import pathlib, re, sys
import tfp_dvbf

dataset = tfp_dvbf.as_dataset(sys.argv[1], batch_size=64, seed=1)
print(len(dataset), sum(1 for _ in dataset))
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""


def peak_memory(folder):
    """Returns the largest memory in MiB of a process that reads every batch of a folder once."""
    command = [sys.executable, "-c", PEAK_MEMORY, str(folder)]
    # Else glibc keeps what was freed, by chance more or less of it: 30 MiB between equal runs.
    memory = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    process = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | memory
    )
    lines = process.stdout.split()
    assert lines[0] == lines[1]
    return float(lines[2]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux")
def test_memory_stays_flat_over_ten_times_the_data(tmp_path):
    """80 files of 8 MiB against 8: loading all would take 576 MiB more."""
    rng = np.random.default_rng(1)
    x, u = rng.normal(size=[1024, 256, 6]), rng.normal(size=[1024, 255, 2])
    sequences = data.Sequences(x, u)
    megabytes = (sequences.observations.nbytes + sequences.controls.nbytes) / 2**20
    assert 7.9 < megabytes <= 8.0
    for name, count in {"small": 8, "large": 80}.items():
        (tmp_path / name).mkdir()
        for index in range(count):
            path = tmp_path / name / f"{index:05}.npz"
            np.savez(path, observations=sequences.observations, controls=sequences.controls)
    small, large = (peak_memory(tmp_path / name) for name in ["small", "large"])
    print(f"peak memory: {small:.0f} MiB for 8 files, {large:.0f} MiB for 80 files of 8 MiB")
    assert large - small < 3 * megabytes
