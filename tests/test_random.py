"""The random numbers of a particle filter: their rows, time steps and distribution."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfp_dvbf.inference import random
from tfp_dvbf.layers import philox

KEY = random.key_of(tf.constant([3, 4]))
SIZES = {"num_particles": 5, "state_dim": 3}  # 30 normals a row: no multiple of 4.


def batch_first(noise):
    """Returns the arrays of a `Noise`, each [batch, ...]."""
    return noise.offsets.numpy(), *(np.swapaxes(normal, 0, 1) for normal in noise[1:])


def test_a_row_is_the_same_however_many_are_drawn():
    together = batch_first(random.draw(KEY, 2, **SIZES, batch=6))
    for row in range(6):
        alone = batch_first(random.draw(KEY, 2, **SIZES, batch=1, first=row))
        for expected, actual in zip(together, alone):
            np.testing.assert_array_equal(actual[0], expected[row])


@pytest.mark.parametrize("steps", [[4, 4, 4], [4, 1, 7]])
def test_each_row_is_of_its_time_step(steps):
    each = batch_first(random.draw_each(KEY, tf.constant(steps), **SIZES))
    for row, step in enumerate(steps):
        expected = batch_first(random.draw(KEY, step, **SIZES, batch=3))
        for actual, of_step in zip(each, expected):
            np.testing.assert_array_equal(actual[row], of_step[row])


def test_no_number_comes_twice_and_their_distribution():
    """Over rows, time steps, uses and seeds."""
    drawn = [
        batch_first(random.draw(random.key_of([seed, 4]), step, **SIZES, batch=200))
        for seed in range(2)
        for step in range(3)
    ]
    offsets, *normals = (
        np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*drawn)
    )
    normals = np.concatenate(normals)
    for numbers in [offsets, normals]:
        assert len(np.unique(numbers)) > 0.99 * len(numbers)  # But for rounding.
    assert scipy.stats.kstest(normals, "norm").pvalue > 1e-3
    assert scipy.stats.kstest(offsets, "uniform").pvalue > 1e-3


def test_stateless_seed_is_a_function_of_its_argument():
    np.testing.assert_array_equal(random.stateless_seed(3), random.stateless_seed(3))
    assert np.any(random.stateless_seed(3) != random.stateless_seed(4))
    assert np.any(random.stateless_seed() != random.stateless_seed())
    np.testing.assert_array_equal(random.stateless_seed(-1)[0], -1)
    np.testing.assert_array_equal(random.stateless_seed(np.uint64(2**32 + 5))[0], 5)
    for seed in [1.5, True, "1"]:
        with pytest.raises(ValueError, match=f"`seed` must be an integer; got {seed!r}"):
            random.stateless_seed(seed)


def test_without_a_seed_a_graph_draws_anew_whenever_it_runs():
    graph = tf.function(lambda: random.stateless_seed(), autograph=False)
    drawn = [tuple(graph().numpy()) for _ in range(3)]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("seed", [[3, 4], [-7, 5]])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_philox_draws_what_tensorflow_draws(kind, seed):
    expected = getattr(tf.random, f"stateless_{kind}")([7, 5], seed)
    np.testing.assert_array_equal(getattr(philox, kind)(tf.constant([7, 5]), seed), expected)


@pytest.mark.parametrize("seed", [[3, 4], [-7, 5]])
@pytest.mark.parametrize(("kind", "law"), [("normal", "norm"), ("uniform", "uniform")])
def test_the_distribution_of_what_xla_draws(kind, law, seed):
    """Its numbers are others than those of TensorFlow."""
    draw = tf.function(lambda seed: getattr(philox, kind)([50, 100], seed), jit_compile=True)
    numbers, others = (draw(tf.constant(each)).numpy() for each in [seed, [seed[0], 6]])
    assert scipy.stats.kstest(numbers.ravel(), law).pvalue > 1e-3
    assert abs(np.corrcoef(numbers.ravel(), others.ravel())[0, 1]) < 0.06
