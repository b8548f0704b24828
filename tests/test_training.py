"""Training with `fit`: what it lowers, reports and refuses, with XLA and without."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from models import adapted, cached_model

from tfp_dvbf import data, registry
from tfp_dvbf.data import batching
from tfp_dvbf.layers import philox

POSTERIORS = pytest.mark.parametrize("posterior", registry.names("posterior"))


def test_a_constant_dimension_trains(make_model, sequences):
    observations = sequences.observations.copy()
    observations[..., 1] = 3.0
    constant = data.Sequences(observations, sequences.controls)
    model = adapted(make_model(), constant)
    model.compile(jit_compile=False)
    history = model.fit(batching.as_dataset(constant), epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


@POSTERIORS
def test_fit_lowers_the_loss_and_reports_every_metric(make_model, sequences, posterior):
    model = adapted(make_model(posterior), sequences)
    model.compile(tf_keras.optimizers.Adam(3e-3), jit_compile=False)
    dataset = batching.as_dataset(sequences, 4, seed=1)
    history = model.fit(dataset, validation_data=dataset, epochs=15, verbose=0).history
    names = ["loss", "neg_elbo", "nll", "kl"]
    assert set(history) == {*names, *(f"val_{name}" for name in names)}
    assert history["loss"][-1] < history["loss"][0] - 0.5
    for prefix in ["", "val_"]:
        sums = np.add(history[f"{prefix}nll"], history[f"{prefix}kl"])
        np.testing.assert_allclose(history[f"{prefix}neg_elbo"], sums, rtol=1e-4)
    np.testing.assert_allclose(
        history["val_loss"], np.array(history["val_neg_elbo"]) / 8, rtol=1e-4
    )


def test_xla_and_graph_train_alike(make_model, sequences, monkeypatch):
    # XLA draws other numbers from the same seed, so there is no noise here.
    monkeypatch.setattr(philox, "normal", lambda shape, seed: tf.zeros(shape))
    losses = []
    for jit_compile in [False, True]:
        model = adapted(make_model(), sequences)
        model.compile(tf_keras.optimizers.Adam(1e-3), jit_compile=jit_compile)
        losses.append(
            model.fit(batching.as_dataset(sequences, 12), epochs=3, verbose=0).history["loss"]
        )
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_kl_weight_scales_the_training_loss_but_not_the_evaluation(make_model, sequences):
    model = adapted(make_model(), sequences)
    model.compile(tf_keras.optimizers.SGD(0.0), jit_compile=False)
    model.kl_weight.assign(0.25)
    dataset = batching.as_dataset(sequences, 12)
    history = model.fit(dataset, validation_data=dataset, verbose=0).history
    expected = (history["nll"][0] + 0.25 * history["kl"][0]) / 8
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert history["val_loss"][0] == pytest.approx(history["val_neg_elbo"][0] / 8, rel=1e-5)


def test_predict_reconstructs(model, sequences):
    """Without the three rows of weight 0 that fill the last batch."""
    predicted = model.predict(batching.as_dataset(sequences, 5), verbose=0)
    expected = model.reconstruct(sequences.observations, sequences.controls)
    for actual, values in zip(predicted, expected):
        assert actual.shape == values[0].shape
        np.testing.assert_allclose(actual, values[0], atol=1e-5)


def test_every_weight_gets_a_gradient(make_model, sequences):
    for posterior in registry.names("posterior"):
        model = adapted(make_model(posterior, num_flows=2), sequences)
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


def test_rows_of_weight_0_do_not_count(make_model, sequences):
    """Of 12 sequences in batches of 5, 3 rows fill: metrics are those of one batch of 12."""
    model = cached_model(adapt=True)
    model.compile(jit_compile=False)
    filled = model.evaluate(batching.as_dataset(sequences, 5), verbose=0, return_dict=True)
    terms = [
        model.terms(data.Batch(part.observations, part.controls), model.replica_seed(-1))
        for part in [sequences[:5], sequences[5:10], sequences[[10, 11, 10, 11, 10]]]
    ]
    for name in ["nll", "kl"]:
        rows = np.concatenate([getattr(term, name)[0].numpy().sum(axis=1) for term in terms])
        assert filled[name] == pytest.approx(rows[:12].mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["adam", "Adam", "AdamW", "sgd", "rmsprop"])
def test_an_optimizer_as_a_name_is_built(make_model, name):
    model = make_model()
    model.compile(name)
    assert model.optimizer.name.lower() == name.lower()
    names = [variable.name for variable in model.optimizer.variables]
    assert any("kernel" in name or "bias" in name for name in names)  # Built: it has its slots.


@pytest.mark.parametrize(
    "optimizer, message",
    [
        ("adamm", "`optimizer` must be one of .*; got 'adamm'; did you mean 'adam'"),
        ("schedules", "`optimizer` must be one of .*; got 'schedules'"),
        (tf_keras.optimizers.legacy.Adam, "got Adam of tf_keras.optimizers.legacy"),
        (
            lambda: {"class_name": "Adamm", "config": {}},
            "`optimizer` must be one of tf_keras; got str",
        ),
        (lambda: {"a": 1}, "must be a config of one of tf_keras; "),
        (lambda: tf.keras.optimizers.Adam(), "must be one of tf_keras; got Adam of keras"),
        (lambda: 3, "`optimizer` must be one of tf_keras; got int of builtins"),
    ],
)
def test_other_optimizers_are_refused(optimizer, message):
    made = optimizer if isinstance(optimizer, str) else optimizer()
    with pytest.raises(ValueError, match=message):
        cached_model().compile(made)


def test_an_optimizer_as_a_config_is_built(make_model):
    model = make_model()
    model.compile(tf_keras.optimizers.serialize(tf_keras.optimizers.Adam(0.25)))
    assert float(model.optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16", tf_keras.mixed_precision.Policy])
def test_other_types_are_refused(make_model, dtype):
    dtype = dtype if isinstance(dtype, str) else dtype("float64")
    with pytest.raises(ValueError, match="`dtype` must be float32 for a DVBF; got "):
        make_model(dtype=dtype)
    with pytest.raises(ValueError, match="`dtype` must be float32 .*; got DTypePolicy of keras"):
        make_model(dtype=tf.keras.DTypePolicy("float32"))


def test_fit_refuses_callbacks_of_keras_3(make_model, sequences):
    model = make_model()
    model.compile(jit_compile=False)
    callback = tf.keras.callbacks.EarlyStopping()
    message = "`callbacks` must be callbacks of tf_keras; got EarlyStopping of keras"
    with pytest.raises(ValueError, match=message):
        model.fit(batching.as_dataset(sequences), callbacks=[callback])


def far_from_standard(sequences):
    return data.Sequences(100.0 * sequences.observations, sequences.controls)


def fit_warnings(model, dataset, repeats=1):
    """Returns the messages of the warnings that name `adapt`, as Python shows them by default."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(repeats):
            model.fit(dataset, validation_data=dataset, epochs=2, verbose=0)
    return [str(warning.message) for warning in caught if "`adapt`" in str(warning.message)]


