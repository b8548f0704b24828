"""A flow at every time step, which corrects the transition."""

import tensorflow as tf
import tf_keras

from tfp_dvbf.layers import flows, networks
from tfp_dvbf.posteriors import base

OPEN_GATE = 4.0  # The flows start near the identity, and so q near p.


class IAFCell(tf_keras.layers.AbstractRNNCell):
    """z[t] = mu + m + L (s * F(eps[t]; c)),  with p(z[t] | z[t-1], u[t-1]) = N(mu, L L^T).

    The cell corrects what the transition got wrong: (m, s, c) are the outputs of one MLP of z[t-1],
    h[t], u[t-1] and the innovation, the distance of x[t] from what the emission expects at mu, in
    standard deviations. So q follows p while p is learned, as in Karl et al. (2017), section 3.1,
    and is p where (m, s, F) = (0, 1, identity). F composes gated inverse autoregressive flows with
    context c (Kingma et al. 2016, equation 10):

        ln q(z[t] | z[t-1], ...) = ln N(eps[t]; 0, I) - ln |det dF/deps| - sum_d ln s_d - ln |det L|

    m is not in units of L: a dimension in which L is small could not be corrected then, nothing
    would raise L, and the dimension would be lost (one run in five).

    Where x[t] is missing, z[t] = mu + L eps[t]: q is p.

    Args:
      transition: Layer (z, u) -> p(z' | z, u), a multivariate normal.
      emission: Layer z -> p(x | z).
      num_flows: Number of flows a time step, 0 or more.
      hidden_units: Sizes of the hidden layers of the MLP.
      flow_units: Sizes of the hidden layers of each MADE; the first is also the size of c.
      activation: Activation of the hidden layers.
    """

    def __init__(
        self, transition, emission, num_flows, hidden_units, flow_units, activation, **kwargs
    ):
        super().__init__(**kwargs)
        self.transition = transition
        self.emission = emission
        self.state_dim = transition.event_dim
        self.context_dim = flow_units[0] if num_flows else 0
        self.network = networks.mlp(
            hidden_units,
            2 * self.state_dim + self.context_dim,
            activation,
            "network",
            networks.SMALL,
        )
        self.flow = flows.FlowChain(
            self.state_dim, self.context_dim, num_flows, flow_units, activation, OPEN_GATE
        )

    @property
    def state_size(self):
        return self.state_dim

    @property
    def output_size(self):
        return self.state_dim, 1

    def call(self, inputs, states):
        """Maps (eps[t], *`PosteriorInputs`) and z[t-1] to (z[t], ln |det dz[t]/deps[t]|), z[t]."""
        noise, *inputs = inputs
        inputs = base.PosteriorInputs(*inputs)
        state, log_det = self.move(
            states[0], self.transition(states[0], inputs.controls), inputs, noise
        )
        return (state, log_det[..., tf.newaxis]), [state]

    def move(self, state, prior, inputs, noise):
        """Maps z[t-1], p(z[t] | z[t-1], u[t-1]), `PosteriorInputs` and eps[t] to z[t], log-det."""
        innovation = self.innovation(prior.loc, inputs.observations)
        raw = self.network(
            tf.concat([state, innovation, inputs.features, inputs.controls], axis=-1)
        )
        raw, context = tf.split(raw, [2 * self.state_dim, self.context_dim], axis=-1)
        correction, raw_scale = tf.split(raw, 2, axis=-1)
        scale = networks.positive(raw_scale, initial=1.0)
        value, log_det = self.flow(noise, context)
        value *= scale
        log_det += tf.reduce_sum(tf.math.log(scale), axis=-1)
        if inputs.present is not None:
            correction = tf.where(inputs.present, correction, 0.0)
            value = tf.where(inputs.present, value, noise)
            log_det = tf.where(inputs.present[..., 0], log_det, 0.0)
        state = prior.loc + correction + prior.scale.matvec(value)
        return state, log_det + prior.scale.log_abs_determinant()

    def innovation(self, state, observations):
        """Returns asinh((x - E[x | z]) / sd[x | z]), [batch, dx], of standardised x.

        Linear near 0; the logarithmic tails keep a wrong prediction from exploding the recursion.
        """
        density = self.emission(state)
        scale = tf.maximum(density.stddev(), networks.SCALE_FLOOR)  # A sure pixel's is 0.
        return tf.math.asinh((observations - density.mean()) / scale)


class IAFPosterior(tf_keras.layers.Layer):
    """q = q(z[0] | x[0:k]) prod_t q(z[t] | z[t-1], x[t], h[t], u[t-1]), each factor a flow.

    The factors are those of `IAFCell`, each with fresh noise. The density of the trajectory is
    exact: the Jacobian of eps[0:T] -> z[0:T] is block lower-triangular.

    Args:
      transition: Layer (z, u) -> p(z' | z, u), a multivariate normal.
      emission: Layer z -> p(x | z).
      num_flows: Number of flows a time step; 0 leaves a Gaussian.
      hidden_units: Sizes of the hidden layers.
      flow_units: Sizes of the hidden layers of each MADE.
      activation: Activation of the hidden layers.
    """

    is_prior_where_missing = True

    def __init__(
        self,
        transition,
        emission,
        num_flows=1,
        hidden_units=(64, 64),
        flow_units=(64,),
        activation="relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.cell = IAFCell(transition, emission, num_flows, hidden_units, flow_units, activation)
        self.rnn, self.masked_rnn = base.make_rnns(self.cell)

    def call(self, initial, inputs, noise):
        """Maps q(z[0]), `PosteriorInputs` and eps[0:T] to a `PosteriorSample`."""
        first, log_first = base.draw_first(initial, noise)
        rnn = self.rnn if inputs.present is None else self.masked_rnn
        states, log_det = rnn((noise[:, 1:], *inputs.tensors()), initial_state=first)
        return base.PosteriorSample(
            base.prepend(first, states),
            base.prepend(log_first, base.log_base(noise[:, 1:]) - log_det[..., 0]),
            None,
        )

    def start(self, states, noise):
        """Returns what `step` goes on from after z[0] [rows, dz] was made of eps[0]: z[0]."""
        return {"states": states}

    def step(self, carry, prior, inputs, noise):
        """Maps z[t-1], its p(z[t]), `PosteriorInputs` and eps[t], [rows, ...], to z[t], ln q."""
        states, log_det = self.cell.move(carry["states"], prior, inputs, noise)
        return {"states": states}, base.log_base(noise) - log_det
