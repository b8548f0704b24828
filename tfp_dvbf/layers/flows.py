"""Inverse autoregressive flows with a gate and a context."""

import itertools
import numbers
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import networks

tfb = tfp.bijectors

# Saving a model, Keras asks every layer for its config, and AutoregressiveNetwork masks its kernels
# with plain functions; the weights, not these configs, are what is saved and loaded here.
warnings.filterwarnings("ignore", message=r"The `keras\.(initializers|constraints)\.serialize")


class InverseAutoregressiveFlow(tf_keras.layers.Layer):
    """z'_d = g(z_d; theta_d) with theta = MADE(z; h): base of the flows of one step of z.

    theta_d depends on h and the dimensions before d in `input_order` only, so that

        ln |det dz'/dz| = sum_d ln g'(z_d; theta_d)

    (Kingma et al. 2016, equation 10; MADE: Germain et al. 2015). A subclass says how many numbers
    theta_d has, `num_parameters`, and returns g in `transform`.

    Args:
      event_dim: Size of z.
      context_dim: Size of h.
      hidden_units: Sizes of the hidden layers of the MADE.
      activation: Activation of the hidden layers.
      input_order: "left-to-right" or "right-to-left", the order of the dimensions of z.
      seed: Seed of the kernels; None draws new ones.
    """

    num_parameters = 2

    def __init__(
        self,
        event_dim,
        context_dim,
        hidden_units=(256, 256),
        activation="relu",
        input_order="left-to-right",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.event_dim = event_dim
        self.context_dim = context_dim
        self.hidden_units = tuple(hidden_units)
        self.activation = activation
        self.input_order = input_order
        function = tf_keras.activations.get(activation)

        def hidden_activation(total):
            return function(networks.unfused(total))

        self.made = tfb.AutoregressiveNetwork(
            params=self.num_parameters,
            event_shape=[event_dim],
            conditional=True,
            conditional_event_shape=[context_dim],
            conditional_input_layers="first_layer",
            input_order=input_order,
            hidden_units=list(self.hidden_units),
            activation=hidden_activation,
            kernel_initializer=networks.GLOROT if seed is None else networks.SeededKernels(seed),
        )
        # The masks hold only if every kernel is built with the layer.
        self.made.build([None, event_dim])

    def transform(self, parameters):
        """Returns g, a bijector of scalars z_d, for theta [..., event_dim, num_parameters]."""
        raise NotImplementedError

    @property
    def bijector(self):
        """The flow as a TFP bijector z -> z'; pass h as `conditional_input`."""
        return tfb.Invert(
            tfb.MaskedAutoregressiveFlow(
                bijector_fn=lambda z, conditional_input: tfb.Invert(
                    self.transform(self._parameters(z, conditional_input))
                )
            )
        )

    def call(self, z, context):
        """Maps z [..., event_dim] to z' and ln |det dz'/dz| [...], with one call of the MADE."""
        transform = self.transform(self._parameters(z, context))
        return transform.forward(z), transform.forward_log_det_jacobian(z, event_ndims=1)

    def _parameters(self, z, context):
        """Returns the outputs of the MADE, [..., event_dim, num_parameters].

        The MADE holds a functional Keras model, which squeezes or adds an axis of size 1 unless it
        is given matrices.
        """
        if z.shape.rank == context.shape.rank == 2:
            return self.made(z, conditional_input=context)
        lead = tf.shape(z)[:-1]
        rows = tf.reshape(z, [-1, self.event_dim])
        context = tf.broadcast_to(context, tf.concat([lead, [self.context_dim]], axis=0))
        outputs = self.made(rows, conditional_input=tf.reshape(context, [-1, self.context_dim]))
        return tf.reshape(outputs, tf.concat([lead, [self.event_dim, self.num_parameters]], axis=0))

    def get_config(self):
        return {
            **super().get_config(),
            "event_dim": self.event_dim,
            "context_dim": self.context_dim,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            "input_order": self.input_order,
        }


class GatedInverseAutoregressiveFlow(InverseAutoregressiveFlow):
    """z' = (1 - s) * m + s * z, with (m, raw) = MADE(z; h) and s = sigmoid(raw + gate_bias).

    ln |det dz'/dz| = sum_d ln s_d (Kingma et al. 2016, equation 14). The gate keeps s in (0, 1): an
    ungated flow applied at every time step of a sequence explodes.

    Args:
      *args: As for `InverseAutoregressiveFlow`.
      gate_bias: What opens the gate; with 4.0 the flow starts near the identity.
      **kwargs: As for `InverseAutoregressiveFlow`.
    """

    def __init__(self, *args, gate_bias=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.gate_bias = gate_bias

    def transform(self, parameters):
        """Returns z -> (1 - s) * m + s * z."""
        m, raw = tf.unstack(parameters, axis=-1)
        raw += self.gate_bias
        shift = tfb.Shift((1 - tf.sigmoid(raw)) * m)
        return shift(tfb.Scale(log_scale=tf.math.log_sigmoid(raw)))

    def get_config(self):
        return {**super().get_config(), "gate_bias": self.gate_bias}


class SplineInverseAutoregressiveFlow(InverseAutoregressiveFlow):
    """z'_d = g(z_d), a monotone spline on [-interval, interval] and the identity outside of it.

    g is made of `num_bins` quotients of quadratic polynomials, whose widths, heights and slopes are
    the outputs of the MADE (Durkan et al. 2019, arXiv:1906.04032, equations 4 and 5). Unlike an
    affine map it can split a normal into two modes, also where z has a single dimension.

    Args:
      *args: As for `InverseAutoregressiveFlow`.
      num_bins: Number of bins, 2 or more and less than 1 / LEAST.
      interval: Where the spline ends, in [0.1, 1000]; its tails are linear of slope 1.
      **kwargs: As for `InverseAutoregressiveFlow`.

    Raises:
      ValueError: If `num_bins` or `interval` is out of its range.
    """

    LEAST = 1e-3  # Least slope, and least width and height of a bin, a fraction of the interval.

    def __init__(self, *args, num_bins=8, interval=4.0, **kwargs):
        self.num_bins, self.interval = check_spline(num_bins, interval)
        super().__init__(*args, **kwargs)

    @property
    def num_parameters(self):
        """Widths and heights of the bins and the slopes at the knots between them."""
        return 3 * self.num_bins - 1

    def transform(self, parameters):
        """Returns the spline of theta; theta = 0 gives the identity."""
        sizes = [self.num_bins, self.num_bins, self.num_bins - 1]
        widths, heights, slopes = tf.split(parameters, sizes, axis=-1)
        share = 1.0 - self.num_bins * self.LEAST
        widths, heights = (
            2.0 * self.interval * (self.LEAST + share * tf.nn.softmax(raw))
            for raw in (widths, heights)
        )
        slopes = networks.positive(slopes, initial=1.0 - self.LEAST, floor=self.LEAST)
        return tfb.RationalQuadraticSpline(widths, heights, slopes, range_min=-self.interval)

    def get_config(self):
        return {**super().get_config(), "num_bins": self.num_bins, "interval": self.interval}


class FlowChain(tf_keras.layers.Layer):
    """F = F_k o ... o F_1, inverse autoregressive flows that share a context.

    The order of the dimensions is reversed from one flow to the next. Without flows F is the
    identity.

    Args:
      event_dim: Size of z.
      context_dim: Size of h.
      num_flows: Number k of flows, 0 or more.
      flow: Class of the flows.
      seed: Seed of the kernels; None draws new ones.
      **settings: Other arguments of `flow`.
    """

    def __init__(
        self,
        event_dim,
        context_dim,
        num_flows,
        flow=GatedInverseAutoregressiveFlow,
        seed=None,
        **settings,
    ):
        super().__init__()
        orders = itertools.cycle(["left-to-right", "right-to-left"])
        self.flows = [
            flow(event_dim, context_dim, input_order=order, seed=flow_seed, **settings)
            for flow_seed, order in zip(networks.split_seed(seed, num_flows), orders)
        ]

    def call(self, z, context):
        """Maps z [..., event_dim] to F(z) and ln |det dF/dz| [...]."""
        log_det = tf.zeros_like(z[..., 0])
        for flow in self.flows:
            z, step_log_det = flow(z, context)
            log_det += step_log_det
        return z, log_det


KINDS = {"affine": GatedInverseAutoregressiveFlow, "spline": SplineInverseAutoregressiveFlow}
OPEN_GATE = 4.0  # The flows start near the identity.
INTERVALS = 0.1, 1000.0  # Least and largest; float32 has no room for bins beyond them.


class Settings(NamedTuple):
    """The settings of a part that has a `FlowChain`; its config has them by the same names."""

    num_flows: int
    flow_units: tuple
    flow_kind: str
    num_bins: int
    interval: float

    @property
    def context_dim(self):
        """Size of the context, that of the first hidden layer of each MADE."""
        return self.flow_units[0]

    def make(self, event_dim, activation, seed):
        """Returns the `FlowChain`, which starts near the identity."""
        own = {"affine": {"gate_bias": OPEN_GATE}}
        own["spline"] = {"num_bins": self.num_bins, "interval": self.interval}
        settings = {"hidden_units": self.flow_units, "activation": activation}
        settings |= own[self.flow_kind]
        sizes = event_dim, self.context_dim, self.num_flows
        return FlowChain(*sizes, KINDS[self.flow_kind], seed, **settings)


def check_settings(num_flows, flow_units, flow_kind, num_bins, interval):
    """Returns `Settings`, or raises ValueError if one of them is out of its range."""
    errors.check_choice("flow_kind", flow_kind, list(KINDS))
    spline = check_spline(num_bins, interval)
    num_flows = errors.check_integer("num_flows", num_flows)
    flow_units = errors.check_units("flow_units", flow_units, least=1)
    return Settings(num_flows, flow_units, flow_kind, *spline)


def check_spline(num_bins, interval):
    """Returns both as numbers, or raises ValueError if one of them is out of its range."""
    least, most = INTERVALS
    number = isinstance(interval, numbers.Real) and not isinstance(interval, (bool, np.bool_))
    if not number or not least <= interval <= most:
        raise ValueError(
            "`interval` of a spline must be positive and finite, as its tails are linear, and lie "
            f"in [{least:g}, {most:g}], where float32 has room for its bins; got {interval!r}."
        )
    num_bins = errors.check_integer("num_bins", num_bins, least=2)
    limit = round(1.0 / SplineInverseAutoregressiveFlow.LEAST)
    if num_bins >= limit:
        raise ValueError(
            f"`num_bins` of a spline must be less than {limit}, as from there on bins of the least "
            f"width fill the interval; got {num_bins}."
        )
    return num_bins, float(interval)
