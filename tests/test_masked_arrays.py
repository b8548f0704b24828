"""Masks of NumPy arrays, and keys that would be dropped."""

import models
import numpy as np
import pytest
import tensorflow as tf


def test_masks_of_numpy_arrays_count_wherever_they_come(sequences):
    """Masked controls are as NaN, masked frames of a stream are missing, nothing is dropped."""
    model = models.adapted(models.small_model("innovation"), sequences)
    x, u = sequences.observations[:3], sequences.controls[:3]
    late = np.ma.masked_array(u, np.zeros(u.shape, bool))
    late[1, 2] = np.ma.masked
    with pytest.raises(ValueError, match="`controls` must be finite"):
        model.filter(x, late, 4, seed=1)
    for name in ["mask", "initial_observations"]:
        masked = np.ma.masked_array(np.ones([3, 8], bool), np.zeros([3, 8], bool))
        masked[0, 0] = np.ma.masked
        with pytest.raises(ValueError, match=f"`{name}` must not hold masked values"):
            if name == "mask":
                model.filter(x, u, 4, seed=1, mask=masked)
            model.filter_init(np.ma.masked_array(x[:, :1], x[:, :1] == x[0, 0, 0]), 4, seed=1)
    rows = [np.ma.masked_array(row, np.zeros(row.shape, bool)) for row in x]
    rows[1][3] = np.ma.masked
    mask = np.ones([3, 8], bool)
    mask[1, 3] = False
    listed, given = model.filter(rows, u, 4, 1), model.filter(x, u, 4, 1, mask)
    np.testing.assert_array_equal(listed.log_evidence, given.log_evidence)
    belief = model.filter_init(x[:, :1], 4, seed=1)
    frame = np.ma.masked_array(x[:, 1], [[False] * 3, [True] * 3, [False] * 3])
    masked = model.filter_step(belief, frame, u[:, 0], seed=1)
    missing = model.filter_step(belief, x[:, 1], u[:, 0], [True, False, True], seed=1)
    np.testing.assert_array_equal(masked["log_evidence"], missing["log_evidence"])
    assert masked["log_evidence"][1] == 0.0


def test_a_key_that_is_none_of_the_data_is_named(sequences):
    model = models.small_model()
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    with pytest.raises(ValueError, match="`key` must be one of .*; did you mean 'mask'"):
        model.adapt({**arrays, "masks": np.ones([12, 8], bool)})


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.full([3, 8], 0.5), r"`mask` must hold 0 \(missing\) and 1 \(observed\) only"),
        (np.ones(8), r"`mask` must have shape \[3, 8\]; got \(8,\)"),
        (np.ones([3, 1]), r"`mask` must have shape \[3, 8\]; got \(3, 1\)"),
        (np.full([3, 8], "0.0"), "`mask` must be numeric; got dtype <U3"),
        (np.ma.masked_array(np.ones([3, 8]), np.eye(3, 8)), "`mask` must not hold masked values"),
    ],
)
def test_a_mask_beside_a_masked_array_is_checked(sequences, mask, message):
    model = models.cached_model()
    x = np.ma.masked_array(sequences.observations[:3], False)
    for call in [model.filter, model.log_prob_bound]:
        with pytest.raises(ValueError, match=message):
            call(x, sequences.controls[:3], mask=mask)


def test_both_masks_count_also_in_a_graph(sequences):
    model = models.cached_model()
    x, u = sequences.observations[:3], sequences.controls[:3]
    masked = np.ma.masked_array(x, np.zeros(x.shape, bool))
    masked[1, 3] = np.ma.masked
    given, both = np.ones([3, 8], bool), np.ones([3, 8], bool)
    given[2, 5] = both[2, 5] = both[1, 3] = False
    expected = model.log_prob_bound(x, u, 4, 1, mask=both)
    np.testing.assert_array_equal(model.log_prob_bound(masked, u, 4, 1, mask=given), expected)
    graph = tf.function(lambda mask: model.log_prob_bound(masked, u, 4, 1, mask=mask))
    np.testing.assert_allclose(graph(tf.constant(given)), expected, rtol=1e-5)
