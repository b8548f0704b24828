"""The particle filter whose proposal is the posterior: evidence estimates and streaming."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import initial, objectives, posteriors


class Prediction(NamedTuple):
    """What the model expects of x[t] before it is seen, and how well that went.

    Attributes:
      mean: Mean of p(x[t] | x[0:t], u[0:t]), [batch, dx].
      scale: Its standard deviation, [batch, dx].
      log_score: Estimate of ln p(x[t] | x[0:t], u[0:t]) in nats, 0 where x[t] is missing, [batch].
    """

    mean: tf.Tensor
    scale: tf.Tensor
    log_score: tf.Tensor


class ParticleFilter:
    """The methods of `DVBF` that follow a sequence frame by frame, by weighted particles.

    A step resamples particles whose weights have become uneven, moves them by q and multiplies
    their weights W by w = p(x[t] | z[t]) p(z[t] | z[t-1]) / q(z[t]); sum_k W_k w_k estimates
    p(x[t] | x[0:t]) without bias (Maddison et al. 2017, algorithm 1).
    """

    @tf.function  # TFP's resampling needs static shapes, so every shape is traced.
    def _fivo(self, batch, num_samples, seed):
        mask = tf.ones_like(batch.observations[..., 0], tf.bool)
        batch = batch._replace(mask=mask if batch.mask is None else batch.mask)
        density, inputs = self._encode(batch)
        particles, first_score = self._first_particles(
            density, batch.observations[:, 0], batch.mask[:, 0], num_samples, seed
        )
        by_time = tf.nest.map_structure(
            lambda tensor: tf.transpose(tensor, [1, 0, 2]), (inputs, batch.observations[:, 1:])
        )
        steps = tf.range(1, tf.shape(batch.observations)[1])

        def step(carry, elements):
            inputs, observations, index = elements
            key = _step_seed(seed, index)
            return self._next_particles(
                carry[0], inputs, observations, key, objectives.tfp_systematic
            )

        _, scores = tf.scan(step, (*by_time, steps), initializer=(particles, first_score))
        return first_score + tf.reduce_sum(scores, axis=0)

    def _first_belief(self, observations, num_particles, seed):
        """Starts from x[0:k] [batch, k, dx]; returns `Particles` and ln p(x[0]), [batch]."""
        density = self.initial_posterior(self.observation_standardization(observations))
        present = tf.ones_like(observations[:, 0, 0], tf.bool)
        return self._first_particles(density, observations[:, 0], present, num_particles, seed)

    def _next_belief(self, particles, step, observations, controls, present, seed):
        """Moves on to frame `step`.

        Args:
          particles: `objectives.Particles` of z[step - 1].
          step: Index of the frame, int32 scalar.
          observations: x[step] in the user's units, [batch, dx].
          controls: u[step - 1] in the user's units, [batch, du].
          present: Whether x[step] is there, bool [batch].
          seed: Stateless seed, int32 [2]; the noise depends on it and on `step`.

        Returns:
          `objectives.Particles` of z[step] and a `Prediction`.
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
        controls = controls + tf.zeros_like(particles.states[..., :1])
        states = self.transition(particles.states, controls).sample(seed=seed)
        density = self._emit(states)
        mean = tf.reduce_sum(weights * density.mean(), axis=0)
        spread = tf.square(density.mean() - mean) + density.variance()
        return mean, tf.sqrt(tf.reduce_sum(weights * spread, axis=0))

    def _first_particles(self, density, observations, present, num_particles, seed):
        """Draws particles from q(z[0]) and weighs them by x[0] [batch, dx], `present` or not.

        Returns:
          `objectives.Particles` and ln of the evidence estimate of x[0], [batch].
        """
        states = density.sample(num_particles, seed=_step_seed(seed, 0))
        log_prior = initial.initial_prior(self.config["state_dim"]).log_prob(states)
        log_likelihood = self._emit(states).log_prob(observations)
        log_increments = log_prior - density.log_prob(states) + log_likelihood
        return objectives.weigh(objectives.uniform(states), tf.where(present, log_increments, 0.0))

    def _next_particles(self, particles, inputs, observations, seed, ancestors):
        """Resamples particles, moves them by q and weighs them by p / q.

        Args:
          particles: `objectives.Particles` of z[t-1].
          inputs: `PosteriorInputs` of step t, each [batch, ...].
          observations: x[t] in the user's units, [batch, dx].
          seed: Stateless seed, int32 [2].
          ancestors: How to resample, as `objectives.resample` takes it.

        Returns:
          `objectives.Particles` of z[t] and the log score ln sum_k W_k w_k, [batch].
        """
        resample_seed, seed = tfp.random.split_seed(seed)
        previous = objectives.resample(particles, resample_seed, ancestors)
        shape = tf.shape(previous.states)
        rows = tf.reshape(previous.states, [-1, self.config["state_dim"]])
        tiled = tf.nest.map_structure(lambda tensor: tf.tile(tensor, [shape[0], 1]), inputs)
        noise = tf.random.stateless_normal(tf.shape(rows), seed)
        next_rows, log_proposal = self.posterior.step(rows, tiled, noise)
        log_transition = self.transition(rows, tiled.controls).log_prob(next_rows)
        states = tf.ensure_shape(tf.reshape(next_rows, shape), previous.states.shape)
        log_increments = tf.reshape(log_transition - log_proposal, shape[:2])
        log_increments += self._emit(states).log_prob(observations)
        present = inputs.present[:, 0]
        log_increments = tf.where(present, log_increments, 0.0)
        moved, log_score = objectives.weigh(previous._replace(states=states), log_increments)
        return moved, tf.where(present, log_score, 0.0)  # Normalising leaves a rounding error.


def _step_seed(seed, step):
    """Returns the stateless seed of one step."""
    return tf.random.experimental.stateless_fold_in(seed, step)
