"""How a model is fed: data sets checked batch by batch, standardised, and taken apart."""

import contextlib
import itertools
import math
import re
import warnings

import numpy as np
import tensorflow as tf

from tfp_dvbf import data, errors
from tfp_dvbf.data import batching, moments
from tfp_dvbf.inference import checks, validation

FAR_FROM_STANDARD = 5.0
FIRST, FIRST_VALUES = 32, 2**22  # Sequences that `adapt` returns at most, and what they hold.
# AutoGraph would translate the source of all that is called in a graph of Keras or of a data set,
# which takes as long as to trace it; there is nothing in it to translate.
UNTRANSLATED = tf.autograph.experimental.do_not_convert
KEYS = ("observations", "controls", "mask", "weights")  # What a dictionary of data may hold.
# What a graph says of a rule that a batch breaks, and of a file that cannot be read.
BROKEN = re.compile(r"assertion failed: \[(`.*)\]|Iterator::\S*: ValueError: (.*)")
KNOWN = "known"  # Whether each step is known, which `known_too` adds for `predict`.


def check_dictionary(inputs, keys=KEYS):
    """Raises ValueError unless `inputs` is a dictionary of observations and `keys` alone."""
    if not isinstance(inputs, dict) or "observations" not in inputs:
        found = type(inputs).__name__
        if isinstance(inputs, dict):
            found += f" of {', '.join(map(str, inputs)) or 'nothing'}"
        raise ValueError(
            "Data must be dictionaries {'observations': ..., 'controls': ...} or a "
            f"`tf.data.Dataset` of them; got {found}. `as_dataset` makes them."
        )
    for name in inputs:
        errors.check_choice("key", name, keys)


