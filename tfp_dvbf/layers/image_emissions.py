"""Emission densities of images."""

import numbers

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import convolutions, emissions, networks

tfd = tfp.distributions

SCALE_FLOOR = 0.01  # Of the range; two or three of the 256 values of a pixel.
LOGIT_BOUND = 10.0  # The probability of a wrong pixel stays above 5e-5.


class ImageEmission(emissions.NetworkEmission):
    """Base of the emissions whose one parameter a pixel is made by transposed convolutions.

    Args:
      hidden_units: Sizes of the dense layers.
      activation: Activation of the hidden layers.
      filters: Number of channels that enter each transposed convolution; () has dense layers alone.
    """

    def __init__(self, hidden_units=(64,), activation="relu", filters=(32, 16), **kwargs):
        super().__init__(hidden_units, activation, **kwargs)
        self.filters = errors.check_units("filters", filters)

    def make_network(self, spec):
        """Returns the network g of z[t]."""
        convolutions.check_image_shape(type(self).__name__, spec.observation_shape)
        return convolutions.TransposedConvolutionalNetwork(
            spec.observation_shape,
            self.filters,
            self.hidden_units,
            self.activation,
            spec.seed,
            name="g",
        )

    def parameters_of(self, states):
        """Returns g(z), [..., height, width, channels]."""
        return self.network(states)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class ImageGaussian(ImageEmission):
    """p(x[t] | z[t]) = N(low + (high - low) sigmoid(g(z[t])), (high - low)^2 s^2 I).

    One scale s is shared by all pixels (Rybkin et al. 2021, arXiv:2006.13202). A scale for each
    would fall to its floor where a pixel never changes, and the gradient of those pixels would
    drown that of all others.

    Args:
      low, high: Range of a pixel, such as 0 and 255.
      hidden_units: Sizes of the dense layers.
      activation: Activation of the hidden layers.
      filters: Number of channels that enter each transposed convolution; () has dense layers alone.
      scale: s as a fraction of the range, in (0, 1); None learns it.
      scale_floor: Least s that is learned.
    """

    units = "user"

    def __init__(
        self,
        low=0.0,
        high=255.0,
        hidden_units=(64,),
        activation="relu",
        filters=(32, 16),
        scale=None,
        scale_floor=SCALE_FLOOR,
        **kwargs,
    ):
        super().__init__(hidden_units, activation, filters, **kwargs)
        self.low, self.high = _check_range(low, high)
        self.scale = None if scale is None else _check_scale(scale)
        self.scale_floor = networks.check_floor(scale_floor, "scale_floor")
        self.support = f"from {self.low:g} to {self.high:g}"

    def build(self, spec):
        self.raw_scale = None
        if self.scale is None:
            self.raw_scale = self.add_weight("raw_scale", [], initializer="zeros")
        super().build(spec)

    def supports(self, observations):
        """Returns whether each pixel lies in its range."""
        return (observations >= self.low) & (observations <= self.high)

    def doubt(self, mean, scale):
        """Returns a sentence if all pixels lie in the lowest two hundredths of the range."""
        if np.max(mean + 3.0 * scale) >= self.low + 0.02 * (self.high - self.low):
            return None
        return (
            f"All pixels are close to {self.low:g}, of a range of the emission from {self.low:g} "
            f"to {self.high:g}; its `low` and `high` must be those of the images."
        )

    def call(self, states):
        """Maps states [..., dz] to the density of images in their own range."""
        mean = self.low + (self.high - self.low) * tf.sigmoid(self.parameters_of(states))
        scale = self.scale
        if scale is None:
            scale = networks.positive(networks.SCALE_SPEED * self.raw_scale, floor=self.scale_floor)
        return self.independent(tfd.Normal(mean, (self.high - self.low) * scale))

    def get_config(self):
        config = {"low": self.low, "high": self.high}
        config |= {"scale": self.scale, "scale_floor": self.scale_floor}
        return {**super().get_config(), **config}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class ImageBernoulli(ImageEmission):
    """p(x[t] | z[t]) = prod_d Bernoulli(x[t]_d; sigmoid(l_d)), l = b tanh(g(z[t]) / b), b = 10.

    The logits l are bounded. A pixel that never changes would drive its own to infinity, where one
    pixel that is wrong after all costs more than the whole image.

    Args:
      hidden_units: Sizes of the dense layers.
      activation: Activation of the hidden layers.
      filters: Number of channels that enter each transposed convolution; () has dense layers alone.
    """

    units = "user"
    standardises = False
    support = "0 or 1"

    def supports(self, observations):
        """Returns whether each pixel is 0 or 1."""
        return (observations == 0) | (observations == 1)

    def innovation(self, states, observations):
        """Returns x - E[x | z], within [-1, 1], [..., number of pixels]."""
        errors_of_pixels = observations - self(states).mean()
        return networks.flatten(errors_of_pixels, self.spec.observation_shape)

    def call(self, states):
        """Maps states [..., dz] to the density of binary pixels."""
        logits = LOGIT_BOUND * tf.tanh(self.parameters_of(states) / LOGIT_BOUND)
        return self.independent(tfd.Bernoulli(logits=logits, dtype=tf.float32))


def _check_range(low, high):
    """Returns the range of a pixel as floats, or raises ValueError."""
    numeric = all(
        isinstance(each, numbers.Real) and not isinstance(each, (bool, np.bool_))
        for each in (low, high)
    )
    if not numeric:
        raise ValueError(f"`low` and `high` must be numbers; got {low!r} and {high!r}.")
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"`low` must be less than `high`, both finite; got {low} and {high}.")
    return float(low), float(high)


def _check_scale(scale):
    """Returns the constant scale as a float, or raises ValueError unless it lies in (0, 1)."""
    if not isinstance(scale, numbers.Real) or not 0 < scale < 1:
        raise ValueError(f"`scale` must lie in (0, 1), a fraction of the range; got {scale!r}.")
    return float(scale)
