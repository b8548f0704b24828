import numpy as np
import oracles
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import tensorflow as tf

from tfp_dvbf import layers, registry
from tfp_dvbf.layers import networks, transitions

Z, U = tf.random.stateless_normal([5, 3], [0, 1]), tf.random.stateless_normal([5, 1], [0, 2])
TRANSITIONS = pytest.mark.parametrize("name", registry.names("transition"))


def make(name, **settings):
    defaults = {
        "mlp": {"hidden_units": (8,)},
        "locally_linear": {"hidden_units": (8,), "num_bases": 4},
    }
    settings = {**defaults.get(name, {}), **settings}
    transition = registry.class_of("transition", name)(**settings)
    transition.build(layers.Spec((3,), 1, 3, seed=1))
    transition(Z, U)
    return transition


def perturbed(transition):
    rng = np.random.default_rng(0)
    for weight in transition.trainable_variables:
        weight.assign_add(0.5 * rng.standard_normal(weight.shape).astype(np.float32))
    return transition


@TRANSITIONS
def test_layer_battery(name):
    def call(transition):
        density = transition(Z, U)
        covariance = tf.reshape(density.covariance(), [5, 9])
        return tf.concat([density.mean(), 10.0 * covariance], axis=-1)

    oracles.check_layer(make(name), call)


@TRANSITIONS
def test_the_first_state_is_standard_normal(name):
    density = make(name).initial()
    assert density.batch_shape == ()
    z = np.array([[0.3, -2.0, 0.1], [1.0, 0.0, 4.0]], np.float32)
    expected = scipy.stats.norm.logpdf(z).sum(axis=-1)
    np.testing.assert_allclose(density.log_prob(z), expected, rtol=1e-5)


@TRANSITIONS
def test_the_first_state_may_be_learned(name):
    transition = make(name, learns_initial=True)
    np.testing.assert_allclose(transition.initial().stddev(), 1.0, rtol=1e-6)
    transition.initial_loc.assign([1.0, -2.0, 0.0])
    transition.initial_raw_scale.assign([0.0, -100.0, 0.1])
    density = transition.initial()
    scale = [1.01, 0.01, 0.01 + np.log1p(np.expm1(1.0) * np.exp(networks.SCALE_SPEED * 0.1))]
    scale = np.divide(scale, np.max(scale))  # The widest direction is the unit of the state.
    z = np.array([[0.3, -2.02, 0.1], [1.0, -2.0, 4.0]], np.float32)
    expected = scipy.stats.norm.logpdf(z, [1.0, -2.0, 0.0], scale).sum(axis=-1)
    np.testing.assert_allclose(density.log_prob(z), expected, rtol=1e-4)
    oracles.check_layer(
        transition,
        lambda part: part(Z, U).log_prob(Z + 0.1) + part.initial().log_prob(Z),
    )


@TRANSITIONS
def test_leading_axes_are_kept(name):
    transition = perturbed(make(name))
    density = transition(Z[:, tf.newaxis, tf.newaxis], U[:, tf.newaxis, tf.newaxis])
    assert density.batch_shape == (5, 1, 1)
    np.testing.assert_allclose(density.mean()[:, 0, 0], transition(Z, U).mean(), rtol=1e-5)


@TRANSITIONS
@pytest.mark.parametrize("settings", [{}, {"state_bound": 0.5}])
def test_a_state_out_of_bounds_moves_as_one_at_the_bound(name, settings):
    transition = perturbed(make(name, **settings))
    assert transition.state_bound == settings.get("state_bound", networks.STATE_BOUND)
    bound = transition.state_bound
    far, near = transition(1e6 * tf.sign(Z), U), transition(bound * tf.sign(Z), U)
    np.testing.assert_array_equal(far.mean(), near.mean())
    np.testing.assert_array_equal(far.covariance(), near.covariance())


@pytest.mark.parametrize("bound", [0, -1.0, np.inf, np.nan, "3", True, None])
def test_a_bound_that_holds_nothing_is_refused(bound):
    with pytest.raises(ValueError, match="`state_bound` must be positive and finite; got"):
        layers.MLPTransition(state_bound=bound)


@pytest.mark.parametrize("linear_path", [False, True])
def test_mlp_density_is_the_documented_one(linear_path):
    transition = perturbed(make("mlp", linear_path=linear_path))
    density = transition(Z, U)
    inputs = tf.concat([Z, U], axis=-1)
    change, scale = networks.gaussian_parameters(transition.network(inputs))
    if linear_path:
        (matrices,) = transition.linear.get_weights()  # A over B, transposed.
        change = change + inputs.numpy() @ matrices
    next_z = np.asarray(Z) + 0.05
    expected = scipy.stats.norm.logpdf(next_z, Z + change, scale).sum(axis=-1)
    np.testing.assert_allclose(density.log_prob(next_z), expected, rtol=1e-4)


def test_a_linear_path_starts_at_nothing_and_is_a_part_of_the_layer():
    transition, plain = make("mlp", linear_path=True), make("mlp")
    np.testing.assert_array_equal(transition(Z, U).mean(), plain(Z, U).mean())
    oracles.check_layer(transition, lambda part: part(Z, U).mean() + part(Z, U).stddev())


def test_mlp_starts_near_the_identity():
    np.testing.assert_allclose(make("mlp", hidden_units=(256, 256))(Z, U).mean(), Z, atol=0.3)


