"""Folds of a log: a block of each record left out, and what is left beside it."""

import numpy as np
import pytest
from test_logs import U, X

from tfp_dvbf import Log


@pytest.mark.parametrize("index, lengths", [(0, [30]), (1, [10, 20]), (3, [30])])
def test_a_fold_leaves_a_block_of_each_record_out(index, lengths):
    log = Log([X, X + 100.0], [U, U])
    rest, block = log.fold(index, 4)
    assert sorted(len(record) for record in rest.records) == sorted(2 * lengths)
    assert [len(record) for record in block.records] == [10, 10]
    start = 10 * index
    np.testing.assert_array_equal(block.records[1].observations, X[start : start + 10] + 100.0)
    np.testing.assert_array_equal(block.records[1].controls, U[start : start + 9])
    seen = np.concatenate([record.observations for record in rest.records])
    assert not set(seen[:, 0]) & set(X[start : start + 10, 0])
    if index == 1:
        assert [len(record) for record in log.fold(1, 4, min_length=11)[0].records] == [20, 20]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((4, 4), "`index` must be less than `count`, 4; got 4"),
        ((0, 1), "`count` must be at least 2; got 1"),
        ((0, 30), "must have two time steps or more in each part"),
        ((1, 4, 30), "`min_length` must leave a record beside the block; got 30"),
    ],
)
def test_folds_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        Log(X, U).fold(*arguments)
