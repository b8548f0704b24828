"""Gradients of what a model answers, with respect to what it was given.

A planner differentiates a forecast by the controls. The gradients are compared with finite
differences of a small model that is linear, or smooth where its posterior is asked.
"""

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data
from tfp_dvbf.serving import saved_model

STEP = 1e-2


@pytest.fixture(scope="module")
def linear():
    """A model that is smooth everywhere; its transition and emission are linear."""
    sequences = models.pendulum()
    model = models.linear_model("innovation", activation="tanh")
    rng = np.random.default_rng(0)
    for weight in model.state_space_model.transition.weights:
        weight.assign_add(0.1 * rng.normal(size=weight.shape).astype(np.float32))
    sequences = data.Sequences(sequences.observations[:3, :, :2], sequences.controls[:3])
    return models.adapted(model, sequences)


X = models.pendulum().observations[:3, :, :2]
U = models.pendulum().controls[:3]
FUNCTIONS = {
    "forecast": lambda m, x, u: m.forecast(x[:, :3], u, 2, seed=1).observations,
    "forecast_with_mask": lambda m, x, u: (
        (
            m.forecast(x[:, :3], u, 2, seed=1, mask=tf.constant([[1, 1, 1], [1, 1, 0], [1, 0, 1]]))
        ).observations
    ),
    "generate": lambda m, x, u: m.generate(u, x[:, :1], num_samples=2, seed=1).observations,
    "generate_means": lambda m, x, u: m.generate(u, x[:, :1], deterministic=True).observation_mean,
    "generate_from_state": lambda m, x, u: (
        m.generate(u, initial_state=x[:, 0], num_samples=2, seed=1).observations
    ),
    "sample_posterior": lambda m, x, u: m.sample_posterior(x, u, 2, seed=1).observations,
    "log_prob_bound": lambda m, x, u: m.log_prob_bound(x, u, 4, seed=1),
    "elbo": lambda m, x, u: m.log_prob_bound(x, u, 4, seed=1, objective="elbo"),
}

SLOW = ["forecast_with_mask", "sample_posterior", "elbo"]  # Paths that others take as well.


def summed(function, model):
    """Returns a function of (x, u) whose value is a weighted sum of what `function` returns."""

    def value(x, u):
        found = function(model, x, u)
        weights = tf.random.stateless_normal(tf.shape(found), [2, 3])
        return tf.reduce_sum(weights * found)

    return value


def gradients_of(value, x, u):
    with tf.GradientTape() as tape:
        tape.watch([x, u])
        result = value(x, u)
    return tape.gradient(result, [x, u])


def finite_difference(value, arrays, index, direction):
    """Returns the derivative in a direction, by differences of two step sizes (Richardson)."""

    def central(step):
        moved = [list(arrays), list(arrays)]
        for sign, inputs in zip([1.0, -1.0], moved):
            inputs[index] = arrays[index] + sign * step * direction
        up, down = (float(value(*map(tf.constant, inputs))) for inputs in moved)
        return (up - down) / (2 * step)

    return (4 * central(STEP) - central(2 * STEP)) / 3


@pytest.mark.parametrize(
    "name",
    [name for name in FUNCTIONS if name not in SLOW] + models.marked(SLOW, []),
)
def test_gradients_are_those_of_finite_differences(linear, name):
    """Under a tape, and the same inside a `tf.function`."""
    value = summed(FUNCTIONS[name], linear)
    found = gradients_of(value, tf.constant(X), tf.constant(U))
    rng = np.random.default_rng(1)
    for index, gradient in enumerate(found):
        assert np.any(gradient != 0)
        for _ in range(3):
            direction = rng.normal(size=gradient.shape).astype(np.float32)
            direction /= np.linalg.norm(direction)
            expected = finite_difference(value, [X, U], index, direction)
            size = float(np.linalg.norm(gradient))
            actual = float(np.sum(gradient * direction))
            assert actual == pytest.approx(expected, abs=1e-3 * size)
    graph = tf.function(lambda x, u: gradients_of(value, x, u))
    for actual, expected in zip(graph(tf.constant(X), tf.constant(U)), found):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_gradients_of_filtered_evidence_are_finite(linear):
    value = summed(lambda m, x, u: m.filter(x, u, 8, seed=1).log_evidence, linear)
    for gradient in gradients_of(value, tf.constant(X), tf.constant(U)):
        assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)


def test_lists_of_tensors_keep_their_gradients(linear):
    controls = [tf.constant(each) for each in U]
    with tf.GradientTape() as tape:
        tape.watch(controls)
        drawn = linear.forecast(X[:, :3], controls, seed=1).observations
    assert all(np.any(each != 0) for each in tape.gradient(drawn, controls))


def test_open_sizes_inside_a_function(linear):
    """One graph serves every batch and length, with the values of the eager call."""
    specs = [tf.TensorSpec([None, None, 2]), tf.TensorSpec([None, None, 1])]
    generate, forecast, bound = (
        tf.function(lambda x, u, f=FUNCTIONS[name]: f(linear, x, u), input_signature=specs)
        for name in ["generate", "forecast", "log_prob_bound"]
    )
    for rows, steps in [(3, 8), (2, 6), (1, 5)]:
        x, u = tf.constant(X[:rows, :steps]), tf.constant(U[:rows, : steps - 1])
        for graph, name in [(generate, "generate"), (forecast, "forecast")]:
            expected = FUNCTIONS[name](linear, x, u)
            np.testing.assert_allclose(graph(x, u), expected, rtol=1e-5, atol=1e-5)
        expected = FUNCTIONS["log_prob_bound"](linear, x, u)
        np.testing.assert_allclose(bound(x, u), expected, rtol=1e-5)


@pytest.mark.slow
def test_signatures_outlive_the_object_that_was_loaded(linear, tmp_path):
    """In a `tf.function` and under a tape, with the gradients of the model in memory."""
    names = ["forecast", "generate", "log_prob_bound"]
    saved_model.export(linear, tmp_path / "model", signatures=names)
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    scalars = {"num_samples": tf.constant(2), "seed": tf.constant(1)}
    four = {**scalars, "num_samples": tf.constant(4)}
    calls = {
        "forecast": lambda x, u: signatures["forecast"](
            observations=x[:, :3], controls=u, mask=tf.ones([3, 3]), **scalars
        )["observations"],
        "generate": lambda x, u: signatures["generate"](
            initial_observations=x[:, :1], controls=u, mask=tf.ones([3, 1]), **scalars
        )["observations"],
        "log_prob_bound": lambda x, u: signatures["log_prob_bound"](
            observations=x, controls=u, mask=tf.ones(x.shape[:2]), **four
        )["log_prob_bound"],
    }
    x, u = tf.constant(X), tf.constant(U)
    for name, call in calls.items():
        np.testing.assert_allclose(
            tf.function(call)(x, u), FUNCTIONS[name](linear, x, u), rtol=1e-5, atol=1e-5
        )
        expected = gradients_of(summed(FUNCTIONS[name], linear), x, u)
        value = summed(lambda _, x, u, call=call: call(x, u), None)
        for function in [value, tf.function(value)]:
            for actual, gradient in zip(gradients_of(function, x, u), expected):
                tolerance = 1e-4 * np.abs(gradient).max()
                np.testing.assert_allclose(actual, gradient, rtol=1e-4, atol=tolerance)
