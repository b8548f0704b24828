import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data, registry

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def assert_shapes(trajectory, samples, batch, steps):
    assert trajectory.states.shape == (samples, batch, steps, 2)
    assert trajectory.observation_mean.shape == (samples, batch, steps, 3)
    assert trajectory.observations.shape == (samples, batch, steps, 3)


@POSTERIORS
def test_shapes(sequences, posterior):
    model = models.cached_model(posterior)
    x, u = sequences.observations, sequences.controls
    assert_shapes(model.filter(x, u, num_samples=3, seed=1), 3, 12, 8)
    assert_shapes(model.reconstruct(x, u), 1, 12, 8)
    assert_shapes(model.generate(u, num_samples=3, seed=1), 3, 12, 8)
    assert_shapes(model.generate(u, x[:, :1], num_samples=3, seed=1), 3, 12, 8)
    assert_shapes(model.generate(u, initial_state=np.zeros((12, 2)), seed=1), 1, 12, 8)
    for context in [1, 2, 5]:
        assert_shapes(model.forecast(x[:, :context], u, num_samples=3, seed=1), 3, 12, 8)


def test_draws_are_a_function_of_the_seed(model, sequences):
    x, u = sequences.observations, sequences.controls
    for draw in [
        lambda seed: model.filter(x, u, 2, seed),
        lambda seed: model.generate(u, x[:, :1], None, 2, seed),
        lambda seed: model.forecast(x[:, :3], u, 2, seed),
    ]:
        for a, b, c in zip(draw(1), draw(1), draw(2)):
            np.testing.assert_array_equal(a, b)
            assert np.any(np.asarray(a) != c)
        assert np.any(np.asarray(draw(None).states) != draw(None).states)


@POSTERIORS
def test_samples_differ_from_each_other(sequences, posterior):
    model = models.cached_model(posterior)
    states = model.filter(sequences.observations, sequences.controls, 2, seed=1).states
    assert np.all(np.asarray(states[0]) != states[1])


@POSTERIORS
@pytest.mark.parametrize("encoder", ["filter", "smoother"])
@pytest.mark.parametrize("frames", [1, 3])
def test_what_each_state_sees(sequences, posterior, encoder, frames):
    """The gradient of z[0:t] by x[t:] and u[t-1:], and of z[0] by all frames past the context."""
    model = models.cached_model(posterior, encoder=encoder, initial_frames=frames)
    x, u = tf.constant(sequences.observations[:2]), tf.constant(sequences.controls[:2])
    noise = tf.random.stateless_normal([2, 8, 2], [0, 1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, u])
        states = models.sample_posterior(model, data.Batch(x, u), noise).states
        each = [states[:, : t + 1] for t in range(8)]

    def seen(target, source):
        gradient = tape.gradient(target, source, unconnected_gradients="zero")
        return np.flatnonzero(np.abs(gradient).sum(axis=(0, 2))).tolist()

    assert seen(each[0], x) == list(range(frames)) and seen(each[0], u) == []
    for t in range(frames - 1, 8):
        future = encoder == "smoother" and t > 0
        assert seen(each[t], x) == list(range(8 if future else t + 1))
        assert seen(each[t], u) == list(range(7 if future else t))


X, U = np.zeros((4, 5, 3)), np.zeros((4, 4, 1))
NAN = np.full((4, 1, 3), np.nan)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: m.filter(X[..., :2], U), r"`observations` must have shape \[batch, time, 3\]"),
        (
            lambda m: m.filter(X, U[:, :2]),
            r"`controls` must have shape \[4, 4 or 5, 1\]; got \(4, 2",
        ),
        (lambda m: m.filter(X, U, num_samples=0), "`num_samples` must be at least 1; got 0"),
        (lambda m: m.filter(X, U, num_samples=2.5), "`num_samples` must be an integer; got 2.5"),
        (
            lambda m: m.generate(U, None, np.full((2, 4, 2), np.nan), 2),
            "got nan in sample 0, sequence 0, dimension 0",
        ),
        (lambda m: m.filter(X + np.inf, U), "`observations` must be finite; got inf in sequence 0"),
        (lambda m: m.reconstruct(X[:, :1], U), "`observations` must have at least 2 steps; got 1"),
        (lambda m: m.generate(np.zeros((8, 6, 3))), r"`controls` must have .* got \(8, 6, 3\)"),
        (
            lambda m: m.generate(U + np.nan),
            "`controls` must be finite; got nan in sequence 0, step 0",
        ),
        (lambda m: m.generate(U, X), r"`initial_observations` must have shape \[4, 1, 3\]; got"),
        (lambda m: m.log_prob_bound(X, U, 0), "`num_samples` must be at least 1; got 0"),
        (
            lambda m: m.log_prob_bound(X, U, objective="nll"),
            "`objective` must be one of elbo, iwae, fivo; got 'nll'",
        ),
        (lambda m: m.generate(U, NAN), "`initial_observations` must be finite; got nan"),
        (lambda m: m.generate(U, X[:, :1], np.zeros((4, 2))), "not both"),
        (
            lambda m: m.generate(U, None, np.zeros((3, 2))),
            r"`initial_state` must have shape \[4, 2\]",
        ),
        (
            lambda m: m.generate(U, None, np.full((4, 2), np.nan)),
            "`initial_state` must be finite; got nan in sequence 0, dimension 0",
        ),
        (lambda m: m.forecast(X, U), "reach past the context of 5 observations; got 4 steps"),
        (lambda m: m.forecast(X[:3, :2], U), r"`controls` must have shape \[3, time, 1\]; got \(4"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(models.cached_model())


def test_more_initial_frames_than_there_are():
    model = models.cached_model(initial_frames=6)
    with pytest.raises(ValueError, match="`observations` must have at least 6 steps; got 5"):
        model.filter(X, U)
    with pytest.raises(ValueError, match=r"must have the 6 frames that q\(z\[0\]\) sees"):
        model.forecast(X[:, :2], U)