def test_fit_warns_once_if_adapt_was_forgotten(make_model, sequences):
    model = make_model()
    model.compile(run_eagerly=True)
    far = batching.as_dataset(far_from_standard(sequences), 12)
    (message,) = fit_warnings(model, far, repeats=2)
    assert "call `model.adapt(dataset)` before `fit`" in message
    arrays = {"observations": 0.001 * sequences.observations, "controls": sequences.controls}
    (message,) = fit_warnings(model, arrays)
    model.adapt(far)
    assert not fit_warnings(model, far)


def test_fit_does_not_warn_of_standard_data_or_pixels(make_model, sequences):
    pixels = data.Sequences(0.0 * sequences.observations, sequences.controls)
    for model, given in [
        (make_model(), sequences),
        (make_model(emission="bernoulli"), pixels),
    ]:
        model.compile(run_eagerly=True)
        assert not fit_warnings(model, batching.as_dataset(given, 12))


def test_fit_guards_against_divergence_by_itself(make_model, sequences):
    model = adapted(make_model(), sequences)
    model.compile(tf_keras.optimizers.SGD(1e12), jit_compile=False)
    with pytest.raises(ValueError, match="Training stopped in epoch ., step .: `.*` became "):
        model.fit(batching.as_dataset(sequences, 4), epochs=5, verbose=0)
