"""Posteriors q(z[0:T] | x[0:T], u[0:T-1]) over latent trajectories.

Each is called with q(z[0] | x[0]), inputs i[t] = (h[t], u[t-1]) for t = 1 .. T-1, the encoder's
features beside the controls, and noise eps[0:T], and returns one `PosteriorSample`.
"""

import itertools
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import flows, networks

POSTERIORS = ("gaussian", "chain_iaf")


class PosteriorSample(NamedTuple):
    """One trajectory of a posterior and its density.

    Attributes:
      states: z[0:T], [batch, time, dz].
      log_prob: ln q of each z[t] in nats, [batch, time].
      densities: q(z[0] | x[0]) and, as one distribution of batch shape [batch, time - 1],
        q(z[t] | z[t-1], ...) for t > 0; None where the latter has no closed form.
    """

    states: tf.Tensor
    log_prob: tf.Tensor
    densities: tuple[tfp.distributions.Distribution, tfp.distributions.Distribution] | None


class GaussianCell(tf_keras.layers.AbstractRNNCell):
    """z[t] = m + s * eps[t] with m = z[t-1] + f(z[t-1], i[t]) and s = s(z[t-1], i[t]).

    f and s are the outputs of one MLP. Its first layer is linear in (z[t-1], i[t]); the part that
    reads i[t] needs no recurrence, so it is the caller's: c[t] = `input_layer`(i[t]).

    Args:
      state_dim: Size of z.
      hidden_units: Sizes of the hidden layers; () makes f linear.
      activation: Activation of the hidden layers.
    """

    def __init__(self, state_dim, hidden_units, activation, **kwargs):
        super().__init__(**kwargs)
        self.state_dim = state_dim
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        sizes = [*self.hidden_units, 2 * state_dim]
        self.input_size = sizes[0]
        self.input_layer = tf_keras.layers.Dense(self.input_size)
        self.state_layer = tf_keras.layers.Dense(self.input_size, use_bias=False)
        self.layers = [tf_keras.layers.Dense(size) for size in sizes[1:-1]]
        if hidden_units:
            self.layers.append(tf_keras.layers.Dense(sizes[-1], kernel_initializer=networks.SMALL))
        self.nonlinearity = tf_keras.layers.Activation(activation)

    @property
    def state_size(self):
        return self.state_dim

    @property
    def output_size(self):
        return 3 * self.state_dim

    def call(self, inputs, states):
        """Maps (c[t], eps[t]) and z[t-1] to (z[t], m, s), concatenated, and z[t]."""
        state = states[0]
        context, noise = tf.split(inputs, [self.input_size, self.state_dim], axis=-1)
        raw = context + self.state_layer(state)
        for layer in self.layers:
            raw = layer(self.nonlinearity(raw))
        change, scale = networks.gaussian_parameters(raw)
        loc = state + change
        state = loc + scale * noise
        return tf.concat([state, loc, scale], axis=-1), [state]

    def get_config(self):
        return {
            **super().get_config(),
            "state_dim": self.state_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }


