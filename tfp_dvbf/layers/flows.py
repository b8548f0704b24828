"""Inverse autoregressive flows with a gate and a context."""

import itertools
import warnings

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf.layers import networks

tfb = tfp.bijectors

# Saving a model, Keras asks every layer for its config, and AutoregressiveNetwork masks its kernels
# with plain functions; the weights, not these configs, are what is saved and loaded here.
warnings.filterwarnings("ignore", message=r"The `keras\.(initializers|constraints)\.serialize")


class SeededKernels(tf_keras.initializers.Initializer):
    """Glorot uniform kernels of one seed, which differ from each other by their shapes.

    Args:
      seed: The seed, a non-negative integer.
    """

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, shape, dtype=None, **kwargs):
        words = np.random.SeedSequence([self.seed, *map(int, shape)]).generate_state(1)
        return networks.seeded(networks.GLOROT, int(words[0] >> 1))(shape, dtype, **kwargs)

    def get_config(self):
        return {"seed": self.seed}


class GatedInverseAutoregressiveFlow(tf_keras.layers.Layer):
    """z' = (1 - s) * m + s * z, with (m, raw) = MADE(z; h) and s = sigmoid(raw + gate_bias).

    m_d and s_d depend on h and the dimensions before d in `input_order` only, so that
    ln |det dz'/dz| = sum_d ln s_d (Kingma et al. 2016, equations 10 and 14; MADE:
    Germain et al. 2015). The gate keeps s in (0, 1): an ungated flow applied at every time step
    of a sequence explodes.

    Args:
      event_dim: Size of z.
      context_dim: Size of h.
      hidden_units: Sizes of the hidden layers of the MADE.
      activation: Activation of the hidden layers.
      input_order: "left-to-right" or "right-to-left", the order of the dimensions of z.
      gate_bias: What opens the gate; with 4.0 the flow starts near the identity.
      seed: Seed of the kernels; None draws new ones.
    """

    def __init__(
        self,
        event_dim,
        context_dim,
        hidden_units=(256, 256),
        activation="relu",
        input_order="left-to-right",
        gate_bias=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.event_dim = event_dim
        self.context_dim = context_dim
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.input_order = input_order
        self.gate_bias = gate_bias
        function = tf_keras.activations.get(activation)

        def hidden_activation(total):
            return function(networks.unfused(total))

        self.made = tfb.AutoregressiveNetwork(
            params=2,
            event_shape=[event_dim],
            conditional=True,
            conditional_event_shape=[context_dim],
            conditional_input_layers="first_layer",
            input_order=input_order,
            hidden_units=list(self.hidden_units),
            activation=hidden_activation,
            kernel_initializer=networks.GLOROT if seed is None else SeededKernels(seed),
        )
        # The masks hold only if every kernel is built with the layer.
        self.made.build([None, event_dim])

    @property
    def bijector(self):
        """The flow as a TFP bijector z -> z'; pass h as `conditional_input`."""
        return tfb.Invert(tfb.MaskedAutoregressiveFlow(bijector_fn=self._ungate))

    def call(self, z, context):
        """Maps z [..., event_dim] to z' and ln |det dz'/dz| [...], with one call of the MADE."""
        gate = tfb.Invert(self._ungate(z, conditional_input=context))
        return gate.forward(z), gate.forward_log_det_jacobian(z, event_ndims=1)

    def _ungate(self, z, conditional_input):
        """Returns z' -> z for the m and s of z, the direction of MaskedAutoregressiveFlow."""
        m, raw = tf.unstack(self._parameters(z, conditional_input), axis=-1)
        raw += self.gate_bias
        s = tf.sigmoid(raw)
        shift = tfb.Shift((1 - s) * m)
        scale = tfb.Scale(log_scale=tf.math.log_sigmoid(raw))
        return tfb.Invert(shift(scale))

    def _parameters(self, z, context):
        """Returns the outputs of the MADE, [..., event_dim, 2].

        The MADE holds a functional Keras model, which squeezes or adds an axis of size 1 unless it
        is given matrices.
        """
        if z.shape.rank == context.shape.rank == 2:
            return self.made(z, conditional_input=context)
        lead = tf.shape(z)[:-1]
        rows = tf.reshape(z, [-1, self.event_dim])
        context = tf.broadcast_to(context, tf.concat([lead, [self.context_dim]], axis=0))
        outputs = self.made(rows, conditional_input=tf.reshape(context, [-1, self.context_dim]))
        return tf.reshape(outputs, tf.concat([lead, [self.event_dim, 2]], axis=0))

    def get_config(self):
        return {
            **super().get_config(),
            "event_dim": self.event_dim,
            "context_dim": self.context_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "input_order": self.input_order,
            "gate_bias": self.gate_bias,
        }


class FlowChain(tf_keras.layers.Layer):
    """F = F_k o ... o F_1, gated inverse autoregressive flows that share a context.

    The order of the dimensions is reversed from one flow to the next. Without flows F is the
    identity.

    Args:
      event_dim: Size of z.
      context_dim: Size of h.
      num_flows: Number k of flows, 0 or more.
      hidden_units: Sizes of the hidden layers of each MADE.
      activation: Activation of the hidden layers.
      gate_bias: What opens the gate of each flow at the start.
      seed: Seed of the kernels; None draws new ones.
    """

    def __init__(
        self,
        event_dim,
        context_dim,
        num_flows,
        hidden_units=(64,),
        activation="relu",
        gate_bias=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = {
            "event_dim": event_dim,
            "context_dim": context_dim,
            "num_flows": num_flows,
            "hidden_units": tuple(hidden_units),
            "activation": activation,
            "gate_bias": gate_bias,
        }
        orders = itertools.cycle(["left-to-right", "right-to-left"])
        self.flows = [
            GatedInverseAutoregressiveFlow(
                event_dim, context_dim, hidden_units, activation, order, gate_bias, flow_seed
            )
            for flow_seed, order in zip(networks.split_seed(seed, num_flows), orders)
        ]

    def call(self, z, context):
        """Maps z [..., event_dim] to F(z) and ln |det dF/dz| [...]."""
        log_det = tf.zeros_like(z[..., 0])
        for flow in self.flows:
            z, step_log_det = flow(z, context)
            log_det += step_log_det
        return z, log_det

    def get_config(self):
        return {**super().get_config(), **self.config}
