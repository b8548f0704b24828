"""Each posterior is its equation, its density exact, and it sees what it names."""

import numpy as np
import oracles
import pytest
import tensorflow as tf
from posterior_cases import (
    BATCH,
    DIM,
    INPUTS,
    NOISE,
    STEPS,
    VALID,
    draw,
    make,
    make_first,
    make_model,
    masks,
    perturb,
)

import tfp_dvbf
from tfp_dvbf import posteriors, registry
from tfp_dvbf.layers import networks
from tfp_dvbf.posteriors import base


@pytest.fixture(scope="module", params=registry.names("transition"))
def each_model(request):
    return make_model(request.param)


@pytest.fixture(scope="module")
def model():
    return make_model("mlp")


@pytest.fixture(scope="module")
def first():
    return make_first()


def test_innovation_is_the_prior_with_inferred_noise(each_model, first):
    """With (m, s) = (0, 1) each step draws from p: ln q - ln p is 0."""
    posterior = make("innovation")
    draw(posterior, each_model, first)
    for weight in posterior.network.weights:
        weight.assign(tf.zeros_like(weight))
    sample = draw(posterior, each_model, first)
    prior = each_model.transition_distribution(sample.states[:, :-1], INPUTS.controls)
    expected = prior.loc + prior.scale.matvec(NOISE[:, 1:])
    np.testing.assert_allclose(sample.states[:, 1:], expected, rtol=1e-3, atol=1e-4)
    log_prior = prior.log_prob(sample.states[:, 1:])
    np.testing.assert_allclose(sample.log_prob[:, 1:], log_prior, rtol=1e-3, atol=1e-2)


def test_innovation_is_the_documented_step(each_model, first):
    """z[t] = mu + m + L (s * eps[t]); (m, s) of z[t-1], the innovation at mu, h[t] and u[t-1]."""
    posterior = perturb(make("innovation"), each_model, first)
    inputs = posteriors.PosteriorInputs(*(tensor[:, 0] for tensor in INPUTS))
    states, noise = NOISE[:, 0], NOISE[:, 1]
    step = posterior.step(each_model, {"states": states}, posterior.prepare(inputs), noise)
    prior = each_model.transition(states, inputs.controls)
    expected = each_model.emission(prior.loc)
    innovation = np.arcsinh((inputs.observations - expected.mean()) / expected.stddev())
    seen = tf.concat([states, innovation, inputs.features, inputs.controls], axis=-1)
    m, raw_scale = tf.split(posterior.network(seen), 2, axis=-1)
    s = np.asarray(networks.positive(raw_scale, initial=1.0))
    factor = np.linalg.cholesky(prior.covariance())
    moved = prior.loc + m + np.einsum("bij,bj->bi", factor, s * noise)
    np.testing.assert_allclose(step.carry["states"], moved, rtol=1e-4, atol=1e-5)
    log_det = np.log(s).sum(-1) + np.linalg.slogdet(factor)[1]
    np.testing.assert_allclose(step.log_prob, base.log_base(noise) - log_det, rtol=1e-4)


@pytest.mark.parametrize("name", ["innovation", "iaf"])
def test_the_prior_that_a_step_has_found_is_that_of_the_transition(name, each_model, first):
    """Also where steps are missing."""
    posterior = perturb(make(name), each_model, first)
    for observed in masks(posterior):
        sample = draw(posterior, each_model, first, observed=observed)
        prior = each_model.transition_distribution(sample.states[:, :-1], INPUTS.controls)
        expected = prior.log_prob(sample.states[:, 1:])
        np.testing.assert_allclose(sample.log_prior, expected, rtol=1e-4, atol=1e-3)


