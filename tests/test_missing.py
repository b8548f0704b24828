"""Missing steps, in every posterior: what they may hold, what they change, what they do not."""

import dataclasses

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_dvbf import data, posteriors, registry
from tfp_dvbf.data import batching
from tfp_dvbf.inference import kalman
from tfp_dvbf.layers import networks

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))
DENSE = [
    name for name in registry.names("posterior") if registry.class_of("posterior", name).has_density
]
ENCODERS = pytest.mark.parametrize("encoder", models.VECTOR_ENCODERS)
POSTERIORS_AND_ENCODERS = pytest.mark.parametrize(
    "posterior, encoder", models.POSTERIOR_AND_ENCODER
)


@pytest.fixture
def mask():
    """Gaps, a missing first step, and sequences of lengths 6 and 7."""
    mask = np.ones([12, 8], bool)
    mask[0, 3:5] = mask[1, 0] = mask[2, 0:2] = mask[3, 6:] = mask[4, 7] = mask[4, 2] = False
    return mask


def padding(mask):
    return np.minimum.accumulate(mask, axis=1)


def fitting(posterior, mask):
    mask = padding(mask) if posterior == "chain_iaf" else mask
    mask[:, 0] |= posterior == "chain_iaf"
    return mask


def last_observed(mask):
    """Returns the index of the last observed step of each sequence."""
    return mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)


def spoil(sequences, mask, value, controls=True):
    """Puts `value` in missing steps and, if `controls`, behind the last observed step."""
    x, u = sequences.observations.copy(), sequences.controls.copy()
    x[~mask] = value
    for row, last in enumerate(last_observed(mask)):
        u[row, last:] = value if controls else u[row, last:]
    return x, u


@POSTERIORS_AND_ENCODERS
def test_what_stands_in_a_missing_step_has_no_effect(sequences, mask, posterior, encoder):
    mask = fitting(posterior, mask)
    model = models.cached_model(posterior, encoder=encoder)
    results = []
    for value in [0.0, np.nan, 1e6]:
        x, u = spoil(sequences, mask, value, controls=False)
        terms = model.bound_terms(x, u, seed=1, mask=mask)
        results.append([*terms, *model.sample_posterior(x, u, 2, seed=1, mask=mask)])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert np.all(np.isfinite(a))
            np.testing.assert_array_equal(a, b)


@POSTERIORS_AND_ENCODERS
def test_controls_behind_the_last_observed_step_change_nothing_up_to_it(
    sequences, mask, posterior, encoder
):
    """Neither do they change the bound, of which nothing behind that step is a part."""
    mask = fitting(posterior, mask)
    model = models.cached_model(posterior, encoder=encoder)
    up_to_last = np.arange(8) <= last_observed(mask)[:, np.newaxis]
    results = []
    for value in [0.0, np.nan, 1e3]:
        x, u = spoil(sequences, mask, value)
        terms = [term.numpy() for term in model.bound_terms(x, u, seed=1, mask=mask)]
        draws = model.sample_posterior(x, u, 2, seed=1, mask=mask)
        results.append([*terms, *(tensor.numpy()[:, up_to_last] for tensor in draws)])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert np.all(np.isfinite(a))
            np.testing.assert_array_equal(a, b)


@POSTERIORS
def test_terms_of_missing_steps(sequences, mask, posterior):
    mask = fitting(posterior, mask)
    model = models.cached_model(posterior)
    terms = model.bound_terms(sequences.observations, sequences.controls, seed=1, mask=mask)
    for term in terms:
        np.testing.assert_array_equal(term.numpy()[0][~mask], 0.0)
        assert np.all(term.numpy()[0][mask] != 0)


@pytest.mark.parametrize("posterior", DENSE)
@pytest.mark.parametrize("transition", registry.names("transition"))
def test_a_missing_step_is_drawn_from_p(sequences, mask, posterior, transition):
    """The density the posterior reports there is that of the transition."""
    model = models.cached_model(posterior, transition=transition)
    batch = data.Batch(sequences.observations, sequences.controls, tf.constant(mask))
    noise = tf.random.stateless_normal([12, 8, 2], [0, 1])
    sample = models.sample_posterior(model, batch, noise)
    estimate = models.kl(model, sample, batch.controls, closed_form=False)
    np.testing.assert_allclose(estimate.numpy()[~mask], 0.0, atol=1e-4)
    # A step that `Innovation` infers is not far from p before it was trained.
    assert np.abs(estimate.numpy()[mask]).min() > 1e-4
    np.testing.assert_allclose(sample.states[1, 0], noise[1, 0], rtol=1e-6)


