"""The poster's title made true: one flow over the whole trajectory, parallel in time."""

import math

import tensorflow as tf
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import flows, initial_posteriors, networks
from tfp_dvbf.posteriors import base


class CausalLayer(tf_keras.layers.Layer):
    """y[t] = v[t] + relu(W v[t] + V v[t-d] + b): a residual dilated causal convolution of width 2.

    Args:
      units: Size of v and y.
      dilation: The distance d; v[t-d] is 0 before the first step.
      activation: Activation in place of relu.
      seed: Seed of W and V; None draws new ones.
    """

    def __init__(self, units, dilation, activation, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.dilation = dilation
        initializer = networks.seeded(networks.GLOROT, seed)
        self.dense = tf_keras.layers.Dense(units, activation, kernel_initializer=initializer)

    def call(self, values):
        """Maps v [batch, time, units] to y of the same shape."""
        steps = tf.shape(values)[1]
        past = tf.pad(values, [[0, 0], [self.dilation, 0], [0, 0]])[:, :steps]
        return self.combine(values, past)

    def combine(self, values, past):
        """Maps v[t] and v[t-d], each [..., units], to y[t]."""
        return values + self.dense(tf.concat([values, past], axis=-1))


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class TrajectoryIAF(base.Posterior):
    """z[0:T] as one draw of one flow of eps[0:T], with no loop over time.

        z[t] = m[t] + s[t] * F(eps[t]; c[t]),   (m[t], s[t]) = f(i[t]) + W c[t],   c[t] = g(i[<=t])

    F composes gated inverse autoregressive flows, f is a dense network and g one of dilated causal
    convolutions. i[t] = (eps[t-1], h[t], u[t-1]), z[0] too at t = 1, so that (m[t], s[t], c[t])
    depend on eps[<t], h[<=t] and u[<t] only; s is made positive. The Jacobian of
    eps[0:T] -> z[0:T] is block lower-triangular, so the density of the trajectory is exact:

        ln q(z[0:T]) = ln q(z[0]) + sum_{t>0} [ ln N(eps[t]; 0, I) - ln |det dF/deps[t]|
                                               - sum_d ln s[t]_d ]

    (flow: Kingma et al. 2016, equation 10; convolutions: van den Oord et al. 2016). g reaches back
    `receptive_field` steps, rounded up to a power of 2. Longer sequences are allowed: noise and
    inputs from further back then have no effect.

    Where x[t] is missing z[t] comes from the transition, as for every posterior, and the flow
    starts anew behind it, as it does at t = 1 behind z[0]: a gap shows it nothing that it has not
    seen in training. Sequences with gaps are scanned step by step.

    Args:
      num_flows: Number of flows a time step; 0 leaves a Gaussian given the past noise.
      flow_units: Sizes of the hidden layers of each MADE.
      receptive_field: Steps that g reaches back.
      hidden_units: Sizes of the hidden layers of f; the first is also the width of the
        convolutions.
      activation: Activation of the hidden layers.
    """

    def __init__(
        self,
        num_flows=1,
        flow_units=(64,),
        receptive_field=64,
        hidden_units=(128,),
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_flows = errors.check_integer("num_flows", num_flows, least=0)
        self.flow_units = errors.check_units("flow_units", flow_units, least=1)
        self.receptive_field = errors.check_integer("receptive_field", receptive_field)
        self.hidden_units = errors.check_units("hidden_units", hidden_units, least=1)
        self.activation = activation

    def build(self, spec):
        units, outputs = self.hidden_units[0], 2 * spec.state_dim
        levels = math.ceil(math.log2(self.receptive_field))
        dense, first, last, flow, *layers = networks.split_seed(spec.seed, 4 + levels)
        self.dense_part = networks.MLP(self.hidden_units, outputs, self.activation, seed=dense)
        self.input_layer = tf_keras.layers.Dense(
            units, kernel_initializer=networks.seeded(networks.GLOROT, first)
        )
        self.causal_layers = [
            CausalLayer(units, 2**level, self.activation, seed) for level, seed in enumerate(layers)
        ]
        self.output_layer = tf_keras.layers.Dense(
            outputs, kernel_initializer=networks.seeded(networks.SMALL, last)
        )
        self.flow = flows.FlowChain(
            spec.state_dim,
            units,
            self.num_flows,
            hidden_units=self.flow_units,
            activation=self.activation,
            seed=flow,
        )
        super().build(spec)

    def prepare(self, inputs):
        """Maps `PosteriorInputs` to (h[t], u[t-1])."""
        return inputs.joined

    def call(self, model, first, inputs, noise, observed=None):
        """Draws one trajectory, all time steps at once where none is missing."""
        if observed is not None:
            return super().call(model, first, inputs, noise, observed)
        states, log_first = initial_posteriors.first_state(first).draw(noise[:, 0])
        start = tf.pad(states[:, tf.newaxis], [[0, 0], [0, tf.shape(noise)[1] - 2], [0, 0]])
        values = tf.concat([noise[:, :-1], start, self.prepare(inputs)], axis=-1)
        context = self.input_layer(values)
        for layer in self.causal_layers:
            context = layer(context)
        raw = self.dense_part(values) + self.output_layer(context)
        later, log_prob = self._transform(raw, context, noise[:, 1:])
        return base.PosteriorSample(
            base.prepend(states, later), base.prepend(log_first, log_prob), None
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
            carry["past"] = tf.zeros([tf.shape(states)[0], reach, self.hidden_units[0]])
        return carry

    def step(self, model, carry, inputs, noise):
        """Maps what `start` or the last `step` returned, (h[t], u[t-1]) and eps[t] to a `Step`."""
        del model
        values = tf.concat([carry["previous"], inputs], axis=-1)
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
        return base.Step(carry, log_prob)

    def _transform(self, raw, context, noise):
        """Maps g's outputs for (m, s) and c, and eps[t], to z[t] and ln q(z[t] | z[<t])."""
        loc, scale = networks.gaussian_parameters(raw)
        value, log_det = self.flow(noise, context)
        log_scale = tf.reduce_sum(tf.math.log(scale), axis=-1)
        return loc + scale * value, base.log_base(noise) - log_det - log_scale

    def get_config(self):
        config = {
            "num_flows": self.num_flows,
            "flow_units": self.flow_units,
            "receptive_field": self.receptive_field,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }
        return {**super().get_config(), **config}
