import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import initial, posteriors

BATCH, STEPS, DIM, CONTEXT = 3, 6, 2, 4
NOISE = tf.random.stateless_normal([BATCH, STEPS, DIM], [0, 1])
INPUTS = tf.random.stateless_normal([BATCH, STEPS - 1, CONTEXT], [0, 2])


@pytest.fixture
def q_initial():
    layer = initial.InitialPosterior(DIM, (8,))
    return layer(tf.random.stateless_normal([BATCH, 1, 3], [0, 3]))


def make(name, num_flows=1):
    return posteriors.make_posterior(name, DIM, CONTEXT, num_flows, (8, 8), "tanh")


@pytest.mark.parametrize("name", posteriors.POSTERIORS)
def test_layer_battery(name, q_initial):
    def call(layer):
        sample = layer(q_initial, INPUTS, NOISE)
        return tf.concat([sample.states, sample.log_prob[..., tf.newaxis]], axis=-1)

    oracles.check_layer(make(name, num_flows=2), call)
    oracles.check_layer(make(name).cell, lambda cell: step(cell, tf.zeros([BATCH, DIM])))


def step(cell, state):
    if isinstance(cell, posteriors.GaussianCell):
        inputs = tf.concat([cell.input_layer(INPUTS[:, 0]), NOISE[:, 0]], axis=-1)
        return cell(inputs, [state])[0]
    return cell(INPUTS[:, 0], [state])[0]


def test_gaussian_is_the_documented_recursion(q_initial):
    posterior = make("gaussian")
    sample = posterior(q_initial, INPUTS, NOISE)
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
    np.testing.assert_allclose(sample.log_prob, expected, rtol=1e-5)


def test_gaussian_log_prob_against_the_autodiff_jacobian_of_the_trajectory(q_initial):
    posterior = make("gaussian")

    def trajectory(noise):
        noise = tf.reshape(noise, [BATCH, STEPS, DIM])
        return tf.reshape(posterior(q_initial, INPUTS, noise).states, [BATCH, STEPS * DIM])

    noise = tf.reshape(NOISE, [BATCH, STEPS * DIM])
    log_base = -0.5 * np.sum(np.square(noise) + np.log(2 * np.pi), axis=1)
    expected = log_base - oracles.log_det(trajectory, noise)
    actual = tf.reduce_sum(posterior(q_initial, INPUTS, NOISE).log_prob, axis=1)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("num_flows", [1, 2, 3])
def test_chain_iaf_density_is_that_of_the_marginal(q_initial, num_flows):
    posterior = make("chain_iaf", num_flows)
    sample = posterior(q_initial, INPUTS, NOISE)
    for t in range(STEPS):

        def state(first_noise, t=t):
            noise = tf.concat([first_noise[:, tf.newaxis], NOISE[:, 1:]], axis=1)
            return posterior(q_initial, INPUTS, noise).states[:, t]

        first_noise = NOISE[:, 0]
        log_base = -0.5 * np.sum(np.square(first_noise) + np.log(2 * np.pi), axis=1)
        expected = log_base - oracles.log_det(state, first_noise)
        np.testing.assert_allclose(sample.log_prob[:, t], expected, atol=1e-4)


def test_chain_iaf_uses_one_draw_a_trajectory(q_initial):
    posterior = make("chain_iaf")
    sample = posterior(q_initial, INPUTS, NOISE)
    other = tf.concat([NOISE[:, :1], 7.0 + NOISE[:, 1:]], axis=1)
    np.testing.assert_array_equal(sample.states, posterior(q_initial, INPUTS, other).states)
    assert sample.densities is None


def test_chain_iaf_reverses_the_order_between_flows():
    orders = [flow.input_order for flow in make("chain_iaf", num_flows=3).cell.flows]
    assert orders == ["left-to-right", "right-to-left", "left-to-right"]


@pytest.mark.parametrize("name", posteriors.POSTERIORS)
def test_states_depend_on_no_later_input(name, q_initial):
    posterior = make(name)
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        states = posterior(q_initial, INPUTS, NOISE).states[:, :4]
    gradient = tf.reduce_sum(tf.abs(tape.gradient(states, INPUTS)), axis=[0, 2]).numpy()
    assert np.all(gradient[:3] > 0)
    np.testing.assert_array_equal(gradient[3:], 0.0)
