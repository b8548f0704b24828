"""What a model takes and refuses, as arrays, as data sets and as tensors of a graph."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data
from tfp_dvbf.data import batching


def test_adapt_refuses_what_fit_would(make_model, sequences):
    model = make_model()
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    pairs = tf.data.Dataset.from_tensors(tuple(arrays.values()))
    with pytest.raises(ValueError, match="Data must be dictionaries .* `as_dataset` makes them"):
        model.adapt(pairs)
    masked = tf.data.Dataset.from_tensors({**arrays, "mask": np.ones([12, 8, 1])})
    with pytest.raises(ValueError, match=r"`mask` must have shape \[12, 8\]; got \(12, 8, 1\)"):
        model.adapt(masked)


@pytest.mark.parametrize("name", ["observations", "controls"])
def test_adapt_refuses_nan_where_none_is_missing(make_model, sequences, name):
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    arrays[name] = arrays[name].copy()
    arrays[name][3, 2] = np.nan
    for masked in [arrays, {**arrays, "mask": np.ones([12, 8], bool)}]:
        with pytest.raises(ValueError, match=f"`{name}` must be finite"):
            make_model().adapt(tf.data.Dataset.from_tensors(masked))


def spoiled(sequences, name):
    """Returns arrays with a NaN in sequence 1, and the mask of the step it stands in or before."""
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    arrays[name] = arrays[name].copy()
    arrays[name][1, -1] = np.nan
    mask = np.ones([12, 8], np.float32)
    mask[1, 7] = 0
    return arrays, mask


@pytest.mark.parametrize("name", ["observations", "controls"])
def test_fit_refuses_nan_where_none_is_missing(make_model, sequences, name):
    model = make_model()
    model.compile()
    arrays, _ = spoiled(sequences, name)
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(4)
    for call in [model.fit, model.evaluate, model.predict]:
        with pytest.raises(ValueError, match=f"`{name}` must be finite"):
            call(dataset)
        with pytest.raises(ValueError, match=f"`{name}` must be finite; got nan in sequence 1"):
            call(arrays)
    assert int(model.optimizer.iterations) == 0


@pytest.mark.slow
def test_fit_refuses_nan_in_validation(make_model, sequences):
    model = make_model()
    model.compile(jit_compile=False)
    arrays, mask = spoiled(sequences, "observations")
    bad = tf.data.Dataset.from_tensor_slices(arrays).batch(4)
    good = batching.as_dataset(sequences, 4)
    with pytest.raises(ValueError, match="`observations` must be finite"):
        model.fit(good, validation_data=arrays)
    assert int(model.optimizer.iterations) == 0
    with pytest.raises(ValueError, match="`observations` must be finite"):
        model.fit(good, validation_data=bad, verbose=0)
    history = model.fit(good, validation_data={**arrays, "mask": mask}, verbose=0).history
    assert np.isfinite(history["val_loss"])


@pytest.mark.slow
def test_fit_takes_arrays_as_it_takes_data_sets(make_model, sequences):
    arrays, mask = spoiled(sequences, "observations")
    histories = []
    for inputs in [
        {**arrays, "mask": mask},
        batching.as_dataset(data.Sequences(**arrays, mask=mask), 4),
    ]:
        model = make_model()
        model.adapt(inputs)
        model.compile(jit_compile=False)
        options = {} if isinstance(inputs, tf.data.Dataset) else {"batch_size": 4, "shuffle": False}
        fitted = model.fit(inputs, validation_data=inputs, epochs=2, verbose=0, **options)
        histories.append(fitted.history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-5)


@pytest.mark.parametrize("posterior, emission", [("chain_iaf", "gaussian"), ("iaf", "bernoulli")])
def test_fit_refuses_what_the_model_cannot_do_with(make_model, sequences, posterior, emission):
    model = make_model(posterior, emission=emission)
    model.compile(jit_compile=False)
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    mask = np.ones([12, 8], bool)
    mask[9, 4] = False
    message = "`mask` must have no gaps for chain_iaf: its states all come from the first time step"
    if emission == "bernoulli":
        message = "`observations` must be 0 or 1 for the bernoulli emission"
    with pytest.raises(ValueError, match=message):
        model.fit({**arrays, "mask": mask})
    dataset = tf.data.Dataset.from_tensor_slices({**arrays, "mask": mask}).batch(4)
    for call in [model.adapt, model.fit]:
        with pytest.raises(ValueError, match=message):
            call(dataset)


@pytest.mark.parametrize("name", ["y", "sample_weight", "class_weight"])
def test_fit_refuses_targets_and_weights(make_model, sequences, name):
    model = make_model()
    model.compile(jit_compile=False)
    with pytest.raises(ValueError, match=f"`{name}` must be left out; a DVBF trains its own bound"):
        model.fit(batching.as_dataset(sequences), **{name: {0: 1.0}})


def test_fit_refuses_observations_and_controls_side_by_side(make_model, sequences):
    model = make_model()
    model.compile(jit_compile=False)
    with pytest.raises(ValueError, match=r"`y` must be left out; .* \{'observations': \.\.\., "):
        model.fit(sequences.observations, sequences.controls)


@pytest.mark.parametrize(
    "observations, controls, message",
    [
        ([4, 1, 3], [4, 1, 1], "`observations` must have at least 2 steps"),
        ([4, 8, 3], [4, 5, 1], "`controls` must have as many steps as `observations`"),
        ([4, 8, 3], [2, 7, 1], "`controls` must have the batch size of the observations"),
    ],
)
def test_sizes_that_are_known_late(make_model, observations, controls, message):
    specs = {
        "observations": tf.TensorSpec([None, None, 3]),
        "controls": tf.TensorSpec([None, None, 1]),
    }
    batch = {"observations": np.zeros(observations), "controls": np.zeros(controls)}
    dataset = tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=specs)
    with pytest.raises(ValueError, match=message):
        make_model().adapt(dataset)


def test_adapt_takes_lists(make_model, sequences):
    adapted = [make_model(), make_model()]
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    adapted[0].adapt(arrays)
    adapted[1].adapt({name: array.tolist() for name, array in arrays.items()})
    weights = [model.state_space_model.observation_standardization.weights for model in adapted]
    for layers in zip(*weights):
        np.testing.assert_array_equal(*layers)


def test_fit_refuses_what_is_no_data_set(make_model):
    model = make_model()
    model.compile(jit_compile=False)
    with pytest.raises(ValueError, match="or a `tf.data.Dataset` of them; got generator"):
        model.fit(batch for batch in [])
    with pytest.raises(ValueError, match="got NoneType"):
        model.fit()


def test_adapt_takes_float_masks_over_missing_values(make_model, sequences):
    mask = np.ones([12, 8], np.float32)
    mask[:, 6:] = 0
    pixels = (sequences.observations > 0).astype(np.float32)
    pixels[:, 6:] = np.nan
    arrays = {"observations": pixels, "controls": sequences.controls, "mask": mask}
    make_model("chain_iaf", emission="bernoulli").adapt(tf.data.Dataset.from_tensors(arrays))


def test_fit_refuses_tuples_and_wrong_shapes(make_model, sequences):
    model = make_model()
    model.compile(jit_compile=False)
    x, u = sequences.observations, sequences.controls
    pairs = tf.data.Dataset.from_tensor_slices((x, u)).batch(4)
    with pytest.raises(ValueError, match="Data must be dictionaries .* got tuple"):
        model.fit(pairs, verbose=0)
    for wrong, message in [
        (
            {"observations": x[..., :2], "controls": u},
            r"shape \[batch, time, 3\]; got \(None, 8, 2",
        ),
        ({"observations": x, "controls": u[:, :3]}, r"7 or 8, 1\]; got \(None, 3, 1\)"),
        ({"observations": x}, "`controls` must be given"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(tf.data.Dataset.from_tensor_slices(wrong).batch(4), verbose=0)
    assert int(model.optimizer.iterations) == 0


def test_masked_arrays_are_masks(model, sequences):
    """A step with one masked value is missing; what stands there has no effect."""
    hidden = np.zeros(sequences.observations.shape, bool)
    hidden[2, 3, 1] = hidden[5, 6] = True
    spoiled = np.where(hidden, -9999.0, sequences.observations)
    masked = np.ma.array(spoiled, mask=hidden)
    expected = model.sample_posterior(
        sequences.observations, sequences.controls, 2, seed=1, mask=~hidden.any(-1)
    )
    actual = model.sample_posterior(masked, sequences.controls, 2, seed=1)
    for values, others in zip(actual, expected):
        np.testing.assert_array_equal(values, others)
