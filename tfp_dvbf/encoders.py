"""Encoders: the features of the observations that enter the posterior at each step."""

import tf_keras


class FilterEncoder(tf_keras.layers.Layer):
    """h[t] = g(x[t]), a function of the current observation alone.

    Args:
      units: Sizes of the dense layers; the last one is the size of h[t].
      activation: Activation of every layer.
    """

    def __init__(self, units=(128,), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.activation = activation
        self.network = tf_keras.Sequential(
            [tf_keras.layers.Dense(size, activation) for size in self.units], name="network"
        )

    def call(self, observations):
        """Maps standardised observations [batch, time, dx] to features [batch, time, units[-1]]."""
        return self.network(observations)

    def get_config(self):
        config = super().get_config()
        return {**config, "units": self.units, "activation": self.activation}
