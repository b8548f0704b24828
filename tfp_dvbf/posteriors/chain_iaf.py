"""The poster's posterior: one draw, carried through time by flows."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import flows
from tfp_dvbf.posteriors import base

ONE_DRAW = "its states are one draw carried through time, so the trajectory has no density"
FROM_THE_FIRST = "its states all come from the first time step"


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class ChainIAF(base.Posterior):
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
      num_flows: Number of flows a time step, at least 1.
      hidden_units: Sizes of the hidden layers of each MADE.
      activation: Activation of the hidden layers.
    """

    has_density = errors.No(ONE_DRAW)
    takes_gaps = errors.No(FROM_THE_FIRST)
    steps = errors.No(ONE_DRAW)

    def __init__(self, num_flows=1, hidden_units=(256, 256), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.num_flows = errors.check_integer("num_flows", num_flows)
        self.hidden_units = errors.check_units("hidden_units", hidden_units, least=1)
        self.activation = activation

    def build(self, spec):
        self.flow = flows.FlowChain(
            spec.state_dim,
            spec.feature_dim + spec.control_dim,
            self.num_flows,
            hidden_units=self.hidden_units,
            activation=self.activation,
            seed=spec.seed,
        )
        super().build(spec)

    def prepare(self, inputs):
        """Maps `PosteriorInputs` to i[t] = (h[t], u[t-1])."""
        return inputs.joined

    def start(self, states, noise):
        """Returns z[0] and the sum of the log determinants so far, which is 0."""
        return {"states": states, "log_det": tf.zeros_like(noise[:, :1])}

    def step(self, model, carry, inputs, noise):
        """Maps z[t-1] and i[t] to z[t]; the `log_prob` is that of the flows since t = 0 alone."""
        del model, noise
        states, log_det = self.flow(carry["states"], inputs)
        log_det = carry["log_det"] + log_det[:, tf.newaxis]
        return base.Step({"states": states, "log_det": log_det}, -log_det[:, 0])

    def call(self, model, first, inputs, noise, observed=None):
        """Draws one trajectory; of eps[0:T] only eps[0] is used."""
        sample = super().call(model, first, inputs, noise, observed)
        log_first, log_det = sample.log_prob[:, :1], sample.log_prob[:, 1:]
        return sample._replace(log_prob=tf.concat([log_first, log_first + log_det], axis=1))

    def get_config(self):
        config = {
            "num_flows": self.num_flows,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
        }
        return {**super().get_config(), **config}
