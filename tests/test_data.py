import json
import pickle

import numpy as np
import pytest

from tfp_dvbf import data

GOOD = np.zeros((4, 5, 3)), np.zeros((4, 4, 1))


@pytest.mark.parametrize(
    "observations, controls, message",
    [
        (np.zeros((4, 5)), GOOD[1], r"`observations` must have shape \[batch, time, dim\]; got \("),
        (np.zeros((0, 5, 3)), GOOD[1], r"`observations` must have shape .* got \(0, 5, 3\)"),
        (np.zeros((4, 1, 3)), GOOD[1], r"`observations` must have at least 2 steps; got 1"),
        (
            GOOD[0],
            np.zeros((4, 3, 1)),
            r"`controls` must have shape \[4, 4 or 5, dim\]; got \(4, 3",
        ),
        (
            GOOD[0],
            np.zeros((3, 4, 1)),
            r"`controls` must have shape \[4, 4 or 5, dim\]; got \(3, 4",
        ),
        (GOOD[0], np.zeros((4, 4)), r"`controls` must have shape \[4, 4 or 5, dim\]; got \(4, 4\)"),
        (GOOD[0].astype(str), GOOD[1], r"`observations` must be numeric; got dtype <U"),
        (GOOD[0].astype(object), GOOD[1], r"`observations` must be numeric; got dtype object"),
    ],
)
def test_sequences_refuse(observations, controls, message):
    with pytest.raises(ValueError, match=message):
        data.Sequences(observations, controls)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_sequences_name_the_first_value_that_is_not_finite(value):
    controls = GOOD[1].copy()
    controls[2, 3, 0] = controls[3, 1, 0] = value
    message = f"`controls` must be finite; got {value} in sequence 2, step 3, dimension 0"
    with pytest.raises(ValueError, match=message):
        data.Sequences(GOOD[0], controls)


def test_a_last_control_is_dropped():
    controls = np.arange(20.0).reshape(4, 5, 1)
    sequences = data.Sequences(GOOD[0], controls)
    np.testing.assert_array_equal(sequences.controls, controls[:, :4])


def test_save_and_load(sequences, tmp_path):
    path = tmp_path / "data.npz"
    data.save(path, sequences)
    loaded = data.load(path)
    for name in ["observations", "controls", "states"]:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(sequences, name))
    assert len(loaded.spec.pop("sha256")) == 64
    assert loaded.spec == sequences.spec
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]


def test_load_takes_what_anyone_can_write(tmp_path):
    np.savez(tmp_path / "mine.npz", observations=GOOD[0], controls=GOOD[1])
    sequences = data.load(tmp_path / "mine.npz")
    assert sequences.states is None and sequences.spec is None


def write_truncated(path):
    np.savez(path, observations=GOOD[0], controls=GOOD[1])
    path.write_bytes(path.read_bytes()[:-200])


def write_flipped(path):
    rng = np.random.default_rng(0)
    data.save(path, data.Sequences(rng.normal(size=(4, 5, 3)), GOOD[1]))
    content = bytearray(path.read_bytes())
    content[150:170] = bytes(20)
    path.write_bytes(bytes(content))


def write_changed(path):
    arrays = {"observations": GOOD[0], "controls": GOOD[1]}
    spec = json.dumps({"sha256": data.content_hash(arrays)})
    np.savez(path, observations=GOOD[0] + 1, controls=GOOD[1], spec=spec)


def write_with(**arrays):
    return lambda path: np.savez(path, **arrays)


@pytest.mark.parametrize(
    "write, message",
    [
        (write_truncated, "must be an .npz file of numeric arrays"),
        (lambda path: path.write_text("x,y\n1,2\n"), "must be an .npz file of numeric arrays"),
        (lambda path: path.write_bytes(pickle.dumps({})), "must be an .npz file of numeric arrays"),
        (write_flipped, "must be an .npz file of numeric arrays"),
        (write_with(observations=GOOD[0], controls=GOOD[1], spec="[1]"), "must be a JSON object"),
        (
            write_with(observations=GOOD[0], controls=GOOD[1], spec='{"control_names": "torque"}'),
            "`control_names` in `spec` must be a list of 1; got torque",
        ),
        (write_changed, "is corrupt: its content does not match its sha256"),
        (write_with(observations=GOOD[0]), "it lacks {'controls'}"),
        (
            write_with(observations=np.array([{}]), controls=GOOD[1]),
            "must be an .npz file of numeric arrays",
        ),
        (
            write_with(observations=GOOD[0], controls=GOOD[1], mask=np.zeros((4, 5))),
            "`mask` must leave a frame in every sequence; 0 has none",
        ),
        (
            write_with(observations=GOOD[0], controls=GOOD[1], spec="not json"),
            "`spec` must be JSON",
        ),
        (
            write_with(observations=GOOD[0] + np.nan, controls=GOOD[1]),
            "bad.npz: `observations` must be finite; got nan in sequence 0",
        ),
    ],
)
def test_load_refuses(tmp_path, write, message):
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(ValueError, match=message):
        data.load(path)


def test_shift_controls(sequences):
    shifted = data.shift_controls(sequences)
    np.testing.assert_array_equal(shifted.controls[:, 0], 0.0)
    np.testing.assert_array_equal(shifted.controls[:, 1:], sequences.controls[:, :-1])
    np.testing.assert_array_equal(shifted.observations, sequences.observations)
