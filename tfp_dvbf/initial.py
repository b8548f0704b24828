"""Distributions of the first latent state."""

import tensorflow as tf

from tfp_dvbf import networks


def initial_prior(state_dim):
    """Returns p(z[0]) = N(0, I) over states [state_dim]."""
    return networks.diagonal_normal(tf.zeros([state_dim]), tf.ones([state_dim]))


class InitialPosterior(networks.DensityNetwork):
    """q(z[0] | x[0]) = N(m(x[0]), diag s(x[0])^2)."""

    def call(self, observations):
        """Maps standardised observations [batch, 1, dx] to q(z[0] | x[0])."""
        raw = self.network(observations[:, 0])
        return networks.diagonal_normal(*networks.gaussian_parameters(raw))
