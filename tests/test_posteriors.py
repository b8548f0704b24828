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


VALID = ["gaussian", "iaf", "trajectory_iaf"]


def perturb(layer):
    """Moves all weights away from the near-zero ones that residuals start with.

    A kernel's zeros are those of the masks of a MADE, and stay.
    """
    layer(initial.InitialPosterior(DIM, (8,))(tf.zeros([BATCH, 1, 3])), INPUTS, NOISE)
    rng = np.random.default_rng(0)
    for weight in layer.trainable_variables:
        free = np.ones(weight.shape) if weight.shape.rank == 1 else weight.numpy() != 0
        weight.assign_add(0.2 * free * rng.standard_normal(weight.shape))
    return layer


def make(name, num_flows=1):
    sizes = {"hidden_units": (8, 8), "flow_units": (8,), "receptive_field": STEPS}
    return posteriors.make_posterior(
        name, DIM, CONTEXT, num_flows=num_flows, activation="tanh", **sizes
    )


@pytest.mark.parametrize("name", posteriors.POSTERIORS)
def test_layer_battery(name, q_initial):
    def call(layer):
        sample = layer(q_initial, INPUTS, NOISE)
        return tf.concat([sample.states, sample.log_prob[..., tf.newaxis]], axis=-1)

    oracles.check_layer(make(name, num_flows=2), call)
    if name != "trajectory_iaf":
        oracles.check_layer(make(name).cell, lambda cell: step(cell, tf.zeros([BATCH, DIM])))


def step(cell, state):
    if hasattr(cell, "input_layer"):
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


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("num_flows", [0, 1, 3])
def test_log_prob_against_the_autodiff_jacobian_of_the_trajectory(name, num_flows, q_initial):
    posterior = perturb(make(name, num_flows))

    def trajectory(noise):
        noise = tf.reshape(noise, [BATCH, STEPS, DIM])
        return tf.reshape(posterior(q_initial, INPUTS, noise).states, [BATCH, STEPS * DIM])

    noise = tf.reshape(NOISE, [BATCH, STEPS * DIM])
    log_base = -0.5 * np.sum(np.square(noise) + np.log(2 * np.pi), axis=1)
    expected = log_base - oracles.log_det(trajectory, noise)
    actual = tf.reduce_sum(posterior(q_initial, INPUTS, NOISE).log_prob, axis=1)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("name", VALID)
def test_every_state_depends_on_all_noise_up_to_its_own(name, q_initial):
    posterior = perturb(make(name))
    with tf.GradientTape() as tape:
        tape.watch(NOISE)
        states = posterior(q_initial, INPUTS, NOISE).states
    jacobian = np.abs(tape.batch_jacobian(states, NOISE)).sum(axis=(0, 2, 4))
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0.0)
    assert np.all(jacobian[np.tril_indices(STEPS)] > 0)


@pytest.mark.parametrize("name", ["gaussian", "iaf"])
def test_stepping_is_the_whole_trajectory(name, q_initial):
    posterior = make(name)
    sample = posterior(q_initial, INPUTS, NOISE)
    state = sample.states[:, 0]
    for t in range(1, STEPS):
        state, log_prob = posterior.step(state, INPUTS[:, t - 1], NOISE[:, t])
        np.testing.assert_allclose(state, sample.states[:, t], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(log_prob, sample.log_prob[:, t], rtol=1e-4, atol=1e-5)


def test_iaf_without_flows_is_gaussian(q_initial):
    iaf, gaussian = make("iaf", num_flows=0), make("gaussian")
    for layer in (iaf, gaussian):
        layer(q_initial, INPUTS, NOISE)
    iaf.set_weights(gaussian.get_weights())
    samples = [layer(q_initial, INPUTS, NOISE) for layer in (iaf, gaussian)]
    np.testing.assert_array_equal(samples[0].states, samples[1].states)
    np.testing.assert_allclose(samples[0].log_prob, samples[1].log_prob, rtol=1e-4)


def test_trajectory_iaf_has_no_loop_over_time():
    posterior = make("trajectory_iaf", num_flows=2)
    layer = initial.InitialPosterior(DIM, (8,))

    @tf.function
    def draw(first, inputs, noise):
        return posterior(layer(first), inputs, noise).states

    graph = draw.get_concrete_function(tf.zeros([BATCH, 1, 3]), INPUTS, NOISE).graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "MatMul" in kinds and not any("While" in kind for kind in kinds)


def test_trajectory_iaf_reaches_back_its_receptive_field(q_initial):
    """8 steps with 8, here 4 with 4: noise and inputs from further back have no effect."""
    sizes = {"hidden_units": (8,), "flow_units": (8,), "receptive_field": 4}
    posterior = perturb(posteriors.make_posterior("trajectory_iaf", DIM, CONTEXT, **sizes))
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        last = posterior(q_initial, INPUTS, NOISE).states[:, -1]
    by_step = np.abs(tape.gradient(last, INPUTS)).sum(axis=(0, 2))
    assert np.flatnonzero(by_step).tolist() == [1, 2, 3, 4]


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
    orders = [flow.input_order for flow in make("chain_iaf", num_flows=3).cell.flow.flows]
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
