"""The poster's baseline: a Gaussian at every time step."""

import tensorflow as tf
import tf_keras

from tfp_dvbf.layers import networks
from tfp_dvbf.posteriors import base


class GaussianCell(tf_keras.layers.AbstractRNNCell):
    """z[t] = m + s * eps[t] with m = z[t-1] + f(z[t-1], i[t]) and s = s(z[t-1], i[t]).

    f and s are the outputs of one MLP of z[t-1] and i[t] = (h[t], u[t-1]). Its first layer is
    linear; the part that reads i[t] needs no recurrence, so it is the caller's:
    a[t] = `input_layer`(i[t]). Where x[t] is missing, z[t] is drawn from p(z[t] | z[t-1], u[t-1]).

    Args:
      transition: Layer (z, u) -> p(z' | z, u), a multivariate normal.
      hidden_units: Sizes of the hidden layers; () makes f linear.
      activation: Activation of the hidden layers.
    """

    def __init__(self, transition, hidden_units, activation, **kwargs):
        super().__init__(**kwargs)
        self.transition = transition
        self.state_dim = transition.event_dim
        sizes = [*hidden_units, 2 * self.state_dim]
        self.input_size = sizes[0]
        # Without hidden layers these two are the last layer of the residual.
        initializer = "glorot_uniform" if hidden_units else networks.SMALL
        self.input_layer = tf_keras.layers.Dense(self.input_size, kernel_initializer=initializer)
        self.state_layer = tf_keras.layers.Dense(
            self.input_size, use_bias=False, kernel_initializer=initializer
        )
        self.layers = [tf_keras.layers.Dense(size) for size in sizes[1:-1]]
        if hidden_units:
            self.layers.append(tf_keras.layers.Dense(sizes[-1], kernel_initializer=networks.SMALL))
        self.nonlinearity = tf_keras.layers.Activation(activation)

    @property
    def state_size(self):
        return self.state_dim

    @property
    def output_size(self):
        return self.state_dim, self.state_dim, self.state_dim, 1

    def project(self, inputs, noise):
        """Returns the inputs of `call` from `PosteriorInputs` and eps[t]."""
        projected = self.input_layer(inputs.joined), noise
        return (
            projected if inputs.present is None else (*projected, inputs.controls, inputs.present)
        )

    def call(self, inputs, states):
        """Maps (a[t], eps[t]) and z[t-1] to (z[t], m, s, ln |det dz[t]/deps[t]|) and z[t].

        Where frames may be missing, the inputs are (a[t], eps[t], u[t-1], whether x[t] is there).
        """
        state, (projection, noise, *masked) = states[0], inputs
        raw = networks.unfused(projection + self.state_layer(state))
        for layer in self.layers:
            raw = layer(self.nonlinearity(raw))
        change, scale = networks.gaussian_parameters(raw)
        loc = state + change
        next_state = loc + scale * noise
        log_det = tf.reduce_sum(tf.math.log(scale), axis=-1, keepdims=True)
        if masked:
            controls, present = masked
            prior = self.transition(state, controls)
            next_state = tf.where(present, next_state, prior.loc + prior.scale.matvec(noise))
            prior_log_det = prior.scale.log_abs_determinant()[..., tf.newaxis]
            log_det = tf.where(present, log_det, prior_log_det)
        return (next_state, loc, scale, log_det), [next_state]


class GaussianPosterior(tf_keras.layers.Layer):
    """q = q(z[0] | x[0:k]) prod_t N(z[t]; m, diag s^2), (m, s) from (z[t-1], h[t], u[t-1]).

    The poster's baseline, after Karl et al. (2017), equation 8. Its KL is known in closed form.

    Args:
      transition: Layer (z, u) -> p(z' | z, u), a multivariate normal.
      hidden_units: Sizes of the hidden layers.
      activation: Activation of the hidden layers.
    """

    is_prior_where_missing = True

    def __init__(self, transition, hidden_units=(256, 256), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.cell = GaussianCell(transition, hidden_units, activation)
        self.rnn, self.masked_rnn = base.make_rnns(self.cell)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), `PosteriorInputs` and eps[0:T] to a `PosteriorSample`."""
        first, log_first = base.draw_first(initial, noise)
        rnn = self.rnn if inputs.present is None else self.masked_rnn
        cell_inputs = self.cell.project(inputs, noise[:, 1:])
        states, loc, scale, log_det = rnn(cell_inputs, initial_state=first)
        log_prob = base.log_base(noise[:, 1:]) - log_det[..., 0]
        return base.PosteriorSample(
            base.prepend(first, states),
            base.prepend(log_first, log_prob),
            (initial, networks.diagonal_normal(loc, scale)),
        )

    def start(self, states, noise):
        """Returns what `step` goes on from after z[0] [rows, dz] was made of eps[0]: z[0]."""
        return {"states": states}

    def step(self, carry, prior, inputs, noise):
        """Maps z[t-1], one step of `PosteriorInputs` and eps[t], [rows, ...], to z[t], ln q."""
        del prior
        (states, _, _, log_det), _ = self.cell(self.cell.project(inputs, noise), [carry["states"]])
        return {"states": states}, base.log_base(noise) - log_det[..., 0]
