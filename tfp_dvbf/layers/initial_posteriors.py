"""Posteriors of the first latent state, q(z[0] | x[0:k])."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import networks, part


class InitialPosterior(part.Part):
    """Base of the posteriors q(z[0] | x[0:k]) of the first latent state.

    A subclass makes its networks in `build(spec)` and implements

        call(observations) -> q(z[0] | x[0:k])

    with standardised observations [batch, k or more, *observation_shape] to a
    `tfd.MultivariateNormalDiag` over dz of batch shape [batch].

    Attributes:
      num_steps: The number k of time steps that it sees, set by the constructor.
    """

    num_steps = 1


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class GaussianInitialPosterior(InitialPosterior):
    """q(z[0] | x[0:k]) = N(m(x[0:k]), diag s(x[0:k])^2), (m, s) the outputs of one network.

    Args:
      num_steps: The number k of time steps that it sees.
      hidden_units: Sizes of the hidden layers of the network.
      activation: Activation of the hidden layers.
    """

    def __init__(self, num_steps=1, hidden_units=(128,), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.num_steps = errors.check_integer("num_steps", num_steps)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation

    def build(self, spec):
        self.network = self.make_network(spec)
        super().build(spec)

    def make_network(self, spec):
        """Returns the network of what `join` makes of x[0:k]; a subclass may have another."""
        sizes = self.hidden_units, 2 * spec.state_dim
        return networks.MLP(*sizes, self.activation, seed=spec.seed, name="network")

    def join(self, observations):
        """Returns x[0:k] as one vector, [batch, k times the size of an observation]."""
        seen = networks.flatten(observations, self.spec.observation_shape)
        return tf.concat([seen[:, t] for t in range(self.num_steps)], axis=-1)

    def call(self, observations):
        """Maps standardised observations [batch, k or more, ...] to q(z[0] | x[0:k])."""
        raw = self.network(self.join(observations))
        return networks.diagonal_normal(*networks.gaussian_parameters(raw))

    def get_config(self):
        config = {
            "num_steps": self.num_steps,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }
        return {**super().get_config(), **config}
