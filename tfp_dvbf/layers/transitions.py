"""Transition densities p(z[t] | z[t-1], u[t-1])."""

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import networks, part

tfd = tfp.distributions

NOISE_FLOOR = 1e-4
INITIAL_FLOOR = 1e-2


class Transition(part.Part):
    """Base of the transitions: p(z[0]) and p(z[t] | z[t-1], u[t-1]).

    A subclass makes its weights in `build(spec)` and implements

        call(states, controls) -> p(z[t] | z[t-1], u[t-1])

    with states z[t-1] [..., dz] and controls u[t-1] [..., du] to a multivariate normal over dz
    (`tfd.MultivariateNormalDiag` or `MultivariateNormalTriL`) of batch shape [...]. It may
    override `initial()`, the normal p(z[0]) of batch shape [].

    Args:
      learns_initial: Whether mean and standard deviations of p(z[0]) are learned. N(0, I) asks all
        directions of the state to be equally wide at t = 0; a velocity that is small there and
        large later needs a direction that is narrow at first. The widest one keeps a standard
        deviation of 1: it is the unit of the state.

    Attributes:
      units: "standardised", or "user" where the controls are to come in the user's units (N m, V),
        as known physics needs them. The state has the units that the transition gives it.
    """

    units = "standardised"

    def __init__(self, learns_initial=False, **kwargs):
        super().__init__(**kwargs)
        self.learns_initial = errors.check_flag("learns_initial", learns_initial)

    def build(self, spec):
        if self.learns_initial:
            self.initial_loc, self.initial_raw_scale = (
                self.add_weight(name, [spec.state_dim], initializer="zeros")
                for name in ["initial_loc", "initial_raw_scale"]
            )
        super().build(spec)

    def initial(self):
        """Returns p(z[0]): N(0, I), or N(m, diag (s / max s)^2) with m and s learned."""
        if not self.learns_initial:
            return networks.standard_normal(self.spec.state_dim)
        raw_scale = networks.SCALE_SPEED * self.initial_raw_scale
        scale = networks.positive(raw_scale, initial=1.0, floor=INITIAL_FLOOR)
        # Without a unit the state may grow until `networks.bounded` holds it.
        return networks.diagonal_normal(self.initial_loc, scale / tf.reduce_max(scale))

    def get_config(self):
        return {**super().get_config(), "learns_initial": self.learns_initial}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class MLPTransition(Transition):
    """p(z[t] | z[t-1], u[t-1]) = N(z[t-1] + f(z[t-1], u[t-1]), diag s(z[t-1], u[t-1])^2).

    f and s are the outputs of one network.

    Args:
      hidden_units: Sizes of its hidden layers; () makes it linear.
      activation: Activation of its hidden layers.
      noise_floor: Least s, in units of the state, whose prior at t = 0 is N(0, I).
      linear_path: Whether the mean is z[t-1] + A z[t-1] + B u[t-1] + f(z[t-1], u[t-1]), where A and
        B are matrices that start at zero. If the system is nearly linear, f has to learn only the
        nonlinear remainder: docs/intervals.md.
    """

    def __init__(
        self,
        hidden_units=(256, 256),
        activation="relu",
        noise_floor=NOISE_FLOOR,
        linear_path=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation
        self.noise_floor = networks.check_floor(noise_floor)
        self.linear_path = errors.check_flag("linear_path", linear_path)

    def build(self, spec):
        self.network = networks.MLP(
            self.hidden_units,
            2 * spec.state_dim,
            self.activation,
            networks.SMALL,
            spec.seed,
            name="network",
        )
        if self.linear_path:
            self.linear = tf_keras.layers.Dense(
                spec.state_dim, use_bias=False, kernel_initializer="zeros", name="linear"
            )
        super().build(spec)

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and u[t-1] [..., du] to the density of z[t]."""
        states = networks.bounded(states)
        inputs = tf.concat([states, controls], axis=-1)
        change, scale = networks.gaussian_parameters(self.network(inputs), self.noise_floor)
        if self.linear_path:
            change += self.linear(inputs)
        return networks.diagonal_normal(networks.unfused(states + change), scale)

    def get_config(self):
        config = {
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "noise_floor": self.noise_floor,
            "linear_path": self.linear_path,
        }
        return {**super().get_config(), **config}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class LocallyLinearTransition(Transition):
    """p(z[t] | z[t-1], u[t-1]) = N(A z[t-1] + B u[t-1], C C^T), linear around each point.

        A = sum_m w_m A_m,  B = sum_m w_m B_m,  C = sum_m w_m C_m,  w = softmax(g(z[t-1], u[t-1]))

    (Karl et al. 2017, equations 9 and 10). Every C_m is lower triangular with a positive diagonal,
    and so is C. One base matrix makes the dynamics linear.

    Args:
      num_bases: Number of base matrices.
      hidden_units: Sizes of the hidden layers of g.
      activation: Activation of the hidden layers of g.
      noise_floor: Least value on the diagonal of each C_m, in units of the state.
      orthogonal: Whether each A_m is orthogonal, (I - S_m)^-1 (I + S_m) with S_m skew-symmetric
        (Cayley transform; Helfrich et al. 2018, arXiv:1707.09520). Then |A z| <= |z|: one matrix
        turns the state about the origin, a mixture may shorten it, and only controls and noise can
        lengthen it. Otherwise p(z[0]) alone sets the unit of the state, which may grow step by step
        and then tells the time rather than the system, as it did behind images: docs/pixels.md. A
        state of one dimension cannot turn.
    """

    def __init__(
        self,
        num_bases=16,
        hidden_units=(256, 256),
        activation="relu",
        noise_floor=NOISE_FLOOR,
        orthogonal=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.orthogonal = errors.check_flag("orthogonal", orthogonal)
        self.noise_floor = networks.check_floor(noise_floor)
        self.num_bases = errors.check_integer("num_bases", num_bases)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation

    def build(self, spec):
        dim, bases = spec.state_dim, self.num_bases
        if self.orthogonal and dim == 1:
            raise ValueError("`orthogonal` must be False for one state: it would stand still.")
        shapes = {
            "state_change": [bases, dim, dim],
            "control_matrix": [bases, dim, spec.control_dim],
        }
        *seeds, network_seed = networks.split_seed(spec.seed, 3)
        self.state_change, self.control_matrix = (
            self.add_weight(name, shape, initializer=networks.seeded("random_normal", seed))
            for (name, shape), seed in zip(shapes.items(), seeds)
        )
        self.raw_noise = self.add_weight("raw_noise", [bases, dim, dim], initializer="zeros")
        if bases > 1:
            self.network = networks.MLP(
                self.hidden_units, bases, self.activation, seed=network_seed, name="network"
            )
        super().build(spec)

    def matrices(self):
        """Returns the base matrices A [m, dz, dz], B [m, dz, du] and C [m, dz, dz]."""
        identity, change = tf.eye(self.spec.state_dim), self.state_change
        state_matrix = identity + change
        if self.orthogonal:
            skew = 0.5 * (change - tf.linalg.matrix_transpose(change))
            state_matrix = tf.linalg.solve(identity - skew, identity + skew)
        diagonal = networks.positive(tf.linalg.diag_part(self.raw_noise), floor=self.noise_floor)
        noise_matrix = tf.linalg.set_diag(tf.linalg.band_part(self.raw_noise, -1, 0), diagonal)
        return state_matrix, self.control_matrix, noise_matrix

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and u[t-1] [..., du] to the density of z[t]."""
        states = networks.bounded(states)
        inputs = tf.concat([states, controls], axis=-1)
        weights = tf.ones_like(states[..., :1])
        if self.num_bases > 1:
            weights = tf.nn.softmax(self.network(inputs))
        a, b, c = (tf.einsum("...m,mij->...ij", weights, matrix) for matrix in self.matrices())
        loc = tf.linalg.matvec(a, states) + tf.linalg.matvec(b, controls)
        return tfd.MultivariateNormalTriL(networks.unfused(loc), c)

    def get_config(self):
        config = {
            "num_bases": self.num_bases,
            "noise_floor": self.noise_floor,
            "orthogonal": self.orthogonal,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }
        return {**super().get_config(), **config}