class GaussianPosterior(tf_keras.layers.Layer):
    """q = q(z[0] | x[0]) prod_t N(z[t]; m, diag s^2), (m, s) from (z[t-1], h[t], u[t-1]).

    The poster's baseline, after Karl et al. (2017), equation 8. Its KL is known in closed form.

    Args:
      state_dim: Size of z.
      hidden_units: Sizes of the hidden layers.
      activation: Activation of the hidden layers.
    """

    def __init__(self, state_dim, hidden_units=(256, 256), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.state_dim = state_dim
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.cell = GaussianCell(state_dim, hidden_units, activation)
        self.rnn = tf_keras.layers.RNN(self.cell, return_sequences=True)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), i[1:T] [batch, time - 1, di] and eps[0:T] to a `PosteriorSample`."""
        first = initial.mean() + initial.stddev() * noise[:, 0]
        inputs = tf.concat([self.cell.input_layer(inputs), noise[:, 1:]], axis=-1)
        outputs = self.rnn(inputs, initial_state=first)
        states, loc, scale = tf.split(outputs, 3, axis=-1)
        conditionals = networks.diagonal_normal(loc, scale)
        log_prob = _prepend(initial.log_prob(first), conditionals.log_prob(states))
        return PosteriorSample(_prepend(first, states), log_prob, (initial, conditionals))

    def get_config(self):
        return {
            **super().get_config(),
            "state_dim": self.state_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }


class ChainIAFCell(tf_keras.layers.AbstractRNNCell):
    """z[t] = (F_k o ... o F_1)(z[t-1]; i[t]), each F a gated inverse autoregressive flow.

    Args:
      state_dim: Size of z.
      context_dim: Size of i[t].
      num_flows: Number k of flows a time step; the order of the dimensions alternates.
      hidden_units: Sizes of the hidden layers of each MADE.
      activation: Activation of the hidden layers.
    """

    def __init__(self, state_dim, context_dim, num_flows, hidden_units, activation, **kwargs):
        super().__init__(**kwargs)
        self.config = {
            "state_dim": state_dim,
            "context_dim": context_dim,
            "num_flows": num_flows,
            "hidden_units": tuple(hidden_units),
            "activation": activation,
        }
        self.state_dim = state_dim
        orders = itertools.cycle(["left-to-right", "right-to-left"])
        self.flows = [
            flows.GatedInverseAutoregressiveFlow(
                state_dim, context_dim, hidden_units, activation, input_order=order
            )
            for _, order in zip(range(num_flows), orders)
        ]

    @property
    def state_size(self):
        return self.state_dim

    @property
    def output_size(self):
        return self.state_dim + 1

    def call(self, inputs, states):
        """Maps i[t] and z[t-1] to (z[t], ln |det dz[t] / dz[t-1]|), concatenated, and z[t]."""
        state = states[0]
        log_dets = []
        for flow in self.flows:
            state, log_det = flow(state, inputs)
            log_dets.append(log_det)
        log_det = tf.add_n(log_dets)[..., tf.newaxis]
        return tf.concat([state, log_det], axis=-1), [state]


class ChainIAFPosterior(tf_keras.layers.Layer):
    """The poster's IAF DVBF: one draw, carried through time by flows.

        z[0] ~ q(z[0] | x[0]),  z[t] = F(z[t-1]; h[t], u[t-1]),
        ln q[t](z[t]) = ln q(z[0]) - sum_{i<=t} ln |det dz[i] / dz[i-1]|

    F composes `num_flows` gated inverse autoregressive flows. ln q[t] is the exact density of the
    *marginal* of z[t]. It is not a conditional density, and the sum of ln q[t] over t is not the
    density of the trajectory, which has none: z[1:T] is a deterministic function of z[0]. So the
    poster's "KL", E sum_t [ln q[t](z[t]) - ln p(z[t] | z[t-1], u[t-1])], is no Kullback-Leibler
    divergence. It is unbounded below, since p can sharpen around the one state that z[t-1] leads
    to without limit, and the objective built on it bounds no evidence: it reproduces the poster.

    Args:
      state_dim: Size of z.
      context_dim: Size of i[t] = (h[t], u[t-1]).
      num_flows: Number of flows a time step, at least 1.
      hidden_units: Sizes of the hidden layers of each MADE.
      activation: Activation of the hidden layers.
    """

    def __init__(
        self,
        state_dim,
        context_dim,
        num_flows=1,
        hidden_units=(256, 256),
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.cell = ChainIAFCell(state_dim, context_dim, num_flows, hidden_units, activation)
        self.rnn = tf_keras.layers.RNN(self.cell, return_sequences=True)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), i[1:T] [batch, time - 1, di] and eps[0:T] to a `PosteriorSample`.

        Only eps[0] is used.
        """
        first = initial.mean() + initial.stddev() * noise[:, 0]
        states, log_det = tf.split(self.rnn(inputs, initial_state=first), [-1, 1], axis=-1)
        log_initial = initial.log_prob(first)
        log_prob = log_initial[:, tf.newaxis] - tf.cumsum(log_det[..., 0], axis=1)
        return PosteriorSample(_prepend(first, states), _prepend(log_initial, log_prob), None)

    def get_config(self):
        return {**super().get_config(), **self.cell.config}


def make_posterior(name, state_dim, context_dim, num_flows, hidden_units, activation):
    """Returns the posterior called `name`, one of `POSTERIORS`."""
    if name == "gaussian":
        return GaussianPosterior(state_dim, hidden_units, activation, name="posterior")
    return ChainIAFPosterior(
        state_dim, context_dim, num_flows, hidden_units, activation, name="posterior"
    )


def _prepend(first, rest):
    """Puts first [batch, ...] before rest [batch, time - 1, ...]."""
    return tf.concat([first[:, tf.newaxis], rest], axis=1)