@pytest.mark.parametrize("trained", [False, True])
def test_a_gap_cannot_mislead_trajectory_iaf(sequences, trained):
    """A gap at test time, which training has not shown: its draws are the transition's own.

    Behind the gap the states are those of a sequence that starts in its last step.
    """
    model = models.adapted(models.small_model("trajectory_iaf"), sequences)
    if trained:
        model.compile(tf_keras.optimizers.Adam(1e-2), jit_compile=False)
        model.fit(batching.as_dataset(sequences), epochs=20, verbose=0)
    space, posterior = model.state_space_model, model.recognition_model.posterior
    mask = np.ones([12, 8], bool)
    mask[:, 3:5] = False
    batch = data.Batch(sequences.observations, sequences.controls, tf.constant(mask))
    noise = tf.random.stateless_normal([12, 8, 2], [0, 1])
    states = models.sample_posterior(model, batch, noise).states
    whole = models.sample_posterior(model, batch._replace(mask=None), noise).states
    np.testing.assert_allclose(states[:, :3], whole[:, :3], rtol=1e-5, atol=1e-6)
    for t in [3, 4]:
        controls = space.control_standardization(sequences.controls[:, t - 1])
        prior = space.transition(states[:, t - 1], controls)
        drawn = prior.loc + prior.scale.matvec(noise[:, t])
        np.testing.assert_allclose(states[:, t], drawn, rtol=1e-6, atol=1e-7)
    first = networks.diagonal_normal(states[:, 4] - noise[:, 4], tf.ones([12, 2]))
    _, inputs = models.encode(model, batch)
    inputs = posteriors.PosteriorInputs(*(tensor[:, 4:] for tensor in inputs))
    alone = posterior(space, first=first, inputs=inputs, noise=noise[:, 4:])
    np.testing.assert_allclose(states[:, 5:], alone.states[:, 1:], rtol=1e-4, atol=1e-5)
    assert np.abs(states[:, 5:] - whole[:, 5:]).max() > 1e-3


