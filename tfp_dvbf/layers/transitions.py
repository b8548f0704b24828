"""Transition densities p(z[t] | z[t-1], u[t-1])."""

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import networks, part

tfd = tfp.distributions

NOISE_FLOOR = 1e-4
INITIAL_FLOOR = 1e-2
MAX_TURN = 2.8  # Radians of a step of a `RotationTransition`.


class Transition(part.Part):
    """Base of the transitions: p(z[0]) and p(z[t] | z[t-1], u[t-1]).

    A subclass makes its weights in `build(spec)` and implements

        call(states, controls) -> p(z[t] | z[t-1], u[t-1])

    with states z[t-1] [..., dz] and controls u[t-1] [..., du] to a multivariate normal over dz
    (`tfd.MultivariateNormalDiag` or `MultivariateNormalTriL`) of batch shape [...]. It reads
    `self.bounded(states)`, unless its equations keep the state within bounds themselves. It may
    override `initial()`, the normal p(z[0]) of batch shape []. What it cannot be built for, such
    as a `spec.state_dim` that its equations do not have, it refuses in `build` by a ValueError.

    Args:
      learns_initial: Whether mean and standard deviations of p(z[0]) are learned. N(0, I) asks all
        directions of the state to be equally wide at t = 0; a velocity that is small there and
        large later needs a direction that is narrow at first. The widest one keeps a standard
        deviation of 1: it is the unit of the state.
      state_bound: The states that transition and posterior read are held within +-`state_bound`.
        Of N(0, 1) 3 values in 1,000 lie beyond 3, and 1 in 20 beyond 2. A wide bound lets a state
        grow in training, beside which a `noise_floor` is small, and go far in a long forecast:
        docs/intervals.md. A state in physical units needs one beyond the values that it takes.

    Attributes:
      units: "standardised", or "user" where the controls are to come in the user's units (N m, V),
        as known physics needs them. The state has the units that the transition gives it.
    """

    units = "standardised"

    def __init__(self, learns_initial=False, state_bound=networks.STATE_BOUND, **kwargs):
        super().__init__(**kwargs)
        self.learns_initial = errors.check_flag("learns_initial", learns_initial)
        self.state_bound = errors.check_positive("state_bound", state_bound)

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
        # Without a unit the state may grow until the bound holds it.
        return networks.diagonal_normal(self.initial_loc, scale / tf.reduce_max(scale))

    def bounded(self, states):
        """Returns states [..., dz] held within the bound, as `call` and the posterior read them."""
        return networks.bounded(states, self.state_bound)

    def get_config(self):
        config = {"learns_initial": self.learns_initial, "state_bound": self.state_bound}
        return {**super().get_config(), **config}


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
        states = self.bounded(states)
        inputs = tf.concat([states, controls], axis=-1)
        change, scale = networks.gaussian_parameters(self.network(inputs), self.noise_floor)
        if self.linear_path:
            change += self.linear(inputs)
        return networks.diagonal_normal(networks.unfused(states + change), scale)

    def shift_noise(self, amount):
        """Adds `amount` to the raw values of s."""
        networks.shift_last_half(self.network, amount)

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
    """

    def __init__(
        self,
        num_bases=16,
        hidden_units=(256, 256),
        activation="relu",
        noise_floor=NOISE_FLOOR,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.noise_floor = networks.check_floor(noise_floor)
        self.num_bases = errors.check_integer("num_bases", num_bases)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation

    def build(self, spec):
        dim, bases = spec.state_dim, self.num_bases
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
        state_matrix = tf.eye(self.spec.state_dim) + self.state_change
        diagonal = networks.positive(tf.linalg.diag_part(self.raw_noise), floor=self.noise_floor)
        noise_matrix = tf.linalg.set_diag(tf.linalg.band_part(self.raw_noise, -1, 0), diagonal)
        return state_matrix, self.control_matrix, noise_matrix

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and u[t-1] [..., du] to the density of z[t]."""
        states = self.bounded(states)
        inputs = tf.concat([states, controls], axis=-1)
        weights = tf.ones_like(states[..., :1])
        if self.num_bases > 1:
            weights = tf.nn.softmax(self.network(inputs))
        a, b, c = (tf.einsum("...m,mij->...ij", weights, matrix) for matrix in self.matrices())
        loc = tf.linalg.matvec(a, states) + tf.linalg.matvec(b, controls)
        return tfd.MultivariateNormalTriL(networks.unfused(loc), c)

    def shift_noise(self, amount):
        """Adds `amount` to the raw values of the diagonals of all C_m, whose columns follow."""
        raw, old = self.raw_noise, tf.linalg.diag_part(self.matrices()[-1])
        shifted = tf.linalg.diag_part(raw) + amount
        ratio = networks.positive(shifted, floor=self.noise_floor) / old
        raw.assign(tf.linalg.set_diag(raw * ratio[:, tf.newaxis], shifted))

    def get_config(self):
        config = {
            "num_bases": self.num_bases,
            "noise_floor": self.noise_floor,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }
        return {**super().get_config(), **config}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class RotationTransition(Transition):
    """p(z[t] | z[t-1], u[t-1]) = N(R(z[t-1]) z[t-1] + B u[t-1], diag s^2), a state that turns.

        R(z) = exp(S_0 + sum_i z_i S_i),  S_0, S_1, ... skew-symmetric

    In continuous time and without controls this is the system dz/dt = (S_0 + sum_i z_i S_i) z,
    which keeps |z|. A pendulum without friction, d2θ/dt2 = k sin θ, is of that kind in
    (cos θ + c, sin θ, a dθ/dt) for any c > 0 with a^2 = c / k, a rigid body is in its angular
    momentum, and so are the quadratic terms of fluid flows (Schlegel and Noack 2015, J. Fluid Mech.
    765). Only controls and noise lengthen the state, so that p(z[0]) gives it a unit, and so few
    weights leave it little room to be bent: docs/pixels.md. There is no friction in it, and a state
    of one dimension cannot turn. `turn` says how the exponential is computed.

    Args:
      noise_floor: Least s, in units of the state.
    """

    def __init__(self, noise_floor=NOISE_FLOOR, **kwargs):
        super().__init__(**kwargs)
        self.noise_floor = networks.check_floor(noise_floor)

    def build(self, spec):
        dim = spec.state_dim
        if dim == 1:
            raise ValueError(
                "`state_dim` must be at least 2 for a rotation, since one state cannot turn; got 1."
            )
        shapes = {"generators": [1 + dim, dim, dim], "control_matrix": [dim, spec.control_dim]}
        seeds = networks.split_seed(spec.seed, 2)
        self.generators, self.control_matrix = (
            self.add_weight(name, shape, initializer=networks.seeded("random_normal", seed))
            for (name, shape), seed in zip(shapes.items(), seeds)
        )
        self.raw_scale = self.add_weight("raw_scale", [dim], initializer="zeros")
        super().build(spec)

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and u[t-1] [..., du] to the density of z[t]."""
        states = self.bounded(states)
        skew = self.generators - tf.linalg.matrix_transpose(self.generators)
        weights = tf.concat([tf.ones_like(states[..., :1]), states], axis=-1)
        turned = turn(tf.einsum("...m,mij->...ij", weights, skew), states)
        loc = turned + tf.linalg.matvec(self.control_matrix, controls)
        scale = networks.positive(networks.SCALE_SPEED * self.raw_scale, floor=self.noise_floor)
        return networks.diagonal_normal(networks.unfused(loc), scale + tf.zeros_like(loc))

    def shift_noise(self, amount):
        """Adds `amount` to the raw values of s."""
        self.raw_scale.assign(self.raw_scale + amount / networks.SCALE_SPEED)

    def get_config(self):
        return {**super().get_config(), "noise_floor": self.noise_floor}


def turn(skew, states):
    """Returns exp(S) z, by the series of the exponential up to the fourth order.

    The series multiplies a component that turns by the angle θ by 1 - θ^6 / 144 to leading order,
    and lengthens nothing where θ^2 <= 8. S is scaled down to that where |S|_F / sqrt(2), which no
    angle exceeds, is more than `MAX_TURN`.

    Args:
      skew: S, skew-symmetric [..., dz, dz].
      states: z [..., dz].
    """
    square = 0.5 * tf.reduce_sum(skew**2, axis=[-2, -1], keepdims=True)
    skew = skew * tf.minimum(1.0, MAX_TURN * tf.math.rsqrt(tf.maximum(square, 1e-6)))
    total = states
    for order in (4, 3, 2, 1):  # 1 + S (1 + S / 2 (1 + S / 3 (1 + S / 4))).
        total = states + tf.linalg.matvec(skew, total) / order
    return total
