"""The transition, corrected by what its prediction got wrong, with or without flows."""

from typing import NamedTuple

import tensorflow as tf
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import flows, networks
from tfp_dvbf.posteriors import base


class InnovationInputs(NamedTuple):
    """What a step of `Innovation` needs beside the state.

    Attributes:
      hidden: What the first layer of the MLP makes of h[t] and u[t-1], [batch, (time - 1,) units].
      controls: Standardised u[t-1], [batch, (time - 1,) du].
      observations: x[t] in the emission's units, [batch, (time - 1,) *observation_shape].
    """

    hidden: tf.Tensor
    controls: tf.Tensor
    observations: tf.Tensor


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class Innovation(base.Posterior):
    """z[t] = mu + m + L (s * eps[t]),  with p(z[t] | z[t-1], u[t-1]) = N(mu, L L^T).

    The posterior corrects what the transition got wrong: (m, s) are the outputs of one MLP of
    z[t-1], the innovation, h[t] and u[t-1]; the innovation is the distance of x[t] from what the
    emission expects at mu, in standard deviations. So q follows p while p is learned, as in Karl et
    al. (2017), section 3.1, and is p where (m, s) = (0, 1):

        ln q(z[t] | z[t-1], ...) = ln N(eps[t]; 0, I) - sum_d ln s_d - ln |det L|

    m is not in units of L: a dimension in which L is small could not be corrected then, nothing
    would raise L, and the dimension would be lost (one run in five). What the first layer makes of
    h[t] and u[t-1] needs no recurrence: `prepare` computes it for all time steps at once.

    Args:
      hidden_units: Sizes of the hidden layers of the MLP.
      activation: Activation of the hidden layers.
    """

    def __init__(self, hidden_units=(64, 64), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation

    def build(self, spec, context_dim=0):
        self.sizes = [spec.state_dim, spec.state_dim, context_dim]
        self.network = networks.MLP(
            self.hidden_units, sum(self.sizes), self.activation, networks.SMALL, spec.seed
        )
        self.recurrent_dim = spec.state_dim + spec.observation_size
        inputs_dim = self.recurrent_dim + spec.feature_dim + spec.control_dim
        self.network(tf.zeros([1, inputs_dim]))
        super().build(spec)

    def prepare(self, inputs):
        """Maps `PosteriorInputs` to `InnovationInputs`."""
        layer = self.network.layers[0]
        hidden = tf.tensordot(inputs.joined, layer.kernel[self.recurrent_dim :], 1) + layer.bias
        return InnovationInputs(hidden, inputs.controls, inputs.observations)

    def step(self, model, carry, inputs, noise):
        """Maps z[t-1], `InnovationInputs` and eps[t], [rows, ...], to the `Step` of z[t]."""
        prior = model.transition_distribution(carry["states"], inputs.controls)
        states = model.transition.bounded(carry["states"])
        innovation = model.emission.innovation(prior.loc, inputs.observations)
        seen = tf.concat([states, innovation], axis=-1)
        seen = inputs.hidden + tf.matmul(seen, self.network.layers[0].kernel[: self.recurrent_dim])
        outputs = self.network.after_first(networks.unfused(seen))
        correction, raw_scale, context = tf.split(outputs, self.sizes, axis=-1)
        scale = networks.positive(raw_scale, initial=1.0)
        value, log_det = self.transform(noise, context)
        log_det += tf.reduce_sum(tf.math.log(scale), axis=-1)
        states = networks.unfused(prior.loc + correction) + prior.scale.matvec(scale * value)
        # The states in units of the transition: L^-1 (z[t] - mu).
        whitened = prior.scale.solvevec(correction) + scale * value
        prior_log_det = prior.scale.log_abs_determinant()
        return base.Step(
            {"states": states},
            log_prob=base.log_base(noise) - log_det - prior_log_det,
            log_prior=base.log_base(whitened) - prior_log_det,
        )

    def transform(self, noise, context):
        """Returns F(eps; c) and ln |det dF/deps|; here F is the identity."""
        del context
        return noise, tf.zeros_like(noise[..., 0])

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "activation": self.activation}
        return {**super().get_config(), **config}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class IAF(Innovation):
    """z[t] = mu + m + L (s * F(eps[t]; c)): `Innovation` with a flow of the noise of every step.

    F composes inverse autoregressive flows, TFP bijectors, whose context c is one more output of
    the MLP (Kingma et al. 2016, equation 10):

        ln q(z[t] | z[t-1], ...) = ln N(eps[t]; 0, I) - ln |det dF/deps| - sum_d ln s_d - ln |det L|

    Args:
      num_flows: Number of flows a time step, 1 or more; the order of the dimensions is reversed
        from one to the next.
      flow_units: Sizes of the hidden layers of each MADE; the first is also the size of c.
      hidden_units: Sizes of the hidden layers of the MLP.
      activation: Activation of the hidden layers.
      flow_kind: "affine", a gated map of each dimension, which leaves the first one normal given
        z[t-1]; or "spline", which can split it into modes.
      num_bins: Number of bins of a spline, 2 or more and less than 1,000.
      interval: The spline acts on [-interval, interval], from 0.1 to 1,000; its tails are the
        identity.
    """

    def __init__(
        self,
        num_flows=1,
        flow_units=(64,),
        hidden_units=(64, 64),
        activation="relu",
        flow_kind="affine",
        num_bins=8,
        interval=4.0,
        **kwargs,
    ):
        super().__init__(hidden_units, activation, **kwargs)
        if num_flows == 0:
            raise ValueError('`num_flows` must be at least 1; without flows it is "innovation".')
        self.flows = flows.check_settings(num_flows, flow_units, flow_kind, num_bins, interval)

    def build(self, spec):
        own, flow_seed = networks.split_seed(spec.seed, 2)
        self.flow = self.flows.make(spec.state_dim, self.activation, flow_seed)
        super().build(spec._replace(seed=own), self.flows.context_dim)

    def transform(self, noise, context):
        """Returns F(eps; c) and ln |det dF/deps|."""
        return self.flow(noise, context)

    def get_config(self):
        return {**super().get_config(), **self.flows._asdict()}
