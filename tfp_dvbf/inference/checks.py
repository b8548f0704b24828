"""How a rule is kept: at once where it can be decided, as an assertion of the graph elsewhere."""

import numpy as np
import tensorflow as tf


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


def check_finite(checks, name, tensor):
    finite = tf.math.is_finite(tensor)

    def message(holds):
        if holds is None:
            return f"`{name}` must be finite."
        index = tuple(np.argwhere(~finite.numpy())[0])
        axes = ["sample", "sequence"] if name == "initial_state" else ["sequence", "step"]
        axes = [*axes, "dimension"][-len(index) :] if len(index) <= 3 else axes
        place = ", ".join(f"{axis} {number}" for axis, number in zip(axes, index))
        hint = "; give a `mask` of what is observed" if name == "observations" else ""
        return f"`{name}` must be finite; got {tensor[index].numpy()} in {place}{hint}."

    checks.require(tf.reduce_all(finite), message)


def check_shape(checks, name, tensor, sizes):
    """Returns `tensor`, which in a graph waits until its shape has been checked.

    Without the wait an operation on tensors that do not fit may fail first, in its own words.

    Args:
      checks: `Checks`.
      name: What the caller calls the tensor.
      tensor: The tensor.
      sizes: Each a number, a tuple of numbers, the name of an axis of any size but 0, or (name,
        tensor), the size that the axis of this place has in another tensor.
    """
    shape = tensor.shape.as_list()
    fits, labels, open_sizes = len(shape) == len(sizes), [], []
    for axis, size in enumerate(sizes):
        if isinstance(size, tuple) and isinstance(size[0], str):
            known = size[1].shape[axis]
            if known is None:
                open_sizes.append((axis, *size))
            size = size[0] if known is None else known
        allowed = size if isinstance(size, tuple) else (size,)
        labels.append(" or ".join(map(str, allowed)))
        found = shape[axis] if axis < len(shape) else None
        if found is not None:
            fits &= found in allowed if not isinstance(size, str) else found > 0
    if not fits:
        raise ValueError(f"`{name}` must have shape [{', '.join(labels)}]; got {tuple(shape)}.")
    if sizes[0] == "batch" and shape[0] is None:
        checks.require(tf.shape(tensor)[0] > 0, f"`{name}` must have a sequence or more.")
    for axis, label, other in open_sizes:
        same = tf.shape(tensor)[axis] == tf.shape(other)[axis]
        checks.require(same, f"`{name}` must have the {label} size of the observations.")
    return checks.passed(tensor)


def numeric(name, value):
    """Returns `value` as a float32 tensor, or raises ValueError if it is not numeric."""
    if value is None:
        raise ValueError(f"`{name}` must be given.")
    if isinstance(value, tf.RaggedTensor):
        raise ValueError(
            f"`{name}` must be padded to one length, with a `mask`; got a RaggedTensor."
        )
    if not tf.is_tensor(value):
        value = unmasked(name, value)
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(
                f"`{name}` must be one array; pad sequences of different lengths and give a `mask`."
            ) from error
        if value.dtype.kind not in "fiub":
            raise ValueError(f"`{name}` must be numeric; got dtype {value.dtype}.")
        return tf.convert_to_tensor(value.astype(np.float32))
    return tf.cast(value, tf.float32)


def unmasked(name, value):
    """Returns what a `numpy.ma` array, or a list of them, holds; masked controls are NaN.

    Raises:
      ValueError: If a value is masked where none may be missing.
    """
    several = isinstance(value, (list, tuple))
    if several and any(isinstance(each, np.ma.MaskedArray) for each in value):
        value = np.ma.stack(value)
    if not isinstance(value, np.ma.MaskedArray) or not np.ma.is_masked(value):
        return value
    if name != "controls":
        raise ValueError(f"`{name}` must not hold masked values.")
    return value.astype(np.float32).filled(np.nan)


def check_array(checks, name, value, sizes):
    """Returns `value` as a float32 tensor of a shape, as `numeric` and `check_shape` do."""
    return check_shape(checks, name, numeric(name, value), sizes)


def split_masked(observations, mask, axes=2):
    """Returns the values of a `numpy.ma` array, and a mask that leaves out what it masks.

    Args:
      observations: Array, or a list of arrays.
      mask: A mask of the first `axes` axes, or None.
      axes: Number of the axes before those of an observation.
    """
    several = isinstance(observations, (list, tuple))
    if several and any(isinstance(each, np.ma.MaskedArray) for each in observations):
        observations = np.ma.stack(observations)
    if not isinstance(observations, np.ma.MaskedArray):
        return observations, mask
    hidden = np.ma.getmaskarray(observations)
    observed = ~hidden.any(axis=tuple(range(axes, hidden.ndim)))
    values = np.where(hidden, 0, observations.data)
    return values, observed if mask is None else observed & np.asarray(mask, bool)
