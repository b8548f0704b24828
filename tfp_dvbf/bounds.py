"""The evidence and its bounds: terms, importance weights and the particle filter of a model."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import choices, data, initial, objectives, rollout

tfd = tfp.distributions


class Terms(NamedTuple):
    """The terms of the bound for posterior draws: elbo = -E sum_t (nll[t] + kl[t]).

    Attributes:
      nll: -ln p(x[t] | z[t]), in nats and the user's units, [sample, batch, time].
      kl: KL of q from p at step t in nats, [sample, batch, time], in closed form where there is
        one, else the estimate ln q - ln p.
    """

    nll: tf.Tensor
    kl: tf.Tensor


class Bounds:
    """The methods of `DVBF` that estimate ln p(x[0:T] | u[0:T-1]) or bound it."""

    @property
    def bounds(self):
        """Names of the bounds that `log_prob_bound` can estimate for this posterior."""
        return choices.bounds(self.config["posterior"])

    def bound_terms(self, observations, controls, num_samples=1, seed=None, mask=None):
        """Returns the `Terms` of the elbo for posterior draws; arguments as for `filter`."""
        batch = self._check_batch(observations, controls, mask)
        data.check_num_samples(num_samples)
        return self._bound_terms(batch, tf.constant(num_samples), rollout.stateless_seed(seed))

    def log_prob_bound(
        self, observations, controls, num_samples=64, seed=None, objective="iwae", mask=None
    ):
        """Estimates a lower bound on ln p of the observed frames of x[0:T], given u[0:T-1].

        Args:
          observations: x[0:T], [batch, time, dx].
          controls: u[0:T-1], [batch, time - 1, du]; a last control is ignored.
          num_samples: Number K of draws for each sequence, or of particles.
          seed: Seed of the draws; None draws a new one.
          objective: "elbo"; "iwae", K importance samples; or "fivo", the evidence estimate of a
            particle filter with the posterior as its proposal (Maddison et al. 2017).
          mask: Whether each frame is there, [batch, time], or None.

        Returns:
          The bound in nats and the user's units, [batch].

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value, or if the
            posterior cannot serve the objective.
        """
        batch = self._check_batch(observations, controls, mask)
        data.check_num_samples(num_samples)
        choices.check_bound(self.config["posterior"], objective)
        seed = rollout.stateless_seed(seed)
        if objective == "fivo":
            return self._fivo(batch, num_samples, seed)
        return self._log_prob_bound(batch, tf.constant(num_samples), seed, objective)

    @tf.function(reduce_retracing=True)
    def _bound_terms(self, batch, num_samples, seed):
        return self._terms(batch, seed, num_samples)

    @tf.function(reduce_retracing=True)
    def _log_prob_bound(self, batch, num_samples, seed, objective):
        terms = self._terms(batch, seed, num_samples, closed_form=False)
        return objectives.OBJECTIVES[objective](-(terms.nll + terms.kl))

    @tf.function  # TFP's resampling needs a static batch shape, so every shape is traced.
    def _fivo(self, batch, num_samples, seed):
        first_seed, seed = tfp.random.split_seed(seed)
        mask = tf.ones_like(batch.observations[..., 0], tf.bool)
        batch = batch._replace(mask=mask if batch.mask is None else batch.mask)
        density, inputs = self._encode(batch)
        particles, first_score = self._first_particles(
            density, batch.observations[:, 0], batch.mask[:, 0], num_samples, first_seed
        )
        by_time = tf.nest.map_structure(
            lambda tensor: tf.transpose(tensor, [1, 0, 2]), (inputs, batch.observations[:, 1:])
        )
        seeds = tfp.random.split_seed(seed, tf.shape(batch.controls)[1])
        _, scores = tf.scan(
            lambda carry, step: self._next_particles(carry[0], *step),
            (*by_time, seeds),
            initializer=(particles, first_score),
        )
        return first_score + tf.reduce_sum(scores, axis=0)

    def _first_particles(self, density, observations, present, num_particles, seed):
        """Draws particles from q(z[0]) and weighs them by x[0] [batch, dx], `present` or not.

        Returns:
          `objectives.Particles` and ln of the evidence estimate of x[0], [batch].
        """
        states = density.sample(num_particles, seed=seed)
        log_prior = initial.initial_prior(self.config["state_dim"]).log_prob(states)
        log_likelihood = self._emit(states).log_prob(observations)
        log_increments = log_prior - density.log_prob(states) + log_likelihood
        return objectives.weigh(objectives.uniform(states), tf.where(present, log_increments, 0.0))

    def _next_particles(self, particles, inputs, observations, seed):
        """Resamples particles, moves them by q and weighs them by p / q.

        Args:
          particles: `objectives.Particles` of z[t-1].
          inputs: `PosteriorInputs` of step t, each [batch, ...].
          observations: x[t] in the user's units, [batch, dx].
          seed: Stateless seed, int32 [2].

        Returns:
          `objectives.Particles` of z[t] and the log score ln sum_k W_k w_k, [batch].
        """
        resample_seed, seed = tfp.random.split_seed(seed)
        previous = objectives.resample(particles, resample_seed)
        size, batch, dim = previous.states.shape
        rows = tf.reshape(previous.states, [size * batch, dim])
        tiled = tf.nest.map_structure(lambda tensor: tf.tile(tensor, [size, 1]), inputs)
        noise = tf.random.stateless_normal(tf.shape(rows), seed)
        next_rows, log_proposal = self.posterior.step(rows, tiled, noise)
        log_transition = self.transition(rows, tiled.controls).log_prob(next_rows)
        states = tf.reshape(next_rows, [size, batch, dim])
        log_likelihood = self._emit(states).log_prob(observations)
        log_increments = log_likelihood + tf.reshape(log_transition - log_proposal, [size, batch])
        log_increments = tf.where(inputs.present[:, 0], log_increments, 0.0)
        return objectives.weigh(previous._replace(states=states), log_increments)

    def _terms(self, batch, seed, num_samples=1, closed_form=True):
        """Returns the `Terms` of posterior draws, each [sample, batch, time].

        Where a frame is missing its nll is 0, and so is the KL of a posterior that is p there;
        past the last frame of a sequence nothing counts.
        """
        shape = tf.concat([[num_samples], tf.shape(batch.observations)[:2]], axis=0)
        batch = batch.repeat(num_samples)
        noise = tf.random.stateless_normal(self._noise_shape(batch), seed)
        sample = self._sample_posterior(batch, noise)
        nll = -self._emit(sample.states).log_prob(batch.observations)
        kl = self._kl(sample, batch.controls, closed_form)
        if batch.mask is not None:
            is_prior = self.posterior.is_prior_where_missing
            nll = tf.where(batch.mask, nll, 0.0)
            kl = tf.where(batch.mask if is_prior else _until_last_frame(batch.mask), kl, 0.0)
        return Terms(tf.reshape(nll, shape), tf.reshape(kl, shape))

    def _kl(self, sample, controls, closed_form=True):
        """Returns KL(q || p) for each step, [batch, time], or its estimate ln q - ln p."""
        prior = self.transition(sample.states[:, :-1], self.control_standardization(controls))
        first = initial.initial_prior(self.config["state_dim"])
        if closed_form and sample.densities is not None:
            first = tfd.kl_divergence(sample.densities[0], first)[:, tf.newaxis]
            rest = tfd.kl_divergence(sample.densities[1], prior)
            return tf.concat([first, rest], axis=1)
        first = first.log_prob(sample.states[:, :1])
        rest = prior.log_prob(sample.states[:, 1:])
        return sample.log_prob - tf.concat([first, rest], axis=1)

    def _check_batch(self, observations, controls, mask=None):
        names = ["observation_dim", "control_dim", "initial_frames"]
        sizes = [self.config[name] for name in names]
        batch = data.check_sequences(observations, controls, mask, *sizes)
        choices.check_mask(self.config["posterior"], batch.mask)
        return batch


def _until_last_frame(mask):
    """Returns whether a frame follows or is there, bool [batch, time]."""
    return tf.math.cumsum(tf.cast(mask, tf.int32), axis=1, reverse=True) > 0
