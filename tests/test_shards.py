import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf import data
from tfp_dvbf.data import shards

X, U = np.zeros([3, 5, 2]), np.zeros([3, 4, 1])


def write(folder, *contents):
    """Writes a file with `observations`, `controls` and so on for each dictionary."""
    folder.mkdir()
    for index, arrays in enumerate(contents):
        np.savez(folder / f"{index}.npz", **{"observations": X, "controls": U, **arrays})
    return folder


def test_shards_know_their_sizes(tmp_path):
    more = {"observations": np.zeros([4, 5, 2], int), "controls": np.zeros([4, 5, 1])}
    folder = write(tmp_path / "train", {}, more)
    (folder / "2.npz.partial").write_text("of an interrupted save")
    opened = tfp_dvbf.Shards(folder)
    assert [path.name for path in opened.paths] == ["0.npz", "1.npz"]
    assert len(opened) == 7
    for part in [opened, *opened.parts()]:
        assert (part.num_steps, part.observation_shape, part.control_dim) == (5, (2,), 1)
    assert not opened.has_mask
    assert shards.Shards(write(tmp_path / "masked", {}, {"mask": np.ones([3, 5])})).has_mask


def test_only_headers_are_read(tmp_path, monkeypatch):
    folder = write(tmp_path / "train", {}, {})
    monkeypatch.setattr(np.lib.format, "read_array", None)
    with pytest.raises(ValueError):
        data.load(folder / "0.npz")
    shards.Shards(folder)


@pytest.mark.parametrize(
    "arrays, message",
    [
        (
            {"observations": np.zeros([3, 5, 4])},
            r"1.npz must have the sizes of 0.npz, 5 steps, observation_shape \(2,\), control_dim "
            r"1; got 5 steps, observation_shape \(4,\), control_dim 1",
        ),
        (
            {"observations": np.zeros([3, 4, 2])},
            r"1.npz must have .*; got 4 steps, observation_shape \(2,\)",
        ),
        ({"controls": np.zeros([3, 4, 2])}, "1.npz must have .*; got 5 steps, .* control_dim 2"),
        ({"controls": np.zeros([3, 3, 1])}, r"1.npz: `controls` must have shape \[3, 4 or 5"),
        ({"observations": np.zeros([3, 5])}, r"1.npz: `observations` must have shape \[batch"),
        ({"observations": X.astype(str)}, "1.npz: `observations` must be numeric; got dtype <U"),
        ({"controls": U.astype(object)}, "1.npz: `controls` must be numeric; got dtype object"),
    ],
)
def test_a_file_unlike_the_first_is_refused(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        shards.Shards(write(tmp_path / "train", {}, arrays))


def test_unreadable_files_are_named(tmp_path):
    folder = write(tmp_path / "train", {}, {})
    np.savez(folder / "1.npz", controls=U)
    with pytest.raises(ValueError, match="1.npz must hold `observations`; it holds controls"):
        shards.Shards(folder)
    (folder / "1.npz").write_bytes((folder / "0.npz").read_bytes()[:-200])
    with pytest.raises(ValueError, match="1.npz must be an .npz file of numeric arrays; File is"):
        shards.Shards(folder)


def test_a_folder_without_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    for path in [tmp_path, tmp_path / "nowhere", tmp_path / "notes.txt"]:
        with pytest.raises(ValueError, match=f"`folder` must hold .npz files; got {path}"):
            shards.Shards(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"observations": X[:2], "controls": U[:2]},
        {"observations": X[..., :1]},
        {"mask": [[1, 1, 1, 1, 0]] * 3},
    ],
)
def test_a_file_that_changes_is_refused(tmp_path, arrays):
    opened = shards.Shards(write(tmp_path / "train", {}))
    np.savez(opened.paths[0], **{"observations": X, "controls": U, **arrays})
    with pytest.raises(ValueError, match="0.npz must not change while it is in use; it held"):
        opened.load(0)


def test_shards_of_images_without_controls(tmp_path):
    images = np.arange(90).reshape(3, 5, 3, 2, 1).astype(np.uint8)
    for index, controls in enumerate([{}, {"controls": np.zeros([3, 4, 0])}]):
        np.savez(tmp_path / f"{index}.npz", observations=images, **controls)
    opened = shards.Shards(tmp_path)
    assert (opened.observation_shape, opened.control_dim) == ((3, 2, 1), 0)
    assert opened.observation_dtype == np.uint8
    for part in opened.parts():
        assert part.observations.dtype == np.uint8
        np.testing.assert_array_equal(part.observations, images)


@pytest.mark.parametrize(
    "types, expected",
    [
        (["uint8", "uint8"], "uint8"),
        (["bool", "uint8"], "uint8"),
        (["uint8", "int16"], "int16"),
        (["uint8", "float64"], "float32"),
        (["int64", "float32"], "float32"),
        ([">i2", "int16"], "int16"),
    ],
)
def test_the_type_of_observations_holds_all_files(tmp_path, types, expected):
    contents = [{"observations": X.astype(dtype)} for dtype in types]
    opened = shards.Shards(write(tmp_path / "train", *contents))
    assert opened.observation_dtype == np.dtype(expected)


def test_a_file_whose_observations_become_floats_is_refused(tmp_path):
    opened = shards.Shards(write(tmp_path / "train", {"observations": X.astype(np.uint8)}))
    np.savez(opened.paths[0], observations=X + 0.5, controls=U)
    message = "0.npz must not change .* it held 3 sequences, .* uint8 and holds 3 .* float32"
    with pytest.raises(ValueError, match=message):
        opened.load(0)
