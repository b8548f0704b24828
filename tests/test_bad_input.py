"""One line each for bad input, in arrays and in a graph."""

import models
import numpy as np
import pytest
import tensorflow as tf

X, U = np.zeros((4, 5, 3)), np.zeros((4, 4, 1))


NAN = np.full((4, 1, 3), np.nan)


RAGGED = tf.ragged.constant([[[0.0] * 3] * 2, [[0.0] * 3] * 4], inner_shape=(3,))


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda m: m.sample_posterior(X[..., :2], U),
            r"`observations` must have shape \[batch, time, 3\]; got \(4, 5, 2\)",
        ),
        (
            lambda m: m.sample_posterior(X, U[:, :2]),
            r"`controls` must have shape \[4, 4 or 5, 1\]; got \(4, 2",
        ),
        (
            lambda m: m.sample_posterior(X, U, num_samples=0),
            "`num_samples` must be at least 1; got 0",
        ),
        (
            lambda m: m.sample_posterior(X, U, num_samples=2.5),
            "`num_samples` must be an integer; got 2.5",
        ),
        (
            lambda m: m.generate(U, None, np.full((2, 4, 2), np.nan), 2),
            "got nan in sample 0, sequence 0, dimension 0",
        ),
        (
            lambda m: m.sample_posterior(X + np.inf, U),
            "`observations` must be finite; got inf in sequence 0, step 0, dimension 0; give a `ma",
        ),
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
            lambda m: m.generate(U, None, np.zeros(2)),
            r"`initial_state` must have shape \[4, 2\] or \[1, 4, 2\]; got \(2,\)",
        ),
        (
            lambda m: m.generate(U, None, np.full((4, 2), np.nan)),
            "`initial_state` must be finite; got nan in sequence 0, dimension 0",
        ),
        (lambda m: m.forecast(X, U), "reach past the context of 5 observations; got 4 steps"),
        (lambda m: m.forecast(X[:3, :2], U), r"`controls` must have shape \[3, time, 1\]; got \(4"),
        (
            lambda m: m.forecast(X[:, :2], U, mask=np.ones([4, 3])),
            r"`mask` must have shape \[4, 2\]; got \(4, 3\)",
        ),
        (
            lambda m: m.generate(U, X[:, :1], mask=np.ones([4, 2])),
            r"`mask` must have shape \[4, 1\]; got \(4, 2\)",
        ),
        (
            lambda m: m.sample_posterior(X, U, mask=np.full([4, 5], 0.5)),
            r"`mask` must hold 0 \(missing\) and 1 \(observed\) only",
        ),
        (
            lambda m: m.sample_posterior(X, U, mask=np.eye(4, 5)[::-1] * [[1], [1], [0], [1]]),
            "`mask` must leave an observed step in every sequence; 2 has none",
        ),
        (lambda m: m.sample_posterior(X, None), "`controls` must be given"),
        (
            lambda m: m.sample_posterior([X[0], X[1, :3]], U[:2]),
            "`observations` must be numeric; got sequences of different lengths. Pad",
        ),
        (
            lambda m: m.sample_posterior(RAGGED, U[:2]),
            "`observations` must be numeric; got a RaggedTensor. Pad",
        ),
        (
            lambda m: m.sample_posterior(X.astype(str), U),
            "`observations` must be numeric; got dtype <U",
        ),
        (
            lambda m: m.sample_posterior(X[:0], U[:0]),
            r"`observations` must have shape \[batch, time, 3\]; got \(0, 5, 3\)",
        ),
        (
            lambda m: m.sample_posterior(X[0], U[0]),
            r"`observations` must have shape \[batch, time, 3\]; got \(5, 3\)",
        ),
        (lambda m: m.generate(U, mask=np.ones((4, 1))), "`mask` must come with `initial_observ"),
        (lambda m: m.generate(U, num_steps=9), "`num_steps` must be left out where `controls`"),
        (lambda m: m.forecast(X[:, :2], U, num_steps=9), "`num_steps` must be left out where"),
        (lambda m: m.generate(U, seed=1.5), "`seed` must be an integer; got 1.5"),
        (lambda m: m.generate(U, seed=tf.constant(1.7)), "`seed` must be an integer; got a tens"),
        (
            lambda m: m.filter_step(m.filter_init(X[:, :1]), X[:, 1], U[:, 0], np.full(4, 0.5)),
            "`observed` must hold 0",
        ),
        (
            lambda m: m.filter(X, U, mask=RAGGED[..., 0]),
            "`mask` must be numeric; got a RaggedTensor",
        ),
        (lambda m: m.filter(X, U, mask=[[1], [1, 1]]), "`mask` must be numeric; got sequences of"),
        (lambda m: m.filter(X, U, mask=[["a"] * 5] * 4), "`mask` must be numeric; got dtype <U1"),
        (
            lambda m: m.filter(tf.fill([4, 5, 3], "a"), U),
            "`observations` must be numeric; got dtype string",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(models.cached_model())


def test_more_initial_steps_than_there_are():
    model = models.cached_model(initial_frames=6)
    with pytest.raises(ValueError, match="`observations` must have at least 6 steps; got 5"):
        model.sample_posterior(X, U)
    with pytest.raises(ValueError, match=r"must have the 6 steps that q\(z\[0\]\) sees, or more"):
        model.forecast(X[:, :2], U)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda m, x, u: m.sample_posterior(x / 0.0, u).states,
            "`observations` must be finite; give a `mask` of the steps that are observed",
        ),
        (lambda m, x, u: m.forecast(x[:, :2], u / 0.0).states, "`controls` must be finite"),
        (lambda m, x, u: m.generate(u / 0.0).states, "`controls` must be finite"),
        (lambda m, x, u: m.log_prob_bound(x / 0.0, u), "`observations` must be finite"),
    ],
)
def test_rules_hold_in_a_graph(call, message):
    model = models.cached_model()
    graph = tf.function(lambda x, u: call(model, x, u))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graph(tf.zeros([4, 5, 3]), tf.zeros([4, 4, 1]))


def test_sizes_that_a_graph_learns_when_it_runs():
    """The rule speaks first, not the operation that would fail without it."""
    model = models.cached_model()
    specs = [tf.TensorSpec([None, 5, 1]), tf.TensorSpec([None, 2])]
    generate = tf.function(
        lambda u, z: model.generate(u, initial_state=z, seed=1).states, specs, autograph=False
    )
    assert generate(tf.zeros([4, 5, 1]), tf.zeros([4, 2])).shape == (1, 4, 6, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`initial_state` must have the batch"):
        generate(tf.zeros([4, 5, 1]), tf.zeros([3, 2]))

    each = tf.function(
        lambda u, z: model.generate(u, initial_state=z, num_samples=2, seed=1).states,
        [specs[0], tf.TensorSpec([None, None, 2])],
        autograph=False,
    )
    assert each(tf.zeros([4, 5, 1]), tf.zeros([2, 4, 2])).shape == (2, 4, 6, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have a state for each of the"):
        each(tf.zeros([4, 5, 1]), tf.zeros([3, 4, 2]))

    free = models.cached_model(control_dim=0)
    terms = tf.function(
        lambda x: free.bound_terms(x, seed=1).nll, [tf.TensorSpec([None, None, 3])], autograph=False
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have at least 2 steps"):
        terms(tf.zeros([4, 0, 3]))
