"""How a model is fed: few sizes of batches, weights of rows, and what a NaN control leaves open."""

import models
import numpy as np
import pytest
import tensorflow as tf
from test_training import fit_warnings

from tfp_dvbf import data, feeding
from tfp_dvbf.data import batching


def arrays(count=10, steps=8):
    found = models.pendulum()[:count]
    return {
        "observations": found.observations[:, :steps],
        "controls": found.controls[:, : steps - 1],
    }


def shapes(batches):
    return {tuple(batch["observations"].shape) for batch in batches}


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_last_smaller_batch_of_ones_own_data_set_is_filled(shuffled):
    dataset = tf.data.Dataset.from_tensor_slices(arrays())
    dataset = dataset.shuffle(10, seed=1) if shuffled else dataset
    batches = list(feeding.in_few_sizes(dataset.batch(4)))
    assert shapes(batches) == {(4, 8, 3)}
    np.testing.assert_array_equal(batches[-1]["weights"], [1, 1, 0, 0])
    np.testing.assert_array_equal(batches[0]["weights"], [1, 1, 1, 1])


@pytest.mark.parametrize("values, kept", [(1, 1), (3 * 24, 3), (2**22, 10)])
def test_adapt_keeps_a_few_sequences(make_model, monkeypatch, values, kept):
    monkeypatch.setattr(feeding, "FIRST_VALUES", values)
    model = make_model()
    model.adapt(arrays())
    assert len(model.adapted_to) == kept
    np.testing.assert_array_equal(model.adapted_to.observations, arrays()["observations"][:kept])


def test_batches_that_are_longer_in_time_are_not_filled():
    """Where lengths are batched by themselves, long sequences come a few at a time."""

    def batches():
        for count, steps in [(8, 16), (2, 64), (5, 16), (8, 16), (1, 64)]:
            yield {"observations": np.ones([count, steps, 3], np.float32)}

    spec = {"observations": tf.TensorSpec([None, None, 3])}
    dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)
    found = [batch["observations"].shape[:2] for batch in feeding.in_few_sizes(dataset)]
    assert found == [(8, 16), (2, 64), (8, 16), (8, 16), (1, 64)]


def test_a_dictionary_gets_the_rows_that_its_last_batch_lacks():
    given = {**arrays(), "weights": np.full(10, 0.5, np.float32)}
    found = feeding.in_few_sizes(given, batch_size=4)
    np.testing.assert_array_equal(found["weights"], [0.5] * 10 + [0, 0])
    np.testing.assert_array_equal(found["observations"][:10], given["observations"])
    assert feeding.in_few_sizes(given, batch_size=5) is given
    assert feeding.in_few_sizes(given, steps=2) is given
    assert feeding.in_few_sizes(given) is given  # Fewer than Keras' 32.


def test_arrays_and_data_sets_are_evaluated_alike(model):
    given = arrays()
    model.compile(run_eagerly=True)
    by_own = model.evaluate(tf.data.Dataset.from_tensor_slices(given).batch(4), verbose=0)
    by_arrays = model.evaluate(given, batch_size=4, verbose=0)
    by_package = model.evaluate(batching.as_dataset(models.pendulum()[:10], 4), verbose=0)
    np.testing.assert_allclose(by_own, by_package, rtol=1e-6)
    np.testing.assert_allclose(by_arrays, by_package, rtol=1e-6)


def test_fit_splits_arrays_as_keras_does(make_model):
    model = models.adapted(make_model(), models.pendulum())
    model.compile(run_eagerly=True)
    history = model.fit(arrays(steps=2), batch_size=4, validation_split=0.25, verbose=0).history
    assert "val_loss" in history and model.optimizer.iterations == 2  # Of 7 of the 10.
    train, validation = feeding.split(arrays(), 0.25)
    assert [len(part["observations"]) for part in (train, validation)] == [7, 3]
    with pytest.raises(ValueError, match="`validation_split` is for a dictionary of arrays"):
        model.fit(batching.as_dataset(models.pendulum(), 4), validation_split=0.5)
    with pytest.raises(ValueError, match="must leave two parts of 10 sequences"):
        model.fit(arrays(), validation_split=0.99)


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.ones([10, 1]), r"`weights` must have shape \[10\]; got \(10, 1\)"),
        (np.ones(9), r"`weights` must have shape \[10\]; got \(9,\)"),
        (np.full(10, np.nan), "`weights` must be finite; got nan"),
        (-np.ones(10), "`weights` must not be negative"),
        (np.zeros(10), "`weights` must be above 0 in a row or more"),
    ],
)
def test_weights_of_rows_are_checked(make_model, weights, message):
    model = make_model()
    model.compile(run_eagerly=True)
    with pytest.raises(ValueError, match=message):
        model.fit({**arrays(), "weights": weights}, verbose=0)


