"""Intervals against the closed form of the bootstrap of a mean, and by how often they cover."""

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from tfp_dvbf.evaluation import intervals


def autoregression(rng, persistence, shape):
    """Returns x[t] = a x[t-1] + e[t] of unit noise, started 200 steps before."""
    noise = rng.normal(size=[*shape[:-1], shape[-1] + 200])
    return scipy.signal.lfilter([1.0], [1.0, -persistence], noise)[..., 200:]


def test_sequences_are_resampled_whole():
    """The bootstrap distribution of a mean of n values has their deviation over sqrt(n)."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=[400, 1])  # A sequence's own: its steps are no independent sample.
    values = np.broadcast_to(level, [400, 30]) + 2.0
    found = intervals.mean_intervals(values[np.newaxis], np.ones([400, 30]), seed=1)
    half = scipy.stats.norm.ppf(0.975) * level.std() / np.sqrt(400)
    assert found.resampled == "sequences"
    np.testing.assert_allclose(found.low, values.mean() - half, atol=0.15 * half)
    np.testing.assert_allclose(found.high, values.mean() + half, atol=0.15 * half)


def test_blocks_of_one_step_are_the_bootstrap_of_single_values():
    values = np.random.default_rng(0).normal(size=200)
    alone = intervals.mean_intervals(values.reshape(1, 200, 1), np.ones([200, 1]), seed=1)
    blocks = intervals.mean_intervals(values.reshape(1, 1, 200), np.ones([1, 200]), 1, block=1)
    np.testing.assert_allclose(blocks.low, alone.low)
    np.testing.assert_allclose(blocks.high, alone.high)
    whole = intervals.mean_intervals(values.reshape(1, 1, 200), np.ones([1, 200]), 1, block=200)
    np.testing.assert_allclose([whole.low, whole.high], values.mean())
    assert blocks.resampled == "blocks of 1 time steps"


def test_missing_steps_have_no_effect():
    rng = np.random.default_rng(0)
    values, observed = rng.normal(size=[2, 3, 50]), rng.uniform(size=[3, 50]) < 0.5
    spoilt = np.where(observed, values, np.nan)
    for block in (None, 5):
        expected = intervals.mean_intervals(values, observed, 1, block)
        found = intervals.mean_intervals(spoilt, observed, 1, block)
        np.testing.assert_array_equal(found.low, expected.low)
        np.testing.assert_array_equal(found.high, expected.high)


def test_blocks_cover_the_mean_of_a_correlated_record():
    """Of 200 records of 1,000 steps; single values would cover it 35 % of the time."""
    records = autoregression(np.random.default_rng(0), 0.9, [200, 1000])
    ones = np.ones([1, 1000])
    covered = {"blocks": 0, "single": 0}
    for index, record in enumerate(records):
        for name, block in {"blocks": None, "single": 1}.items():
            found = intervals.mean_intervals(record.reshape(1, 1, -1), ones, index, block)
            covered[name] += float(found.low[0] <= 0.0 <= found.high[0]) / len(records)
    assert 0.86 <= covered["blocks"] <= 0.97 and covered["single"] < 0.55


@pytest.mark.parametrize("persistence", [0.5, 0.9])
def test_the_length_of_blocks_is_that_of_an_autoregression(persistence):
    """R(k) = a^k R(0), so that G^2 / D = 3/4 (2 a / (1 - a^2))^2 in closed form."""
    series = autoregression(np.random.default_rng(1), persistence, [8, 20000])
    lengths = [intervals.block_length(row) for row in series]
    ratio = 2.0 * persistence / (1.0 - persistence**2)
    expected = (1.5 * ratio**2 * 20000) ** (1 / 3)
    assert np.median(lengths) == pytest.approx(expected, rel=0.2)


def test_the_length_of_blocks_without_correlation():
    assert intervals.block_length(np.random.default_rng(0).normal(size=1000)) <= 6
    assert intervals.block_length(np.full(50, 0.1)) == 1
    assert intervals.block_length(np.array([0.0, 1.0])) == 1
    assert intervals.block_length(np.arange(90.0)) <= 30  # A trend: no more than a third.


@pytest.mark.parametrize(
    "values, observed, block, message",
    [
        (np.zeros([2, 3]), np.ones([2, 3]), None, "`values` must have shape"),
        (np.zeros([1, 2, 3]), np.ones([2, 4]), None, "`values` must have shape"),
        (np.zeros([1, 2, 3]), np.ones([2, 3]), 4, r"`block` must lie in \[1, 3\]; got 4"),
        (np.zeros([1, 2, 3]), np.ones([2, 3]), 0, r"`block` must lie in \[1, 3\]; got 0"),
    ],
)
def test_one_line_each_for_bad_input(values, observed, block, message):
    with pytest.raises(ValueError, match=message):
        intervals.mean_intervals(values, observed, block=block)
