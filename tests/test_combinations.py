"""Small sizes and every pair of choices: each model does all that a model can be asked for."""

import itertools

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf.serving import signatures

FACTORS = {
    "dx": (1, 2, 3),
    "dz": (1, 2, 3),
    "du": (0, 1, 2),
    "posterior": ("innovation", "gaussian", "iaf", "trajectory_iaf", "chain_iaf"),
    "transition": ("mlp", "locally_linear"),
    "emission": ("gaussian", "bernoulli"),
    "encoder": ("filter", "smoother"),
    "objective": ("elbo", "iwae"),
}
# Every pair of values of two factors stands in a row; chain_iaf has no iwae.
ROWS = [
    (1, 3, 2, "gaussian", "locally_linear", "bernoulli", "filter", "elbo"),
    (2, 1, 0, "iaf", "locally_linear", "gaussian", "smoother", "iwae"),
    (3, 2, 1, "innovation", "mlp", "gaussian", "filter", "iwae"),
    (2, 1, 1, "chain_iaf", "mlp", "bernoulli", "smoother", "elbo"),
    (1, 3, 0, "trajectory_iaf", "mlp", "gaussian", "smoother", "iwae"),
    (3, 2, 0, "innovation", "locally_linear", "bernoulli", "smoother", "elbo"),
    (3, 1, 2, "gaussian", "mlp", "gaussian", "smoother", "iwae"),
    (2, 2, 2, "trajectory_iaf", "mlp", "bernoulli", "filter", "iwae"),
    (1, 3, 1, "iaf", "locally_linear", "bernoulli", "filter", "elbo"),
    (1, 1, 0, "chain_iaf", "mlp", "gaussian", "filter", "elbo"),
    (3, 1, 1, "trajectory_iaf", "locally_linear", "bernoulli", "smoother", "elbo"),
    (3, 3, 2, "chain_iaf", "locally_linear", "bernoulli", "filter", "elbo"),
    (2, 3, 2, "innovation", "mlp", "bernoulli", "filter", "iwae"),
    (3, 2, 2, "iaf", "mlp", "gaussian", "smoother", "iwae"),
    (2, 2, 0, "gaussian", "mlp", "bernoulli", "smoother", "iwae"),
    (1, 2, 0, "chain_iaf", "locally_linear", "gaussian", "filter", "elbo"),
    (1, 1, 1, "innovation", "locally_linear", "bernoulli", "filter", "iwae"),
    (2, 2, 1, "gaussian", "locally_linear", "gaussian", "filter", "iwae"),
]
# A state of one dimension cannot turn, and but for its mean a rotation is like the others.
ROTATIONS = [
    (2, 3, 1, "innovation", "rotation", "gaussian", "filter", "iwae"),
    (1, 2, 0, "trajectory_iaf", "rotation", "bernoulli", "smoother", "elbo"),
]
BATCH, STEPS, DRAWS = 4, 6, 3


def pairs(row):
    return set(itertools.combinations(zip(FACTORS, row), 2))


def test_the_rows_cover_every_pair():
    covered = set().union(*map(pairs, ROWS))
    for (a, values), (b, others) in itertools.combinations(FACTORS.items(), 2):
        for x, y in itertools.product(values, others):
            if (x, y) != ("chain_iaf", "iwae"):
                assert ((a, x), (b, y)) in covered


def make(dx, dz, du, posterior, transition, emission, encoder, objective):
    parts = {"posterior": posterior, "transition": transition, "emission": emission}
    sizes = {"observation_shape": dx, "state_dim": dz, "control_dim": du, "num_bases": 2}
    return models.small_model(**parts, **sizes, encoder=encoder, objective=objective)


def arrays(dx, du, binary):
    rng = np.random.default_rng(0)
    x = rng.normal(size=[BATCH, STEPS, dx])
    x = (x > 0) if binary else x
    u = rng.normal(size=[BATCH, STEPS - 1, du]).astype(np.float32) if du else None
    return x.astype(np.float32), u


def assert_trajectory(found, dx, dz, samples=DRAWS):
    assert found.states.shape == (samples, BATCH, STEPS, dz)
    for observations in [found.observation_mean, found.observations]:
        assert observations.shape == (samples, BATCH, STEPS, dx)
        assert np.all(np.isfinite(observations))


NUM_FAST = 5
SLOW = [*ROWS[NUM_FAST:], *ROTATIONS]


