"""Distributions of the first latent state."""

import tensorflow as tf

from tfp_dvbf.layers import networks


def initial_prior(state_dim):
    """Returns p(z[0]) = N(0, I) over states [state_dim]."""
    return networks.standard_normal(state_dim)


def prior_where_missing(density, seen):
    """Returns q(z[0]) with p(z[0]) in its place where the frames it needs are not `seen`.

    Args:
      density: q(z[0] | x[0:k]), a diagonal normal over states [batch, dz].
      seen: Whether x[0:k] are there, bool [batch, 1].
    """
    loc, scale = tf.where(seen, density.loc, 0.0), tf.where(seen, density.stddev(), 1.0)
    return networks.diagonal_normal(loc, scale)


class InitialPosterior(networks.DensityNetwork):
    """q(z[0] | x[0:k]) = N(m(x[0:k]), diag s(x[0:k])^2), k = `num_frames`."""

    def __init__(self, *args, num_frames=1, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_frames = num_frames

    def call(self, observations):
        """Maps standardised observations [batch, k or more, dx] to q(z[0] | x[0:k])."""
        frames = [observations[:, t] for t in range(self.num_frames)]
        raw = self.network(tf.concat(frames, axis=-1))
        return networks.diagonal_normal(*networks.gaussian_parameters(raw))

    def get_config(self):
        return {**super().get_config(), "num_frames": self.num_frames}
