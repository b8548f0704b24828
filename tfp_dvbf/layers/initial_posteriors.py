"""Posteriors of the first latent state, q(z[0] | x[0:k])."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import flows, networks, part


class FirstState(NamedTuple):
    """q(z[0] | x[0:k]): z[0] = m + s * F(eps; c) of eps ~ N(0, I), F the identity without a flow.

        ln q(z[0] | x[0:k]) = ln N(eps; 0, I) - ln |det dF/deps| - sum_d ln s_d

    Attributes:
      normal: N(m, diag s^2), a diagonal normal of batch shape [batch].
      flow: F, a `FlowChain`, or None.
      context: c, [batch, units]; None without a flow.
      flowed: Where F acts, bool [batch, 1]; None where it always does.
    """

    normal: tfp.distributions.MultivariateNormalDiag
    flow: flows.FlowChain | None = None
    context: tf.Tensor | None = None
    flowed: tf.Tensor | None = None

    def draw(self, noise):
        """Maps eps [batch, dz] to z[0] and ln q(z[0] | x[0:k]) [batch]."""
        log_prob = tf.reduce_sum(tfp.distributions.Normal(0.0, 1.0).log_prob(noise), axis=-1)
        if self.flow is not None:
            value, log_det = self.flow(noise, self.context)
            if self.flowed is not None:
                value = tf.where(self.flowed, value, noise)
                log_det = tf.where(self.flowed[:, 0], log_det, 0.0)
            noise, log_prob = value, log_prob - log_det
        scale = self.normal.scale
        return self.normal.loc + scale.matvec(noise), log_prob - scale.log_abs_determinant()

    def where(self, seen, prior):
        """Returns this where `seen`, bool [batch, 1], is True, and p(z[0]) elsewhere."""
        loc = tf.where(seen, self.normal.loc, prior.mean())
        scale = tf.where(seen, self.normal.stddev(), prior.stddev())
        flowed = seen if self.flowed is None else seen & self.flowed
        return self._replace(normal=networks.diagonal_normal(loc, scale), flowed=flowed)

    def tiled(self, times):
        """Returns it `times` over, all of the batch before any comes again."""
        tensors = self.normal.loc, self.normal.stddev(), self.context, self.flowed
        loc, scale, *others = (
            None if tensor is None else networks.tile_rows(tensor, times) for tensor in tensors
        )
        return FirstState(networks.diagonal_normal(loc, scale), self.flow, *others)


def first_state(density):
    """Returns the `FirstState` of what an `InitialPosterior` returned."""
    return density if isinstance(density, FirstState) else FirstState(density)


class InitialPosterior(part.Part):
    """Base of the posteriors q(z[0] | x[0:k]) of the first latent state.

    A subclass makes its networks in `build(spec)` and implements

        call(observations) -> q(z[0] | x[0:k])

    with standardised observations [batch, k or more, *observation_shape] to a
    `tfd.MultivariateNormalDiag` over dz of batch shape [batch], or to a `FirstState`, which may
    have a flow.

    Attributes:
      num_steps: The number k of time steps that it sees, set by the constructor.
    """

    num_steps = 1


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class GaussianInitialPosterior(InitialPosterior):
    """q(z[0] | x[0:k]) = N(m(x[0:k]), diag s(x[0:k])^2), (m, s) the outputs of one network.

    Args:
      num_steps: The number k of time steps that it sees.
      hidden_units: Sizes of the hidden layers of the network.
      activation: Activation of the hidden layers.
    """

    def __init__(self, num_steps=1, hidden_units=(128,), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.num_steps = errors.check_integer("num_steps", num_steps)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation

    def build(self, spec):
        self.network = self.make_network(spec)
        super().build(spec)

    def make_network(self, spec):
        """Returns the network of what `join` makes of x[0:k]; a subclass may have another."""
        sizes = self.hidden_units, 2 * spec.state_dim
        return networks.MLP(*sizes, self.activation, seed=spec.seed, name="network")

    def join(self, observations):
        """Returns x[0:k] as one vector, [batch, k times the size of an observation]."""
        seen = networks.flatten(observations, self.spec.observation_shape)
        return tf.concat([seen[:, t] for t in range(self.num_steps)], axis=-1)

    def call(self, observations):
        """Maps standardised observations [batch, k or more, ...] to q(z[0] | x[0:k])."""
        raw = self.network(self.join(observations))
        return networks.diagonal_normal(*networks.gaussian_parameters(raw))

    def get_config(self):
        config = {
            "num_steps": self.num_steps,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }
        return {**super().get_config(), **config}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class IAFInitialPosterior(GaussianInitialPosterior):
    """q(z[0] | x[0:k]) with inverse autoregressive flows, whose context is one more output.

    Where x[0] leaves z[0] on a ring, or at one of two places, a normal distribution has to choose,
    which costs the bound nats that no flow of the later steps wins back.

    Args:
      num_steps: The number k of time steps that it sees.
      hidden_units: Sizes of the hidden layers of the network.
      activation: Activation of the hidden layers.
      num_flows: Number of flows, 1 or more.
      flow_units: Sizes of the hidden layers of each MADE; the first is also the size of c.
      flow_kind: "affine", a gated map of each dimension, which leaves the first one normal; or
        "spline", which can split it into modes.
      num_bins: Number of bins of a spline, 2 or more and less than 1,000.
      interval: The spline acts on [-interval, interval], from 0.1 to 1,000; its tails are the
        identity.
    """

    def __init__(
        self,
        num_steps=1,
        hidden_units=(128,),
        activation="relu",
        num_flows=1,
        flow_units=(64,),
        flow_kind="affine",
        num_bins=8,
        interval=4.0,
        **kwargs,
    ):
        super().__init__(num_steps, hidden_units, activation, **kwargs)
        self.flows = flows.check_settings(num_flows, flow_units, flow_kind, num_bins, interval)

    def build(self, spec):
        own, flow_seed = networks.split_seed(spec.seed, 2)
        self.flow = self.flows.make(spec.state_dim, self.activation, flow_seed)
        super().build(spec._replace(seed=own))

    def make_network(self, spec):
        """Returns the network that gives m, s and c."""
        sizes = self.hidden_units, 2 * spec.state_dim + self.flows.context_dim
        return networks.MLP(*sizes, self.activation, seed=spec.seed, name="network")

    def call(self, observations):
        """Maps standardised observations [batch, k or more, ...] to a `FirstState`."""
        raw = self.network(self.join(observations))
        sizes = [2 * self.spec.state_dim, self.flows.context_dim]
        parameters, context = tf.split(raw, sizes, axis=-1)
        normal = networks.diagonal_normal(*networks.gaussian_parameters(parameters))
        return FirstState(normal, self.flow, context)

    def get_config(self):
        return {**super().get_config(), **self.flows._asdict()}
