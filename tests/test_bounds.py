"""The terms of the bound: their definition, their closed forms, their units."""

import models
import numpy as np
import oracles
import pytest
import scipy.stats
import tensorflow as tf
from models import adapted

from tfp_dvbf import data, posteriors, registry
from tfp_dvbf.inference import random
from tfp_dvbf.layers import networks

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def perturb(model):
    """Moves all weights, so that no term of the bound is near the start's special values."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign_add(0.1 * rng.standard_normal(weight.shape).astype(np.float32))
    return model


def test_analytic_kl_against_monte_carlo(make_model, sequences):
    model = adapted(perturb(make_model()), sequences)
    x, u = sequences.observations[:2], sequences.controls[:2]
    noise = tf.random.stateless_normal([2, 8, 2], [0, 1])
    sample = models.sample_posterior(model, data.Batch(x, u), noise)
    analytic = models.kl(model, sample, u)
    q0, q = sample.densities
    space = model.state_space_model
    controls = space.control_standardization(u)
    prior = space.transition_distribution(sample.states[:, :-1], controls)
    z0, z = q0.sample(20000, seed=[0, 1]), q.sample(20000, seed=[0, 2])
    first = q0.log_prob(z0) - space.initial_distribution().log_prob(z0)
    oracles.within_standard_error(first, analytic[:, 0])
    oracles.within_standard_error(q.log_prob(z) - prior.log_prob(z), analytic[:, 1:])
    assert np.all(analytic > 0)


def test_kl_of_the_prior_from_itself_is_zero(make_model, sequences):
    model = perturb(make_model())
    u = sequences.controls
    states = tf.random.stateless_normal([12, 8, 2], [0, 1])
    first = networks.diagonal_normal(tf.zeros([12, 2]), tf.ones([12, 2]))
    prior = model.state_space_model.transition(states[:, :-1], u)
    log_prob = tf.concat(
        [first.log_prob(states[:, 0])[:, tf.newaxis], prior.log_prob(states[:, 1:])], axis=1
    )
    closed = posteriors.PosteriorSample(states, log_prob, (first, prior))
    np.testing.assert_allclose(models.kl(model, closed, u), 0.0, atol=1e-6)
    estimate = posteriors.PosteriorSample(states, log_prob, None)
    np.testing.assert_allclose(models.kl(model, estimate, u), 0.0, atol=1e-6)


@POSTERIORS
def test_bound_terms_against_their_definition(make_model, sequences, posterior):
    model = adapted(make_model(posterior, num_flows=2), sequences)
    x, u = sequences.observations, sequences.controls
    terms = model.bound_terms(x, u, seed=3)
    assert terms.nll.shape == terms.kl.shape == (1, 12, 8)
    noise = tf.random.stateless_normal([12, 8, 2], random.stateless_seed(3))
    sample = models.sample_posterior(model, data.Batch(x, u), noise)
    space = model.state_space_model
    units = space.observation_standardization
    mean, scale = units.mean.numpy(), units.scale.numpy()
    loc = mean + scale * space.emission.network(sample.states)
    noise_scale = scale * space.emission(sample.states).stddev()
    expected = -scipy.stats.norm.logpdf(x, loc, noise_scale).sum(axis=-1)
    np.testing.assert_allclose(terms.nll[0], expected, rtol=1e-3)
    if posterior != "gaussian":
        z = sample.states
        p = space.transition(z[:, :-1], space.control_standardization(u))
        log_prior = scipy.stats.norm.logpdf(z[:, 1:], p.mean(), p.stddev()).sum(axis=-1)
        first = scipy.stats.norm.logpdf(z[:, 0]).sum(axis=-1)
        log_prior = np.concatenate([first[:, np.newaxis], log_prior], axis=1)
        np.testing.assert_allclose(terms.kl[0], sample.log_prob - log_prior, rtol=1e-3, atol=1e-3)


def test_bound_is_equivariant_to_the_unit_of_the_data(make_model, sequences):
    unit, offset = np.array([100.0, 1e-3, 7.0]), np.array([5.0, 0.0, -20.0])
    other = data.Sequences(sequences.observations * unit + offset, 50 * sequences.controls)
    a = adapted(make_model(), sequences)
    b = adapted(make_model(), other)
    terms_a = a.bound_terms(sequences.observations, sequences.controls, seed=1)
    terms_b = b.bound_terms(other.observations, other.controls, seed=1)
    np.testing.assert_allclose(terms_b.kl, terms_a.kl, rtol=2e-2, atol=2e-3)
    np.testing.assert_allclose(terms_b.nll, terms_a.nll + np.log(unit).sum(), rtol=2e-2, atol=2e-2)
    generated = [
        m.generate(s.controls, s.observations[:, :1], seed=1).observations
        for m, s in [(a, sequences), (b, other)]
    ]
    np.testing.assert_allclose((generated[1] - offset) / unit, generated[0], atol=2e-2)


@pytest.mark.parametrize(
    "posterior, objective, reason",
    [
        ("chain_iaf", "iwae", "the trajectory has no density"),
        ("chain_iaf", "fivo", "the trajectory has no density"),
    ],
)
def test_bounds_that_a_posterior_cannot_serve(make_model, posterior, objective, reason):
    model = make_model(posterior)
    assert objective not in model.bounds
    message = f"`objective` {objective} is not for {posterior}: .*{reason}"
    with pytest.raises(ValueError, match=message):
        model.log_prob_bound(np.zeros((4, 5, 3)), np.zeros((4, 4, 1)), objective=objective)


def test_a_posterior_without_a_past_is_filtered(make_model, sequences):
    model = make_model("trajectory_iaf", receptive_field=1)
    x, u = sequences.observations, sequences.controls
    assert np.all(np.isfinite(model.log_prob_bound(x, u, 16, seed=1, objective="fivo")))
