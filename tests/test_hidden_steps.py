"""Training with a posterior that is not shown all of what it explains."""

import models
import numpy as np
import oracles
import pytest
import tensorflow as tf

from tfp_dvbf import data
from tfp_dvbf.data import batching
from tfp_dvbf.inference import bounds, hidden_steps, kalman
from tfp_dvbf.layers import networks


def batch_of(sequences):
    return data.Batch(tf.constant(sequences.observations), tf.constant(sequences.controls))


@pytest.mark.parametrize("fraction, mean_length", [(0.3, 1.0), (0.5, 10.0), (0.8, 40.0)])
def test_as_many_steps_are_hidden_as_asked_in_runs_as_long(fraction, mean_length):
    found = hidden_steps.of((fraction, mean_length))
    shown = hidden_steps.draw_shown(found, 400, 1000, 3, [1, 2]).numpy()
    assert shown[:, :3].all()
    hidden = ~shown[:, 200:]  # The chain has forgotten its start.
    assert hidden.mean() == pytest.approx(fraction, abs=0.02)
    ends = (hidden[:, :-1] & ~hidden[:, 1:]).sum() / hidden[:, :-1].sum()
    assert 1 / ends == pytest.approx(mean_length, rel=0.05)


def test_a_fraction_hides_each_step_on_its_own():
    shown = hidden_steps.draw_shown(hidden_steps.of(0.7), 2000, 20, 1, [1, 2]).numpy()
    before, after = shown[:, 5:-1], shown[:, 6:]
    for state in [True, False]:
        np.testing.assert_allclose(after[before == state].mean(), 0.3, atol=0.02)


@pytest.mark.parametrize("posterior", ["gaussian", "innovation", "iaf", "trajectory_iaf"])
def test_what_is_hidden_costs_no_kl_and_has_to_be_explained(sequences, posterior):
    """The terms are those of a posterior to which the steps are missing, and p(x | z) counts."""
    model = models.cached_model(posterior, adapt=True)
    parts, batch = (model.state_space_model, model.recognition_model), batch_of(sequences)
    shown = np.ones(sequences.observations.shape[:2], bool)
    shown[:, 3:6] = False
    shown[4, -1] = False
    found = bounds.terms(*parts, batch, 2, [1, 2], shown=tf.constant(shown))
    missing = bounds.terms(*parts, batch._replace(mask=tf.constant(shown)), 2, [1, 2])
    np.testing.assert_array_equal(found.kl, missing.kl)
    np.testing.assert_array_equal(found.kl.numpy()[:, ~shown], 0.0)
    np.testing.assert_allclose(found.nll.numpy()[:, shown], missing.nll.numpy()[:, shown])
    assert np.all(found.nll.numpy()[:, ~shown] != 0)


def test_the_objective_stays_a_bound():
    """Against the Kalman filter: E ln w lies below ln p(x), and E w is p(x) for any q."""
    model = models.linear_model("innovation")
    space, recognition = model.state_space_model, model.recognition_model
    space.emission.raw_scale.assign([0.25, 0.25])  # Noise of 0.9: few draws will do.
    last = recognition.initial_posterior.network.layers[-1]
    wide = np.log(np.expm1(1.0)) - np.log(np.expm1(networks.INITIAL_SCALE))
    last.kernel.assign(tf.zeros_like(last.kernel))
    last.bias.assign([0.0, 0.0, wide, wide])  # q(z[0]) is p(z[0]).
    x = tf.random.stateless_normal([1, 4, 2], [0, 1])
    u = tf.random.stateless_normal([1, 3, 1], [0, 2])
    shown = tf.constant([[True, False, False, True]])
    found = bounds.terms(space, recognition, data.Batch(x, u), 20000, [5, 6], False, shown)
    log_weights = -tf.reduce_sum(found.nll + found.kl, axis=2)[:, 0]
    exact = kalman.log_prob(space, x, u)
    assert tf.reduce_mean(log_weights) < exact[0]
    oracles.within_standard_error(tf.exp(log_weights - exact[0]), 1.0)


def test_training_hides_steps_and_validation_does_not(make_model, sequences):
    """Another share of them at every step, the same at the same step of a run of the same seed."""
    model = make_model("innovation", hidden_steps=(0.5, 2.0))
    batch = batch_of(sequences)
    first, again, later = (model.draw_shown(batch, model.replica_seed(n)) for n in [0, 0, 1])
    np.testing.assert_array_equal(first, again)
    assert np.any(first.numpy() != later.numpy()) and not np.all(first)
    dataset = batching.as_dataset(sequences, 12)
    model.adapt(dataset)
    model.compile(jit_compile=False)
    plain = models.small_model("innovation")
    plain.adapt(dataset), plain.compile(jit_compile=False)
    for name in ["neg_elbo", "kl"]:
        figures = [each.evaluate(dataset, verbose=0, return_dict=True) for each in (model, plain)]
        assert figures[0][name] == pytest.approx(figures[1][name], rel=1e-5)
    history = model.fit(dataset, epochs=1, verbose=0).history
    assert history["kl"][0] < 0.9 * figures[1]["kl"]
    assert history["loss"][0] == pytest.approx(history["neg_elbo"][0] / 8, rel=1e-5)


def test_the_config_holds_what_is_hidden(make_model):
    model = make_model("innovation", hidden_steps=(0.5, 2.0))
    again = type(model).from_config(model.get_config())
    assert again.hidden_steps == hidden_steps.HiddenSteps(0.5, 2.0)
    assert make_model("innovation", hidden_steps=0.0).hidden_steps is None


@pytest.mark.parametrize(
    "value, message",
    [
        (1.0, r"`hidden_steps` must be a fraction in \[0, 1\)"),
        (-0.1, "must be a fraction"),
        (float("nan"), "must be a fraction"),
        ((0.5, 0.5), "the mean length of a run, 1 or more"),
        ((0.8, 2.0), "fraction 0.8 must have a mean length of 4 or more; got 2"),
    ],
)
def test_refuses(make_model, value, message):
    with pytest.raises(ValueError, match=message):
        make_model("innovation", hidden_steps=value)


def test_a_posterior_that_has_to_see_all_is_refused(make_model):
    with pytest.raises(ValueError, match="`hidden_steps` is not for chain_iaf"):
        make_model("chain_iaf", hidden_steps=0.5)
