"""What the tests compare with: autodiff Jacobians, and a battery that every layer passes."""

import numpy as np
import scipy.stats
import tensorflow as tf

from tfp_dvbf import layers


def jacobian(function, x):
    """Returns d function(x) / dx for each row, [batch, dim, dim], by autodiff.

    A gradient for each value of y takes less time than `pfor`, which traces a graph of its own.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = function(x)
    return tape.batch_jacobian(y, x, experimental_use_pfor=False).numpy()


def log_det(function, x):
    """Returns ln |det d function(x) / dx| for each row, [batch]."""
    return np.linalg.slogdet(jacobian(function, x))[1]


def check_layer(layer, call):
    """Checks the Keras contract: config round trip, weights, and a gradient for each weight.

    Args:
      layer: A layer; a part of a model has been built.
      call: Function of a layer that returns a tensor.
    """
    expected = call(layer)
    config = layer.get_config()
    copy = type(layer).from_config(config)
    assert copy.get_config() == config
    if isinstance(copy, layers.Part):
        copy.build(layer.spec)
    call(copy)
    assert [w.shape for w in copy.weights] == [w.shape for w in layer.weights]
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(call(copy), expected)

    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.square(call(layer)))
    gradients = tape.gradient(value, layer.trainable_variables)
    assert layer.trainable_variables
    assert all(g is not None and np.all(np.isfinite(g)) for g in gradients)


def within_standard_error(samples, expected, num_errors=5.0):
    """Asserts that the mean of `samples` over axis 0 is `expected` within its standard error."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    difference = np.abs(samples.mean(axis=0) - np.asarray(expected))
    assert np.all(difference <= num_errors * error + 1e-6), (difference, error)


def dense_log_prob(matrices, emission, observations, controls):
    """Returns ln p(x | u) of z[t] = A z[t-1] + B u[t-1] + C w, x[t] = W z[t] + b + s v, [batch].

    By the one Gaussian that all x[t] are jointly, with no recursion but that of the mean and of
    z[t] = sum_i L[t, i] w[i].

    Args:
      matrices: A, B, C.
      emission: W [dx, dz], b [dx], s [dx].
      observations: x[0:T], [batch, time, dx].
      controls: u[0:T-1], [batch, time - 1, du].
    """
    (a, b, c), (weight, bias, noise_scale) = matrices, emission
    batch, steps, dim = observations.shape
    mean = [np.zeros([batch, len(a)])]
    factor = [[np.eye(len(a))] + [np.zeros_like(a)] * (steps - 1)]
    for t in range(1, steps):
        mean.append(mean[-1] @ a.T + controls[:, t - 1] @ b.T)
        row = [a @ block for block in factor[-1]]
        row[t] = c
        factor.append(row)
    loadings = np.kron(np.eye(steps), weight) @ np.block(factor)
    covariance = loadings @ loadings.T + np.diag(np.tile(noise_scale**2, steps))
    residual = observations - np.stack(mean, axis=1) @ weight.T - bias
    return scipy.stats.multivariate_normal(np.zeros(steps * dim), covariance).logpdf(
        residual.reshape(batch, -1)
    )
