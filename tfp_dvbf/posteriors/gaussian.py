"""The poster's baseline: a Gaussian at every time step."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import networks
from tfp_dvbf.posteriors import base


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class Gaussian(base.Posterior):
    """q = q(z[0] | x[0:k]) prod_t N(z[t]; m, diag s^2), (m, s) from (z[t-1], h[t], u[t-1]).

        z[t] = m + s * eps[t],   m = z[t-1] + f(z[t-1], i[t]),   s = s(z[t-1], i[t])

    with i[t] = (h[t], u[t-1]): the poster's baseline, after Karl et al. (2017), equation 8. f and s
    are the outputs of one MLP. Its first layer is linear, so that the part that reads i[t] needs no
    recurrence: `prepare` computes it for all time steps at once. The KL is known in closed form.

    Args:
      hidden_units: Sizes of the hidden layers; () makes f linear.
      activation: Activation of the hidden layers.
    """

    def __init__(self, hidden_units=(256, 256), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation

    def build(self, spec):
        first, *sizes = [*self.hidden_units, 2 * spec.state_dim]
        seeds = networks.split_seed(spec.seed, 3)
        # Without hidden layers these two are the last layer of the residual.
        kind = networks.GLOROT if self.hidden_units else networks.SMALL
        self.input_layer, self.state_layer = (
            tf_keras.layers.Dense(
                first, use_bias=use_bias, kernel_initializer=networks.seeded(kind, seed)
            )
            for use_bias, seed in zip([True, False], seeds)
        )
        self.rest = None
        if sizes:
            *hidden, output = sizes
            self.rest = networks.MLP(hidden, output, self.activation, networks.SMALL, seeds[2])
        self.nonlinearity = tf_keras.layers.Activation(self.activation)
        super().build(spec)

    def prepare(self, inputs):
        """Maps `PosteriorInputs` to a[t], what the first layer makes of i[t]."""
        return self.input_layer(inputs.joined)

    def step(self, model, carry, inputs, noise):
        """Maps z[t-1], a[t] and eps[t], [rows, ...], to the `Step` of z[t]."""
        states = model.transition.bounded(carry["states"])
        raw = networks.unfused(inputs + self.state_layer(states))
        if self.rest is not None:
            raw = self.rest(self.nonlinearity(raw))
        change, scale = networks.gaussian_parameters(raw)
        loc = states + change
        log_det = tf.reduce_sum(tf.math.log(scale), axis=-1)
        log_prob = base.log_base(noise) - log_det
        return base.Step({"states": loc + scale * noise}, log_prob, moments=(loc, scale))

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "activation": self.activation}
        return {**super().get_config(), **config}