def test_gaussian_is_the_documented_recursion(model, first):
    sample = draw(make("gaussian"), model, first)
    q0, conditionals = sample.densities
    expected = q0.mean() + q0.stddev() * NOISE[:, 0]
    np.testing.assert_allclose(sample.states[:, 0], expected, rtol=1e-6)
    expected = conditionals.mean() + conditionals.stddev() * NOISE[:, 1:]
    np.testing.assert_allclose(sample.states[:, 1:], expected, rtol=1e-6)
    expected = tf.concat(
        [
            q0.log_prob(sample.states[:, 0])[:, tf.newaxis],
            conditionals.log_prob(sample.states[:, 1:]),
        ],
        axis=1,
    )
    # A sum of terms of size 1, which may cancel.
    np.testing.assert_allclose(sample.log_prob, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name, num_flows",
    [("drift", None), ("gaussian", None), ("innovation", None), ("iaf", 1), ("iaf", 3)]
    + [("trajectory_iaf", num_flows) for num_flows in [0, 1, 3]],
)
def test_log_prob_against_the_autodiff_jacobian_of_the_trajectory(name, num_flows, model, first):
    """With missing steps too."""
    flows = {} if num_flows is None else {"num_flows": num_flows}
    posterior = perturb(make(name, **flows), model, first)
    flat = tf.reshape(NOISE, [BATCH, STEPS * DIM])
    log_base = -0.5 * np.sum(np.square(flat) + np.log(2 * np.pi), axis=1)
    for observed in masks(posterior):

        def trajectory(flat, observed=observed):
            noise = tf.reshape(flat, [BATCH, STEPS, DIM])
            states = draw(posterior, model, first, noise=noise, observed=observed).states
            return tf.reshape(states, [BATCH, STEPS * DIM])

        expected = log_base - oracles.log_det(trajectory, flat)
        sample = draw(posterior, model, first, observed=observed)
        actual = tf.reduce_sum(sample.log_prob, axis=1)
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("name", VALID)
def test_every_state_depends_on_all_noise_up_to_its_own(name, model, first):
    posterior = perturb(make(name), model, first)
    with tf.GradientTape() as tape:
        tape.watch(NOISE)
        states = draw(posterior, model, first).states
    jacobian = np.abs(tape.batch_jacobian(states, NOISE)).sum(axis=(0, 2, 4))
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)
    assert np.all(jacobian[np.tril_indices(STEPS)] > 0)


def test_trajectory_iaf_has_no_loop_over_time(model):
    posterior = make("trajectory_iaf", num_flows=2)

    @tf.function
    def graph(loc, inputs, noise):
        return draw(posterior, model, networks.diagonal_normal(loc, loc), inputs, noise).states

    graph = graph.get_concrete_function(tf.ones([BATCH, DIM]), INPUTS, NOISE).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "MatMul" in kinds and not any("While" in kind for kind in kinds)


def test_trajectory_iaf_reaches_back_its_receptive_field(model, first):
    posterior = perturb(make("trajectory_iaf", receptive_field=4), model, first)
    with tf.GradientTape() as tape:
        tape.watch(INPUTS.controls)
        last = draw(posterior, model, first).states[:, -1]
    by_step = np.abs(tape.gradient(last, INPUTS.controls)).sum(axis=(0, 2))
    assert np.flatnonzero(by_step).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("num_flows", [1, 2, 3])
def test_chain_iaf_density_is_that_of_the_marginal(num_flows, model, first):
    posterior, first_noise = make("chain_iaf", num_flows=num_flows), NOISE[:, 0]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(first_noise)
        noise = tf.concat([first_noise[:, tf.newaxis], NOISE[:, 1:]], axis=1)
        sample = draw(posterior, model, first, noise=noise)
        states = tf.unstack(sample.states, axis=1)
    log_base = -0.5 * np.sum(np.square(first_noise) + np.log(2 * np.pi), axis=1)
    for state, log_prob in zip(states, tf.unstack(sample.log_prob, axis=1)):
        jacobian = tape.batch_jacobian(state, first_noise, experimental_use_pfor=False)
        expected = log_base - np.linalg.slogdet(jacobian)[1]
        np.testing.assert_allclose(log_prob, expected, atol=1e-4)


def test_chain_iaf_uses_one_draw_a_trajectory(model, first):
    posterior = make("chain_iaf")
    sample = draw(posterior, model, first)
    other = tf.concat([NOISE[:, :1], 7.0 + NOISE[:, 1:]], axis=1)
    moved = draw(posterior, model, first, noise=other)
    np.testing.assert_array_equal(sample.states, moved.states)
    assert sample.densities is None


def test_chain_iaf_reverses_the_order_between_flows():
    orders = [flow.input_order for flow in make("chain_iaf", num_flows=3).flow.flows]
    assert orders == ["left-to-right", "right-to-left", "left-to-right"]


def test_a_linear_gaussian_posterior_starts_near_the_identity():
    """Else fifty steps of a random matrix would have left float32 or come close to it."""
    model = tfp_dvbf.DVBF(3, 1, 4, posterior=posteriors.Gaussian(hidden_units=()), seed=1)
    x, u = np.ones([2, 50, 3], np.float32), np.ones([2, 49, 1], np.float32)
    assert np.abs(model.sample_posterior(x, u, num_samples=5, seed=1).states).max() < 20
