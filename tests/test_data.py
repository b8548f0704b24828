import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data
from tfp_dvbf.data import checks

GOOD = np.zeros((4, 5, 3)), np.zeros((4, 4, 1))


@pytest.mark.parametrize(
    "observations, controls, message",
    [
        (
            np.zeros((4, 5)),
            GOOD[1],
            r"`observations` must have shape \[batch, time, \*observation_shape\]; got \(4, 5\)",
        ),
        (np.zeros((0, 5, 3)), GOOD[1], r"`observations` must have shape .* got \(0, 5, 3\)"),
        (np.zeros((4, 5, 0)), GOOD[1], r"`observations` must have shape .* got \(4, 5, 0\)"),
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
    assert loaded.observations.dtype == np.float32
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
        (write_with(controls=GOOD[1]), "must hold `observations`; it holds controls"),
        (
            write_with(observations=np.array([{}]), controls=GOOD[1]),
            "must be an .npz file of numeric arrays",
        ),
        (
            write_with(observations=GOOD[0], controls=GOOD[1], mask=np.zeros((4, 5))),
            "`mask` must leave an observed step in every sequence; 0 has none",
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


PAD = "Pad sequences of different lengths and mark the padding as missing with a `mask`"


@pytest.mark.parametrize(
    "observations, message",
    [
        ([np.zeros((5, 3)), np.zeros((4, 3))], "got sequences of different lengths"),
        (np.array([np.zeros((5, 3)), np.zeros((4, 3))], dtype=object), "got dtype object"),
        (tf.ragged.stack([tf.zeros([5, 3]), tf.zeros([4, 3])]), "got a RaggedTensor"),
    ],
)
def test_sequences_of_different_lengths_are_told_to_pad(observations, message):
    with pytest.raises(ValueError, match=f"`observations` must be numeric; {message}. {PAD}"):
        data.Sequences(observations, GOOD[1])
    with pytest.raises(ValueError, match=f"`controls` must be numeric; {message}. {PAD}"):
        data.Sequences(GOOD[0], observations)


@pytest.mark.parametrize("of", [list, tuple])
def test_images_of_mixed_sizes_are_refused(of):
    same, other = np.zeros((5, 8, 8, 1)), np.zeros((5, 16, 16, 1))
    message = r"got steps of different shapes, \(8, 8, 1\) in sequence 0 and \(16, 16, 1\) in seq"
    for mixed in [[same, same, other, same], [same.tolist(), other.tolist()]]:
        with pytest.raises(ValueError, match=message):
            data.Sequences(of(mixed))


def test_nan_without_a_mask_is_told_of_the_mask():
    observations = GOOD[0].copy()
    observations[1, 2, 0] = np.nan
    message = "in sequence 1, step 2, dimension 0; give a `mask` of the steps that are observed"
    for mask in [None, np.arange(5) < np.full((4, 1), 4)]:
        with pytest.raises(ValueError, match=f"got nan {message}"):
            data.Sequences(observations, GOOD[1], mask=mask)
    observations[1, 2, 0] = np.inf
    with pytest.raises(ValueError, match=f"got inf {message}"):
        data.Sequences(observations, GOOD[1])


def test_the_place_in_an_image_is_named():
    images = np.zeros((2, 3, 4, 4, 1))
    images[1, 2, 3, 0, 0] = np.inf
    with pytest.raises(ValueError, match="got inf in sequence 1, step 2, dimensions 3, 0, 0"):
        data.Sequences(images)


@pytest.mark.parametrize(
    "dtype, stored",
    [
        *[(name, name) for name in ["uint8", "int16", "uint16", "int32", "int64", "float32"]],
        *[("float16", "float32"), ("float64", "float32"), (">f4", "float32")],
        *[(">i2", "int16"), ("bool", "uint8")],
    ],
)
def test_images_keep_their_shape_and_integers_their_type(tmp_path, dtype, stored):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 2, size=[2, 5, 4, 3, 1]).astype(dtype)
    mask = np.ones((2, 5), bool)
    mask[1, 2] = False
    data.save(tmp_path / "images.npz", data.Sequences(images, GOOD[1][:2], mask=mask))
    loaded = data.load(tmp_path / "images.npz")
    assert loaded.observation_shape == (4, 3, 1) and loaded.control_dim == 1
    assert loaded.observations.dtype == np.dtype(stored)
    assert loaded.controls.dtype == np.float32
    np.testing.assert_array_equal(loaded.observations[mask], images[mask])
    assert not loaded.observations[1, 2].any()
    shown = loaded.observations_or_nan
    assert shown.dtype == np.float32 and np.isnan(shown[1, 2]).all()
    np.testing.assert_array_equal(shown[mask], images[mask])


def test_names_label_the_dimensions_of_vectors_only():
    spec = {"observation_names": ["level"]}
    assert data.Sequences(np.zeros((2, 5, 4, 4, 1)), spec=spec).spec == spec
    with pytest.raises(ValueError, match="`observation_names` in `spec` must be a list of 3"):
        data.Sequences(*GOOD, spec=spec)


def test_controls_may_be_left_out(tmp_path):
    np.savez(tmp_path / "none.npz", observations=GOOD[0])
    for sequences in [
        data.Sequences(GOOD[0]),
        data.Sequences(GOOD[0], None),
        data.Sequences(GOOD[0], np.zeros((4, 4, 0))),
        data.load(tmp_path / "none.npz"),
    ]:
        data.save(tmp_path / "saved.npz", sequences)
        for each in [sequences, sequences[1:], data.load(tmp_path / "saved.npz")]:
            assert each.control_dim == 0
            assert each.controls.shape == (len(each), 4, 0)


SIZES = [(np.int64(3), np.int64(1)), ((3,), 1), ([3], 1), (3, 1)]


@pytest.mark.parametrize("observation_shape, control_dim", SIZES)
def test_check_sequences_takes_sizes_of_any_integer_type(observation_shape, control_dim):
    batch = data.check_sequences(*GOOD, None, observation_shape, control_dim)
    assert batch.observations.shape == (4, 5, 3)


@pytest.mark.parametrize(
    "sizes, message",
    [
        (((3,), 2), r"`controls` must have shape \[4, 4 or 5, 2\]; got \(4, 4, 1\)"),
        (((3, 1), 1), r"`observations` must have shape \[batch, time, 3, 1\]; got \(4, 5, 3\)"),
        ((True, 1), "`observation_shape` must be positive integers; got True"),
        (((), 1), r"`observation_shape` must be positive integers; got \(\)"),
        (((3.0,), 1), r"`observation_shape` must be positive integers; got \(3.0,\)"),
        (((0,), 1), r"`observation_shape` must be positive integers; got \(0,\)"),
        ((3, True), "`control_dim` must be an integer; got True"),
        ((3, -1), "`control_dim` must be at least 0; got -1"),
        ((3, 1, True), "`min_steps` must be an integer; got True"),
        ((3, 1, 6), "`observations` must have at least 6 steps; got 5"),
    ],
)
def test_check_sequences_refuses_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        data.check_sequences(*GOOD, None, *sizes)


def test_controls_that_a_model_needs_are_asked_for():
    with pytest.raises(ValueError, match=r"`controls` must have shape \[4, 4 or 5, 1\]; got None"):
        data.check_sequences(GOOD[0], None, None, 3, 1)


def test_shapes_that_are_not_known_yet():
    unknown = tf.TensorShape([None, None, 3])
    checks.check_shapes(unknown, tf.TensorShape([None, None, 1]), 3, 1)
    checks.check_shapes(unknown, None)
    message = r"`observations` must have shape \[batch, time, 3\]; got <unknown>"
    with pytest.raises(ValueError, match=message):
        checks.check_shapes(tf.TensorShape(None), None, 3)
    with pytest.raises(ValueError, match=r"time, \*observation_shape\]; got <unknown>"):
        checks.check_shapes(tf.TensorShape(None), None)
    with pytest.raises(ValueError, match=r"`controls` must have shape .*; got <unknown>"):
        checks.check_shapes(unknown, tf.TensorShape(None))


@pytest.mark.parametrize("value", [True, np.True_, 2.0, "2", None])
def test_num_samples_is_an_integer(value):
    with pytest.raises(ValueError, match=f"`num_samples` must be an integer; got {value!r}"):
        checks.check_num_samples(value)
    assert checks.check_num_samples(np.int64(3)) == 3
