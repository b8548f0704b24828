"""Posteriors that step through time: z[t] from z[t-1], by a Gaussian or by a flow."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import flows, networks
from tfp_dvbf.posteriors import sample


class SequentialCell(tf_keras.layers.AbstractRNNCell):
    """z[t] = m + s * F(eps[t]; c), with m = z[t-1] + f and (f, s, c) one MLP of (z[t-1], i[t]).

    F composes gated inverse autoregressive flows with context c, so that

        ln q(z[t] | z[t-1], i[t]) = ln N(eps[t]; 0, I) - ln |det dF/deps[t]| - sum_d ln s_d.

    Without flows it is N(z[t]; m, diag s^2), and there is no c. The first layer of the MLP is
    linear in (z[t-1], i[t]); the part that reads i[t] needs no recurrence, so it is the caller's:
    a[t] = `input_layer`(i[t]).

    Args:
      state_dim: Size of z.
      num_flows: Number of flows a time step, 0 or more.
      hidden_units: Sizes of the hidden layers of the MLP; () makes it linear.
      flow_units: Sizes of the hidden layers of each MADE; the first is also the size of c.
      activation: Activation of the hidden layers.
    """

    def __init__(self, state_dim, num_flows, hidden_units, flow_units, activation, **kwargs):
        super().__init__(**kwargs)
        self.state_dim = state_dim
        self.num_flows = num_flows
        self.hidden_units = tuple(hidden_units)
        self.flow_units = tuple(flow_units)
        self.activation = activation
        self.context_dim = self.flow_units[0] if num_flows else 0
        sizes = [*self.hidden_units, 2 * state_dim + self.context_dim]
        self.input_size = sizes[0]
        self.input_layer = tf_keras.layers.Dense(self.input_size)
        self.state_layer = tf_keras.layers.Dense(self.input_size, use_bias=False)
        self.layers = [tf_keras.layers.Dense(size) for size in sizes[1:-1]]
        if hidden_units:
            self.layers.append(tf_keras.layers.Dense(sizes[-1], kernel_initializer=networks.SMALL))
        self.nonlinearity = tf_keras.layers.Activation(activation)
        self.flow = flows.FlowChain(state_dim, self.context_dim, num_flows, flow_units, activation)

    @property
    def state_size(self):
        return self.state_dim

    @property
    def output_size(self):
        return 3 * self.state_dim + 1

    def call(self, inputs, states):
        """Maps (a[t], eps[t]) and z[t-1] to (z[t], m, s, ln |det dF/deps|), joined, and z[t]."""
        state = states[0]
        projection, noise = tf.split(inputs, [self.input_size, self.state_dim], axis=-1)
        raw = projection + self.state_layer(state)
        for layer in self.layers:
            raw = layer(self.nonlinearity(raw))
        raw, context = tf.split(raw, [2 * self.state_dim, self.context_dim], axis=-1)
        change, scale = networks.gaussian_parameters(raw)
        loc = state + change
        value, log_det = self.flow(noise, context)
        state = loc + scale * value
        return tf.concat([state, loc, scale, log_det[..., tf.newaxis]], axis=-1), [state]

    def get_config(self):
        return {
            **super().get_config(),
            "state_dim": self.state_dim,
            "num_flows": self.num_flows,
            "hidden_units": self.hidden_units,
            "flow_units": self.flow_units,
            "activation": self.activation,
        }


class IAFPosterior(tf_keras.layers.Layer):
    """q = q(z[0] | x[0]) prod_t q(z[t] | z[t-1], h[t], u[t-1]), each factor a flow of fresh noise.

    The factors are those of `SequentialCell`. The density of the trajectory is exact: the Jacobian
    of eps[0:T] -> z[0:T] is block lower-triangular (flow: Kingma et al. 2016, equation 10).

    Args:
      state_dim: Size of z.
      num_flows: Number of flows a time step; 0 leaves a Gaussian.
      hidden_units: Sizes of the hidden layers.
      flow_units: Sizes of the hidden layers of each MADE.
      activation: Activation of the hidden layers.
    """

    def __init__(
        self,
        state_dim,
        num_flows=1,
        hidden_units=(256, 256),
        flow_units=(64,),
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.cell = SequentialCell(state_dim, num_flows, hidden_units, flow_units, activation)
        self.rnn = tf_keras.layers.RNN(self.cell, return_sequences=True)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), i[1:T] [batch, time - 1, di] and eps[0:T] to a `PosteriorSample`."""
        first = initial.mean() + initial.stddev() * noise[:, 0]
        cell_inputs = tf.concat([self.cell.input_layer(inputs), noise[:, 1:]], axis=-1)
        outputs = self.rnn(cell_inputs, initial_state=first)
        states, log_prob, densities = self._score(outputs, noise[:, 1:])
        return sample.PosteriorSample(
            sample.prepend(first, states),
            sample.prepend(initial.log_prob(first), log_prob),
            densities and (initial, densities),
        )

    def step(self, state, inputs, noise):
        """Maps z[t-1] [..., dz], i[t] [..., di] and eps[t] to z[t] and its ln q."""
        cell_inputs = tf.concat([self.cell.input_layer(inputs), noise], axis=-1)
        outputs, _ = self.cell(cell_inputs, [state])
        return self._score(outputs, noise)[:2]

    def _score(self, outputs, noise):
        """Splits the cell's outputs into z, ln q and, where it is Gaussian, the density of z."""
        dim = self.cell.state_dim
        states, _, scale, log_det = tf.split(outputs, [dim, dim, dim, 1], axis=-1)
        log_base = networks.standard_normal(dim).log_prob(noise)
        log_scale = tf.reduce_sum(tf.math.log(scale), axis=-1)
        return states, log_base - log_scale - log_det[..., 0], None

    def get_config(self):
        cell = self.cell.get_config()
        names = ["state_dim", "num_flows", "hidden_units", "flow_units", "activation"]
        return {**super().get_config(), **{name: cell[name] for name in names}}


class GaussianPosterior(IAFPosterior):
    """q = q(z[0] | x[0]) prod_t N(z[t]; m, diag s^2), (m, s) from (z[t-1], h[t], u[t-1]).

    The poster's baseline, after Karl et al. (2017), equation 8. Its KL is known in closed form.

    Args:
      state_dim: Size of z.
      hidden_units: Sizes of the hidden layers.
      activation: Activation of the hidden layers.
    """

    def __init__(self, state_dim, hidden_units=(256, 256), activation="relu", **kwargs):
        super().__init__(state_dim, 0, hidden_units, activation=activation, **kwargs)

    def _score(self, outputs, noise):
        del noise
        states, loc, scale = tf.split(outputs[..., :-1], 3, axis=-1)
        density = networks.diagonal_normal(loc, scale)
        return states, density.log_prob(states), density

    def get_config(self):
        config = super().get_config()
        return {name: config[name] for name in config if name not in ("num_flows", "flow_units")}
