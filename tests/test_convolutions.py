"""Convolutional parts: sizes that follow from the image, and what each output sees."""

import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import layers
from tfp_dvbf.layers import convolutions

IMAGE = (7, 5, 2)
X = tf.random.stateless_normal([2, 6, *IMAGE], [0, 1])


def built(part, observation_shape=IMAGE, state_dim=3):
    part.build(layers.Spec(observation_shape, 1, state_dim))
    return part


@pytest.mark.parametrize("num_steps", [1, 3])
def test_encoder_battery(num_steps):
    encoder = built(layers.ConvolutionalEncoder((8, 6), "tanh", num_steps, (4, 5)))
    assert encoder(X).shape == (2, 6, encoder.feature_dim) == (2, 6, 6)
    oracles.check_layer(encoder, lambda encoder: encoder(X))


def test_initial_posterior_battery():
    posterior = built(layers.ConvolutionalInitialPosterior(2, (8,), "tanh", (4,)))
    density = posterior(X)
    assert density.batch_shape == (2,) and density.event_shape == (3,)
    oracles.check_layer(posterior, lambda posterior: posterior(X).log_prob(tf.ones([2, 3])))


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_features_see_the_last_images_alone(num_steps):
    encoder = built(layers.ConvolutionalEncoder(num_steps=num_steps))
    with tf.GradientTape() as tape:
        tape.watch(X)
        features = encoder(X)[:, 4]
    by_step = tf.reduce_sum(tf.abs(tape.gradient(features, X)), axis=[0, 2, 3, 4]).numpy()
    assert np.flatnonzero(by_step).tolist() == list(range(5 - num_steps, 5))


def test_the_initial_posterior_sees_its_first_images_alone():
    posterior = built(layers.ConvolutionalInitialPosterior(2))
    with tf.GradientTape() as tape:
        tape.watch(X)
        mean = posterior(X).mean()
    by_step = tf.reduce_sum(tf.abs(tape.gradient(mean, X)), axis=[0, 2, 3, 4]).numpy()
    assert np.flatnonzero(by_step).tolist() == [0, 1]


@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_stream_is_encoded_step_by_step(num_steps):
    encoder = built(layers.ConvolutionalEncoder(num_steps=num_steps))
    memory = encoder.start(X.shape[0])
    assert bool(memory) == (num_steps > 1)
    for t in range(X.shape[1]):
        features, memory = encoder.step(memory, X[:, t])
        np.testing.assert_allclose(features, encoder(X)[:, t], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 8, 3), (16, 16, 1), (9, 2, 1)])
@pytest.mark.parametrize("filters", [(), (4,), (6, 4), (4, 4, 2)])
def test_a_decoder_makes_images_of_any_size(size, filters):
    network = convolutions.TransposedConvolutionalNetwork(size, filters, (8,))
    assert network(tf.ones([2, 6, 3])).shape == (2, 6, *size)
    first, last = (
        network(tf.ones([1, 3])),
        network(tf.concat([tf.ones([1, 3]), X[:1, 0, 0, :3, 0]], 0)),
    )
    np.testing.assert_allclose(first[0], last[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "part", [layers.ConvolutionalEncoder, layers.ConvolutionalInitialPosterior]
)
def test_vectors_are_refused(part):
    with pytest.raises(ValueError) as refusal:
        built(part(), (3,))
    assert str(refusal.value) == (
        f"`observation_shape` must be (height, width, channels) for {part.__name__}; got (3,)."
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"filters": ()}, "`filters` must have at least 1 layer"),
        ({"filters": (0,)}, "`filters` must be a sequence of positive integers"),
        ({"num_steps": 0}, "`num_steps` must be at least 1; got 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    for part in [layers.ConvolutionalEncoder, layers.ConvolutionalInitialPosterior]:
        with pytest.raises(ValueError, match=message):
            part(**settings)
