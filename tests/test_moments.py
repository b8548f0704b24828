"""Moments in float64 against NumPy's, merged in any order; the scale that comes of them."""

import functools
import operator

import numpy as np
import pytest

from tfp_dvbf import data
from tfp_dvbf.data import batching, moments
from tfp_dvbf.data.moments import Moments, mean_and_scale

SIZES = pytest.mark.parametrize("size", [(512, 50), (2000, 500)])


def pressures(size, dtype=np.float32):
    """Returns sequences of 101325 +- 5 Pa and of a unit vector beside it."""
    rng = np.random.default_rng(1)
    return (rng.normal(size=[*size, 2]) * [5.0, 1.0] + [101325.0, 0.0]).astype(dtype)


def assert_equal_moments(found, values, rtol=1e-6):
    values = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    assert found.count == len(values)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=rtol)
    np.testing.assert_allclose(found.variance, values.var(axis=0), rtol=rtol)
    assert found.mean.dtype == found.squared_deviations.dtype == np.float64


@SIZES
def test_moments_are_those_of_numpy_in_float64(size):
    values = pressures(size)
    assert_equal_moments(Moments.of(values), values, rtol=1e-9)
    mean, scale = mean_and_scale(Moments.of(values))
    assert mean.dtype == scale.dtype == np.float32
    exact = values.astype(np.float64)
    np.testing.assert_allclose(mean[0], exact[..., 0].mean(), rtol=1e-6)
    np.testing.assert_allclose(scale, exact.std(axis=(0, 1)), rtol=1e-6)


