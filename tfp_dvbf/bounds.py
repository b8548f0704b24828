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

    def bound_terms(self, observations, controls, num_samples=1, seed=None):
        """Returns the `Terms` of the elbo for posterior draws; arguments as for `filter`."""
        observations, controls = self._check_sequences(observations, controls)
        data.check_num_samples(num_samples)
        return self._bound_terms(
            observations, controls, tf.constant(num_samples), rollout.stateless_seed(seed)
        )

    def log_prob_bound(self, observations, controls, num_samples=64, seed=None, objective="iwae"):
        """Estimates a lower bound on ln p(x[0:T] | u[0:T-1]).

        Args:
          observations: x[0:T], [batch, time, dx].
          controls: u[0:T-1], [batch, time - 1, du]; a last control is ignored.
          num_samples: Number K of draws for each sequence, or of particles.
          seed: Seed of the draws; None draws a new one.
          objective: "elbo"; "iwae", K importance samples; or "fivo", the evidence estimate of a
            particle filter with the posterior as its proposal (Maddison et al. 2017).

        Returns:
          The bound in nats and the user's units, [batch].

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value, or if the
            posterior cannot serve the objective.
        """
        observations, controls = self._check_sequences(observations, controls)
        data.check_num_samples(num_samples)
        choices.check_bound(self.config["posterior"], objective)
        seed = rollout.stateless_seed(seed)
        if objective == "fivo":
            return self._fivo(observations, controls, num_samples, seed)
        size = tf.constant(num_samples)
        return self._log_prob_bound(observations, controls, size, seed, objective)

    @tf.function(reduce_retracing=True)
    def _bound_terms(self, observations, controls, num_samples, seed):
        return self._terms(observations, controls, seed, num_samples)

    @tf.function(reduce_retracing=True)
    def _log_prob_bound(self, observations, controls, num_samples, seed, objective):
        terms = self._terms(observations, controls, seed, num_samples, closed_form=False)
        return objectives.OBJECTIVES[objective](-(terms.nll + terms.kl))

    @tf.function  # TFP's resampling needs a static batch shape, so every shape is traced.
    def _fivo(self, observations, controls, num_samples, seed):
        first_seed, seed = tfp.random.split_seed(seed)
        density, inputs = self._encode(observations, controls)
        particles, first_score = self._first_particles(
            density, observations[:, 0], num_samples, first_seed
        )
        by_time = tf.nest.map_structure(
            lambda tensor: tf.einsum("btd->tbd", tensor), (inputs, observations[:, 1:])
        )
        seeds = tfp.random.split_seed(seed, tf.shape(controls)[1])
        _, scores = tf.scan(
            lambda carry, step: self._next_particles(carry[0], *step),
            (*by_time, seeds),
            initializer=(particles, first_score),
        )
        return first_score + tf.reduce_sum(scores, axis=0)

    def _first_particles(self, density, observations, num_particles, seed):
        """Draws particles from q(z[0]) and weighs them by x[0] [batch, dx].

        Returns:
          `objectives.Particles` and ln of the evidence estimate of x[0], [batch].
        """
        states = density.sample(num_particles, seed=seed)
        prior = initial.initial_prior(self.config["state_dim"])
        log_increments = (
            prior.log_prob(states)
            + self._emit(states).log_prob(observations)
            - density.log_prob(states)
        )
        return objectives.weigh(objectives.uniform(states), log_increments)

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
        inputs = tf.nest.map_structure(lambda tensor: tf.tile(tensor, [size, 1]), inputs)
        noise = tf.random.stateless_normal(tf.shape(rows), seed)
        next_rows, log_proposal = self.posterior.step(rows, inputs, noise)
        log_transition = self.transition(rows, inputs.controls).log_prob(next_rows)
        log_increments = tf.reshape(log_transition - log_proposal, [size, batch]) + self._emit(
            tf.reshape(next_rows, [size, batch, dim])
        ).log_prob(observations)
        states = tf.reshape(next_rows, [size, batch, dim])
        return objectives.weigh(previous._replace(states=states), log_increments)

    def _terms(self, observations, controls, seed, num_samples=1, closed_form=True):
        """Returns the `Terms` of posterior draws, each [sample, batch, time]."""
        shape = tf.concat([[num_samples], tf.shape(observations)[:2]], axis=0)
        observations, controls = (
            tf.tile(array, [num_samples, 1, 1]) for array in [observations, controls]
        )
        noise = tf.random.stateless_normal(self._noise_shape(observations), seed)
        sample = self._sample_posterior(observations, controls, noise)
        nll = -self._emit(sample.states).log_prob(observations)
        kl = self._kl(sample, controls, closed_form)
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

    def _check_sequences(self, observations, controls):
        names = ["observation_dim", "control_dim", "initial_frames"]
        return data.check_sequences(observations, controls, *(self.config[name] for name in names))
