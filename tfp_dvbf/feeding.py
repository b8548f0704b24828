"""How a model is fed: data sets checked batch by batch, standardised, and taken apart."""

import warnings

import numpy as np
import tensorflow as tf

from tfp_dvbf import data, errors
from tfp_dvbf.data import batching, moments
from tfp_dvbf.inference import validation

FAR_FROM_STANDARD = 5.0
# AutoGraph would translate the source of all that is called in a graph of Keras or of a data set,
# which takes as long as to trace it; there is nothing in it to translate.
UNTRANSLATED = tf.autograph.experimental.do_not_convert
KEYS = ("observations", "controls", "mask", "weights")  # What a dictionary of data may hold.


def check_dictionary(inputs):
    """Raises ValueError unless `inputs` is a dictionary of observations and `KEYS` alone."""
    if not isinstance(inputs, dict) or "observations" not in inputs:
        raise ValueError(
            "Data must be dictionaries {'observations': ..., 'controls': ...} or a "
            f"`tf.data.Dataset` of them; got {type(inputs).__name__}. `as_dataset` makes them."
        )
    for name in inputs:
        errors.check_choice("key", name, KEYS)


def checked(rules, dataset):
    """Returns checked arrays, or a data set whose iteration fails at what breaks a rule.

    Args:
      rules: `validation.Rules`.
      dataset: `tf.data.Dataset` of dictionaries, or a dictionary of arrays.
    """
    if isinstance(dataset, tf.data.Dataset):
        check_dictionary(dataset.element_spec)
        return dataset.map(lambda inputs: _check_inputs(rules, inputs))
    check_dictionary(dataset)
    return {name: np.asarray(tensor) for name, tensor in _check_inputs(rules, dataset).items()}


@UNTRANSLATED
def _check_inputs(rules, inputs):
    names = ["observations", "controls", "mask"]
    batch, _ = validation.check_batch(rules, *map(inputs.get, names))
    found = {name: value for name, value in batch._asdict().items() if value is not None}
    if "weights" in inputs:
        found["weights"] = tf.cast(inputs["weights"], tf.float32)
    return found


def unpack(inputs):
    """Returns the `data.Batch` of one checked batch, and the weights of its rows, [batch]."""
    check_dictionary(inputs)
    observations = tf.cast(inputs["observations"], tf.float32)
    batch_size, steps = tf.unstack(tf.shape(observations)[:2])
    controls = inputs.get("controls")
    if controls is None:
        controls = tf.zeros([batch_size, steps - 1, 0])
    controls = tf.cast(controls, tf.float32)[:, : steps - 1]
    mask = inputs.get("mask")
    mask = None if mask is None else tf.cast(mask, tf.bool)
    weights = inputs.get("weights")
    weights = tf.ones([batch_size]) if weights is None else weights
    return data.Batch(observations, controls, mask), weights


def adapt(model, rules, dataset, min_scale):
    """Sets the standardisation of a `StateSpaceModel` to the moments of data.

    The data are checked, but keep the type that they come in: what float32 cannot hold is found
    only before anything is cast to it.
    """
    if isinstance(dataset, tf.data.Dataset):
        check_dictionary(dataset.element_spec)
        batches = dataset.map(lambda inputs: _after_checks(rules, inputs)).as_numpy_iterator()
    else:
        checked(rules, dataset)
        batches = [dataset]
    found = moments.dataset_moments(batches)
    scales = [
        moments.mean_and_scale(getattr(found, name), name, min_scale)
        for name in ["observations", "controls"]
    ]
    if model.emission.standardises:
        model.observation_standardization.set(*scales[0])
    if found.controls.count > 0:
        model.control_standardization.set(*scales[1])


@UNTRANSLATED
def _after_checks(rules, inputs):
    """Returns the tensors of a batch as they are, once they have been checked."""
    with tf.control_dependencies(list(_check_inputs(rules, inputs).values())):
        return tf.nest.map_structure(tf.identity, inputs)


def warn_if_not_adapted(model, dataset):
    """Warns if checked data are far from standard and a `StateSpaceModel` was not adapted."""
    if not model.emission.standardises or bool(model.observation_standardization.is_set):
        return
    batch = dataset if isinstance(dataset, dict) else next(iter(dataset.take(1)))
    largest = float(
        np.sqrt(np.square(np.asarray(batch["observations"], np.float64)).mean((0, 1)).max())
    )
    if not 1 / FAR_FROM_STANDARD < largest < FAR_FROM_STANDARD:
        warnings.warn(
            f"The observations are far from standard (root mean square {largest:.3g}) and `adapt` "
            "was not called; call `model.adapt(dataset)` before `fit`.",
            stacklevel=4,
        )


def in_buckets(dataset):
    """Returns a data set whose batches have few lengths, so that few steps are compiled."""
    return batching.bucket_lengths(dataset) if isinstance(dataset, tf.data.Dataset) else dataset


def without_filling(dataset):
    """Returns a data set without the rows of weight 0 that fill its last batch."""
    if not isinstance(dataset, tf.data.Dataset) or "weights" not in dataset.element_spec:
        return dataset
    return dataset.map(
        lambda batch: {
            name: tf.boolean_mask(tensor, batch["weights"] > 0) for name, tensor in batch.items()
        }
    )
