"""The poster's title made true: one flow over the whole trajectory, parallel in time."""

import math

import tensorflow as tf
import tf_keras

from tfp_dvbf.layers import flows, networks
from tfp_dvbf.posteriors import base


class CausalLayer(tf_keras.layers.Layer):
    """y[t] = v[t] + relu(W v[t] + V v[t-d] + b): a residual dilated causal convolution of width 2.

    Args:
      units: Size of v and y.
      dilation: The distance d; v[t-d] is 0 before the first step.
      activation: Activation in place of relu.
    """

    def __init__(self, units, dilation, activation, **kwargs):
        super().__init__(**kwargs)
        self.dilation = dilation
        self.dense = tf_keras.layers.Dense(units, activation)

    def call(self, values):
        """Maps v [batch, time, units] to y of the same shape."""
        steps = tf.shape(values)[1]
        past = tf.pad(values, [[0, 0], [self.dilation, 0], [0, 0]])[:, :steps]
        return self.combine(values, past)

    def combine(self, values, past):
        """Maps v[t] and v[t-d], each [..., units], to y[t]."""
        return values + self.dense(tf.concat([values, past], axis=-1))


class TrajectoryIAFPosterior(tf_keras.layers.Layer):
    """z[0:T] as one draw of one flow of eps[0:T], with no loop over time.

        z[t] = m[t] + s[t] * F(eps[t]; c[t]),   (m[t], s[t]) = f(i[t]) + W c[t],   c[t] = g(i[<=t])

    F composes gated inverse autoregressive flows, f is a dense network and g one of dilated causal
    convolutions. i[t] = (eps[t-1], h[t], u[t-1], whether x[t] is there), z[0] too at t = 1, so that
    (m[t], s[t], c[t]) depend on eps[<t], h[<=t] and u[<t] only; s is made positive. The Jacobian of
    eps[0:T] -> z[0:T] is block lower-triangular, so the density of the trajectory is exact:

        ln q(z[0:T]) = ln q(z[0]) + sum_{t>0} [ ln N(eps[t]; 0, I) - ln |det dF/deps[t]|
                                               - sum_d ln s[t]_d ]

    (flow: Kingma et al. 2016, equation 10; convolutions: van den Oord et al. 2016). g reaches back
    `receptive_field` steps, rounded up to a power of 2. Longer sequences are allowed: noise and
    inputs from further back then have no effect.

    Args:
      state_dim: Size of z.
      num_flows: Number of flows a time step; 0 leaves a Gaussian given the past noise.
      hidden_units: Sizes of the hidden layers of f; the first is also the width of the
        convolutions.
      receptive_field: Steps that g reaches back.
      flow_units: Sizes of the hidden layers of each MADE.
      activation: Activation of the hidden layers.
    """

    is_prior_where_missing = False

    def __init__(
        self,
        state_dim,
        num_flows=1,
        hidden_units=(128,),
        receptive_field=64,
        flow_units=(64,),
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = {
            "state_dim": state_dim,
            "num_flows": num_flows,
            "hidden_units": tuple(hidden_units),
            "receptive_field": receptive_field,
            "flow_units": tuple(flow_units),
            "activation": activation,
        }
        self.state_dim = state_dim
        units, outputs = hidden_units[0], 2 * state_dim
        self.units = units
        self.dense_part = networks.mlp(hidden_units, outputs, activation, "dense_part")
        self.input_layer = tf_keras.layers.Dense(units)
        self.causal_layers = [
            CausalLayer(units, 2**level, activation)
            for level in range(math.ceil(math.log2(receptive_field)))
        ]
        self.output_layer = tf_keras.layers.Dense(outputs, kernel_initializer=networks.SMALL)
        self.flow = flows.FlowChain(state_dim, units, num_flows, flow_units, activation)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), `PosteriorInputs` and eps[0:T] to a `PosteriorSample`."""
        first, log_first = base.draw_first(initial, noise)
        start = tf.pad(first[:, tf.newaxis], [[0, 0], [0, tf.shape(noise)[1] - 2], [0, 0]])
        values = _join(noise[:, :-1], start, inputs)
        context = self.input_layer(values)
        for layer in self.causal_layers:
            context = layer(context)
        raw = self.dense_part(values) + self.output_layer(context)
        states, log_prob = self._transform(raw, context, noise[:, 1:])
        return base.PosteriorSample(
            base.prepend(first, states),
            base.prepend(log_first, log_prob),
            None,
        )

    def start(self, states, noise):
        """Returns what `step` goes on from after z[0] was made of eps[0], each [rows, dz].

        Returns:
          `states`, z[0]; `previous`, eps[0] and z[0] joined; `past`, the inputs of the causal
          layers at the steps before, [rows, reach, units]: those of a layer of dilation d are
          the last d, at indices d - 1 to 2 d - 2, the oldest first; left out without layers.
        """
        carry = {"states": states, "previous": tf.concat([noise, states], axis=-1)}
        reach = sum(layer.dilation for layer in self.causal_layers)
        if reach:
            carry["past"] = tf.zeros([tf.shape(states)[0], reach, self.units])
        return carry

    def step(self, carry, prior, inputs, noise):
        """Maps what `start` or the last `step` returned, one step of `PosteriorInputs` and eps[t].

        Returns:
          The same for z[t], and ln q(z[t] | eps[<t], ...), [rows].
        """
        del prior
        previous, start = tf.split(carry["previous"], 2, axis=-1)
        values = _join(previous, start, inputs)
        context, past = self.input_layer(values), []
        for layer in self.causal_layers:
            first = layer.dilation - 1
            past += [carry["past"][:, first + 1 : first + layer.dilation], context[:, tf.newaxis]]
            context = layer.combine(context, carry["past"][:, first])
        raw = self.dense_part(values) + self.output_layer(context)
        states, log_prob = self._transform(raw, context, noise)
        previous = tf.concat([noise, tf.zeros_like(noise)], axis=-1)
        carry = {"states": states, "previous": previous}
        if past:
            carry["past"] = tf.concat(past, axis=1)
        return carry, log_prob

    def _transform(self, raw, context, noise):
        """Maps g's outputs for (m, s) and c, and eps[t], to z[t] and ln q(z[t] | z[<t])."""
        loc, scale = networks.gaussian_parameters(raw)
        value, log_det = self.flow(noise, context)
        log_scale = tf.reduce_sum(tf.math.log(scale), axis=-1)
        return loc + scale * value, base.log_base(noise) - log_det - log_scale

    def get_config(self):
        return {**super().get_config(), **self.config}


def _join(previous_noise, start, inputs):
    """Returns g's inputs at each step: eps[t-1], z[0] at t = 1, h[t], u[t-1], whether x[t] is."""
    present = tf.ones_like(previous_noise[..., :1])
    if inputs.present is not None:
        present = tf.cast(inputs.present, present.dtype)
    return tf.concat([previous_noise, start, inputs.joined, present], axis=-1)