@SIZES
def test_merged_moments_are_those_of_all_values(size):
    """Over batches in a row, and over workers that each have merged batches of their own."""
    values = pressures(size)
    values[: len(values) // 3] += 1e4  # Batches that differ.
    parts = [Moments.of(part) for part in np.array_split(values, 37)]
    in_a_row = functools.reduce(Moments.merge, parts)
    workers = [functools.reduce(Moments.merge, parts[k::4]) for k in range(4)]
    for merged in [in_a_row, functools.reduce(Moments.merge, workers)]:
        assert_equal_moments(merged, values, rtol=1e-9)


def test_merging_nothing_changes_nothing():
    some, none = Moments.of(pressures([4, 5])), Moments.of(np.zeros([0, 2], np.float32))
    assert none.count == 0
    for merged in [some.merge(none), none.merge(some)]:
        for a, b in zip(merged, some):
            np.testing.assert_array_equal(a, b)
    mean, scale = mean_and_scale(none.merge(none))
    np.testing.assert_array_equal(mean, [0, 0])
    np.testing.assert_array_equal(scale, [1, 1])


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_any_unit(unit):
    values = np.random.default_rng(1).normal(3.0, 2.0, size=[100, 20, 2])
    mean, scale = mean_and_scale(Moments.of((values * unit).astype(np.float32)))
    expected_mean, expected_scale = mean_and_scale(Moments.of(values))
    np.testing.assert_allclose(mean / np.float32(unit), expected_mean, rtol=1e-5)
    np.testing.assert_allclose(scale / np.float32(unit), expected_scale, rtol=1e-5)


def test_images_are_measured_a_channel():
    images = np.random.default_rng(1).integers(0, 256, size=[6, 5, 4, 4, 3]).astype(np.uint8)
    found = Moments.of(images)
    assert_equal_moments(found, images, rtol=1e-12)
    assert found.mean.shape == (3,)


@pytest.mark.parametrize(
    "column",
    [
        np.full(1000, 14.62, np.float32),
        np.full(1000, 14.62),
        np.full(1000, 14.62) * (1 + 1e-15 * np.arange(1000)),
        np.tile(np.nextafter(np.float32(14.62), np.float32([0, 20])), 500),
        np.full(1000, 1e30, np.float32),
        np.full(1000, -1e-30, np.float32),
        np.full(1000, 101325.0, np.float32),
        np.zeros(1000, np.float32),
        np.full(1000, 7, np.uint8),
        np.full(1000, 1_700_000_000, np.int64),
    ],
)
@pytest.mark.parametrize("num_parts", [1, 7])
def test_a_column_constant_to_the_resolution_of_its_type_has_scale_1(column, num_parts):
    parts = [Moments.of(part[:, np.newaxis]) for part in np.array_split(column, num_parts)]
    mean, scale = mean_and_scale(functools.reduce(Moments.merge, parts))
    np.testing.assert_array_equal(scale, [1.0])
    np.testing.assert_allclose(mean[0], column[0], rtol=1e-6)


def test_a_small_change_is_no_constant():
    column = 14.62 + 1e-3 * np.random.default_rng(1).normal(size=[1000, 1])
    _, scale = mean_and_scale(Moments.of(column.astype(np.float32)))
    np.testing.assert_allclose(scale, column.std(), rtol=1e-3)


def test_min_scale():
    values = np.random.default_rng(1).normal(size=[1000, 2]) * [1e-3, 3.0]
    values = np.concatenate([values, np.ones([1000, 1])], axis=1).astype(np.float32)
    found = Moments.of(values)
    exact = values.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(mean_and_scale(found)[1], [exact[0], exact[1], 1], rtol=1e-6)
    np.testing.assert_allclose(mean_and_scale(found, min_scale=0.5)[1], [0.5, exact[1], 1])
    for value in [-1.0, np.nan, np.inf, "1", True]:
        with pytest.raises(
            ValueError, match=f"`min_scale` must be a number of 0 or more; got {value!r}"
        ):
            mean_and_scale(found, min_scale=value)


REMEDY = "Subtract an offset from that column"
RNG = np.random.default_rng(1)
UTM = 4_500_000.0 + 5.0 * RNG.normal(size=[100, 20])
UNIX_TIMES = 1.7e9 + 0.05 * np.arange(2000.0).reshape(100, 20)


@pytest.mark.parametrize(
    "column",
    [
        UTM,
        -UTM,
        UTM.astype(np.float32),
        UNIX_TIMES,
        UNIX_TIMES.astype(np.int64),
        (1.7e9 + np.arange(2000.0)).astype(np.float32),
    ],
)
def test_what_float32_cannot_hold_is_refused(column):
    found = Moments.of(
        np.stack([np.arange(column.size), column.ravel()], axis=1).astype(column.dtype)
    )
    message = (
        f"`controls` must have means below 100000 standard .* got mean .* in column 1. {REMEDY}"
    )
    with pytest.raises(ValueError, match=message):
        mean_and_scale(found, "controls")
    _, scale = mean_and_scale(found, "controls", min_scale=1e5)
    assert scale[1] == 1e5


@pytest.mark.parametrize(
    "column", [np.float32([1e8, 1e9]), np.float32([-1e30, -2e30]), [1e20, 1e21]]
)
def test_a_constant_that_moves_by_more_than_its_scale_is_refused(column):
    """By the rounding of its type alone: scale 1 would let it into the model a hundred wide."""
    values = np.nextafter(column[0], [[0], [column[1]]], dtype=np.asarray(column).dtype)
    with pytest.raises(ValueError, match=f"or float32 cannot hold them; .* {REMEDY}"):
        mean_and_scale(Moments.of(np.tile(values, [1000, 1])))


@pytest.mark.parametrize("name", ["observations", "controls"])
def test_columns_that_become_constant_in_float32_are_refused_by_sequences(name):
    """From then on, a clock would look like a constant."""
    arrays = {"observations": np.zeros([100, 20, 2]), "controls": np.zeros([100, 20, 2])}
    arrays[name][..., 1] = UNIX_TIMES
    message = f"`{name}` must change by more than float32 can .* in column 1. {REMEDY}"
    with pytest.raises(ValueError, match=message):
        data.Sequences(**arrays)
    arrays[name][..., 1] -= 1.7e9
    data.Sequences(**arrays)
    arrays[name][..., 1] = 14.62 * (1 + 1e-15 * RNG.normal(size=[100, 20]))
    data.Sequences(**arrays)
    arrays[name][..., 1] = UNIX_TIMES
    mask = np.zeros([100, 20])
    mask[:, 0] = 1  # What stands in missing steps has no effect; no control is applied.
    arrays[name][..., 0, 1] = 0.0
    data.Sequences(**arrays, mask=mask)


def masked_batches(dtype=np.float32):
    """Returns batches with gaps, padding and rows of weight 0; what counts of both arrays."""
    rng = np.random.default_rng(2)
    batches, observations, controls = [], [], []
    for _ in range(3):
        x, u = rng.normal(100, 3, size=[4, 6, 2]), rng.normal(size=[4, 6, 1])
        mask = rng.random([4, 6]) < 0.6
        mask[:, 1] = True
        mask[2, 3:] = False
        weights = np.array([1, 1, 1, 0], np.float32)
        x[~mask] = np.nan
        x[3] = 1e6
        for row in range(3):
            last = np.flatnonzero(mask[row]).max()
            observations.append(x[row, mask[row]])
            controls.append(u[row, :last])
            u[row, last:] = 1e6
        batch = {"observations": x.astype(dtype), "controls": u.astype(dtype)}
        batches.append(batch | {"mask": mask, "weights": weights})
    return batches, np.concatenate(observations), np.concatenate(controls)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dataset_moments_leave_out_what_is_missing(dtype):
    batches, observations, controls = masked_batches(dtype)
    found = moments.dataset_moments(iter(batches))
    rtol = 1e-6 if dtype == np.float32 else 1e-12
    assert_equal_moments(found.observations, observations.astype(dtype), rtol)
    assert_equal_moments(found.controls, controls.astype(dtype), rtol)


@pytest.mark.parametrize("batch_size", [3, 5, 12, 30])
def test_dataset_moments_of_as_dataset_are_those_of_its_sequences(sequences, batch_size):
    dataset = batching.as_dataset(sequences, batch_size, seed=1)
    found = moments.dataset_moments(dataset.as_numpy_iterator())
    assert_equal_moments(found.observations, sequences.observations)
    assert_equal_moments(found.controls, sequences.controls)


def test_dataset_moments_without_controls_and_of_images():
    images = np.random.default_rng(1).integers(0, 256, size=[4, 5, 3, 3, 2]).astype(np.uint8)
    for batch in [{"observations": images}, {"observations": images, "controls": None}]:
        found = moments.dataset_moments([batch, batch])
        assert_equal_moments(found.observations, np.concatenate([images, images]))
        assert found.controls.mean.shape == (0,)
        assert [each.shape for each in mean_and_scale(found.controls)] == [(0,), (0,)]


def test_dataset_moments_of_masked_arrays():
    x = np.ma.array(np.ones([2, 4, 1]), dtype=np.float64)
    x[0, 2] = np.ma.masked
    x.data[0, 2] = -9999
    found = moments.dataset_moments([{"observations": x, "controls": np.ones([2, 3, 1])}])
    assert (found.observations.count, found.observations.mean[0]) == (7, 1.0)


def test_a_worker_may_see_fillers_only():
    batches, *_ = masked_batches()
    fillers = batches[0] | {"weights": np.zeros(4, np.float32)}
    expected = moments.dataset_moments(batches)
    found = moments.dataset_moments([fillers, *batches])
    for a, b in zip(operator.add(*found), operator.add(*expected)):
        np.testing.assert_array_equal(a, b)


X, U, MASK = np.ones([2, 4, 1]), np.ones([2, 3, 1]), np.ones([2, 4])
NAN_OBSERVATION = np.where(np.arange(4)[:, np.newaxis] == 2, np.nan, X)
NAN_CONTROL = np.where(np.arange(3)[:, np.newaxis] == 1, np.nan, U)


@pytest.mark.parametrize(
    "batches, message",
    [
        ([], "`batches` must hold a batch; got none"),
        (
            [{"observations": X, "controls": U, "mask": MASK * [[1], [0]]}],
            "`mask` must leave an observed step in every sequence; 1 has none",
        ),
        ([{"observations": X, "controls": U[:, :1]}], r"`controls` must have shape \[2, 3 or 4"),
        (
            [{"observations": NAN_OBSERVATION, "controls": U}],
            "`observations` must be finite; got nan in sequence 0, step 2",
        ),
        (
            [{"observations": X, "controls": NAN_CONTROL, "mask": MASK}],
            "`controls` must be finite; got nan in sequence 0, step 1",
        ),
        ([{"controls": U}], "`batches` must be dictionaries with `observations`; got controls"),
        ([(X, U)], "`batches` must be dictionaries with `observations`; got tuple"),
        (
            [{"observations": X}, {"observations": np.ones([2, 4, 2])}],
            "`other` must have 1 features; got 2",
        ),
        (
            [{"observations": X, "weights": np.ones(3)}],
            r"`weights` must have shape \(2,\); got \(3,\)",
        ),
    ],
)
def test_dataset_moments_refuse(batches, message):
    with pytest.raises(ValueError, match=message):
        moments.dataset_moments(batches)
