"""Transition densities p(z[t] | z[t-1], u[t-1])."""

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf.layers import networks

tfd = tfp.distributions


class MLPTransition(networks.DensityNetwork):
    """p(z[t] | z[t-1], u[t-1]) = N(z[t-1] + f(z[t-1], u[t-1]), diag s(z[t-1], u[t-1])^2)."""

    output_initializer = networks.SMALL

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and standardised u[t-1] [..., du] to the density of z[t]."""
        raw = self.network(tf.concat([states, controls], axis=-1))
        change, scale = networks.gaussian_parameters(raw)
        return networks.diagonal_normal(states + change, scale)


class LocallyLinearTransition(tf_keras.layers.Layer):
    """p(z[t] | z[t-1], u[t-1]) = N(A z[t-1] + B u[t-1], C C^T), linear around each point.

        A = sum_m w_m A_m,  B = sum_m w_m B_m,  C = sum_m w_m C_m,  w = softmax(g(z[t-1], u[t-1]))

    (Karl et al. 2017, equations 9 and 10). Every C_m is lower triangular with a positive diagonal,
    and so is C. One base matrix makes the dynamics linear.

    Args:
      event_dim: Size of z.
      control_dim: Size of u.
      hidden_units: Sizes of the hidden layers of g.
      activation: Activation of the hidden layers of g.
      num_bases: Number of base matrices.
    """

    def __init__(
        self, event_dim, control_dim, hidden_units, activation="relu", num_bases=16, **kwargs
    ):
        super().__init__(**kwargs)
        self.event_dim = event_dim
        self.config = {
            "event_dim": event_dim,
            "control_dim": control_dim,
            "hidden_units": tuple(hidden_units),
            "activation": activation,
            "num_bases": num_bases,
        }
        if num_bases > 1:
            self.network = networks.mlp(hidden_units, num_bases, activation, "network")

    def build(self, input_shape):
        dim, bases = self.config["event_dim"], self.config["num_bases"]
        self.state_change = self.add_weight(
            "state_change", [bases, dim, dim], initializer="random_normal"
        )
        self.control_matrix = self.add_weight(
            "control_matrix", [bases, dim, self.config["control_dim"]], initializer="random_normal"
        )
        self.raw_noise = self.add_weight("raw_noise", [bases, dim, dim], initializer="zeros")
        super().build(input_shape)

    def matrices(self):
        """Returns the base matrices A [m, dz, dz], B [m, dz, du] and C [m, dz, dz]."""
        state_matrix = tf.eye(self.config["event_dim"]) + self.state_change
        diagonal = networks.positive(tf.linalg.diag_part(self.raw_noise))
        noise_matrix = tf.linalg.set_diag(tf.linalg.band_part(self.raw_noise, -1, 0), diagonal)
        return state_matrix, self.control_matrix, noise_matrix

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and standardised u[t-1] [..., du] to the density of z[t]."""
        inputs = tf.concat([states, controls], axis=-1)
        if self.config["num_bases"] > 1:
            weights = tf.nn.softmax(self.network(inputs))
        else:
            weights = tf.ones_like(inputs[..., :1])
        a, b, c = (tf.einsum("...m,mij->...ij", weights, matrix) for matrix in self.matrices())
        loc = tf.linalg.matvec(a, states) + tf.linalg.matvec(b, controls)
        return tfd.MultivariateNormalTriL(loc, c)

    def get_config(self):
        return {**super().get_config(), **self.config}


def make_transition(name, state_dim, control_dim, *, num_bases, hidden_units, activation):
    """Returns the transition called `name`, one of `choices.TRANSITIONS`."""
    if name == "mlp":
        return MLPTransition(state_dim, hidden_units, activation, name="transition")
    return LocallyLinearTransition(
        state_dim, control_dim, hidden_units, activation, num_bases, name="transition"
    )
