"""What holds of every posterior: `call` is the scan of `step`, and gaps start it anew."""

import numpy as np
import oracles
import pytest
import tensorflow as tf
from posterior_cases import (
    ALL,
    BATCH,
    GAPS,
    INPUTS,
    NOISE,
    STEPS,
    VALID,
    draw,
    make,
    make_first,
    make_model,
    masks,
    perturb,
    step_by_step,
    with_gradients,
)

from tfp_dvbf import posteriors, registry
from tfp_dvbf.layers import networks


@pytest.fixture(scope="module", params=registry.names("transition"))
def each_model(request):
    return make_model(request.param)


@pytest.fixture(scope="module")
def model():
    return make_model("mlp")


@pytest.fixture(scope="module")
def first():
    return make_first()


@ALL
def test_call_is_the_scan_of_step(name, model, first):
    """In states, ln q and gradients, with missing steps and without."""
    posterior = perturb(make(name), model, first)
    for observed in masks(posterior):
        actual, expected = (
            with_gradients(function, posterior, model, first, observed)
            for function in [draw, step_by_step]
        )
        for a, b in zip(actual, expected):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
        assert all(np.any(gradient) for gradient in actual[-len(posterior.trainable_variables) :])


@pytest.mark.parametrize("receptive_field", [1, 4, 64])
def test_trajectory_iaf_is_its_scan_at_any_reach(receptive_field, model, first):
    posterior = make("trajectory_iaf", receptive_field=receptive_field)
    perturb(posterior, model, first)
    for observed in masks(posterior):
        states, log_prob = step_by_step(posterior, model, first, observed=observed)
        sample = draw(posterior, model, first, observed=observed)
        np.testing.assert_allclose(states, sample.states, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(log_prob, sample.log_prob, rtol=1e-5, atol=1e-5)


@ALL
def test_an_observed_mask_changes_nothing(name, model, first):
    posterior = perturb(make(name), model, first)
    plain = draw(posterior, model, first)
    masked = draw(posterior, model, first, observed=tf.ones([BATCH, STEPS - 1, 1], tf.bool))
    np.testing.assert_allclose(masked.states, plain.states, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(masked.log_prob, plain.log_prob, rtol=1e-5, atol=1e-5)


@ALL
def test_missing_steps_are_drawn_from_the_transition(name, each_model, first):
    """With the same noise and with its density, whatever the posterior; q is p there."""
    posterior = perturb(make(name), each_model, first)
    observed = masks(posterior)[1]
    missing = ~observed.numpy()[..., 0]
    sample = draw(posterior, each_model, first, observed=observed)
    prior = each_model.transition_distribution(sample.states[:, :-1], INPUTS.controls)
    expected = prior.loc + prior.scale.matvec(NOISE[:, 1:])
    later = sample.states[:, 1:].numpy()
    np.testing.assert_allclose(later[missing], expected.numpy()[missing], rtol=1e-6, atol=1e-6)
    assert np.abs(later - expected)[~missing].min() > 1e-5
    if posterior.has_density:
        log_prior = prior.log_prob(sample.states[:, 1:]).numpy()
        log_prob = sample.log_prob[:, 1:].numpy()
        np.testing.assert_allclose(log_prob[missing], log_prior[missing], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["drift", *VALID])
def test_the_recursion_starts_anew_behind_a_gap(name, model, first):
    """What follows is what a sequence has that starts in the last missing step."""
    posterior = perturb(make(name), model, first)
    sample = draw(posterior, model, first, observed=tf.constant(GAPS))
    for row, gap in [(0, 4), (1, 1)]:  # z[gap] is the last of a gap.
        noise = NOISE[row : row + 1, gap:]
        inputs = posteriors.PosteriorInputs(*(tensor[row : row + 1, gap:] for tensor in INPUTS))
        loc = sample.states[row : row + 1, gap] - noise[:, 0]
        start = networks.diagonal_normal(loc, tf.ones_like(loc))
        alone = draw(posterior, model, start, inputs, noise)
        np.testing.assert_allclose(sample.states[row, gap:], alone.states[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            sample.log_prob[row, gap + 1 :], alone.log_prob[0, 1:], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", registry.names("posterior"))
def test_layer_battery(name, model, first):
    def call(posterior):
        sample = draw(posterior, model, first)
        return tf.concat([sample.states, sample.log_prob[..., tf.newaxis]], axis=-1)

    several = {"num_flows": 2} if "iaf" in name else {}
    posterior = make(name, **several)
    call(posterior)
    oracles.check_layer(posterior, call)


@ALL
def test_states_depend_on_no_later_input(name, model, first):
    posterior = make(name)
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        states = draw(posterior, model, first).states[:, :4]
    gradients = tape.gradient(states, INPUTS, unconnected_gradients="zero")
    by_step = [np.abs(gradient).sum(axis=(0, 2)) for gradient in gradients]
    assert np.all(by_step[0][:3] > 0) and np.all(by_step[1][:3] > 0)
    np.testing.assert_array_equal(np.array(by_step)[:, 3:], 0.0)


def test_a_posterior_must_define_its_step():
    with pytest.raises(NotImplementedError, match="Posterior must implement `step`"):
        posteriors.Posterior().step(None, {}, None, None)
