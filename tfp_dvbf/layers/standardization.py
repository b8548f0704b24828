"""The standardisation of data: what stands between the user's units and the networks."""

import tensorflow as tf
import tf_keras


class Standardization(tf_keras.layers.Layer):
    """(x - mean) / scale over the last axes, with a mean and scale that `set` is given.

    It is the identity until then. The scale is kept, not the variance: its square would leave
    float32 for units below 1e-19 or above 1e19.

    Args:
      event_shape: Shape of x, such as (3,) or, with a mean and scale a channel, (16, 16, 1).
    """

    def __init__(self, event_shape, **kwargs):
        super().__init__(**kwargs)
        self.event_rank = len(event_shape)
        size = [event_shape[-1]]
        self.mean = self.add_weight("mean", size, initializer="zeros", trainable=False)
        self.scale = self.add_weight("scale", size, initializer="ones", trainable=False)
        self.is_set = self.add_weight(
            "is_set", [], dtype=tf.bool, initializer="zeros", trainable=False
        )

    def set(self, mean, scale):
        """Sets mean and scale, each of the size of the last axis, in the user's units."""
        self.mean.assign(mean)
        self.scale.assign(scale)
        self.is_set.assign(True)

    def call(self, inputs):
        """Maps values in the user's units to standardised ones."""
        return (inputs - self.mean) / self.scale

    def inverse(self, values):
        """Maps standardised values to the user's units."""
        return self.mean + self.scale * values

    def to_user_scale(self, deviations):
        """Maps standardised standard deviations to the user's units."""
        return self.scale * deviations

    def log_det_jacobian(self, event_shape):
        """Returns ln |det d inverse(v) / dv| of one event: what a density gains in nats."""
        per_channel = tf.reduce_sum(tf.math.log(self.scale))
        repeats = 1
        for size in event_shape[:-1]:
            repeats *= size
        return repeats * per_channel
