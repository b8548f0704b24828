import numpy as np
import pytest
import tensorflow as tf


def test_adapt_refuses_what_fit_would(make_model, sequences):
    model = make_model()
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    pairs = tf.data.Dataset.from_tensors(tuple(arrays.values()))
    with pytest.raises(ValueError, match="Data must be dictionaries .* `as_dataset` makes them"):
        model.adapt(pairs)
    masked = tf.data.Dataset.from_tensors({**arrays, "mask": np.ones([12, 8, 1])})
    with pytest.raises(ValueError, match=r"`mask` must have shape \(12, 8\); got \(12, 8, 1\)"):
        model.adapt(masked)


@pytest.mark.parametrize("name", ["observations", "controls"])
def test_adapt_refuses_nan_where_none_is_missing(make_model, sequences, name):
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    arrays[name] = arrays[name].copy()
    arrays[name][3, 2] = np.nan
    for masked in [arrays, {**arrays, "mask": np.ones([12, 8], bool)}]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` must be finite"):
            make_model().adapt(tf.data.Dataset.from_tensors(masked))


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
        ({"observations": x}, "Data must be dictionaries"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(tf.data.Dataset.from_tensor_slices(wrong).batch(4), verbose=0)
    assert int(model.optimizer.iterations) == 0
