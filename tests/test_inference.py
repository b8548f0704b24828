import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import choices, data, datasets, evaluation

POSTERIORS = pytest.mark.parametrize("posterior", choices.POSTERIORS)


@pytest.fixture
def model(make_model, sequences):
    model = make_model()
    model.adapt(datasets.as_dataset(sequences))
    return model


def assert_shapes(trajectory, samples, batch, steps):
    assert trajectory.states.shape == (samples, batch, steps, 2)
    assert trajectory.observation_mean.shape == (samples, batch, steps, 3)
    assert trajectory.observations.shape == (samples, batch, steps, 3)


@POSTERIORS
def test_shapes(make_model, sequences, posterior):
    model = make_model(posterior)
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


def test_generation_starts_where_it_is_told(model, sequences):
    x, u = sequences.observations, sequences.controls
    state = np.full((12, 2), 0.7, np.float32)
    generated = model.generate(u, initial_state=state, num_samples=4, seed=1)
    np.testing.assert_array_equal(generated.states[:, :, 0], np.broadcast_to(state, (4, 12, 2)))

    density = model.initial_posterior(model.observation_standardization(x[:, :1]))
    draws = model.generate(u, x[:, :1], num_samples=4000, seed=1).states[:, :, 0]
    oracles.within_standard_error(draws, density.mean())
    oracles.within_standard_error(tf.square(draws - density.mean()), density.variance())

    draws = model.generate(u[:2], num_samples=4000, seed=1).states[:, :, 0]
    oracles.within_standard_error(draws, 0.0)
    oracles.within_standard_error(tf.square(draws), 1.0)


def test_one_step_of_generation_has_the_moments_of_the_transition(model, sequences):
    u = sequences.controls[:2, :1]
    state = np.array([[0.5, -0.5], [1.0, 0.0]], np.float32)
    density = model.transition(state, model.control_standardization(u)[:, 0])
    draws = model.generate(u, initial_state=state, num_samples=4000, seed=1).states[:, :, 1]
    oracles.within_standard_error(draws, density.mean())
    oracles.within_standard_error(tf.square(draws - density.mean()), density.variance())


def test_deterministic_generation_is_the_recursion_of_the_means(model, sequences):
    x, u = sequences.observations, sequences.controls
    generated = model.generate(u, x[:, :1], num_samples=2, seed=1, deterministic=True)
    state = model.initial_posterior(model.observation_standardization(x[:, :1])).mean()
    standardised = model.control_standardization(u)
    for t in range(8):
        np.testing.assert_allclose(generated.states[0, :, t], state, atol=1e-5)
        if t < 7:
            state = model.transition(state, standardised[:, t]).mean()
    np.testing.assert_array_equal(generated.states[0], generated.states[1])
    np.testing.assert_array_equal(generated.observations, generated.observation_mean)


def test_forecast_goes_on_from_the_last_filtered_state_under_the_next_control(model, sequences):
    x, u = sequences.observations[:2], sequences.controls[:2]
    states = model.forecast(x[:, :4], u, num_samples=4000, seed=1).states
    next_control = np.broadcast_to(model.control_standardization(u[:, 3]), (4000, 2, 1))
    density = model.transition(states[:, :, 3], next_control)
    oracles.within_standard_error(states[:, :, 4] - density.mean(), 0.0)
    other = u.copy()
    other[:, 5:] = 1.0
    changed = model.forecast(x[:, :4], other, num_samples=4000, seed=1).states
    np.testing.assert_array_equal(changed[:, :, :6], states[:, :, :6])
    assert np.all(np.any(changed[:, :, 6] != states[:, :, 6], axis=-1))


def test_forecast_filters_its_context(model, sequences):
    x, u = sequences.observations, sequences.controls
    draws = model.forecast(x[:1, :4], u[:1], num_samples=3000, seed=1).states
    filtered = model.filter(x[:1, :4], u[:1, :3], num_samples=3000, seed=2).states
    oracles.within_standard_error(draws[:, :, :4], tf.reduce_mean(filtered, axis=0), num_errors=8)


@POSTERIORS
def test_samples_differ_from_each_other(make_model, sequences, posterior):
    model = make_model(posterior)
    states = model.filter(sequences.observations, sequences.controls, 2, seed=1).states
    assert np.all(np.asarray(states[0]) != states[1])


@POSTERIORS
@pytest.mark.parametrize("encoder", ["filter", "smoother"])
@pytest.mark.parametrize("frames", [1, 3])
def test_what_each_state_sees(make_model, sequences, posterior, encoder, frames):
    """The gradient of z[0:t] by x[t:] and u[t-1:], and of z[0] by all frames past the context."""
    model = make_model(posterior, encoder=encoder, initial_frames=frames)
    x, u = tf.constant(sequences.observations[:2]), tf.constant(sequences.controls[:2])
    noise = tf.random.stateless_normal([2, 8, 2], [0, 1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, u])
        states = model._sample_posterior(data.Batch(x, u), noise).states
        each = [states[:, : t + 1] for t in range(8)]

    def seen(target, source):
        gradient = tape.gradient(target, source, unconnected_gradients="zero")
        return np.flatnonzero(np.abs(gradient).sum(axis=(0, 2))).tolist()

    assert seen(each[0], x) == list(range(frames)) and seen(each[0], u) == []
    for t in range(frames - 1, 8):
        future = encoder == "smoother" and t > 0
        assert seen(each[t], x) == list(range(8 if future else t + 1))
        assert seen(each[t], u) == list(range(7 if future else t))


@POSTERIORS
@pytest.mark.parametrize("encoder", ["filter", "smoother"])
def test_generation_reads_no_frame_past_its_context(make_model, sequences, posterior, encoder):
    model = make_model(posterior, encoder=encoder, initial_frames=2)
    u, frames = sequences.controls, sequences.observations.copy()
    expected = model.generate(u, frames[:, :2], num_samples=2, seed=1)
    forecast = model.forecast(frames[:, :4], u, num_samples=2, seed=1)
    frames[:, 4:] = np.nan
    np.testing.assert_array_equal(forecast.states, model.forecast(frames[:, :4], u, 2, 1).states)
    whole = sequences[:]
    means = evaluation.generated_means(model, whole, num_samples=2, seed=1)
    np.testing.assert_array_equal(means, expected.observation_mean)
    whole.observations[:, 2:] = np.nan
    actual = evaluation.generated_means(model, whole, num_samples=2, seed=1)
    np.testing.assert_array_equal(actual, expected.observation_mean)


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
            "`initial_state` must be finite; got nan in row 0, column 0",
        ),
        (lambda m: m.forecast(X, U), "reach past the context of 5 observations; got 4 steps"),
        (lambda m: m.forecast(X[:3, :2], U), r"`controls` must have shape \[3, time, 1\]; got \(4"),
    ],
)
def test_bad_input_is_refused(make_model, call, message):
    with pytest.raises(ValueError, match=message):
        call(make_model())


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
        model.log_prob_bound(X, U, objective=objective)


def test_more_initial_frames_than_there_are(make_model):
    model = make_model(initial_frames=6)
    with pytest.raises(ValueError, match="`observations` must have at least 6 steps; got 5"):
        model.filter(X, U)
    with pytest.raises(ValueError, match=r"must have the 6 frames that q\(z\[0\]\) sees"):
        model.forecast(X[:, :2], U)
