import json

import numpy as np
import pytest

from tfp_dvbf import data
from tfp_dvbf.data import shards
from tfp_dvbf.experiments import run_folder


def save_splits(folder, splits):
    folder.mkdir()
    for name, sequences in splits.items():
        data.save(folder / f"{name}.npz", sequences)


def test_read_splits_of_a_folder(sequences, tmp_path):
    splits = {"train": sequences[:6], "validation": sequences[6:9], "test": sequences[9:]}
    save_splits(tmp_path / "data", splits)
    read = run_folder.read_splits(tmp_path / "data")
    for expected, actual in zip(splits.values(), read):
        np.testing.assert_array_equal(actual.observations, expected.observations)


def test_one_file_is_split(sequences, tmp_path):
    data.save(tmp_path / "one.npz", sequences)
    train, validation, test = run_folder.read_splits(tmp_path / "one.npz")
    np.testing.assert_array_equal(train.observations, sequences.observations[:10])
    np.testing.assert_array_equal(validation.observations, sequences.observations[10:])
    assert test is validation


def test_read_splits_refuses(sequences, tmp_path):
    with pytest.raises(ValueError, match="must be a folder or an .npz file; .* does not exist"):
        run_folder.read_splits(tmp_path / "none.npz")
    save_splits(tmp_path / "partial", {"train": sequences})
    with pytest.raises(ValueError, match="must hold .*validation.npz, .*test.npz"):
        run_folder.read_splits(tmp_path / "partial")
    data.save(tmp_path / "few.npz", sequences[:4])
    with pytest.raises(ValueError, match="must have 5 sequences or more"):
        run_folder.read_splits(tmp_path / "few.npz")
    narrow = data.Sequences(sequences.observations[..., :2], sequences.controls)
    splits = {"train": sequences, "validation": narrow, "test": sequences}
    save_splits(tmp_path / "mixed", splits)
    with pytest.raises(ValueError, match="must have the same dimensions"):
        run_folder.read_splits(tmp_path / "mixed")


@pytest.fixture
def sharded(sequences, tmp_path):
    """A data folder with a training set in two files."""
    save_splits(tmp_path / "data", {"validation": sequences[6:9], "test": sequences[9:]})
    save_splits(tmp_path / "data" / "train", {"0": sequences[:4], "1": sequences[4:6]})
    return tmp_path / "data"


def test_read_splits_with_a_training_set_in_files(sequences, sharded):
    train, validation, test = run_folder.read_splits(sharded)
    assert isinstance(train, shards.Shards) and len(train) == 6
    np.testing.assert_array_equal(validation.observations, sequences.observations[6:9])
    np.testing.assert_array_equal(test.observations, sequences.observations[9:])


def test_read_splits_refuses_a_training_set_in_files(sequences, sharded):
    data.save(sharded / "train.npz", sequences)
    with pytest.raises(ValueError, match="must hold train.npz or train/; .* holds both"):
        run_folder.read_splits(sharded)
    (sharded / "train.npz").unlink()
    narrow = data.Sequences(sequences.observations[..., :2], sequences.controls)
    data.save(sharded / "test.npz", narrow)
    with pytest.raises(ValueError, match="must have the same dimensions"):
        run_folder.read_splits(sharded)
    (sharded / "test.npz").unlink()
    with pytest.raises(ValueError, match="must hold .*test.npz"):
        run_folder.read_splits(sharded)


def test_data_hash(sequences, sharded):
    before = run_folder.data_hash(run_folder.read_splits(sharded))
    assert run_folder.data_hash(run_folder.read_splits(sharded)) == before
    data.save(sharded / "train" / "1.npz", sequences[5:7])
    assert run_folder.data_hash(run_folder.read_splits(sharded)) != before
    mask = np.ones([6, 8])
    mask[0, 7] = 0
    sets = [data.Sequences(sequences.observations[:6], sequences.controls[:6])]
    sets.append(data.Sequences(sets[0].observations, sets[0].controls, mask=mask))
    assert len({run_folder.data_hash([part]) for part in sets}) == 2


def test_data_hash_finds_a_damaged_file(sharded):
    with np.load(sharded / "train" / "1.npz") as file:
        arrays = {**file, "observations": file["observations"] + 1}
    np.savez(sharded / "train" / "1.npz", **arrays)
    splits = run_folder.read_splits(sharded)
    with pytest.raises(ValueError, match="1.npz is corrupt"):
        run_folder.data_hash(splits)


def test_open_run(tmp_path):
    folder = run_folder.open_run(tmp_path / "run", {"seed": 1}, resume=False)
    assert json.loads((folder / "args.json").read_text()) == {"seed": 1}
    assert run_folder.open_run(folder, {"seed": 1}, resume=True) == folder
    with pytest.raises(ValueError, match="must not exist yet without `--resume`"):
        run_folder.open_run(folder, {"seed": 1}, resume=False)
    with pytest.raises(ValueError, match="was started with other arguments: seed"):
        run_folder.open_run(folder, {"seed": 2}, resume=True)
    (folder / "args.json").write_text('{"seed"')
    with pytest.raises(ValueError, match="args.json must be a JSON file; Expecting"):
        run_folder.open_run(folder, {"seed": 1}, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(ValueError, match="must be a run folder with args.json"):
        run_folder.open_run(tmp_path / "other", {"seed": 1}, resume=True)


def test_training_seconds(tmp_path):
    assert run_folder.training_seconds(tmp_path) is None
    run_folder.write_json(tmp_path / "metrics.json", {"seconds": 3.0})
    assert run_folder.training_seconds(tmp_path) == 3.0
    run_folder.write_json(tmp_path / "metrics.json", [1])
    with pytest.raises(ValueError, match="metrics.json must hold a JSON object; got list"):
        run_folder.training_seconds(tmp_path)


def test_a_folder_is_for_one_process(tmp_path):
    with run_folder.only_process(tmp_path):
        with pytest.raises(ValueError, match="Another process is at work in"):
            with run_folder.only_process(tmp_path):
                pass
    with run_folder.only_process(tmp_path):
        pass


def test_a_run_may_go_on_with_its_data_elsewhere(tmp_path):
    (tmp_path / "run").mkdir()  # As a run leaves it that was killed at once.
    run_folder.open_run(tmp_path / "run", {"data": "a", "data_sha256": "1"}, resume=False)
    run_folder.check_run(tmp_path / "run", {"data": "b", "data_sha256": "1"}, resume=True)
    with pytest.raises(ValueError, match="other arguments: data_sha256"):
        run_folder.check_run(tmp_path / "run", {"data": "a", "data_sha256": "2"}, resume=True)
