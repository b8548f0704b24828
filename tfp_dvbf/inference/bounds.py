"""Bounds on the evidence of a model: their terms and their estimates."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import data, registry
from tfp_dvbf.data import checks
from tfp_dvbf.inference import objectives, rollout
from tfp_dvbf.layers import initial

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
        """Names of the objectives that `log_prob_bound` takes for this posterior."""
        return registry.bounds(self.config["posterior"])

    def bound_terms(self, observations, controls, num_samples=1, seed=None, mask=None):
        """Returns the `Terms` of the elbo for posterior draws; arguments as for `filter`."""
        batch = self._check_batch(observations, controls, mask)
        num_samples = checks.check_num_samples(num_samples)
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
          objective: "elbo", for chain_iaf the poster's objective, which bounds nothing; "iwae", K
            importance samples; or "fivo", the evidence estimate of a particle filter with the
            posterior as its proposal (Maddison et al. 2017).
          mask: Whether each frame is there, [batch, time], or None.

        Returns:
          The bound in nats and the user's units, [batch].

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value, or if the
            posterior cannot serve the objective.
        """
        batch = self._check_batch(observations, controls, mask)
        num_samples = checks.check_num_samples(num_samples)
        registry.check_bound(self.config["posterior"], objective)
        seed = rollout.stateless_seed(seed)
        if objective == "fivo":
            return self._fivo(batch, tf.constant(num_samples), seed)
        return self._log_prob_bound(batch, tf.constant(num_samples), seed, objective)

    @tf.function(reduce_retracing=True)
    def _bound_terms(self, batch, num_samples, seed):
        return self._terms(batch, seed, num_samples)

    @tf.function(reduce_retracing=True)
    def _log_prob_bound(self, batch, num_samples, seed, objective):
        terms = self._terms(batch, seed, num_samples, closed_form=False)
        return objectives.OBJECTIVES[objective](-(terms.nll + terms.kl))

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
            kl = tf.where(batch.mask if is_prior else data.until_last_frame(batch.mask), kl, 0.0)
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
