"""The terms of the bound: their definition, their closed forms, their units."""

import models
import numpy as np
import oracles
import pytest
import scipy.stats
import tensorflow as tf
from models import adapted

from tfp_dvbf import data, posteriors, registry
from tfp_dvbf.inference import bounds, kalman, random
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


@pytest.mark.parametrize("posterior", ["gaussian", "innovation", "trajectory_iaf"])
def test_what_is_hidden_from_q_is_drawn_from_p_and_counts(make_model, sequences, posterior):
    """Hidden steps have no KL, and an nll that is that of the steps that the mask calls missing."""
    model = adapted(perturb(make_model(posterior)), sequences)
    x, u = sequences.observations, sequences.controls
    seed = tf.constant([3, 4])
    mask = np.ones([12, 8], bool)
    mask[0, 6:] = False
    x, u, mask = map(tf.constant, (x, u, mask))
    kept = random.kept_steps([12, 8], 1, 0.5, seed)
    assert np.all(kept[:, 0]) and 0.3 < np.mean(kept[:, 1:]) < 0.7
    found = terms_of(model, data.Batch(x, u, mask), seed, 0.5)
    shown = terms_of(model, data.Batch(x, u, kept & mask), seed, 0.0)
    both = (kept & mask).numpy()
    np.testing.assert_array_equal(found.kl[0].numpy()[~both], 0.0)
    np.testing.assert_allclose(found.kl, shown.kl, rtol=1e-5)
    np.testing.assert_allclose(found.nll[0].numpy()[both], shown.nll[0].numpy()[both], rtol=1e-5)
    assert np.all(found.nll[0].numpy()[mask] != 0) and np.all(found.nll[0].numpy()[~mask] == 0)


def test_the_bound_of_a_posterior_that_sees_less_is_a_bound():
    """Against the Kalman filter: E ln w lies below ln p(x), and E w is p(x) for any q."""
    model = models.linear_model("innovation")
    space, recognition = model.state_space_model, model.recognition_model
    space.emission.raw_scale.assign([0.25, 0.25])  # Noise of 0.9: few draws will do.
    last = recognition.initial_posterior.network.layers[-1]
    wide = np.log(np.expm1(1.0)) - np.log(np.expm1(networks.INITIAL_SCALE))
    last.kernel.assign(tf.zeros_like(last.kernel))
    last.bias.assign([0.0, 0.0, wide, wide])  # q(z[0]) is p(z[0]).
    x = tf.random.stateless_normal([1, 4, 2], [0, 1])
    u = tf.random.stateless_normal([1, 3, 1], [0, 2])
    exact = kalman.log_prob(space, x, u)
    batch = data.Batch(x, u)
    found = bounds.terms(space, recognition, batch, 20000, [5, 6], False, hidden_share=0.6)
    log_weights = -tf.reduce_sum(found.nll + found.kl, axis=2)[:, 0]
    assert tf.reduce_mean(log_weights) < exact[0]
    oracles.within_standard_error(tf.exp(log_weights - exact[0]), 1.0)


@pytest.mark.parametrize(
    "posterior, share, message",
    [
        ("innovation", 1.0, r"`hidden_share` must lie in \[0, 1\); got 1.0"),
        ("innovation", -0.1, r"`hidden_share` must lie in \[0, 1\); got -0.1"),
        ("chain_iaf", 0.5, "`hidden_share` must be 0 for chain_iaf: its states all come from"),
    ],
)
def test_a_hidden_share_out_of_range(make_model, posterior, share, message):
    with pytest.raises(ValueError, match=message):
        make_model(posterior, hidden_share=share)


def test_training_hides_steps_and_validation_does_not(make_model, sequences):
    inputs = {"observations": sequences.observations, "controls": sequences.controls}
    plain, hiding = make_model(), make_model(hidden_share=0.7)
    assert hiding.get_config()["hidden_share"] == 0.7
    for model in [plain, hiding]:
        model.compile("sgd", run_eagerly=True)
    np.testing.assert_allclose(
        plain.evaluate(inputs, verbose=0), hiding.evaluate(inputs, verbose=0)
    )
    divergences = [
        model.fit(inputs, batch_size=12, shuffle=False, verbose=0).history["kl"][0]
        for model in [plain, hiding]
    ]
    assert divergences[1] != divergences[0]


def terms_of(model, batch, seed, hidden_share):
    space, recognition = model.state_space_model, model.recognition_model
    return bounds.terms(space, recognition, batch, 1, seed, hidden_share=hidden_share)