def test_locally_linear_density_is_the_documented_one():
    transition = perturbed(make("locally_linear"))
    weights = scipy.special.softmax(transition.network(tf.concat([Z, U], axis=-1)), axis=-1)
    bases = [matrix.numpy() for matrix in transition.matrices()]
    density = transition(Z, U)
    next_z = Z.numpy() + 0.3
    for i in range(5):
        a, b, c = (np.tensordot(weights[i], matrix, axes=1) for matrix in bases)
        z, u = Z.numpy()[i], U.numpy()[i]
        assert np.all(np.diag(c) > 0) and np.all(np.triu(c, 1) == 0)
        expected = scipy.stats.multivariate_normal(a @ z + b @ u, c @ c.T)
        np.testing.assert_allclose(density.mean()[i], expected.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            density.log_prob(next_z)[i], expected.logpdf(next_z[i]), rtol=1e-4
        )


def test_one_base_matrix_is_linear_and_has_no_network():
    transition = perturbed(make("locally_linear", num_bases=1))
    assert len(transition.weights) == 3
    total = transition(2.0 * Z, 2.0 * U).mean()
    np.testing.assert_allclose(total, 2.0 * transition(Z, U).mean(), rtol=1e-5)


def test_rotation_density_is_the_documented_one():
    transition = perturbed(make("rotation"))
    transition.generators.assign(0.1 * transition.generators)  # It turns by 0.1 to 0.3 rad.
    generators, b, raw_scale = (weight.numpy() for weight in transition.weights)
    scale = 1e-4 + np.log1p(np.expm1(0.1) * np.exp(networks.SCALE_SPEED * raw_scale))
    density, next_z = transition(Z, U), Z.numpy() + 0.3
    for i in range(5):
        z, u = Z.numpy()[i], U.numpy()[i]
        upper = np.tensordot([1.0, *z], generators, axes=1)
        mean = scipy.linalg.expm(upper - upper.T) @ z + b @ u
        np.testing.assert_allclose(density.mean()[i], mean, rtol=1e-4, atol=1e-5)
        expected = scipy.stats.norm.logpdf(next_z[i], mean, scale).sum()
        np.testing.assert_allclose(density.log_prob(next_z)[i], expected, rtol=1e-3)


def test_rotation_keeps_the_length_of_a_state():
    moved = make("rotation")(Z, tf.zeros_like(U)).mean()
    np.testing.assert_allclose(*(np.linalg.norm(z, axis=-1) for z in (moved, Z)), rtol=1e-3)


@pytest.mark.parametrize("dim", [2, 3, 32])
def test_no_turn_lengthens_a_state(dim):
    """At any size of S; one of less than a radian is exact to a percent."""
    rng = np.random.default_rng(dim)
    matrices = rng.normal(size=[50, dim, dim]) * np.geomspace(1e-3, 100.0, 50)[:, None, None]
    skew = np.float32(matrices - matrices.transpose(0, 2, 1))
    z = np.float32(rng.normal(size=[50, dim]))
    turned = transitions.turn(skew, z)
    lengths = [np.linalg.norm(each, axis=-1) for each in (turned, z)]
    assert np.all(lengths[0] <= lengths[1] * (1.0 + 1e-5))
    small = np.linalg.norm(skew, axis=(1, 2)) < 1.0
    expected = [scipy.linalg.expm(s) @ each for s, each in zip(skew[small], z[small])]
    assert np.any(small)
    np.testing.assert_allclose(turned[small], expected, atol=0.01)
    with tf.GradientTape() as tape:
        zero = tf.zeros([dim, dim])
        tape.watch(zero)
        value = transitions.turn(zero, z[0])
    assert np.all(np.isfinite(tape.gradient(value, zero)))


@pytest.mark.parametrize("c", [0.5, 2.0])
def test_a_pendulum_is_a_rotation(c):
    """In z = (cos θ + c, sin θ, a w), a^2 = c / 15, where dθ/dt = w and dw/dt = 15 sin θ + 3 u."""
    step = 1e-3
    a = np.sqrt(c / 15.0)
    transition = make("rotation")
    generators = np.zeros([4, 3, 3])
    generators[0, 1, 2] = -c / a * step
    generators[3, 0, 1] = -step / a
    transition.generators.assign(generators)
    transition.control_matrix.assign([[0.0], [0.0], [3.0 * a * step]])
    rng = np.random.default_rng(0)
    angle, speed, u = rng.uniform(-np.pi, np.pi, 50), rng.uniform(-8, 8, 50), rng.normal(size=50)
    z = np.stack([np.cos(angle) + c, np.sin(angle), a * speed], axis=-1)
    rates = [-np.sin(angle) * speed, np.cos(angle) * speed, a * (15.0 * np.sin(angle) + 3.0 * u)]
    mean = transition(tf.constant(z, tf.float32), tf.constant(u[:, None], tf.float32)).mean()
    np.testing.assert_allclose((mean - z) / step, np.stack(rates, axis=-1), atol=0.05)


def test_one_state_cannot_turn():
    with pytest.raises(ValueError, match="`state_dim` must be at least 2 for a rotation, .* got 1"):
        layers.RotationTransition().build(layers.Spec((3,), 1, 1, seed=1))


@pytest.mark.parametrize(
    "make_part, name",
    [
        (layers.MLPTransition, "linear_path"),
        (layers.MLPTransition, "learns_initial"),
    ],
)
def test_flags_are_true_or_false(make_part, name):
    with pytest.raises(ValueError, match=f"`{name}` must be True or False; got 'no'"):
        make_part(**{name: "no"})


def test_locally_linear_starts_near_the_identity():
    np.testing.assert_allclose(make("locally_linear")(Z, U).mean(), Z, atol=0.6)


@pytest.mark.parametrize("value", [0, True, 2.0])
def test_num_bases_is_a_positive_integer(value):
    with pytest.raises(ValueError, match=f"`num_bases` must be .*; got {value}"):
        layers.LocallyLinearTransition(num_bases=value)
