import models
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import posteriors, registry
from tfp_dvbf.layers import emissions, initial, transitions

BATCH, STEPS, DIM, FEATURES, CONTROLS = 3, 6, 2, 4, 1
NOISE = tf.random.stateless_normal([BATCH, STEPS, DIM], [0, 1])
INPUTS = posteriors.PosteriorInputs(
    *(
        tf.random.stateless_normal([BATCH, STEPS - 1, dim], [0, seed])
        for seed, dim in enumerate([FEATURES, CONTROLS, 3])
    )
)


PRESENT = np.ones([BATCH, STEPS - 1, 1], bool)
PRESENT[0, 2:4] = PRESENT[1, 0] = False
MASKED = INPUTS._replace(present=tf.constant(PRESENT))


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


def make(name, num_flows=1, transition="mlp", **change):
    config = {
        **{"posterior": name, "num_flows": num_flows, "state_dim": DIM, "activation": "tanh"},
        **{"posterior_units": (8, 8), "flow_units": (8,), "receptive_field": STEPS},
        **{"encoder_units": (FEATURES,), "control_dim": CONTROLS, **change},
    }
    size = {"num_bases": 2, "hidden_units": (8,), "activation": "tanh"}
    dynamics = transitions.make_transition(transition, DIM, CONTROLS, **size)
    emission = emissions.GaussianEmission(3, (8,), "tanh")
    emission(dynamics(tf.zeros([1, DIM]), tf.zeros([1, CONTROLS])).loc)
    return posteriors.make_posterior(config, dynamics, emission)


@pytest.mark.parametrize("name", ["trajectory_iaf", "chain_iaf"])
def test_layer_battery(name, q_initial):
    def call(layer):
        sample = layer(q_initial, INPUTS, NOISE)
        return tf.concat([sample.states, sample.log_prob[..., tf.newaxis]], axis=-1)

    oracles.check_layer(make(name, num_flows=2), call)


@pytest.mark.parametrize("transition", registry.names("transition"))
def test_iaf_is_the_prior_with_inferred_noise(transition, q_initial):
    """Without flows and with (m, s) = (0, 1) each step draws from p: ln q - ln p is 0."""
    posterior = make("iaf", num_flows=0, transition=transition)
    posterior(q_initial, INPUTS, NOISE)
    for weight in posterior.cell.network.weights:
        weight.assign(tf.zeros_like(weight))
    sample = posterior(q_initial, INPUTS, NOISE)
    prior = posterior.cell.transition(sample.states[:, :-1], INPUTS.controls)
    expected = prior.loc + prior.scale.matvec(NOISE[:, 1:])
    np.testing.assert_allclose(sample.states[:, 1:], expected, rtol=1e-3, atol=1e-4)
    log_prior = prior.log_prob(sample.states[:, 1:])
    np.testing.assert_allclose(sample.log_prob[:, 1:], log_prior, rtol=1e-3, atol=1e-2)


def test_iaf_follows_the_innovation(q_initial):
    """What it sees of x[t] beside h[t] is its distance from the prediction, in sigmas."""
    cell = make("iaf").cell
    state, x = NOISE[:, 0], INPUTS.observations[:, 0]
    density = cell.emission(state)
    expected = np.arcsinh((x - density.mean()) / density.stddev())
    np.testing.assert_allclose(cell.innovation(state, x), expected, rtol=1e-5)


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


@pytest.mark.parametrize(
    "name, options",
    [("gaussian", {}), ("iaf", {})]
    + [("trajectory_iaf", {"receptive_field": size}) for size in [1, 4, 64]],
)
@pytest.mark.parametrize("whole", [INPUTS, MASKED])
def test_stepping_is_the_whole_trajectory(name, options, whole, q_initial):
    posterior = perturb(make(name, **options))
    sample = posterior(q_initial, whole, NOISE)
    carry = posterior.start(sample.states[:, 0], NOISE[:, 0])
    for t in range(1, STEPS):
        inputs = posteriors.PosteriorInputs(*(tensor[:, t - 1] for tensor in whole.tensors()))
        prior = None
        if name != "trajectory_iaf":
            prior = posterior.cell.transition(carry["states"], inputs.controls)
        carry, log_prob = posterior.step(carry, prior, inputs, NOISE[:, t])
        np.testing.assert_allclose(carry["states"], sample.states[:, t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_prob, sample.log_prob[:, t], rtol=1e-4, atol=1e-5)


def test_trajectory_iaf_sees_the_mask(q_initial):
    """What is missing, not what stands there: from the step on that misses it."""
    posterior = perturb(make("trajectory_iaf"))
    all_there = INPUTS._replace(present=tf.ones_like(MASKED.present))
    states = [posterior(q_initial, inputs, NOISE).states for inputs in [all_there, MASKED]]
    differs = np.abs(np.subtract(*states)).max(axis=-1) > 1e-6
    np.testing.assert_array_equal(differs[0], [False, False, False, True, True, True])
    np.testing.assert_array_equal(differs[1], [False, True, True, True, True, True])
    assert not differs[2].any()


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
    posterior = perturb(make("trajectory_iaf", receptive_field=4))
    with tf.GradientTape() as tape:
        tape.watch(INPUTS.controls)
        last = posterior(q_initial, INPUTS, NOISE).states[:, -1]
    by_step = np.abs(tape.gradient(last, INPUTS.controls)).sum(axis=(0, 2))
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


@pytest.mark.parametrize("name", registry.names("posterior"))
def test_states_depend_on_no_later_input(name, q_initial):
    posterior = make(name)
    with tf.GradientTape() as tape:
        tape.watch(INPUTS.tensors())
        states = posterior(q_initial, INPUTS, NOISE).states[:, :4]
    gradients = tape.gradient(states, INPUTS.tensors(), unconnected_gradients="zero")
    by_step = [np.abs(gradient).sum(axis=(0, 2)) for gradient in gradients]
    assert np.all(by_step[0][:3] > 0) and np.all(by_step[1][:3] > 0)
    np.testing.assert_array_equal(np.array(by_step)[:, 3:], 0.0)


def test_a_linear_gaussian_posterior_starts_near_the_identity():
    """Else fifty steps of a random matrix would have left float32 or come close to it."""
    model = models.make(3, 1, 4, posterior_units=(), seed=1)
    x, u = np.ones([2, 50, 3], np.float32), np.ones([2, 49, 1], np.float32)
    assert np.abs(model.filter(x, u, num_samples=5, seed=1).states).max() < 20
