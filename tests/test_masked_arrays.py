"""Masks of NumPy arrays, and keys that would be dropped."""

import models
import numpy as np
import pytest


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
