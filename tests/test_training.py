"""Training with `fit`: what it lowers, reports and refuses, with XLA and without."""

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from models import adapted

from tfp_dvbf import data, registry
from tfp_dvbf.data import batching

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def test_a_constant_dimension_trains(make_model, sequences):
    observations = sequences.observations.copy()
    observations[..., 1] = 3.0
    constant = data.Sequences(observations, sequences.controls)
    model = adapted(make_model(), constant)
    model.compile(run_eagerly=True)
    history = model.fit(batching.as_dataset(constant), epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


@POSTERIORS
def test_fit_lowers_the_loss_and_reports_every_metric(make_model, sequences, posterior):
    model = adapted(make_model(posterior), sequences)
    model.compile(tf_keras.optimizers.Adam(1e-2), jit_compile=False)
    dataset = batching.as_dataset(sequences, 4, seed=1)
    history = model.fit(dataset, validation_data=dataset, epochs=8, verbose=0).history
    names = ["loss", "neg_elbo", "nll", "kl"]
    assert set(history) == {*names, *(f"val_{name}" for name in names)}
    assert history["loss"][-1] < history["loss"][0] - 0.5
    for prefix in ["", "val_"]:
        sums = np.add(history[f"{prefix}nll"], history[f"{prefix}kl"])
        np.testing.assert_allclose(history[f"{prefix}neg_elbo"], sums, rtol=1e-4)
    np.testing.assert_allclose(
        history["val_loss"], np.array(history["val_neg_elbo"]) / 8, rtol=1e-4
    )


@POSTERIORS
def test_xla_and_graph_train_alike(make_model, sequences, monkeypatch, posterior):
    # XLA draws other numbers from the same seed, so there is no noise here.
    monkeypatch.setattr(tf.random, "stateless_normal", lambda shape, seed: tf.zeros(shape))
    losses = []
    for jit_compile in [False, True]:
        model = adapted(make_model(posterior), sequences)
        model.compile(tf_keras.optimizers.Adam(1e-3), jit_compile=jit_compile)
        losses.append(
            model.fit(batching.as_dataset(sequences, 12), epochs=3, verbose=0).history["loss"]
        )
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_kl_weight_scales_the_training_loss_but_not_the_evaluation(make_model, sequences):
    model = adapted(make_model(), sequences)
    model.compile(tf_keras.optimizers.SGD(0.0), run_eagerly=True)
    model.kl_weight.assign(0.25)
    dataset = batching.as_dataset(sequences, 12)
    history = model.fit(dataset, validation_data=dataset, verbose=0).history
    expected = (history["nll"][0] + 0.25 * history["kl"][0]) / 8
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert history["val_loss"][0] == pytest.approx(history["val_neg_elbo"][0] / 8, rel=1e-5)


def test_predict_reconstructs(make_model, sequences):
    model = adapted(make_model(), sequences)
    predicted = model.predict(batching.as_dataset(sequences, 5), verbose=0)
    expected = model.reconstruct(sequences.observations, sequences.controls)
    for actual, values in zip(predicted, expected):
        np.testing.assert_allclose(actual, values[0], atol=1e-5)


@POSTERIORS
def test_every_weight_gets_a_gradient(sequences, posterior):
    model = models.cached_model(posterior, adapt=True, num_flows=2)
    with tf.GradientTape() as tape:
        terms = model.bound_terms(sequences.observations, sequences.controls, seed=1)
        loss = tf.reduce_mean(terms.nll + terms.kl)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)


def test_eager_steps_are_not_compiled(make_model, sequences):
    model = make_model()
    model.compile(run_eagerly=True)
    assert not model.jit_compile
    model.fit(batching.as_dataset(sequences, 4), verbose=0)


def test_compile_refuses_a_loss(make_model):
    with pytest.raises(ValueError, match="`loss` and `metrics` must be left out"):
        make_model().compile("adam", loss="mse")
