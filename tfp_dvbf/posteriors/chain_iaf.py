"""The poster's posterior: one draw, carried through time by flows."""

import tensorflow as tf
import tf_keras

from tfp_dvbf.layers import flows
from tfp_dvbf.posteriors import base


class ChainIAFCell(tf_keras.layers.AbstractRNNCell):
    """z[t] = F(z[t-1]; i[t]), F a chain of gated inverse autoregressive flows.

    Args:
      state_dim: Size of z.
      context_dim: Size of i[t].
      num_flows: Number of flows a time step, at least 1.
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
        self.flow = flows.FlowChain(state_dim, context_dim, num_flows, hidden_units, activation)

    @property
    def state_size(self):
        return self.state_dim

    @property
    def output_size(self):
        return self.state_dim + 1

    def call(self, inputs, states):
        """Maps i[t] and z[t-1] to (z[t], ln |det dz[t] / dz[t-1]|), concatenated, and z[t]."""
        state, log_det = self.flow(states[0], inputs)
        return tf.concat([state, log_det[..., tf.newaxis]], axis=-1), [state]


class ChainIAFPosterior(tf_keras.layers.Layer):
    """The poster's IAF DVBF: one draw, carried through time by flows.

        z[0] ~ q(z[0] | x[0:k]),  z[t] = F(z[t-1]; h[t], u[t-1]),
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

    is_prior_where_missing = False

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
        if num_flows < 1:
            raise ValueError(f"`num_flows` must be at least 1 for chain_iaf; got {num_flows}.")
        self.cell = ChainIAFCell(state_dim, context_dim, num_flows, hidden_units, activation)
        self.rnn = tf_keras.layers.RNN(self.cell, return_sequences=True)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), `PosteriorInputs` and eps[0:T], of which only eps[0] is used."""
        inputs = inputs.joined
        first, log_initial = base.draw_first(initial, noise)
        states, log_det = tf.split(self.rnn(inputs, initial_state=first), [-1, 1], axis=-1)
        log_prob = log_initial[:, tf.newaxis] - tf.cumsum(log_det[..., 0], axis=1)
        return base.PosteriorSample(
            base.prepend(first, states), base.prepend(log_initial, log_prob), None
        )

    def get_config(self):
        return {**super().get_config(), **self.cell.config}
