import numpy as np
import oracles
import pytest
import tensorflow as tf
import tf_keras

from tfp_dvbf.layers import flows

Z = tf.random.stateless_normal([5, 4], [0, 1])
CONTEXT = tf.random.stateless_normal([5, 3], [0, 2])
ORDERS = ["left-to-right", "right-to-left"]
FLOWS = {
    "affine": flows.GatedInverseAutoregressiveFlow,
    "spline": flows.SplineInverseAutoregressiveFlow,
}
CASES = [(kind, order) for kind in FLOWS for order in ORDERS]


def make_flow(order, kind="affine"):
    tf_keras.utils.set_random_seed(1)
    return FLOWS[kind](4, 3, (16, 16), "tanh", order)


@pytest.mark.parametrize("kind, order", CASES)
def test_layer_battery(kind, order):
    def call(flow):
        value, log_det = flow(Z, CONTEXT)
        return tf.concat([value, log_det[:, tf.newaxis]], axis=-1)

    oracles.check_layer(make_flow(order, kind), call)


@pytest.mark.parametrize("kind, order", CASES)
def test_log_det_against_autodiff(kind, order):
    flow = make_flow(order, kind)
    expected = oracles.log_det(lambda z: flow(z, CONTEXT)[0], Z)
    np.testing.assert_allclose(flow(Z, CONTEXT)[1], expected, atol=1e-5)


@pytest.mark.parametrize("kind, order", CASES)
def test_jacobian_is_triangular_after_training_steps(kind, order):
    flow = make_flow(order, kind)
    optimizer = tf_keras.optimizers.Adam(0.1)
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(flow(Z, CONTEXT)[0] - 1.0))
        optimizer.minimize(loss, flow.trainable_variables, tape=tape)
    matrix = oracles.jacobian(lambda z: flow(z, CONTEXT)[0], Z)
    upper = np.triu(matrix, 1) if order == "left-to-right" else np.tril(matrix, -1)
    np.testing.assert_array_equal(upper, 0.0)
    assert np.abs(matrix).sum() > np.abs(np.einsum("bii->b", matrix)).sum()


@pytest.mark.parametrize("kind, order", CASES)
def test_equals_the_tfp_bijector_and_its_inverse(kind, order):
    flow = make_flow(order, kind)
    value, log_det = flow(Z, CONTEXT)
    bijector, context = flow.bijector, {"conditional_input": CONTEXT}
    np.testing.assert_allclose(value, bijector.forward(Z, **context), atol=1e-6)
    expected = bijector.forward_log_det_jacobian(Z, event_ndims=1, **context)
    np.testing.assert_allclose(log_det, expected, atol=1e-6)
    copy = tf.identity(value)  # The identity hides the bijector's cache.
    np.testing.assert_allclose(bijector.inverse(copy, **context), Z, atol=1e-4)


def test_gate_keeps_large_inputs_bounded():
    flow = make_flow("left-to-right")
    z = 100.0 * Z
    for _ in range(200):
        z, log_det = flow(z, CONTEXT)
    assert np.all(np.isfinite(z)) and np.all(log_det < 0)


def test_an_open_gate_starts_near_the_identity():
    tf_keras.utils.set_random_seed(1)
    flow = flows.GatedInverseAutoregressiveFlow(4, 3, (16, 16), gate_bias=4.0)
    value, log_det = flow(Z, CONTEXT)
    np.testing.assert_allclose(value, Z, atol=0.3)
    np.testing.assert_allclose(log_det, 0.0, atol=0.5)
    np.testing.assert_allclose(
        log_det, oracles.log_det(lambda z: flow(z, CONTEXT)[0], Z), atol=1e-5
    )


@pytest.mark.parametrize("num_flows", [0, 1, 3])
def test_the_log_det_of_a_chain_against_autodiff(num_flows):
    chain = flows.FlowChain(4, 3, num_flows, hidden_units=(16,), activation="tanh", seed=1)
    value, log_det = chain(Z, CONTEXT)
    expected = oracles.log_det(lambda z: chain(z, CONTEXT)[0], Z)
    np.testing.assert_allclose(log_det, expected, atol=1e-5)
    assert np.array_equal(value, Z) == (num_flows == 0)
    orders = [flow.input_order for flow in chain.flows]
    assert orders == ["left-to-right", "right-to-left", "left-to-right"][:num_flows]


