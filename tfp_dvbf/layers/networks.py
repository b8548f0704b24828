"""Multilayer perceptrons, the Gaussians they parameterise, and the standardisation of data."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

tfd = tfp.distributions

SCALE_FLOOR = 1e-4
INITIAL_SCALE = 0.1
FLOAT32_RESOLUTION = 1e-6

# Initializer of the last layer of a residual, z + f(z): a recurrence that does not start near
# the identity explodes over the sequence before training can tame it.
SMALL = {"class_name": "VarianceScaling", "config": {"scale": 1e-3}}


def dense_stack(units, activation, name):
    """Returns dense layers of the sizes `units`, each with `activation`."""
    layers = [tf_keras.layers.Dense(size, activation) for size in units]
    return tf_keras.Sequential(layers, name=name)


def mlp(hidden_units, output_units, activation, name, output_initializer="glorot_uniform"):
    """Returns dense layers of `hidden_units` with `activation`, then a linear layer."""
    hidden = dense_stack(hidden_units, activation, "hidden")
    output = tf_keras.layers.Dense(output_units, kernel_initializer=output_initializer)
    return tf_keras.Sequential([*hidden.layers, output], name=name)


def unfused(total):
    """Returns a sum of dense layers that Grappler leaves apart from the activation that follows.

    Of the two together, where the activation is a Relu or Elu, Grappler of TensorFlow 2.21 makes an
    op without a name, prints errors and gives up on the whole function.
    """
    return tf.ensure_shape(total, total.shape)


def positive(raw, initial=INITIAL_SCALE):
    """Maps `raw` to a scale above `SCALE_FLOOR`; a raw value of 0 gives about `initial`."""
    offset = np.log(np.expm1(initial))  # A constant, where TFP's inverse is ops.
    return SCALE_FLOOR + tf.math.softplus(raw + offset)


def gaussian_parameters(raw):
    """Splits a network's output [..., 2 dim] into a location and a scale, each [..., dim]."""
    loc, raw_scale = tf.split(raw, 2, axis=-1)
    return loc, positive(raw_scale)


def diagonal_normal(loc, scale):
    """Returns N(loc, diag scale^2) over the last axis of `loc` and `scale` [..., dim]."""
    return tfd.MultivariateNormalDiag(loc, scale)


def standard_normal(dim):
    """Returns N(0, I) over the last axis [dim]."""
    return diagonal_normal(tf.zeros([dim]), tf.ones([dim]))


class DensityNetwork(tf_keras.layers.Layer):
    """Base of the layers whose `call` turns the output of one MLP into a distribution.

    Args:
      event_dim: Size of the random variable.
      hidden_units: Sizes of the hidden layers; () makes the network linear.
      activation: Activation of the hidden layers.
    """

    parameters_per_dim = 2
    output_initializer = "glorot_uniform"

    def __init__(self, event_dim, hidden_units, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.event_dim = event_dim
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        outputs = self.parameters_per_dim * event_dim
        self.network = mlp(
            self.hidden_units, outputs, activation, "network", self.output_initializer
        )

    def get_config(self):
        return {
            **super().get_config(),
            "event_dim": self.event_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }


class Standardization(tf_keras.layers.Normalization):
    """(x - mean) / scale with the mean and scale of adapted data, per feature.

    Unlike `Normalization`, units may be as small as float32 holds, and a feature that is constant
    to float32 resolution keeps scale 1. Without `adapt` it is the identity.
    """

    def moments(self):
        """Returns mean and scale [dim], in the user's units."""
        scale = tf.sqrt(self.adapt_variance)
        varies = scale > FLOAT32_RESOLUTION * tf.abs(self.adapt_mean)
        return tf.convert_to_tensor(self.adapt_mean), tf.where(varies, scale, tf.ones_like(scale))

    def call(self, inputs):
        mean, scale = self.moments()
        return (inputs - mean) / scale
