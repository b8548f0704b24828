"""The particle filter whose proposal is the posterior: evidence estimates and streaming."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import data, initial, objectives, posteriors


class Prediction(NamedTuple):
    """What the model expects of x[t] before it is seen, and how well that went.

    Attributes:
      mean: Mean of p(x[t] | x[0:t], u[0:t]), [batch, dx].
      scale: Its standard deviation, [batch, dx].
      log_score: Estimate of ln p(x[t] | x[0:t], u[0:t]) in nats, [batch]; where x[t] is missing 0,
        or an estimate of 0 if q is not p there.
    """

    mean: tf.Tensor
    scale: tf.Tensor
    log_score: tf.Tensor


class ParticleFilter:
    """The methods of `DVBF` that follow a sequence frame by frame, by weighted particles.

    A step resamples particles whose weights have become uneven, moves them by q and multiplies
    their weights W by w = p(x[t] | z[t]) p(z[t] | z[t-1]) / q(z[t]). sum_k W_k w_k estimates
    p(x[t] | x[0:t]); the product of these over t is an estimate of p(x[0:T]) without bias, a single
    one is not (Maddison et al. 2017, algorithm 1). A particle is all that the posterior goes on
    from: a dictionary of tensors, `states` z[t] one of them.
    """

    @tf.function  # TFP's resampling needs static shapes, so every shape is traced.
    def _fivo(self, batch, num_samples, seed):
        everywhere = tf.ones_like(batch.observations[..., 0], tf.bool)
        batch = batch._replace(mask=everywhere if batch.mask is None else batch.mask)
        density, inputs = self._encode(batch)
        particles, first_score = self._first_particles(
            density, batch.observations[:, 0], batch.mask[:, 0], num_samples, seed
        )
        counts = data.until_last_frame(batch.mask)[:, 1:, tf.newaxis]
        by_time = tf.nest.map_structure(
            lambda tensor: tf.transpose(tensor, [1, 0, 2]),
            (inputs, batch.observations[:, 1:], counts),
        )
        steps = tf.range(1, tf.shape(batch.observations)[1])

        def step(carry, elements):
            (particles, total), (inputs, observations, counts, index) = carry, elements
            particles, score = self._next_particles(
                particles, inputs, observations, _step_seed(seed, index), objectives.tfp_systematic
            )
            return particles, total + tf.where(counts[:, 0], score, 0.0)

        # A fold, since a scan would keep the particles of every step.
        return tf.foldl(step, (*by_time, steps), initializer=(particles, first_score))[1]

    def _first_belief(self, observations, num_particles, seed):
        """Starts from x[0:k] [batch, k, dx]; returns `Particles` and ln p(x[0]), [batch]."""
        density = self.initial_posterior(self.observation_standardization(observations))
        present = tf.ones_like(observations[:, 0, 0], tf.bool)
        return self._first_particles(density, observations[:, 0], present, num_particles, seed)

    def _next_belief(self, particles, step, observations, controls, present, seed):
        """Moves on to frame `step`.

        Args:
          particles: `objectives.Particles` at `step - 1`.
          step: Index of the frame, int32 scalar.
          observations: x[step] in the user's units, [batch, dx].
          controls: u[step - 1] in the user's units, [batch, du].
          present: Whether x[step] is there, bool [batch].
          seed: Stateless seed, int32 [2]; the noise depends on it and on `step`.

        Returns:
          `objectives.Particles` at `step` and a `Prediction`.
        """
        observations = tf.where(present[:, tf.newaxis], observations, 0.0)
        standardised = self.observation_standardization(observations)
        controls = self.control_standardization(controls)
        features = self.encoder(standardised[:, tf.newaxis], controls[:, tf.newaxis])[:, 0]
        inputs = posteriors.PosteriorInputs(
            features, controls, standardised, present[:, tf.newaxis]
        )
        key = _step_seed(seed, step)
        mean, scale = self._predict(particles, controls, _step_seed(key, 0))
        particles, log_score = self._next_particles(
            particles, inputs, observations, key, objectives.systematic
        )
        return particles, Prediction(mean, scale, log_score)

    def _predict(self, particles, controls, seed):
        """Returns mean and scale [batch, dx] of x[t] from particles of z[t-1], by p alone."""
        weights = tf.exp(particles.log_weights)[..., tf.newaxis]
        states = particles.states["states"]
        controls = controls + tf.zeros_like(states[..., :1])
        states = self.transition(states, controls).sample(seed=seed)
        density = self._emit(states)
        mean = tf.reduce_sum(weights * density.mean(), axis=0)
        spread = tf.square(density.mean() - mean) + density.variance()
        return mean, tf.sqrt(tf.reduce_sum(weights * spread, axis=0))

    def _first_particles(self, density, observations, present, num_particles, seed):
        """Draws particles from q(z[0]) and weighs them by x[0] [batch, dx], `present` or not.

        Returns:
          `objectives.Particles` and ln of the evidence estimate of x[0], [batch].
        """
        shape = [num_particles, tf.shape(observations)[0], self.config["state_dim"]]
        noise = tf.random.stateless_normal(shape, _step_seed(seed, 0))
        states = density.loc + density.stddev() * noise
        log_prior = initial.initial_prior(self.config["state_dim"]).log_prob(states)
        log_likelihood = self._emit(states).log_prob(observations)
        log_increments = log_prior - density.log_prob(states) + log_likelihood
        carry = self.posterior.start(*(_to_rows(tensor) for tensor in [states, noise]))
        particles = objectives.uniform(_from_rows(carry, tf.shape(states)[:2]))
        return objectives.weigh(particles, tf.where(present, log_increments, 0.0))

    def _next_particles(self, particles, inputs, observations, seed, ancestors):
        """Resamples particles, moves them by q and weighs them by p / q.

        Args:
          particles: `objectives.Particles` at t - 1.
          inputs: `PosteriorInputs` of step t, each [batch, ...].
          observations: x[t] in the user's units, [batch, dx].
          seed: Stateless seed, int32 [2].
          ancestors: How to resample, as `objectives.resample` takes it.

        Returns:
          `objectives.Particles` at t and the log score ln sum_k W_k w_k, [batch].
        """
        resample_seed, seed = tfp.random.split_seed(seed)
        previous = objectives.resample(particles, resample_seed, ancestors)
        shape = tf.shape(previous.log_weights)
        rows = tf.nest.map_structure(_to_rows, previous.states)
        tiled = tf.nest.map_structure(lambda tensor: tf.tile(tensor, [shape[0], 1]), inputs)
        noise = tf.random.stateless_normal(tf.shape(rows["states"]), seed)
        next_rows, log_proposal = self.posterior.step(rows, tiled, noise)
        prior = self.transition(rows["states"], tiled.controls)
        log_ratio = tf.reshape(prior.log_prob(next_rows["states"]) - log_proposal, shape)
        moved = previous._replace(states=_from_rows(next_rows, shape))
        log_likelihood = self._emit(moved.states["states"]).log_prob(observations)
        return self._weigh(moved, log_ratio, log_likelihood, inputs.present[:, 0])

    def _weigh(self, particles, log_ratio, log_likelihood, present):
        """Weighs particles by ln p(z[t] | z[t-1]) / q(z[t]) and ln p(x[t] | z[t]) if x[t] is there.

        Where it is missing, `log_ratio` counts only if the posterior is not p there.
        """
        is_prior = self.posterior.is_prior_where_missing
        log_increments = tf.where(present, log_likelihood, 0.0)
        log_increments += tf.where(present, log_ratio, 0.0) if is_prior else log_ratio
        weighed, log_score = objectives.weigh(particles, log_increments)
        # Normalising leaves a rounding error.
        return weighed, tf.where(present, log_score, 0.0) if is_prior else log_score


def _to_rows(tensor):
    """Returns [particle, batch, ...] as [particle * batch, ...]."""
    return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], axis=0))


def _from_rows(tensors, shape):
    """Returns tensors [particle * batch, ...] as [particle, batch, ...], sized as `shape` says."""
    return tf.nest.map_structure(
        lambda tensor: tf.reshape(tensor, tf.concat([shape, tf.shape(tensor)[1:]], axis=0)),
        tensors,
    )


def _step_seed(seed, step):
    """Returns the stateless seed of one step."""
    return tf.random.experimental.stateless_fold_in(seed, step)
