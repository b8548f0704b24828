"""Transition densities p(z[t] | z[t-1], u[t-1])."""

import tensorflow as tf

from tfp_dvbf import networks


class MLPTransition(networks.DensityNetwork):
    """p(z[t] | z[t-1], u[t-1]) = N(z[t-1] + f(z[t-1], u[t-1]), diag s(z[t-1], u[t-1])^2)."""

    output_initializer = networks.SMALL

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and standardised u[t-1] [..., du] to the density of z[t]."""
        raw = self.network(tf.concat([states, controls], axis=-1))
        change, scale = networks.gaussian_parameters(raw)
        return networks.diagonal_normal(states + change, scale)
