"""Bounds on ln p(x[0:T] | u[0:T-1]): their terms and their estimates.

A log weight is ln p(x, z) - ln q(z) of one posterior draw, or its part at one time step. In
expectation elbo <= iwae_K <= ln p(x), iwae_K rises with K (Burda et al. 2016, theorem 1), and
fivo_K <= ln p(x) (Maddison et al. 2017, section 3).
"""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import errors, registry
from tfp_dvbf.inference import particle_filter, particles
from tfp_dvbf.layers import networks, philox

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


def elbo(log_weights):
    """Returns the mean over draws of ln w, [batch].

    Args:
      log_weights: ln w[t] of each draw, [sample, batch, time].
    """
    return tf.reduce_mean(tf.reduce_sum(log_weights, axis=2), axis=0)


def iwae(log_weights):
    """Returns ln 1/K sum_k w_k, [batch] (Burda et al. 2016, equation 8).

    Args:
      log_weights: ln w[t] of each of K draws, [sample, batch, time].
    """
    return particles.log_mean_exp(tf.reduce_sum(log_weights, axis=2))


OBJECTIVES = {"elbo": elbo, "iwae": iwae}


def available(posterior):
    """Returns the names of the bounds that can be estimated with a `Posterior`."""
    return registry.BOUNDS if posterior.has_density else ("elbo",)


def check_bound(posterior, objective, choices=registry.BOUNDS):
    """Raises ValueError, with the reason, if `objective` is unknown or not for the posterior."""
    errors.check_choice("objective", objective, choices)
    if objective not in available(posterior):
        name = registry.name_of("posterior", posterior)
        raise ValueError(
            f"`objective` {objective} is not for {name}: {posterior.has_density.reason}."
        )


def terms(model, recognition, batch, num_samples, seed, closed_form=True, shown=None):
    """Returns the `Terms` of posterior draws.

    Where a time step is missing its nll and KL are 0, since q is p there; where it is not shown to
    the posterior, its KL is.

    Args:
      model: A `StateSpaceModel`.
      recognition: A `RecognitionModel`.
      batch: `data.Batch`.
      num_samples: Draws for each sequence.
      seed: Stateless seed, int32 [2].
      closed_form: Whether the KL may be taken in closed form, which log weights of draws may not.
      shown: Steps that the posterior may see, bool [batch, time]; None lets it see them all.
    """
    steps = tf.shape(batch.observations)[:2]
    rows = tf.stack([num_samples * steps[0], steps[1], model.spec.state_dim])
    noise = philox.normal(rows, seed)
    seen = batch
    if shown is not None:
        seen = batch._replace(mask=shown if batch.mask is None else shown & batch.mask)
    sample = recognition.sample(model, seen, noise, num_samples)
    controls = model.standardise_controls(batch.controls)
    divergence = kl(model, sample, networks.tile_rows(controls, num_samples), closed_form)
    shape = tf.concat([[num_samples], steps], axis=0)
    states = tf.reshape(sample.states, tf.concat([shape, [model.spec.state_dim]], axis=0))
    nll = -model.log_likelihood(states, batch.observations)
    divergence = tf.reshape(divergence, shape)
    return Terms(_zero_unless(batch.mask, nll), _zero_unless(seen.mask, divergence))


def _zero_unless(mask, term):
    return term if mask is None else tf.where(mask, term, 0.0)


def kl(model, sample, controls, closed_form):
    """Returns KL(q || p) for each step, [batch, time], or its estimate ln q - ln p."""
    if not closed_form or sample.densities is None:
        if sample.log_prior is None:
            return sample.log_prob - model.log_prior(sample.states, controls)
        first = model.initial_distribution().log_prob(sample.states[:, :1])
        return sample.log_prob - tf.concat([first, sample.log_prior], axis=1)
    prior = model.transition_distribution(sample.states[:, :-1], controls)
    density, initial = sample.densities[0], model.initial_distribution()
    if density is None:
        first = sample.log_prob[:, :1] - initial.log_prob(sample.states[:, :1])
    else:
        first = tfd.kl_divergence(density, initial)[:, tf.newaxis]
    return tf.concat([first, tfd.kl_divergence(sample.densities[1], prior)], axis=1)


def log_prob_bound(model, recognition, batch, num_samples, seed, objective="iwae"):
    """Estimates a lower bound on ln p of the observed steps of x[0:T], given u[0:T-1].

    Args:
      model, recognition, batch, seed: As for `terms`.
      num_samples: Number K of draws for each sequence, or of particles.
      objective: "elbo"; "iwae", K importance samples; or "fivo", the evidence estimate of a
        particle filter with the posterior as its proposal (Maddison et al. 2017).

    Returns:
      The bound in nats and the user's units, [batch].
    """
    if objective == "fivo":
        return particle_filter.fivo(model, recognition, batch, num_samples, seed)
    found = terms(model, recognition, batch, num_samples, seed, closed_form=False)
    return OBJECTIVES[objective](-(found.nll + found.kl))
