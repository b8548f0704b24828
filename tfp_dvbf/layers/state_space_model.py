"""The generative model: the probability of states and observations under given controls."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import registry
from tfp_dvbf.data import checks
from tfp_dvbf.layers import contracts, networks, part, philox, standardization


class Trajectory(NamedTuple):
    """Latent and observed trajectories, the observed ones in the user's units.

    Attributes:
      states: z[0:T], [sample, batch, time, dz].
      observation_mean: E[x[t] | z[t]], [sample, batch, time, *observation_shape].
      observations: x[t] ~ p(x[t] | z[t]), [sample, batch, time, *observation_shape].
    """

    states: tf.Tensor
    observation_mean: tf.Tensor
    observations: tf.Tensor


class StateSpaceModel(tf_keras.layers.Layer):
    """A latent state-space model: an initial state, a transition and an emission.

        p(x, z | u) = p(z[0]) prod_{t>0} p(z[t] | z[t-1], u[t-1]) prod_t p(x[t] | z[t])

    It knows no posterior and no training, and it is the only place that converts units: controls
    and observations are standardised on the way in, and observations and densities are in the
    user's units on the way out.

    Args:
      observation_shape: Shape of x[t]; an integer is the size of a vector.
      control_dim: Size du of u[t].
      state_dim: Size dz of z[t].
      transition, emission: A name, a config or an object each.
      seed: Seed of the initial weights, or None.

    Raises:
      ValueError: If the transition does not return a multivariate normal over the state, or the
        emission a distribution over observations with a mean and a variance.
    """

    def __init__(
        self,
        observation_shape,
        control_dim,
        state_dim,
        transition="mlp",
        emission="gaussian",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        given = {"transition": transition, "emission": emission}
        parts = {kind: registry.resolve(kind, part) for kind, part in given.items()}
        self.spec = part.Spec(**checks.check_sizes(observation_shape, control_dim, state_dim))
        self.transition, self.emission = parts["transition"], parts["emission"]
        self.observation_standardization = standardization.Standardization(
            self.spec.observation_shape, name="observations"
        )
        self.control_standardization = standardization.Standardization(
            [self.spec.control_dim], name="controls"
        )
        for (kind, built), part_seed in zip(parts.items(), networks.split_seed(seed, 2)):
            contracts.build(kind, built, self.spec._replace(seed=part_seed))
        contracts.check_transition(self.transition, self.spec)
        contracts.check_emission(self.emission, self.spec)

    def initial_distribution(self):
        """Returns p(z[0]), of batch shape []."""
        return self.transition.initial()

    def transition_distribution(self, states, controls):
        """Returns p(z[t] | z[t-1], u[t-1]), a multivariate normal.

        Args:
          states: z[t-1], [..., dz].
          controls: Standardised u[t-1], [..., du].
        """
        if self.transition.units == "user":
            controls = self.control_standardization.inverse(controls)
        return self.transition(states, controls)

    def standardise_observations(self, observations):
        """Returns observations [..., *observation_shape] as the encoder sees them."""
        return self.observation_standardization(tf.cast(observations, tf.float32))

    def standardise_controls(self, controls):
        """Returns controls [..., du] as posteriors and `transition_distribution` take them."""
        return self.control_standardization(tf.cast(controls, tf.float32))

    def to_emission_units(self, observations):
        """Returns observations in the user's units as the emission takes them."""
        observations = tf.cast(observations, tf.float32)
        if self.emission.units == "user":
            return observations
        return self.observation_standardization(observations)

    def log_likelihood(self, states, observations):
        """Returns ln p(x[t] | z[t]) in nats and the user's units, [...].

        Args:
          states: z[t], [..., dz].
          observations: x[t] in the user's units, [..., *observation_shape].
        """
        log_prob = self.emission(states).log_prob(self.to_emission_units(observations))
        if self.emission.units == "user":
            return log_prob
        return log_prob - self.observation_standardization.log_det_jacobian(
            self.spec.observation_shape
        )

    def observation_moments(self, states):
        """Returns mean and standard deviation of p(x[t] | z[t]) in the user's units."""
        density = self.emission(states)
        mean, stddev = density.mean(), networks.root(density.variance())
        if self.emission.units == "user":
            return mean, stddev
        units = self.observation_standardization
        return units.inverse(mean), units.to_user_scale(stddev)

    def observe(self, states, seed=None):
        """Returns the `Trajectory` of states [sample, batch, time, dz].

        Args:
          states: z[0:T].
          seed: Stateless seed of the observations; without one they are their means.
        """
        density = self.emission(states)
        mean = density.mean()
        drawn = mean if seed is None else tf.cast(density.sample(seed=seed), mean.dtype)
        if self.emission.units != "user":
            mean, drawn = map(self.observation_standardization.inverse, (mean, drawn))
        return Trajectory(states, mean, drawn)

    def rollout(self, initial_states, controls, seed, deterministic=False):
        """Draws z[t] ~ p(z[t] | z[t-1], u[t-1]) for t = 1 .. T-1.

        Args:
          initial_states: z[0], [sample, batch, dz].
          controls: u[0:T-1] in the user's units, [batch, time - 1, du].
          seed: Stateless seed, int32 [2].
          deterministic: Whether z[t] is the mean of its density instead of a draw.

        Returns:
          z[0:T], [sample, batch, time, dz].
        """
        shape, num_steps = tf.shape(initial_states), tf.shape(controls)[1]
        # A dense layer would ask for the sizes of samples and batch at every time step.
        states = tf.reshape(initial_states, [-1, self.spec.state_dim])
        controls = tf.transpose(self.control_standardization(controls), [1, 0, 2])
        controls = tf.tile(controls, tf.stack([1, shape[0], 1]))
        noise = tf.zeros([num_steps])  # This has one element for each step, as a scan needs.
        if not deterministic:
            noise_shape = tf.concat([[num_steps], tf.shape(states)], axis=0)
            noise = philox.normal(noise_shape, seed)

        def step(states, inputs):
            step_controls, step_noise = inputs
            density = self.transition_distribution(states, step_controls)
            moved = density.mean()
            if not deterministic:
                moved += density.scale.matvec(step_noise)
            return tf.ensure_shape(moved, states.shape)

        later = tf.scan(step, (controls, noise), initializer=states)
        states = tf.concat([states[tf.newaxis], later], axis=0)
        states = tf.reshape(states, tf.concat([[num_steps + 1], shape], axis=0))
        return tf.transpose(states, [1, 2, 0, 3])

    def sample(self, controls, num_samples, seed):
        """Draws trajectories from p(z, x | u); returns a `Trajectory`.

        Args:
          controls: u[0:T-1] in the user's units, [batch, time - 1, du].
          num_samples: Draws for each sequence.
          seed: Stateless seed, int32 [2].
        """
        first_seed, rollout_seed, seed = tfp.random.split_seed(seed, 3)
        shape = tf.stack([num_samples, tf.shape(controls)[0]])
        first = self.initial_distribution().sample(shape, seed=first_seed)
        return self.observe(self.rollout(first, controls, rollout_seed), seed)

    def log_prob(self, states, observations, controls):
        """Returns ln p(x, z | u) in nats and the user's units, [batch].

        Args:
          states: z[0:T], [batch, time, dz].
          observations: x[0:T], [batch, time, *observation_shape].
          controls: u[0:T-1], [batch, time - 1, du].
        """
        log_prior = self.log_prior(states, self.control_standardization(controls))
        return tf.reduce_sum(log_prior + self.log_likelihood(states, observations), axis=1)

    def log_prior(self, states, controls):
        """Returns ln p(z[t] | z[t-1], u[t-1]) of each step, [batch, time], standardised u."""
        first = self.initial_distribution().log_prob(states[:, :1])
        rest = self.transition_distribution(states[:, :-1], controls).log_prob(states[:, 1:])
        return tf.concat([first, rest], axis=1)
