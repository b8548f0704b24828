"""How a rule is kept: at once where it can be decided, as an assertion of the graph elsewhere."""

import functools

import numpy as np
import tensorflow as tf

from tfp_dvbf.data import checks


class Checks:
    """The rules of one call: broken ones raise, those that a graph must decide are kept."""

    def __init__(self):
        self.assertions = []

    def require(self, holds, message):
        """Requires a scalar bool tensor; `message` is a string or a function that makes one."""
        decided = tf.get_static_value(holds)
        if decided is None:
            text = message if isinstance(message, str) else message(None)
            self.assertions.append(tf.raw_ops.Assert(condition=holds, data=[text]))
        elif not decided:
            raise ValueError(message if isinstance(message, str) else message(holds))

    def passed(self, structure):
        """Returns the tensors of a structure, which in a graph wait for the assertions."""
        if not self.assertions:
            return structure
        with tf.control_dependencies(self.assertions):
            return tf.nest.map_structure(
                lambda tensor: None if tensor is None else tf.identity(tensor), structure
            )


def check_finite(rules, name, tensor):
    """Requires finite values, and says where the first other one is."""
    check_each(rules, tensor, tf.math.is_finite(tensor), functools.partial(checks.not_finite, name))


def check_each(rules, tensor, holds, message):
    """Requires that a rule holds for each value of a tensor.

    Args:
      rules: `Checks`.
      tensor: The values.
      holds: Whether it holds for each, a bool tensor.
      message: Function of the first value that breaks it and of its index, or of nothing.
    """

    def describe(decided):
        if decided is None:  # In a graph, which has no value to show.
            return message()
        index = np.argwhere(~holds.numpy())[0]
        return message(tensor[tuple(index)].numpy(), index)

    rules.require(tf.reduce_all(holds), describe)


def check_shape(rules, name, tensor, sizes):
    """Returns `tensor`, which in a graph waits until its shape has been checked.

    Without the wait an operation on tensors that do not fit may fail first, in its own words.

    Args:
      rules: `Checks`.
      name: What the caller calls the tensor.
      tensor: The tensor.
      sizes: Each a number, a tuple of numbers, the name of an axis of any size but 0, or (name,
        tensor), the size that the axis of this place has in another tensor.
    """
    axes, open_sizes = [], []
    for axis, size in enumerate(sizes):
        label, allowed = "", size
        if isinstance(size, str):
            label, allowed = size, None
        elif isinstance(size, tuple) and isinstance(size[0], str):
            label, allowed = size[0], size[1].shape[axis]
            if allowed is None:
                open_sizes.append((axis, *size))
        axes.append((label, (allowed,) if isinstance(allowed, int) else allowed))
    checks.check_axes(name, tensor.shape, axes)
    if sizes[0] == "batch" and tensor.shape[0] is None:
        rules.require(tf.shape(tensor)[0] > 0, f"`{name}` must have a sequence or more.")
    for axis, label, other in open_sizes:
        same = tf.shape(tensor)[axis] == tf.shape(other)[axis]
        rules.require(same, f"`{name}` must have the {label} size of the observations.")
    for axis, (_, allowed) in enumerate(axes):
        if allowed and tensor.shape[axis] is None:  # A size that only the graph knows.
            fits = tf.reduce_any(tf.shape(tensor)[axis] == list(allowed))
            rules.require(fits, f"`{name}` must have shape {checks.describe(axes)}.")
    return rules.passed(tensor)


def numeric(name, value):
    """Returns `value` as a tensor, or raises ValueError if it is not numeric.

    Tensors keep their type, and so do tensors in a list, whose gradients are kept; all else becomes
    float32.
    """
    if value is None:
        raise ValueError(f"`{name}` must be given.")
    if isinstance(value, (list, tuple)) and any(map(tf.is_tensor, tf.nest.flatten(value))):
        try:
            value = tf.convert_to_tensor(value)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(f"`{name}` must be tensors of one type and shape.") from error
    if tf.is_tensor(value) and not isinstance(value, tf.RaggedTensor):
        if not (value.dtype.is_floating or value.dtype.is_integer or value.dtype.is_bool):
            raise ValueError(f"`{name}` must be numeric; got dtype {value.dtype.name}.")
        return value
    value = checks.numeric_array(name, unmasked(name, value))
    return tf.convert_to_tensor(value.astype(np.float32))


def unmasked(name, value):
    """Returns what a `numpy.ma` array, or a list of them, holds; masked controls are NaN.

    Raises:
      ValueError: If a value is masked where none may be missing.
    """
    value = checks.stacked(value)
    if not isinstance(value, np.ma.MaskedArray) or not np.ma.is_masked(value):
        return value
    if name != "controls":
        raise ValueError(f"`{name}` must not hold masked values.")
    return value.astype(np.float32).filled(np.nan)


def check_array(rules, name, value, sizes):
    """Returns `value` as a float32 tensor of a shape, as `numeric` and `check_shape` do."""
    return check_shape(rules, name, tf.cast(numeric(name, value), tf.float32), sizes)


def split_masked(observations, axes=2):
    """Returns the values of a `numpy.ma` array, and which steps of it are observed, or None.

    Args:
      observations: Array, or a list of arrays; anything else is returned as it is.
      axes: Number of the axes before those of an observation.
    """
    observations = checks.stacked(observations)
    if not isinstance(observations, np.ma.MaskedArray):
        return observations, None
    hidden = np.ma.getmaskarray(observations)
    observed = ~hidden.any(axis=tuple(range(axes, hidden.ndim)))
    return np.where(hidden, 0, observations.data), observed


def binary(rules, name, value, sizes):
    """Returns `value`, of 0 and 1 alone, as a bool tensor of a shape."""
    value = check_shape(rules, name, numeric(name, value), sizes)
    if value.dtype == tf.bool:
        return value
    holds = tf.reduce_all((value == 0) | (value == 1))
    rules.require(holds, f"`{name}` {checks.BINARY}")
    return tf.cast(value, tf.bool)
