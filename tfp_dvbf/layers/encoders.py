"""Encoders: the features h[t] of the observations that enter the posterior at each step t > 0."""

import tensorflow as tf
import tf_keras

from tfp_dvbf.layers import networks


class Encoder(tf_keras.layers.Layer):
    """Base of the encoders, which are called with x[1:T] and u[1:T-1], both standardised.

    Args:
      units: Sizes of the layers; the last one is the size of h[t].
      activation: Activation of the dense layers.
    """

    def __init__(self, units=(128,), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.activation = activation

    def get_config(self):
        config = super().get_config()
        return {**config, "units": self.units, "activation": self.activation}


class FilterEncoder(Encoder):
    """h[t] = g(x[t]), a function of the current observation alone."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.network = networks.dense_stack(self.units, self.activation, "network")

    def call(self, observations, controls, mask=None):
        """Maps x[1:T] [batch, time - 1, dx], or one x[t] [batch, dx], to h of the same axes."""
        del controls, mask
        return self.network(observations)


class SmootherEncoder(Encoder):
    """h[t] = GRU backward over (x[s], u[s]) for s = T-1 .. t: what is left of the sequence.

    The recurrent layer is the last one; a control that ends the sequence counts as 0. With this
    encoder q(z[t] | z[t-1], h[t], u[t-1]) has the form of the exact smoothing posterior
    (Krishnan et al. 2017, arXiv:1609.09869, equation 4).
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.network = networks.dense_stack(self.units[:-1], self.activation, "network")
        self.rnn = tf_keras.layers.RNN(
            tf_keras.layers.GRUCell(self.units[-1]), return_sequences=True, go_backwards=True
        )

    def call(self, observations, controls, mask=None):
        """Maps x[1:T] [batch, time - 1, dx] and u[1:T-1] to h[1:T] [batch, time - 1, units[-1]].

        Missing frames, where `mask` [batch, time - 1] is False, are passed over.
        """
        controls = tf.pad(controls, [[0, 0], [0, 1], [0, 0]])
        inputs = tf.concat([observations, controls], axis=-1)
        return tf.reverse(self.rnn(self.network(inputs), mask=mask), axis=[1])


ENCODERS = {"filter": FilterEncoder, "smoother": SmootherEncoder}