@contextlib.contextmanager
def rules_as_value_errors():
    """Lets a batch that breaks a rule, or its file, raise the ValueError that an array raises."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = BROKEN.search(str(error))
        if found is None:
            raise
        rule, of_file = found.groups()
        if rule is not None:  # TensorFlow escapes quotes and letters beyond ASCII as C does.
            rule = rule.encode().decode("unicode_escape").encode("latin-1").decode()
        raise ValueError(of_file or rule) from None


def checked(rules, dataset, known_too=False):
    """Returns checked arrays, or a data set whose iteration fails at what breaks a rule.

    Args:
      rules: `validation.Rules`.
      dataset: `tf.data.Dataset` of dictionaries, or a dictionary of arrays.
      known_too: Whether to add, where a NaN control can end a sequence, which steps are `KNOWN`.
    """
    if isinstance(dataset, tf.data.Dataset):
        check_dictionary(dataset.element_spec)
        return dataset.map(UNTRANSLATED(lambda inputs: _check_inputs(rules, inputs, known_too)))
    check_dictionary(dataset)
    found = _check_inputs(rules, dataset, known_too)
    return {name: np.asarray(tensor) for name, tensor in found.items()}


@UNTRANSLATED
def _check_inputs(rules, inputs, known_too=False):
    names = ["observations", "controls", "mask"]
    batch, known = validation.check_batch(rules, *map(inputs.get, names))
    found = {name: value for name, value in batch._asdict().items() if value is not None}
    if known_too and known is not None:
        found[KNOWN] = known
    if "weights" in inputs:
        found["weights"] = _check_weights(inputs["weights"], batch.observations)
    return found


def _check_weights(weights, observations):
    """Returns the weights of the rows of a batch, [batch]: 0 or more, and not all of them 0."""
    rules = checks.Checks()
    weights = checks.check_array(rules, "weights", weights, [("batch", observations)])
    checks.check_finite(rules, "weights", weights)
    rules.require(tf.reduce_all(weights >= 0), "`weights` must not be negative.")
    rules.require(tf.reduce_any(weights > 0), "`weights` must be above 0 in a row or more.")
    return rules.passed(weights)


def unpack(inputs):
    """Returns the `data.Batch` of one checked batch, and the weights of its rows, [batch]."""
    if isinstance(inputs, tuple) and len(inputs) == 1:  # Of `train_on_batch` and the like.
        (inputs,) = inputs
    check_dictionary(inputs, (*KEYS, KNOWN))
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


def check_splits(model, splits):
    """Raises ValueError if `Sequences` or `Shards` hold what a part of a `DVBF` does not take."""
    rules = model.rules
    if rules.posterior.takes_gaps and rules.emission.support is None:
        return  # All files would be read for nothing.
    for split in splits:
        for batch in batching.as_dataset(split, batch_size=128):
            checked(rules, batch)


def adapt(model, rules, dataset, min_scale):
    """Sets the standardisation of a `StateSpaceModel` to the moments of data.

    The data are checked, but keep the type that they come in: what float32 cannot hold is found
    only before anything is cast to it.

    Returns:
      The first sequences that count, `Sequences`.
    """
    if isinstance(dataset, tf.data.Dataset):
        check_dictionary(dataset.element_spec)
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`dataset` must end for `adapt`; leave out its `repeat`.")
        checking = UNTRANSLATED(lambda inputs: _after_checks(rules, inputs))
        batches, arrays = dataset.map(checking).as_numpy_iterator(), None
    else:
        arrays = checked(rules, dataset)
        batches = iter([dataset])
    with rules_as_value_errors():
        first = next(batches, None)
        found = moments.dataset_moments([] if first is None else itertools.chain([first], batches))
    scales = [
        moments.mean_and_scale(getattr(found, name), name, min_scale)
        for name in ["observations", "controls"]
    ]
    if doubt := model.emission.doubt(found.observations.mean, found.observations.stddev):
        warnings.warn(doubt, stacklevel=3)
    if model.emission.standardises:
        model.observation_standardization.set(*scales[0])
    if found.controls.count > 0:
        model.control_standardization.set(*scales[1])
    return _first_sequences(checked(rules, first) if arrays is None else arrays)


def _first_sequences(batch):
    """Returns `Sequences` of the first rows of a checked batch that have a weight."""
    rows = np.flatnonzero(batch.get("weights", np.ones(len(batch["observations"]))) > 0)
    rows = rows[: max(1, min(FIRST, FIRST_VALUES // batch["observations"][0].size))]
    names = ["observations", "controls", "mask"]
    return data.Sequences(**{name: batch[name][rows] for name in names if name in batch})


@UNTRANSLATED
def _after_checks(rules, inputs):
    """Returns the tensors of a batch as they are, once they have been checked."""
    with tf.control_dependencies(list(_check_inputs(rules, inputs).values())):
        return tf.nest.map_structure(tf.identity, inputs)


def warn_if_not_adapted(model, dataset):
    """Warns if checked data are far from standard and a `StateSpaceModel` was not adapted."""
    if model.observation_standardization.is_set or model.control_standardization.is_set:
        return
    is_batched = isinstance(dataset, tf.data.Dataset)
    batches = dataset.take(1).as_numpy_iterator() if is_batched else [dataset]
    with rules_as_value_errors():
        of_first = moments.dataset_moments(batches)
    for name, found in of_first._asdict().items():
        if name == "observations" and not model.emission.standardises:
            continue
        sizes = np.sqrt(np.square(found.mean) + found.variance)  # Root mean squares.
        far = (sizes > FAR_FROM_STANDARD) | ((sizes > 0) & (sizes < 1 / FAR_FROM_STANDARD))
        if far.any():
            column = far.argmax()
            warnings.warn(
                f"The {name} are far from standard (root mean square {sizes[column]:.3g} in column "
                f"{column}) and `adapt` was not called; call `model.adapt(dataset)` before `fit`.",
                stacklevel=4,
            )
            return


def in_few_sizes(dataset, batch_size=None, steps=None):
    """Returns data whose batches have few sizes, since a training step is compiled for each.

    Batches of a data set have few lengths, and a smaller one is filled with rows of weight 0. A
    dictionary gets as many such rows as its last batch lacks.

    Args:
      dataset: Checked data.
      batch_size: Sequences in a batch that Keras makes of a dictionary, or None.
      steps: Batches that it makes of them, or None.
    """
    if isinstance(dataset, tf.data.Dataset):
        return batching.fill_batches(batching.bucket_lengths(dataset))
    count = len(dataset["observations"])
    if batch_size is None:  # What Keras chooses.
        batch_size = math.ceil(count / steps) if steps else 32
    batch_size = min(errors.check_integer("batch_size", batch_size), count)
    filled = -(-count // batch_size) * batch_size
    return dataset if filled == count else batching.fill_rows(dataset, filled)


def split(arrays, fraction):
    """Returns a dictionary of arrays without its last rows, and these, as Keras splits them."""
    if not 0 < fraction < 1:
        raise ValueError(f"`validation_split` must be between 0 and 1; got {fraction}.")
    if isinstance(arrays, tf.data.Dataset):
        raise ValueError("`validation_split` is for a dictionary of arrays; got a data set.")
    count = len(arrays["observations"])
    at = math.floor(count * (1 - fraction))
    if at in (0, count):
        raise ValueError(f"`validation_split` must leave two parts of {count} sequences.")
    return tuple(
        {name: array[part] for name, array in arrays.items()}
        for part in (slice(at), slice(at, None))
    )


def without_filling(dataset):
    """Returns data without their rows of weight 0, such as those that fill a last batch."""

    def drop(batch):
        return {name: values[batch["weights"] > 0] for name, values in batch.items()}

    if isinstance(dataset, tf.data.Dataset):
        return dataset.map(drop) if "weights" in dataset.element_spec else dataset
    return drop(dataset) if "weights" in dataset else dataset
