"""What a trained model foretells: forecasts and trajectories of the generative model alone."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import data, registry
from tfp_dvbf.data import checks
from tfp_dvbf.inference import rollout
from tfp_dvbf.layers import initial


class Generation:
    """The methods of `DVBF` that go on where no observation is."""

    def forecast(self, observations, controls, num_samples=1, seed=None):
        """Filters the first frames, then continues open loop under the remaining controls.

        Args:
          observations: The context x[0:c], [batch, c, dx], c >= `initial_frames`.
          controls: u[0:T-1], [batch, time - 1, du], T - 1 >= c: those of the context, then those
            of the future.
          num_samples: Draws for each sequence.
          seed: Seed of the draws; None draws a new one.

        Returns:
          A `Trajectory` of T steps, the first c of them filtered.

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value.
        """
        observations = checks.check_numeric("observations", observations)
        controls = checks.check_numeric("controls", controls)
        checks.check_shape(
            "observations", observations.shape, dim=(self.config["observation_dim"],)
        )
        batch, context, _ = observations.shape
        if context < self.config["initial_frames"]:
            raise ValueError(
                f"`observations` must have the {self.config['initial_frames']} frames that "
                f"q(z[0]) sees, or more; got {context}."
            )
        checks.check_shape(
            "controls", controls.shape, batch=(batch,), dim=(self.config["control_dim"],)
        )
        if controls.shape[1] < context:
            raise ValueError(
                f"`controls` must reach past the context of {context} observations; "
                f"got {controls.shape[1]} steps."
            )
        checks.check_finite(observations=observations, controls=controls)
        registry.check_pixels(self.config["emission"], observations)
        num_samples = checks.check_num_samples(num_samples)
        seed = rollout.stateless_seed(seed)
        return self._forecast(observations, controls, tf.constant(num_samples), seed)

    def generate(
        self,
        controls,
        initial_observations=None,
        initial_state=None,
        num_samples=1,
        seed=None,
        deterministic=False,
    ):
        """Draws trajectories under given controls from the generative model alone.

        z[0] is drawn from q(z[0] | x[0:k]) if `initial_observations` are given, is
        `initial_state` if that is, and is drawn from p(z[0]) otherwise.

        Args:
          controls: u[0:T-1], [batch, time - 1, du].
          initial_observations: x[0:k], [batch, initial_frames, dx], or None.
          initial_state: z[0], [batch, dz] or [num_samples, batch, dz], or None.
          num_samples: Draws for each sequence.
          seed: Seed of the draws; None draws a new one.
          deterministic: Whether z[0], every z[t] and the observations are the means of their
            densities instead of draws; samples then differ by `initial_state` only.

        Returns:
          A `Trajectory` of T steps, one more than `controls`.

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value, or if both
            `initial_observations` and `initial_state` are given.
        """
        controls = checks.check_numeric("controls", controls)
        checks.check_shape("controls", controls.shape, dim=(self.config["control_dim"],))
        checks.check_finite(controls=controls)
        num_samples = checks.check_num_samples(num_samples)
        initial_seed, seed = tfp.random.split_seed(rollout.stateless_seed(seed))
        batch = len(controls)
        if initial_state is not None:
            if initial_observations is not None:
                raise ValueError("Give `initial_observations` or `initial_state`, not both.")
            first = self._check_initial_state(initial_state, num_samples, batch)
        else:
            density = self._initial_density(initial_observations, batch)
            draws = density.sample(num_samples, seed=initial_seed)
            first = density.mean() + tf.zeros_like(draws) if deterministic else draws
        return self._generate(first, controls, seed, deterministic)

    @tf.function(reduce_retracing=True)
    def _forecast(self, observations, controls, num_samples, seed):
        past_seed, seed = tfp.random.split_seed(seed)
        context = tf.shape(observations)[1]
        # One missing frame behind the context: a posterior of one frame alone has no step to make.
        padded = tf.pad(observations, [[0, 0], [0, 1], [0, 0]])
        mask = tf.sequence_mask(tf.fill([tf.shape(padded)[0]], context), context + 1)
        batch = data.Batch(padded, controls[:, :context], mask)
        past = self._filter(batch, num_samples, past_seed)
        past = rollout.Trajectory(*(tensor[:, :, :context] for tensor in past))
        future = self._generate(past.states[:, :, -1], controls[:, context - 1 :], seed, False)
        pairs = zip(past, future)
        return rollout.Trajectory(*(tf.concat([a, b[:, :, 1:]], axis=2) for a, b in pairs))

    @tf.function(reduce_retracing=True)
    def _generate_from(self, initial_observations, controls, num_samples, seed):
        """Draws z[0] from q(z[0] | x[0:k]) and goes on from there, as `generate` does."""
        initial_seed, seed = tfp.random.split_seed(seed)
        frames = self.observation_standardization(initial_observations)
        first = self.initial_posterior(frames).sample(num_samples, seed=initial_seed)
        return self._generate(first, controls, seed, False)

    @tf.function(reduce_retracing=True)
    def _generate(self, initial_states, controls, seed, deterministic):
        rollout_seed, seed = tfp.random.split_seed(seed)
        controls = self.control_standardization(controls)
        states = rollout.rollout(
            self.transition, initial_states, controls, rollout_seed, deterministic
        )
        return self._observe(states, seed=None if deterministic else seed)

    def _observe(self, states, seed):
        """Returns the `Trajectory` of `states`; without a seed its observations are the means."""
        density = self._emit(states)
        mean = density.mean()
        return rollout.Trajectory(states, mean, mean if seed is None else density.sample(seed=seed))

    def _initial_density(self, initial_observations, batch):
        if initial_observations is None:
            prior = initial.initial_prior(self.config["state_dim"])
            return tfp.distributions.BatchBroadcast(prior, [batch])
        frames = checks.check_numeric("initial_observations", initial_observations)
        checks.check_shape(
            "initial_observations",
            frames.shape,
            batch=(batch,),
            time=(self.config["initial_frames"],),
            dim=(self.config["observation_dim"],),
        )
        checks.check_finite(initial_observations=frames)
        registry.check_pixels(self.config["emission"], frames)
        return self.initial_posterior(self.observation_standardization(frames))

    def _check_initial_state(self, initial_state, num_samples, batch):
        state = checks.check_numeric("initial_state", initial_state)
        shape = [num_samples, batch, self.config["state_dim"]]
        if list(state.shape) not in (shape, shape[1:]):
            raise ValueError(
                f"`initial_state` must have shape {shape[1:]} or {shape}; got {state.shape}."
            )
        checks.check_finite(initial_state=state)
        return tf.broadcast_to(state, shape)
