"""The particle filter whose proposal is the posterior: evidence estimates and streaming."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_dvbf import data, posteriors
from tfp_dvbf.inference import objectives, particle_noise
from tfp_dvbf.layers import initial

# A frame further than this from the mean of the data, in their standard deviations, counts as
# missing. Weighed, it would drag the particles to where the model was never trained; the filter of
# the quick protocol's `gaussian` took 25 frames to recover from one at this distance. A control is
# clipped to it.
FAR = 1e3


class Prediction(NamedTuple):
    """What the model expects of x[t] before it is seen, and how well that went.

    Attributes:
      mean: Mean of p(x[t] | x[0:t], u[0:t]), [batch, dx].
      scale: Its standard deviation, [batch, dx].
      log_score: Estimate of ln p(x[t] | x[0:t], u[0:t]) in nats, [batch]; where x[t] is missing 0,
        or an estimate of 0 if q is not p there; -inf where it is further off than `FAR`.
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

    @tf.function(reduce_retracing=True)
    def _fivo(self, batch, num_particles, seed):
        everywhere = tf.ones_like(batch.observations[..., 0], tf.bool)
        batch = batch._replace(mask=everywhere if batch.mask is None else batch.mask)
        sizes = num_particles, self.config["state_dim"], tf.shape(batch.observations)[0]
        density, inputs = self._encode(batch)
        first = batch.observations[:, 0], batch.mask[:, 0], particle_noise.draw(seed, 0, *sizes)
        particles, first_score = self._first_particles(density, *first)
        counts = data.until_last_frame(batch.mask)[:, 1:, tf.newaxis]
        by_time = tf.nest.map_structure(
            lambda tensor: tf.transpose(tensor, [1, 0, 2]),
            (inputs, batch.observations[:, 1:], counts),
        )
        frames = tf.range(1, tf.shape(batch.observations)[1])

        def step(carry, elements):
            (particles, total), (inputs, observations, counts, frame) = carry, elements
            noise = particle_noise.draw(seed, frame, *sizes)
            particles, prediction = self._next_particles(particles, inputs, observations, noise)
            moved = particles, total + tf.where(counts[:, 0], prediction.log_score, 0.0)
            return tf.nest.map_structure(
                lambda new, old: tf.ensure_shape(new, old.shape), moved, carry
            )

        # A fold, since a scan would keep the particles of every frame.
        return tf.foldl(step, (*by_time, frames), initializer=(particles, first_score))[1]

    def _first_belief(self, observations, num_particles, seed):
        """Starts from x[0:k] [batch, k, dx]; returns `Particles` and ln p(x[0]), [batch]."""
        sizes = num_particles, self.config["state_dim"], tf.shape(observations)[0]
        noise = particle_noise.draw(seed, 0, *sizes)
        standardised = self.observation_standardization(observations)
        near = _near(standardised)
        seen = tf.where(near[..., tf.newaxis], standardised, 0.0)
        all_near = tf.reduce_all(near, axis=1, keepdims=True)
        density = initial.prior_where_missing(self.initial_posterior(seen), all_near)
        first = observations[:, 0], near[:, 0]
        particles, log_score = self._first_particles(density, *first, noise)
        return particles, tf.where(near[:, 0], log_score, -np.inf)

    def _next_belief(self, particles, frames, observations, controls, present, seed):
        """Moves on by one frame.

        Args:
          particles: `objectives.Particles` at t - 1.
          frames: t of each sequence, int32 [batch].
          observations: x[t] in the user's units, [batch, dx].
          controls: u[t-1] in the user's units, [batch, du].
          present: Whether x[t] is there, bool [batch].
          seed: Stateless seed, int32 [2]. The noise of a sequence depends on it, on the sequence's
            t and on its place in the batch; on none of the other sequences.

        Returns:
          `objectives.Particles` at t and a `Prediction`.
        """
        sizes = tf.shape(particles.log_weights)[0], self.config["state_dim"]
        noise = particle_noise.draw_each(seed, frames, *sizes)
        far = present & ~_near(self.observation_standardization(observations))
        present &= ~far
        observations = tf.where(present[:, tf.newaxis], observations, 0.0)
        inputs = self._step_inputs(observations, controls, present)
        particles, prediction = self._next_particles(particles, inputs, observations, noise)
        log_score = tf.where(far, -np.inf, prediction.log_score)
        return particles, prediction._replace(log_score=log_score)

    def _step_inputs(self, observations, controls, present):
        """Returns the `PosteriorInputs` of one frame, each [batch, ...]."""
        standardised = self.observation_standardization(observations)
        controls = tf.clip_by_value(self.control_standardization(controls), -FAR, FAR)
        features = self.encoder(standardised, controls)
        present = present[:, tf.newaxis]
        return posteriors.PosteriorInputs(features, controls, standardised, present)

    def _first_particles(self, density, observations, present, noise):
        """Draws particles from q(z[0]) and weighs them by x[0] [batch, dx], `present` or not.

        Returns:
          `objectives.Particles` and ln of the evidence estimate of x[0], [batch].
        """
        states = density.loc + density.stddev() * noise.proposal
        log_prior = initial.initial_prior(self.config["state_dim"]).log_prob(states)
        log_likelihood = self._emit(states).log_prob(observations)
        log_increments = log_prior - density.log_prob(states) + log_likelihood
        carry = self.posterior.start(*(_to_rows(tensor) for tensor in [states, noise.proposal]))
        particles = objectives.uniform(_from_rows(carry, tf.shape(states)[:2]))
        return objectives.weigh(particles, tf.where(present, log_increments, 0.0))

    def _next_particles(self, particles, inputs, observations, noise):
        """Resamples particles, moves them by q and weighs them by p / q.

        Args:
          particles: `objectives.Particles` at t - 1.
          inputs: `PosteriorInputs` of step t, each [batch, ...].
          observations: x[t] in the user's units, [batch, dx].
          noise: `particle_noise.Noise` of t.

        Returns:
          `objectives.Particles` at t and a `Prediction`.
        """
        previous = objectives.resample(particles, noise.offsets)
        shape = tf.shape(previous.log_weights)
        rows = tf.nest.map_structure(_to_rows, previous.states)
        tiled, observations = tf.nest.map_structure(
            lambda tensor: tf.tile(tensor, [shape[0], 1]), (inputs, observations)
        )
        prior = self.transition(rows["states"], tiled.controls)
        moments = self.observation_standardization.moments()
        predicted = self.emission(
            prior.loc + prior.scale.matvec(_to_rows(noise.prediction)), *moments
        )
        mean, scale = _mix(previous.log_weights, predicted)
        rows, log_proposal = self.posterior.step(rows, prior, tiled, _to_rows(noise.proposal))
        log_ratio = prior.log_prob(rows["states"]) - log_proposal
        log_likelihood = self.emission(rows["states"], *moments).log_prob(observations)
        present, is_prior = inputs.present[:, 0], self.posterior.is_prior_where_missing
        log_ratio, log_likelihood = _from_rows((log_ratio, log_likelihood), shape)
        log_increments = tf.where(present, log_likelihood, 0.0)
        log_increments += tf.where(present, log_ratio, 0.0) if is_prior else log_ratio
        moved = previous._replace(states=_from_rows(rows, shape))
        moved, log_score = objectives.weigh(moved, log_increments)
        if is_prior:  # Normalising leaves a rounding error.
            log_score = tf.where(present, log_score, 0.0)
        return moved, Prediction(mean, scale, log_score)


def _near(standardised):
    """Returns whether each frame of `standardised` [..., dx] is within `FAR`, [...]."""
    return tf.reduce_all(tf.abs(standardised) < FAR, axis=-1)


def _mix(log_weights, densities):
    """Returns mean and standard deviation [batch, ...] of a mixture.

    Args:
      log_weights: ln W, [particle, batch].
      densities: Distribution of batch shape [particle * batch].
    """
    means, variances = _from_rows((densities.mean(), densities.variance()), tf.shape(log_weights))
    weights = tf.exp(log_weights)[..., tf.newaxis]
    mean = tf.reduce_sum(weights * means, axis=0)
    return mean, tf.sqrt(tf.reduce_sum(weights * (tf.square(means - mean) + variances), axis=0))


def _to_rows(tensor):
    """Returns [particle, batch, ...] as [particle * batch, ...]."""
    return tf.reshape(tensor, [-1, *tensor.shape[2:]])


def _from_rows(tensors, shape):
    """Returns tensors [particle * batch, ...] as [particle, batch, ...], sized as `shape` says."""
    return tf.nest.map_structure(
        lambda tensor: tf.reshape(tensor, [shape[0], shape[1], *tensor.shape[1:]]), tensors
    )
