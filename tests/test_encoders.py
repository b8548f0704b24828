import numpy as np
import oracles
import tensorflow as tf

from tfp_dvbf import encoders


def test_layer_battery():
    x = tf.random.stateless_normal([2, 5, 3], [0, 1])
    oracles.check_layer(encoders.FilterEncoder((7, 6), "tanh"), lambda layer: layer(x))


def test_features_depend_on_the_current_observation_alone():
    encoder = encoders.FilterEncoder((7,))
    x = tf.random.stateless_normal([2, 5, 3], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        features = encoder(x)[:, 2]
    gradient = tf.reduce_sum(tf.abs(tape.gradient(features, x)), axis=[0, 2]).numpy()
    assert gradient[2] > 0
    np.testing.assert_array_equal(np.delete(gradient, 2), 0.0)