@pytest.mark.parametrize("row", [*ROWS[:NUM_FAST], *models.marked(zip(SLOW), [])])
@models.functions_without_graphs()
def test_every_method_of_every_combination(row):
    dx, dz, du, *_ = row
    model = make(*row)
    x, u = arrays(dx, du, row[5] == "bernoulli")
    data = {"observations": x} | ({"controls": u} if du else {})
    model.adapt(data)
    model.compile("adam", run_eagerly=True)
    history = model.fit(data, validation_data=data, batch_size=BATCH, epochs=1, verbose=0)
    assert np.isfinite(history.history["val_neg_elbo"]).all()
    draws, ends = {"num_samples": DRAWS, "seed": 1}, {} if du else {"num_steps": STEPS}
    assert_trajectory(model.sample_posterior(x, u, **draws), dx, dz)
    assert_trajectory(model.reconstruct(x, u), dx, dz, 1)
    assert_trajectory(model.generate(u, x[:, :1], **draws, **ends), dx, dz)
    state = np.zeros([BATCH, dz])
    assert_trajectory(model.generate(u, initial_state=state, **draws, **ends), dx, dz)
    assert_trajectory(model.forecast(x[:, :2], u, **draws, **ends), dx, dz)
    for objective in model.bounds:
        bound = model.log_prob_bound(x, u, **draws, objective=objective)
        assert bound.shape == (BATCH,) and np.all(np.isfinite(bound))
    assert model.predict(data, verbose=0).states.shape == (BATCH, STEPS, dz)
    if model.recognition_model.posterior.takes_gaps:
        mask = np.ones([BATCH, STEPS], bool)
        mask[0, 2:4] = mask[1, 4:] = False
        assert_trajectory(model.impute(x, u, mask, **draws), dx, dz)
    if model.recognition_model.steps:
        filtered = model.filter(x, u, **draws)
        assert filtered.predicted_mean.shape == (BATCH, STEPS, dx)
        assert np.all(np.isfinite(filtered.log_evidence))
    else:
        with pytest.raises(ValueError, match="`filter` is not for"):
            model.filter(x, u)


def signature_arguments(model, x, u):
    """Returns the tensors of every signature, those of `filter_step` less the belief."""
    x, ones = tf.constant(x), tf.ones([BATCH, STEPS])
    steps = {"num_steps": tf.constant(STEPS)} if u is None else {}
    controls = {} if u is None else {"controls": tf.constant(u)}
    now = {} if u is None else {"controls": controls["controls"][:, 0]}
    seed, count = {"seed": tf.constant(1)}, {"num_samples": tf.constant(DRAWS)}
    first = {"initial_observations": x[:, :1]}
    whole = {"observations": x, **controls}
    return {
        "filter_init": {**first, "num_particles": tf.constant(DRAWS), **seed},
        "filter_step": {"observations": x[:, 1], **now, "observed": ones[:, 1], **seed},
        "sample_posterior": {**whole, "mask": ones, **seed},
        "forecast": {"observations": x[:, :2], "mask": ones[:, :2], **controls, **steps}
        | {**count, **seed},
        "generate": {**first, "mask": ones[:, :1], **controls, **steps, **count, **seed},
        "log_prob_bound": {**whole, "mask": ones, **count, **seed},
    }


@pytest.mark.parametrize(
    "row", models.marked(zip([*ROWS[:NUM_FAST], *ROTATIONS]), zip(ROWS[NUM_FAST:])), ids=str
)
def test_every_signature_of_every_combination(row):
    """As graphs of open sizes, as they are exported."""
    dx, _, du, *_ = row
    model = make(*row)
    x, u = arrays(dx, du, row[5] == "bernoulli")
    belief = {}
    for name, given in signature_arguments(model, x, u).items():
        signature = signatures.signatures_of(model)[name]
        if signature.reason is None:
            given = {**given, **belief} if name == "filter_step" else given
            graph = tf.function(signature.function, autograph=False)
            found = graph.get_concrete_function(**signature.specs)(**given)
            assert all(np.all(np.isfinite(tensor)) for tensor in found.values())
            if name == "filter_init":
                belief = {key: tensor for key, tensor in found.items() if key != "log_evidence"}


@pytest.mark.parametrize("posterior", ["innovation", "trajectory_iaf"])
def test_images(posterior):
    """Observations of rank three, in whole numbers, with missing steps."""
    model = models.small_model(posterior, observation_shape=(4, 3, 2))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, size=[BATCH, STEPS, 4, 3, 2]).astype(np.uint8)
    x[..., 0, 0, :] = 7  # Pixels that never change.
    u = rng.normal(size=[BATCH, STEPS - 1, 1]).astype(np.float32)
    mask = np.ones([BATCH, STEPS], bool)
    mask[0, 2:4] = False
    data = {"observations": x, "controls": u, "mask": mask}
    model.adapt(data)
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(model.fit(data, batch_size=BATCH, verbose=0).history["loss"]).all()
    drawn = model.impute(x, u, mask, num_samples=DRAWS, seed=1)
    assert drawn.observations.shape == (DRAWS, BATCH, STEPS, 4, 3, 2)
    np.testing.assert_array_equal(drawn.observations[0, 1], x[1].astype(np.float32))
    assert np.all(np.isfinite(model.log_prob_bound(x, u, 4, seed=1, objective="fivo", mask=mask)))
    belief = model.filter_init(x[:, :1], 4, seed=1)
    belief = model.filter_step(belief, x[:, 1], u[:, 0], seed=1)
    assert belief["predicted_observation_mean"].shape == (BATCH, 4, 3, 2)