@POSTERIORS_AND_ENCODERS
def test_padding_changes_nothing(sequences, posterior, encoder):
    model = models.small_model(posterior, encoder=encoder)
    x, u = sequences.observations, sequences.controls + 5.0
    model.adapt(batching.as_dataset(data.Sequences(x, u)))
    mask = np.broadcast_to(np.arange(8) < 5, (12, 8))
    noise = tf.random.stateless_normal([12, 8, 2], [0, 1])
    whole = data.Batch(x, u, tf.constant(mask))
    short = models.sample_posterior(model, data.Batch(x[:, :5], u[:, :4]), noise[:, :5])
    padded = models.sample_posterior(model, whole, noise)
    np.testing.assert_allclose(padded.states[:, :5], short.states, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(padded.log_prob[:, :5], short.log_prob, rtol=1e-4, atol=1e-5)
    kl = model.bound_terms(x, u, seed=1, mask=mask).kl
    np.testing.assert_array_equal(kl[..., 5:], 0.0)
    followed = models.encode(model, whole)[1].features  # As `forecast` encodes its past.
    expected = models.encode(model, data.Batch(x[:, :5], u[:, :4]))[1].features
    np.testing.assert_allclose(followed[:, :4], expected, rtol=1e-5, atol=1e-6)


@POSTERIORS_AND_ENCODERS
def test_training_on_missing_steps(make_model, sequences, mask, posterior, encoder):
    mask = fitting(posterior, mask)
    weights = []
    model = make_model(posterior, encoder=encoder)
    model.compile(tf_keras.optimizers.SGD(1e-4), jit_compile=False)
    start = model.get_weights()
    for value in [np.nan, 7.0]:
        model.set_weights(start)
        model.optimizer.iterations.assign(0)
        x, u = spoil(sequences, mask, value)
        # Raw tensors, since `Sequences` would have replaced what is missing already.
        dataset = tf.data.Dataset.from_tensor_slices(
            {"observations": x, "controls": u, "mask": mask}
        ).batch(12)
        history = model.fit(dataset, epochs=2, verbose=0).history
        assert np.all(np.isfinite(history["loss"]))
        expected = history["neg_elbo"][0] * 12 / mask.sum()
        assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
        weights.append(model.get_weights())
    assert any(np.any(a != b) for a, b in zip(start, weights[0]))
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


def test_standardisation_leaves_out_missing_steps(make_model, sequences, mask):
    x, u = spoil(sequences, mask, 1e3)
    model = make_model()
    model.adapt(batching.as_dataset(data.Sequences(x, u, mask=mask), 5))
    model = model.state_space_model
    units = model.observation_standardization
    np.testing.assert_allclose(units.mean, sequences.observations[mask].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(units.scale, sequences.observations[mask].std(axis=0), rtol=1e-4)
    units = model.control_standardization
    applied = np.concatenate(
        [u[row, : 5 if row == 3 else 6 if row == 4 else 7] for row in range(12)]
    )
    np.testing.assert_allclose(units.mean, applied.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(units.scale, applied.std(axis=0), rtol=1e-4)


def test_bounds_with_missing_steps_against_the_kalman_filter(make_model, sequences, mask):
    """The evidence of the observed steps; missing ones are integrated out."""
    mask[:, 0] = False  # The untrained q(z[0] | x[0]) is no proposal that 4000 draws could mend.
    # The untrained q of this seed is close enough to p: 8 seeds of the draws stay within 0.5.
    model = make_model("innovation", seed=3, **models.LINEAR)
    x, u = sequences.observations, sequences.controls
    model.adapt(batching.as_dataset(sequences))
    space = model.state_space_model
    space.emission.raw_scale.assign([0.3] * 3)
    space.transition.raw_noise.assign(2.0 * tf.ones([1, 2, 2]))
    exact = kalman.log_prob(space, x, u, mask)
    changed = kalman.log_prob(space, *spoil(sequences, mask, 5.0), mask)
    np.testing.assert_allclose(exact, changed, rtol=1e-4)
    fivo = model.log_prob_bound(x, u, 4000, seed=1, objective="fivo", mask=mask)
    iwae = model.log_prob_bound(x, u, 4000, seed=1, objective="iwae", mask=mask)
    np.testing.assert_allclose(fivo, exact, atol=0.3)
    np.testing.assert_allclose(iwae, exact, atol=0.5)
    one_draw = model.log_prob_bound(x, u, 1, seed=1, objective="iwae", mask=mask)
    assert np.mean(one_draw) < np.mean(exact) - 1.0


@ENCODERS
def test_impute_keeps_what_is_observed_and_draws_what_is_not(sequences, mask, encoder):
    model = models.cached_model(encoder=encoder)
    x, u = spoil(sequences, mask, np.nan, controls=False)
    imputed = model.impute(x, u, mask, num_samples=3, seed=1).observations.numpy()
    for draw in imputed:
        np.testing.assert_array_equal(draw[mask], x[mask])
    assert np.all(imputed[0][~mask] != imputed[1][~mask])
    assert np.all(np.isfinite(imputed))
    whole = model.impute(
        sequences.observations, sequences.controls, np.ones_like(mask)
    ).observations[0]
    np.testing.assert_array_equal(whole, sequences.observations)


def test_masks_survive_files_and_slices(sequences, mask, tmp_path):
    x, u = spoil(sequences, mask, np.nan)
    masked = data.Sequences(x, u, mask=mask)
    assert np.all(masked.observations[~mask] == 0) and np.all(np.isfinite(masked.controls))
    data.save(tmp_path / "masked.npz", masked)
    loaded = data.load(tmp_path / "masked.npz")
    np.testing.assert_array_equal(loaded.mask, mask)
    np.testing.assert_array_equal(loaded[1:3].mask, mask[1:3])
    assert dataclasses.replace(sequences, mask=np.ones_like(mask)).mask is None
    batch = next(iter(batching.as_dataset(loaded, 12)))
    np.testing.assert_array_equal(batch["mask"], mask)


X, U, MASK = np.zeros([2, 4, 3]), np.zeros([2, 3, 1]), np.ones([2, 4])
GAP = np.array([[1, 1, 1, 1], [1, 0, 1, 1]])


@pytest.mark.parametrize(
    "x, mask, message",
    [
        (X, MASK[:, :3], r"`mask` must have shape \(2, 4\); got \(2, 3\)"),
        (X, 2 * MASK, r"`mask` must hold 0 \(missing\) and 1 \(observed\) only"),
        (X, [[1, 1, 1, 1], [0, 0, 0, 0]], "`mask` must leave an observed step in .*; 1 has none"),
        (X + np.nan, GAP, "`observations` must be finite; got nan in sequence 0, step 0"),
    ],
)
def test_bad_masks_are_refused(x, mask, message):
    with pytest.raises(ValueError, match=message):
        data.Sequences(x, U, mask=mask)


def test_chain_iaf_refuses_gaps():
    model = models.cached_model("chain_iaf")
    message = "`mask` must have no gaps for chain_iaf: its states all come from the first"
    with pytest.raises(ValueError, match=message):
        model.sample_posterior(X, U, mask=GAP)
    with pytest.raises(ValueError, match=message):
        model.adapt(batching.as_dataset(data.Sequences(X, U, mask=GAP)))
