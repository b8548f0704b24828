"""Encoders: the features h[t] of the observations that enter the posterior at each step t > 0."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import networks, part


class Encoder(part.Part):
    """Base of the encoders: h[1:T] of x[1:T] and u[1:T-1], all standardised.

    A subclass makes its networks in `build(spec)` and implements

        call(observations, controls, mask=None) -> h

    with observations x[1:T] [batch, time - 1, *observation_shape], controls u[1:T-1]
    [batch, time - 2, du] and a mask of the observed ones, bool [batch, time - 1], or None where
    all are, to h[1:T] [batch, time - 1, feature_dim]. What stands in a missing step is 0. An
    encoder that `steps` and needs x[t] alone is also called with one x[t]
    [batch, *observation_shape] and `controls=None`; one that needs what came before it overrides
    `start` and `step`.

    Attributes:
      feature_dim: Size dh of h[t], set by the constructor.
      steps: Whether h[t] needs nothing that comes after x[t], so that a stream can be filtered; or
        `errors.No`, with the reason why not.
    """

    steps = True
    feature_dim = None

    def start(self, batch_size):
        """Returns what is remembered before x[1]: tensors [batch, ...] by name, here none."""
        del batch_size
        return {}

    def step(self, memory, observations):
        """Maps a memory and x[t] [batch, *observation_shape] to h[t] and the memory after it."""
        return self(observations, controls=None), memory


class UnitsEncoder(Encoder):
    """Base of the packaged encoders.

    Args:
      units: Sizes of the layers; the last one is the size of h[t].
      activation: Activation of the dense layers.
    """

    def __init__(self, units=(128,), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.units = errors.check_units("units", units, least=1)
        self.activation = activation
        self.feature_dim = self.units[-1]

    def get_config(self):
        return {**super().get_config(), "units": self.units, "activation": self.activation}


class WindowEncoder(UnitsEncoder):
    """Base of the encoders h[t] = g(x[t-k+1], ..., x[t]) of the last k observations.

    Those before x[1] and in missing steps count as 0, the mean. With k >= 2 the features show what
    changes, such as a velocity; nothing is carried from one step to the next.

    Args:
      units: Sizes of the layers; the last one is the size of h[t].
      activation: Activation of the dense layers.
      num_steps: The number k of observations that h[t] sees.
    """

    def __init__(self, units=(128,), activation="relu", num_steps=1, **kwargs):
        super().__init__(units, activation, **kwargs)
        self.num_steps = errors.check_integer("num_steps", num_steps)

    def features(self, joined):
        """Maps x[t-k+1], ..., x[t], joined along their last axis, to h[t] of the same axes."""
        raise NotImplementedError

    def call(self, observations, controls=None, mask=None):
        """Maps x[1:T] [batch, time - 1, ...], or if k = 1 of any first axes, to h of the same."""
        del controls, mask
        return self.features(self.window(observations))

    def start(self, batch_size):
        """Returns x[t-k+1:t] of t = 1, which all count as 0, as `recent` [batch, k - 1, ...]."""
        if self.num_steps == 1:
            return {}
        return {"recent": tf.zeros([batch_size, self.num_steps - 1, *self.spec.observation_shape])}

    def step(self, memory, observations):
        """Maps `recent` x[t-k+1:t] and x[t] to h[t] and `recent` of the next step."""
        if self.num_steps == 1:
            return super().step(memory, observations)
        seen = tf.concat([memory["recent"], observations[:, tf.newaxis]], axis=1)
        joined = tf.concat(tf.unstack(seen, self.num_steps, axis=1), axis=-1)
        return self.features(joined), {"recent": seen[:, 1:]}

    def window(self, observations):
        """Returns x[t-k+1], ..., x[t] at each step, joined along the last axis.

        Args:
          observations: x[1:T], [batch, time - 1, *observation_shape]; for k = 1 of any first axes.
        """
        if self.num_steps == 1:
            return observations
        before, steps = self.num_steps - 1, tf.shape(observations)[1]
        others = [[0, 0]] * len(self.spec.observation_shape)
        padded = tf.pad(observations, [[0, 0], [before, 0], *others])
        shifted = [padded[:, k : k + steps] for k in range(self.num_steps)]
        return tf.concat(shifted, axis=-1)

    def get_config(self):
        return {**super().get_config(), "num_steps": self.num_steps}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class FilterEncoder(WindowEncoder):
    """h[t] = g(x[t-k+1], ..., x[t]), by default of the current observation alone.

    Args:
      units: Sizes of the layers; the last one is the size of h[t].
      activation: Activation of the dense layers.
      num_steps: The number k of observations that h[t] sees.
    """

    def build(self, spec):
        self.network = networks.MLP(
            self.units, activation=self.activation, seed=spec.seed, name="network"
        )
        super().build(spec)

    def features(self, joined):
        """Maps x[t-k+1], ..., x[t], joined along their last axis, to h[t] of the same axes."""
        *lead, last = self.spec.observation_shape
        return self.network(networks.flatten(joined, (*lead, last * self.num_steps)))


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class SmootherEncoder(UnitsEncoder):
    """h[t] = GRU backward over (x[s], u[s]) for s = T-1 .. t: what is left of the sequence.

    The recurrent layer is the last one; a control that ends the sequence counts as 0. With this
    encoder q(z[t] | z[t-1], h[t], u[t-1]) has the form of the exact smoothing posterior
    (Krishnan et al. 2017, arXiv:1609.09869, equation 4).
    """

    steps = errors.No("the smoother needs time steps that are yet to come")

    def build(self, spec):
        dense, kernel, recurrent = networks.split_seed(spec.seed, 3)
        self.network = networks.MLP(
            self.units[:-1], activation=self.activation, seed=dense, name="network"
        )
        cell = tf_keras.layers.GRUCell(
            self.units[-1],
            kernel_initializer=networks.seeded("glorot_uniform", kernel),
            recurrent_initializer=networks.seeded("orthogonal", recurrent),
        )
        self.rnn = tf_keras.layers.RNN(cell, return_sequences=True, go_backwards=True)
        super().build(spec)

    def call(self, observations, controls, mask=None):
        """Maps x[1:T] and u[1:T-1] to h[1:T]; missing steps are passed over."""
        observations = networks.flatten(observations, self.spec.observation_shape)
        controls = tf.pad(controls, [[0, 0], [0, 1], [0, 0]])
        inputs = tf.concat([observations, controls], axis=-1)
        return tf.reverse(self.rnn(self.network(inputs), mask=mask), axis=[1])
