"""Emission densities of what can be counted: binary values, counts and symbols."""

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf.layers import emissions, networks

tfd = tfp.distributions

LARGEST_LOG_RATE = 20.0  # 5e8 counts a step; beyond it float32 ends before the network does.
LARGEST_COUNT = 5e8  # More than 600 standard deviations above the largest rate.


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class BernoulliEmission(emissions.NetworkEmission):
    """p(x[t] | z[t]) = prod_d Bernoulli(x[t]_d; sigmoid(g(z[t])_d)), for binary values."""

    units = "user"
    standardises = False
    support = "0 or 1"

    def supports(self, observations):
        """Returns whether each value is 0 or 1."""
        return (observations == 0) | (observations == 1)

    def call(self, states):
        """Maps states [..., dz] to the density of binary values, which have no unit."""
        logits = self.parameters_of(states)
        return self.independent(tfd.Bernoulli(logits=logits, dtype=tf.float32))


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class PoissonEmission(emissions.NetworkEmission):
    """p(x[t] | z[t]) = prod_d Poisson(x[t]_d; exp(g(z[t])_d)), for counts a time step.

    Counts are whole numbers up to 5e8, given as floats or integers. The encoder sees them
    standardised.
    """

    units = "user"
    support = f"counts, whole numbers from 0 to {LARGEST_COUNT:.0f},"

    def supports(self, observations):
        """Returns whether each value is a whole number from 0 to `LARGEST_COUNT`."""
        whole = observations == tf.floor(observations)
        return whole & (observations >= 0) & (observations <= LARGEST_COUNT)

    def call(self, states):
        """Maps states [..., dz] to the density of counts."""
        log_rate = tf.minimum(self.parameters_of(states), LARGEST_LOG_RATE)
        return self.independent(tfd.Poisson(log_rate=log_rate))


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class CategoricalEmission(emissions.NetworkEmission):
    """p(x[t] | z[t]) = softmax(g(z[t]))_k where x[t]_k = 1, for a symbol given one-hot.

    The last axis of an observation is one symbol: an `observation_shape` of (6,) is one of six
    symbols, one of (4, 6) four such symbols, independent given z[t].
    """

    units = "user"
    standardises = False
    support = "one-hot, a single 1 along the last axis and 0 elsewhere,"

    def build(self, spec):
        if spec.observation_shape[-1] < 2:
            raise ValueError(
                "`observation_shape` must end in the number of symbols, 2 or more, for "
                f"CategoricalEmission; got {spec.observation_shape}."
            )
        super().build(spec)

    def supports(self, observations):
        """Returns whether each value is 0 or 1, and the only 1 of its symbol or not."""
        binary = (observations == 0) | (observations == 1)
        return binary & (tf.reduce_sum(observations, axis=-1, keepdims=True) == 1)

    def innovation(self, states, observations):
        """Returns x - E[x | z], the gradient of ln p(x | z) by the logits, within [-1, 1]."""
        probabilities = tf.nn.softmax(self.parameters_of(states))
        return networks.flatten(observations - probabilities, self.spec.observation_shape)

    def call(self, states):
        """Maps states [..., dz] to the density of one-hot symbols."""
        symbol = tfd.OneHotCategorical(logits=self.parameters_of(states), dtype=tf.float32)
        return tfd.Independent(symbol, len(self.spec.observation_shape) - 1)
