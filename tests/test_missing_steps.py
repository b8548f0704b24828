"""Missing steps in arrays: masked arrays, and where the controls of a sequence end."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data
from tfp_dvbf.data import missing

NAN = np.nan


def controls_of(*rows):
    return np.array(rows, np.float32)[..., np.newaxis]


X = np.ones((3, 5, 2), np.float32)
U = controls_of([1, 2, 3, 4], [1, 2, NAN, 4], [NAN, NAN, 3, NAN])
MASK = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
KNOWN = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool)
KEPT = controls_of([1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 0, 0])


def test_finite_controls_after_the_last_observed_step_are_kept():
    batch = data.check_sequences(X, U, MASK)
    np.testing.assert_array_equal(batch.controls, KEPT)
    np.testing.assert_array_equal(batch.observations, MASK[..., np.newaxis] * X)
    np.testing.assert_array_equal(batch.mask, MASK)
    with_last = np.concatenate([U, np.full([3, 1, 1], 9.0)], axis=1)
    np.testing.assert_array_equal(data.check_sequences(X, with_last, MASK).controls, KEPT)


def test_known_steps_end_at_the_first_control_that_is_not_known():
    np.testing.assert_array_equal(missing.known_steps(U, MASK), KNOWN)
    with_last = np.concatenate([U, np.full([3, 1, 1], NAN)], axis=1)
    np.testing.assert_array_equal(missing.known_steps(with_last, MASK), KNOWN)
    for none in [None, np.zeros([3, 4, 0])]:
        np.testing.assert_array_equal(missing.known_steps(none, MASK), np.ones([3, 5], bool))
    wide = np.concatenate([U, np.zeros_like(U)], axis=2)
    np.testing.assert_array_equal(missing.known_steps(wide, MASK), KNOWN)


def test_the_tensor_functions_follow_the_same_rules():
    @tf.function(jit_compile=True)
    def both(observations, controls, mask):
        filled = data.fill_missing(observations, controls, mask)
        return *filled, missing.known_steps_tensor(controls, mask)

    for observations in [X, np.ones([3, 5, 2, 2, 1], np.uint8)]:
        x, u, known = both(*map(tf.constant, [observations, U, MASK]))
        np.testing.assert_array_equal(x, data.check_sequences(observations, U, MASK).observations)
        assert x.dtype == observations.dtype
        np.testing.assert_array_equal(u, KEPT)
        np.testing.assert_array_equal(known, KNOWN)
    no_controls = tf.zeros([3, 4, 0])
    assert data.fill_missing(tf.constant(X), no_controls, tf.constant(MASK))[1].shape == (3, 4, 0)
    assert np.all(missing.known_steps_tensor(no_controls, tf.constant(MASK)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_control_before_the_last_observed_step_must_be_known(value):
    u = U.copy()
    u[0, 1] = value
    message = f"`controls` must be finite; got {value} in sequence 0, step 1, dimension 0"
    with pytest.raises(ValueError, match=message):
        data.check_sequences(X, u, MASK)
    filled = data.fill_missing(*map(tf.constant, [X, u, MASK]))[1].numpy()
    np.testing.assert_array_equal(filled, np.where([[[True]], [[False]], [[False]]], u, KEPT))


def test_an_infinite_control_is_no_unknown_one():
    u = U.copy()
    u[0, 3] = np.inf
    with pytest.raises(
        ValueError, match="`controls` must be finite; got inf in sequence 0, step 3"
    ):
        data.check_sequences(X, u, MASK)
    u[0, 2] = np.nan  # What comes after the end is not looked at.
    assert not data.check_sequences(X, u, MASK).controls[0, 2:].any()


def masked_arrays(fill, dtype):
    """Returns observations, controls and a mask of theirs; `fill` stands in what is masked."""
    x = np.ma.array(np.ones([2, 5, 3]), dtype=dtype)
    u = np.ma.array(np.ones([2, 4, 1]), dtype=dtype)
    x[0, 1, 2] = x[1, 3] = np.ma.masked
    u[1, 3] = np.ma.masked
    x.data[x.mask] = u.data[u.mask] = fill
    return x, u, np.array([[1, 0, 1, 1, 1], [1, 1, 1, 0, 0]], bool)


@pytest.mark.parametrize(
    "fill, dtype", [(-9999, int), (-9999.0, float), (9.97e36, float), (np.nan, np.float32)]
)
def test_the_mask_of_a_masked_array_is_the_mask(fill, dtype):
    x, u, expected = masked_arrays(fill, dtype)
    given = np.ones([2, 5])
    given[1, 4] = 0
    lists = [list(x), list(u)]
    for arrays in [(x, u), lists]:
        sequences = data.Sequences(*arrays, mask=given)
        np.testing.assert_array_equal(sequences.mask, expected)
        np.testing.assert_array_equal(sequences.observations[expected], 1)
        assert not sequences.observations[~expected].any()
        np.testing.assert_array_equal(sequences.controls[1, :, 0], [1, 1, 1, 0])
    known = missing.known_steps(u, expected)
    np.testing.assert_array_equal(known, np.arange(5) < [[5], [4]])
    without = data.Sequences(x, np.ones([2, 4, 1]))
    np.testing.assert_array_equal(without.mask[1], [1, 1, 1, 0, 1])


def test_a_masked_array_without_missing_values_is_an_array():
    sequences = data.Sequences(np.ma.array(X), np.ma.array(np.ones([3, 4, 1])))
    assert sequences.mask is None
    np.testing.assert_array_equal(sequences.observations, X)


def test_masked_values_that_cannot_be_missing_are_refused():
    x, u, _ = masked_arrays(-9999, float)
    with pytest.raises(
        ValueError, match="`controls` must be finite; got nan in sequence 1, step 3"
    ):
        data.Sequences(np.ones([2, 5, 3]), u)
    x[1] = np.ma.masked
    message = "`mask` must leave an observed step in every sequence; 1 has none"
    with pytest.raises(ValueError, match=message):
        data.Sequences(x, np.ones([2, 4, 1]))


def test_the_mask_may_be_a_masked_array():
    mask = np.ma.array(MASK, mask=np.zeros_like(MASK))
    mask[0, 2] = np.ma.masked
    np.testing.assert_array_equal(data.Sequences(X, U, mask=mask).mask[0], [1, 0, 0, 0, 0])


def test_masked_states_are_nan():
    states = np.ma.array(np.ones([3, 5, 1]))
    states[1, 2] = np.ma.masked
    stored = data.Sequences(X, states=states).states
    assert np.isnan(stored[1, 2, 0]) and np.isnan(stored).sum() == 1
