import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf.layers import encoders

X = tf.random.stateless_normal([2, 5, 3], [0, 1])
U = tf.random.stateless_normal([2, 4, 1], [0, 2])
ENCODERS = pytest.mark.parametrize("name", encoders.ENCODERS)


@ENCODERS
def test_layer_battery(name):
    layer = encoders.ENCODERS[name]((7, 6), "tanh")
    oracles.check_layer(layer, lambda layer: layer(X, U))


@pytest.mark.parametrize(
    "name, seen_frames, seen_controls", [("filter", [2], []), ("smoother", [2, 3, 4], [2, 3])]
)
def test_features_depend_on_what_the_encoder_names(name, seen_frames, seen_controls):
    encoder = encoders.ENCODERS[name]((7,))
    with tf.GradientTape() as tape:
        tape.watch([X, U])
        features = encoder(X, U)[:, 2]
    gradients = tape.gradient(features, [X, U], unconnected_gradients="zero")
    for gradient, seen in zip(gradients, [seen_frames, seen_controls]):
        by_step = tf.reduce_sum(tf.abs(gradient), axis=[0, 2]).numpy()
        assert np.flatnonzero(by_step).tolist() == seen
