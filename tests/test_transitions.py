import numpy as np
import oracles
import scipy.special
import scipy.stats
import tensorflow as tf

from tfp_dvbf.layers import networks, transitions


def test_layer_battery():
    z, u = tf.random.stateless_normal([4, 2], [0, 1]), tf.ones([4, 1])
    layer = transitions.MLPTransition(2, (8,))
    oracles.check_layer(layer, lambda p: tf.concat([p(z, u).mean(), p(z, u).stddev()], axis=-1))


def test_density_is_the_documented_one():
    z, u = tf.random.stateless_normal([4, 2], [0, 1]), tf.ones([4, 1])
    layer = transitions.MLPTransition(2, (8,))
    density = layer(z, u)
    change, scale = networks.gaussian_parameters(layer.network(tf.concat([z, u], axis=-1)))
    next_z = np.asarray(z) + 0.05
    expected = scipy.stats.norm.logpdf(next_z, z + change, scale).sum(axis=-1)
    np.testing.assert_allclose(density.log_prob(next_z), expected, rtol=1e-4)


def test_starts_near_the_identity():
    z, u = tf.random.stateless_normal([4, 2], [0, 1]), tf.ones([4, 1])
    np.testing.assert_allclose(transitions.MLPTransition(2, (256, 256))(z, u).mean(), z, atol=0.3)


LINEAR = {"event_dim": 3, "control_dim": 1, "hidden_units": (8,), "num_bases": 4}
Z, U = tf.random.stateless_normal([5, 3], [0, 1]), tf.random.stateless_normal([5, 1], [0, 2])


def perturbed(layer):
    layer(Z, U)
    rng = np.random.default_rng(0)
    for weight in layer.trainable_variables:
        weight.assign_add(0.5 * rng.standard_normal(weight.shape).astype(np.float32))
    return layer


def test_locally_linear_layer_battery():
    def call(layer):
        density = layer(Z, U)
        return tf.concat([density.mean(), tf.reshape(density.covariance(), [5, 9])], axis=-1)

    oracles.check_layer(transitions.LocallyLinearTransition(**LINEAR), call)


def test_locally_linear_density_is_the_documented_one():
    layer = perturbed(transitions.LocallyLinearTransition(**LINEAR))
    weights = scipy.special.softmax(layer.network(tf.concat([Z, U], axis=-1)), axis=-1)
    bases = [matrix.numpy() for matrix in layer.matrices()]
    density = layer(Z, U)
    next_z = Z.numpy() + 0.3
    for i in range(5):
        a, b, c = (np.tensordot(weights[i], matrix, axes=1) for matrix in bases)
        z, u = Z.numpy()[i], U.numpy()[i]
        assert np.all(np.diag(c) > 0) and np.all(np.triu(c, 1) == 0)
        expected = scipy.stats.multivariate_normal(a @ z + b @ u, c @ c.T)
        np.testing.assert_allclose(density.mean()[i], expected.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            density.log_prob(next_z)[i], expected.logpdf(next_z[i]), rtol=1e-4
        )


def test_one_base_matrix_is_linear_and_has_no_network():
    layer = perturbed(transitions.LocallyLinearTransition(**{**LINEAR, "num_bases": 1}))
    assert len(layer.weights) == 3
    total = layer(2.0 * Z, 2.0 * U).mean()
    np.testing.assert_allclose(total, 2.0 * layer(Z, U).mean(), rtol=1e-5)


def test_locally_linear_starts_near_the_identity():
    layer = transitions.LocallyLinearTransition(**LINEAR)
    np.testing.assert_allclose(layer(Z, U).mean(), Z, atol=0.6)
