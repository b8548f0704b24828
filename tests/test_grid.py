"""The grid filter against the Kalman filter, and what it refuses."""

import models
import numpy as np
import pytest
import range_system
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import layers
from tfp_dvbf.inference import grid, kalman

AXIS = np.linspace(-6.0, 6.0, 121)


def linear(state_dim, coupled=0.0, seed=1):
    """Returns a linear `StateSpaceModel` whose dimensions move independently unless `coupled`."""
    model = models.make(
        2, state_dim=state_dim, seed=seed, **models.LINEAR, encoder_units=(8,), posterior_units=(8,)
    ).state_space_model
    transition = model.transition
    change = np.diag([-0.4, -0.1][:state_dim]).astype(np.float32)
    change[0, -1] += coupled
    transition.state_change.assign(change[np.newaxis])
    return model


def draw(steps=6, count=4):
    rng = np.random.default_rng(1)
    return rng.normal(size=[count, steps, 2]), rng.normal(size=[count, steps - 1, 1])


@pytest.mark.parametrize("state_dim", [1, 2])
def test_evidence_against_the_kalman_filter(state_dim):
    model, (x, u) = linear(state_dim), draw()
    model.transition.raw_noise.assign(
        0.5 * tf.ones_like(model.transition.raw_noise) * np.eye(state_dim)
    )
    found = grid.filter(model, x, u, AXIS)
    assert found.density is None
    np.testing.assert_allclose(found.log_evidence, kalman.log_prob(model, x, u), rtol=1e-4)


def test_the_density_is_that_of_the_kalman_filter():
    model, (x, u) = linear(1), draw()
    density = grid.filter(model, x, u, AXIS, keep_density=True).density
    _, means, covariances, *_ = kalman.distribution(model, u).forward_filter(
        tf.constant(x, tf.float32)
    )
    expected = scipy.stats.norm(means[..., 0, np.newaxis], np.sqrt(covariances[..., 0]))
    np.testing.assert_allclose(density, expected.pdf(AXIS), atol=2e-3)


def test_chunks_of_sequences_change_nothing(monkeypatch):
    model, (x, u) = linear(2), draw()
    whole = grid.filter(model, x, u, AXIS).log_evidence
    monkeypatch.setattr(grid, "CHUNK_BYTES", 1)
    np.testing.assert_allclose(grid.filter(model, x, u, AXIS).log_evidence, whole, rtol=1e-12)


def test_the_evidence_of_a_range_is_that_of_importance_sampling():
    """By a million draws from the prior of three steps, within its own standard error."""
    system = range_system.SYSTEMS["range"]._replace(num_steps=3)
    one = range_system.simulate(system, 1, seed=3)
    model = range_system.make_model(system, "gaussian", seed=1)
    exact = range_system.filtered(system.axis, model, one).log_evidence[0]
    rng = np.random.default_rng(1)
    z, log_weights = rng.normal(size=[10**6, 2]), 0.0
    for t in range(3):
        if t:
            z = 0.5 * z + [one.controls[0, t - 1, 0], 0.0] + rng.normal(size=z.shape)
        distance = np.linalg.norm(z, axis=-1)
        log_weights = log_weights + scipy.stats.norm(distance, 0.2).logpdf(one.observations[0, t])
    weights = np.exp(log_weights - exact)
    assert abs(weights.mean() - 1.0) < 4.0 * weights.std() / 1e3
    assert weights.std() / 1e3 < 0.02


def test_coupled_dimensions_are_refused():
    with pytest.raises(ValueError, match="The dimensions of the state must move independently"):
        grid.filter(linear(2, coupled=0.3), *draw(), AXIS)


@tf_keras.utils.register_keras_serializable("tests")
class Gusts(layers.Transition):
    """p(z[t] | z[t-1]) = N(0.5 z[t-1], diag(1 + z[t-1]_1^2, 1)): the noise of 0 depends on 1."""

    units = "user"

    def call(self, states, controls):
        scale = tf.stack([tf.sqrt(1.0 + states[..., 1] ** 2), tf.ones_like(states[..., 1])], -1)
        return tfp.distributions.MultivariateNormalDiag(0.5 * states, scale)


def test_a_noise_that_depends_on_the_other_dimension_is_refused():
    model = models.make(2, state_dim=2, seed=1, transition=Gusts()).state_space_model
    with pytest.raises(ValueError, match="The dimensions of the state must move independently"):
        grid.filter(model, *draw(), AXIS)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"controls": None}, "`controls` must be given"),
        ({"observations": np.full([4, 6, 2], np.nan)}, "`observations` must be finite"),
        ({"controls": np.full([4, 5, 1], np.inf)}, "`controls` must be finite"),
        ({"observations": np.zeros([4, 6])}, r"`observations` must have shape \[batch, time, 2\]"),
        ({"axis": AXIS**3}, "`axis` must be equidistant points that increase; got distances from"),
        ({"axis": AXIS[::-1]}, "`axis` must be equidistant points that increase; .* -0.1 to -0.1"),
        ({"axis": 3.0}, r"`axis` must be two finite points or more; got shape \(\)"),
        ({"axis": [0.0, np.nan]}, r"`axis` must be two finite points or more; got shape \(2,\)"),
        ({"axis": "wide"}, "`axis` must be numbers; got 'wide'"),
    ],
)
def test_one_line_for_bad_input(changes, message):
    x, u = draw()
    with pytest.raises(ValueError, match=message):
        grid.filter(linear(1), **{"observations": x, "controls": u, "axis": AXIS, **changes})


def test_a_list_of_points_and_no_controls():
    """As much as an array and controls of size 0; of one time step there are none."""
    system = range_system.SYSTEMS["abs"]._replace(num_steps=3)
    model = range_system.make_model(system, "gaussian", seed=1).state_space_model
    x = range_system.simulate(system, 2, seed=1).observations
    expected = grid.filter(model, x, np.zeros([2, 2, 0]), system.axis).log_evidence
    found = grid.filter(model, x, None, system.axis.tolist()).log_evidence
    np.testing.assert_array_equal(found, expected)
    one = grid.filter(model, x[:, :1], None, system.axis, keep_density=True)
    spacing = system.axis[1] - system.axis[0]
    assert np.all(np.isfinite(one.log_evidence))
    np.testing.assert_allclose(spacing * one.density.sum(axis=-1), 1.0)


def test_a_state_of_three_dimensions_is_refused():
    with pytest.raises(ValueError, match="must have 1 or 2 dimensions for a grid; got 3"):
        grid.filter(models.make(2, state_dim=3, seed=1).state_space_model, *draw(), AXIS)