def test_a_seed_makes_the_same_chain_of_different_flows():
    chains = [flows.FlowChain(4, 3, 3, hidden_units=(16,), seed=seed) for seed in [1, 1, 2]]
    one, same, other = ([w for w in c.get_weights() if np.any(w)] for c in chains)
    assert len(one) > 3
    for a, b, c in zip(one, same, other):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c)
    first, _, third = (flow.get_weights()[0] for flow in chains[0].flows)
    assert first.shape == third.shape and np.any(first != third)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (3, 4, 2)])
def test_a_state_of_one_dimension_keeps_its_axes(shape):
    flow = flows.FlowChain(event_dim=1, context_dim=5, num_flows=2, hidden_units=(8,))
    z, context = tf.random.normal([*shape, 1]), tf.random.normal([*shape, 5])
    value, log_det = flow(z, context)
    rows, row_log_det = flow(tf.reshape(z, [-1, 1]), tf.reshape(context, [-1, 5]))
    np.testing.assert_allclose(value, tf.reshape(rows, [*shape, 1]), rtol=1e-6)
    np.testing.assert_allclose(log_det, tf.reshape(row_log_det, shape), rtol=1e-6)


def test_a_spline_is_the_identity_outside_of_its_interval_and_for_zeros():
    flow = flows.SplineInverseAutoregressiveFlow(4, 3, (16,), num_bins=5, interval=2.0)
    for weight in flow.trainable_weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [0, 3]))
    far = tf.constant([[-2.1, 2.1, 50.0, -1e6]] * 5)
    value, log_det = flow(far, CONTEXT)
    np.testing.assert_array_equal(value, far)
    np.testing.assert_array_equal(log_det, 0.0)
    identity = flow.transform(tf.zeros([5, 4, flow.num_parameters]))
    np.testing.assert_allclose(identity.forward(Z), Z, atol=1e-5)
    assert np.abs(flow(Z, CONTEXT)[0] - Z).max() > 0.1


def test_a_spline_splits_a_normal_of_one_dimension_into_two_modes():
    """Its density is integrated on a grid, and it is low between modes that an affine map lacks."""
    flow = flows.SplineInverseAutoregressiveFlow(1, 1, (4,), num_bins=3)
    raw = tf.constant(
        [1.0, -6.0, 1.0] + [0.0, 0.0, 0.0] + [3.0, 3.0]
    )  # A narrow middle, stretched.
    spline = flow.transform(raw[tf.newaxis, tf.newaxis])
    eps = np.linspace(-6.0, 6.0, 20001, dtype=np.float32)[:, np.newaxis]
    z = spline.forward(eps)[:, 0].numpy()
    log_det = spline.forward_log_det_jacobian(eps, event_ndims=1).numpy().reshape(-1)
    density = np.exp(-0.5 * eps[:, 0] ** 2 - log_det) / np.sqrt(2.0 * np.pi)
    assert np.trapezoid(density, z) == pytest.approx(1.0, abs=1e-3)
    assert density[np.abs(z) < 0.5].max() < 0.2 * density.max()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"interval": True}, r"`interval` .* in \[0.1, 1000\], .* got True"),
        ({"interval": 1e-30}, "`interval` of a spline .* lie in .* got 1e-30"),
        ({"interval": 1e30}, r"`interval` of a spline .* lie in .* got 1e\+30"),
        ({"interval": "4"}, "`interval` of a spline .* lie in .* got '4'"),
        ({"num_bins": 1000}, "`num_bins` of a spline must be less than 1000, .* got 1000"),
    ],
)
def test_settings_that_make_no_bijection_are_refused(change, message):
    settings = {"num_flows": 1, "flow_units": (8,), "flow_kind": "spline"}
    with pytest.raises(ValueError, match=message):
        flows.check_settings(**{**settings, "num_bins": 8, "interval": 4.0, **change})
    if "num_bins" in change or "interval" in change:
        with pytest.raises(ValueError, match=message):
            flows.SplineInverseAutoregressiveFlow(2, 3, (8,), **change)


@pytest.mark.parametrize("num_bins, interval", [(999, 4.0), (8, 0.1), (8, 1000.0)])
def test_the_log_det_at_the_limits_of_the_settings(num_bins, interval):
    settings = flows.check_settings(1, (8,), "spline", num_bins, interval)
    chain = settings.make(2, "tanh", seed=1)
    z = interval * tf.random.stateless_uniform([50, 2], [0, 1], -0.9, 0.9)
    context = tf.random.stateless_normal([50, 8], [0, 2])
    value, log_det = chain(z, context)
    expected = oracles.log_det(lambda z: chain(z, context)[0], z)
    np.testing.assert_allclose(log_det, expected, atol=1e-3)
    assert np.all(np.abs(value) < interval)
