"""The poster's baseline: a Gaussian at every time step."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import networks
from tfp_dvbf.posteriors import sample


class GaussianCell(tf_keras.layers.AbstractRNNCell):
    """z[t] = m + s * eps[t] with m = z[t-1] + f(z[t-1], i[t]) and s = s(z[t-1], i[t]).

    f and s are the outputs of one MLP of z[t-1] and i[t] = (h[t], u[t-1]). Its first layer is
    linear; the part that reads i[t] needs no recurrence, so it is the caller's:
    a[t] = `input_layer`(i[t]).

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

    def project(self, inputs, noise):
        """Returns (a[t], eps[t]), joined, from a `PosteriorInputs` and eps[t]."""
        joined = tf.concat([inputs.features, inputs.controls], axis=-1)
        return tf.concat([self.input_layer(joined), noise], axis=-1)

    def call(self, inputs, states):
        """Maps (a[t], eps[t]) and z[t-1] to (z[t], m, s), joined, and z[t]."""
        state = states[0]
        projection, noise = tf.split(inputs, [self.input_size, self.state_dim], axis=-1)
        raw = projection + self.state_layer(state)
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
        self.cell = GaussianCell(state_dim, hidden_units, activation)
        self.rnn = tf_keras.layers.RNN(self.cell, return_sequences=True)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), `PosteriorInputs` and eps[0:T] to a `PosteriorSample`."""
        first = initial.mean() + initial.stddev() * noise[:, 0]
        outputs = self.rnn(self.cell.project(inputs, noise[:, 1:]), initial_state=first)
        states, loc, scale = tf.split(outputs, 3, axis=-1)
        conditionals = networks.diagonal_normal(loc, scale)
        return sample.PosteriorSample(
            sample.prepend(first, states),
            sample.prepend(initial.log_prob(first), conditionals.log_prob(states)),
            (initial, conditionals),
        )

    def step(self, states, inputs, noise):
        """Maps z[t-1] [batch, dz], a step of `PosteriorInputs` and eps[t] to z[t] and its ln q."""
        outputs, (states,) = self.cell(self.cell.project(inputs, noise), [states])
        _, loc, scale = tf.split(outputs, 3, axis=-1)
        return states, networks.diagonal_normal(loc, scale).log_prob(states)

    def get_config(self):
        cell = self.cell.get_config()
        names = ["state_dim", "hidden_units", "activation"]
        return {**super().get_config(), **{name: cell[name] for name in names}}