def test_batches_of_weight_0_are_refused_by_name(model):
    given = {**arrays(), "weights": np.zeros(10, np.float32)}
    model.compile(run_eagerly=True)
    with pytest.raises(ValueError, match="above 0 in a row or more"):
        model.evaluate(tf.data.Dataset.from_tensors(given), verbose=0)


@pytest.mark.parametrize(
    "name, column, factor, message",
    [
        ("observations", 1, 1e-3, "observations are far from standard .* in column 1"),
        ("observations", 2, 1e3, "observations are far from standard .* in column 2"),
        ("controls", 0, 1e2, "controls are far from standard .* in column 0"),
    ],
)
@pytest.mark.parametrize("batched", [False, True])
def test_any_column_far_from_standard_warns(make_model, name, column, factor, message, batched):
    rng = np.random.default_rng(1)
    given = {"observations": rng.normal(size=[10, 2, 3]), "controls": rng.normal(size=[10, 1, 1])}
    given[name][..., column] *= factor
    found = tf.data.Dataset.from_tensors(given) if batched else given
    model = make_model()
    model.compile(run_eagerly=True)
    (warning,) = fit_warnings(model, found)
    assert message.split(" .* ")[1] in warning and warning.startswith("The " + name)


@pytest.mark.parametrize("batched", [False, True])
def test_predict_returns_nan_behind_a_nan_control(model, batched):
    found = models.pendulum()
    mask = np.ones([12, 8], bool)
    mask[:, 5:] = False
    controls = found.controls.copy()
    controls[3, 6] = np.nan
    given = {"observations": found.observations, "controls": controls, "mask": mask}
    fed = tf.data.Dataset.from_tensors(given) if batched else given
    model.compile(run_eagerly=True)
    states = model.predict(fed, verbose=0).states
    expected = model.reconstruct(found.observations, controls, mask).states[0]
    assert np.isnan(states[3, 7]).all() and np.isnan(states).sum() == states.shape[-1]
    np.testing.assert_allclose(states, expected, rtol=1e-5, atol=1e-5)


def test_a_batch_of_sequences_is_no_data():
    with pytest.raises(ValueError, match="Data must be dictionaries"):
        feeding.check_dictionary(data.Batch(None, None, None))


def test_adapt_needs_an_end(make_model):
    dataset = batching.as_dataset(models.pendulum(), 4).repeat()
    with pytest.raises(ValueError, match="`dataset` must end for `adapt`; leave out its `repeat`"):
        make_model().adapt(dataset)


@pytest.mark.parametrize("batched", [False, True])
def test_predict_leaves_out_rows_of_weight_0(model, batched):
    given = {**arrays(), "weights": np.float32([0, *[1] * 7, 0, 2])}
    fed = tf.data.Dataset.from_tensor_slices(given).batch(4) if batched else given
    model.compile(run_eagerly=True)
    states = model.predict(fed, verbose=0).states
    kept = np.delete(np.arange(10), [0, 8])
    x, u = (given[name][kept] for name in ["observations", "controls"])
    np.testing.assert_allclose(states, model.reconstruct(x, u).states[0], rtol=1e-5, atol=1e-5)


def test_controls_far_from_standard_warn_of_pixels_too(make_model):
    model = make_model(emission="bernoulli")
    model.compile(run_eagerly=True)
    given = arrays(steps=2)
    given = {"observations": 1.0 * (given["observations"] > 0), "controls": 1e3 * given["controls"]}
    (warning,) = fit_warnings(model, given)
    assert warning.startswith("The controls are far from standard")


def test_a_batch_is_trained_on_by_itself(make_model):
    model = models.adapted(make_model(), models.pendulum())
    model.compile(run_eagerly=True)
    losses = [model.train_on_batch(arrays(steps=2)) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert np.isfinite(model.test_on_batch(arrays(steps=2))).all()


@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_callbacks_of_keras_3_are_refused(model, method):
    model.compile(run_eagerly=True)
    callbacks = [tf.keras.callbacks.Callback()]
    with pytest.raises(ValueError, match="`callbacks` must be callbacks of tf_keras; got Callback"):
        getattr(model, method)(arrays(), callbacks=callbacks)


def test_evaluate_refuses_weights_of_samples(model):
    model.compile(run_eagerly=True)
    with pytest.raises(ValueError, match="`sample_weight` must be left out"):
        model.evaluate(arrays(), None, 4, 0, np.ones(10))
