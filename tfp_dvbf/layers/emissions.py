"""Emission densities p(x[t] | z[t]), in the user's units."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf.layers import networks

tfd = tfp.distributions


# Adam moves a weight by at most its learning rate a step. The noise scale starts at
# `networks.INITIAL_SCALE` and has to fall by more than a factor of 20, which takes thousands of
# steps unless the weight behind it acts this many times as strongly.
SCALE_SPEED = 10.0


class GaussianEmission(networks.DensityNetwork):
    """p(x[t] | z[t]) = N(mean + scale g(z[t]), diag (scale s_x)^2), s_x learned and constant.

    `mean` and `scale` undo the standardisation of the observations, so that the density already
    holds its Jacobian: -sum_d ln scale_d for every frame.
    """

    parameters_per_dim = 1

    def build(self, input_shape):
        self.raw_scale = self.add_weight("raw_scale", [self.event_dim], initializer="zeros")
        super().build(input_shape)

    def call(self, states, mean=0.0, scale=1.0):
        """Maps states [..., dz] to the density of observations [..., dx]."""
        loc = mean + scale * self.network(states)
        noise_scale = scale * networks.positive(SCALE_SPEED * self.raw_scale)
        return tfd.Independent(tfd.Normal(loc, noise_scale), reinterpreted_batch_ndims=1)


class BernoulliEmission(networks.DensityNetwork):
    """p(x[t] | z[t]) = prod_d Bernoulli(x[t]_d; sigmoid(g(z[t])_d)), for binary pixels."""

    parameters_per_dim = 1

    def call(self, states, mean=0.0, scale=1.0):
        """Maps states [..., dz] to the density of pixels [..., dx], which have no unit."""
        del mean, scale
        pixels = tfd.Bernoulli(logits=self.network(states), dtype=tf.float32)
        return tfd.Independent(pixels, reinterpreted_batch_ndims=1)
