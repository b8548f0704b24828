"""What arrays from outside must be: clear errors before work starts."""

import numpy as np

from tfp_dvbf import errors

PAD = (
    "Pad sequences of different lengths and mark the padding as missing with a `mask` "
    "[sequences, time]."
)
BINARY = "must hold 0 (missing) and 1 (observed) only."
SOME_OBSERVED = "`mask` must leave an observed step in every sequence"


def check_num_samples(num_samples):
    """Returns `num_samples` as an int, or raises ValueError unless it is a positive integer."""
    return errors.check_integer("num_samples", num_samples, least=1)


def check_sizes(observation_shape, control_dim, state_dim):
    """Returns the sizes of a model by name, or raises ValueError."""
    return {
        "observation_shape": check_observation_shape(observation_shape),
        "control_dim": errors.check_integer("control_dim", control_dim, least=0),
        "state_dim": errors.check_integer("state_dim", state_dim),
    }


def check_observation_shape(observation_shape):
    """Returns the shape of an observation as a tuple of ints; an integer is a vector's size.

    Raises:
      ValueError: If it is empty or holds anything but positive integers.
    """
    sizes = observation_shape
    if not isinstance(sizes, (tuple, list)):
        sizes = (sizes,)
    try:
        shape = tuple(errors.check_integer("observation_shape", size, least=1) for size in sizes)
    except ValueError:
        shape = ()
    if not shape:
        raise ValueError(
            f"`observation_shape` must be positive integers; got {observation_shape}."
        ) from None
    return shape


def check_axes(name, shape, axes):
    """Raises ValueError unless `shape` has the axes, and the sizes that are known fit.

    Args:
      name: Name of the array.
      shape: Its shape; None is a size that is not known yet, which passes.
      axes: A pair (label, allowed) for each axis. The allowed sizes are a tuple, or None for any
        but 0.
    """
    shape = known_sizes(shape)
    fits = len(shape) == len(axes) and all(
        size is None or (size > 0 if allowed is None else size in allowed)
        for size, (_, allowed) in zip(shape, axes)
    )
    if not fits:
        got = shape or "<unknown>"
        raise ValueError(f"`{name}` must have shape {describe(axes)}; got {got}.")


def known_sizes(shape):
    """Returns `shape` as a tuple, () for a `tf.TensorShape` of unknown rank."""
    return () if getattr(shape, "rank", 0) is None else tuple(shape)


def describe(axes):
    """Returns the sizes that `check_axes` allows, in words."""
    sizes = [" or ".join(map(str, allowed)) if allowed else label for label, allowed in axes]
    return f"[{', '.join(sizes)}]"


def check_shape(name, shape, batch=None, time=None, dim=None):
    """Raises ValueError unless `shape` is [batch, time, dim].

    Each size is None (any but 0) or a tuple of the allowed ones; a size of `shape` that is None
    is not known yet and passes.
    """
    check_axes(name, shape, [("batch", batch), ("time", time), ("dim", dim)])


def check_sequence_shape(name, shape, observation_shape=None):
    """Raises ValueError unless `shape` is [batch, time, *observation_shape], of any size for None.

    Args:
      name: Name of the array.
      shape: Its shape; None is a size that is not known yet, which passes.
      observation_shape: Shape of an observation, a tuple or the size of a vector, or None.
    """
    if observation_shape is not None:
        sizes = check_observation_shape(observation_shape)
        check_axes(name, shape, [("batch", None), ("time", None), *((s, (s,)) for s in sizes)])
        return
    shape = known_sizes(shape)
    if len(shape) < 3 or 0 in shape:
        got = shape or "<unknown>"
        raise ValueError(f"`{name}` must have shape [batch, time, *observation_shape]; got {got}.")


def check_shapes(observations, controls, observation_shape=None, control_dim=None, min_steps=2):
    """Raises ValueError unless the two shapes fit each other and the sizes given.

    Args:
      observations: Shape of the observations, [batch, time, *observation_shape].
      controls: Shape of the controls, [batch, time - 1 or time, control_dim], or None where there
        are none.
      observation_shape: Shape of an observation that is expected, or None.
      control_dim: Size of a control that is expected, which may be 0, or None.
      min_steps: Number of steps that are needed.
    """
    check_sequence_shape("observations", observations, observation_shape)
    batch, steps = tuple(observations)[:2]
    min_steps = max(errors.check_integer("min_steps", min_steps, least=None), 2)
    if steps is not None and steps < min_steps:
        raise ValueError(f"`observations` must have at least {min_steps} steps; got {steps}.")
    if control_dim is not None:
        control_dim = errors.check_integer("control_dim", control_dim, least=0)
    axes = [
        ("batch", None if batch is None else (batch,)),
        ("time", None if steps is None else (steps - 1, steps)),
        ("dim", None if control_dim is None else (control_dim,)),
    ]
    if controls is None:
        if control_dim:
            raise ValueError(f"`controls` must have shape {describe(axes)}; got None.")
        return
    controls = known_sizes(controls)
    if control_dim is None and len(controls) == 3 and controls[2] == 0:
        controls = (*controls[:2], None)  # Without controls, their size is 0.
    check_axes("controls", controls, axes)


def check_mask(mask, shape):
    """Returns `mask` as bool, or raises ValueError unless it has `shape`, 0 and 1
    only, and an observed step in every sequence.
    """
    mask = np.asarray(np.ma.filled(mask, 0))
    if mask.shape != tuple(shape):
        raise ValueError(f"`mask` must have shape {tuple(shape)}; got {mask.shape}.")
    if not np.isin(mask, [0, 1]).all():
        raise ValueError(f"`mask` {BINARY}")
    mask = mask.astype(bool)
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        raise ValueError(f"{SOME_OBSERVED}; {empty[0]} has none.")
    return mask


def check_finite(**arrays):
    """Raises ValueError naming the first place with a NaN or infinite value."""
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            raise ValueError(not_finite(name, array[tuple(bad[0])], bad[0]))


def not_finite(name, value=None, index=()):
    """Returns what to say of an array that is not finite, and of the value at an index of it."""
    hint = "." if name != "observations" else "; give a `mask` of the steps that are observed."
    return f"`{name}` must be finite{value_at(name, value, index)}{hint}"


def value_at(name, value=None, index=()):
    """Returns what a refusal says of the value at an index of the array `name`, if it is known."""
    return "" if value is None else f"; got {value} in {_place(name, index)}"


def _place(name, index):
    """Returns in words where in the array `name` an index is."""
    axes = ["sample", "sequence"] if name == "initial_state" else ["sequence", "step"]
    if len(index) == 1:
        return f"sequence {index[0]}"
    if len(index) > 3:
        parts = [f"{axis} {i}" for axis, i in zip(axes, index)]
        return ", ".join([*parts, f"dimensions {', '.join(map(str, index[2:]))}"])
    axes = [*axes, "dimension"][-len(index) :]
    return ", ".join(f"{axis} {i}" for axis, i in zip(axes, index))


def stacked(values):
    """Returns a list of arrays as one if any of them is masked, anything else as it is."""
    rows = values if isinstance(values, (list, tuple)) else ()
    masked = any(isinstance(row, np.ma.MaskedArray) for row in rows)
    return np.ma.stack(rows) if masked else values


def numeric_array(name, values, hint=PAD):
    """Returns `values` as an array of numbers, a masked array where `values` are masked.

    Args:
      name: Name of the array.
      values: What was given.
      hint: What to do about sequences of different lengths.

    Raises:
      ValueError: If they are anything but numbers or no rectangle.
    """
    kind = type(values).__name__
    if kind.startswith("RaggedTensor"):  # By its name, so that this needs no TensorFlow.
        raise ValueError(f"`{name}` must be numeric; got a {kind}. {hint}")
    try:
        values = stacked(values)
        if not isinstance(values, np.ma.MaskedArray):
            values = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"`{name}` must be numeric; got {_ragged(values, hint)}") from error
    if values.dtype.kind not in "fiub":
        advice = f" {hint}" if values.dtype.kind == "O" else ""
        raise ValueError(f"`{name}` must be numeric; got dtype {values.dtype}.{advice}")
    return values


def _ragged(values, hint):
    """Returns what is wrong with sequences that are no rectangle, and the remedy."""
    shapes = [_step_shape(sequence) for sequence in values]
    other = next((index for index, shape in enumerate(shapes) if shape != shapes[0]), None)
    if None in shapes or other is None:
        return f"sequences of different lengths. {hint}"
    return (
        f"steps of different shapes, {shapes[0]} in sequence 0 and {shapes[other]} in sequence "
        f"{other}. Bring them to one shape."
    )


def _step_shape(sequence):
    """Returns the shape of a step of a sequence, None where it has none of its own."""
    try:
        return np.shape(sequence)[1:]
    except ValueError:
        return None


def check_numeric(name, values):
    """Returns `values` as float32, NaN where a masked array is masked.

    Raises:
      ValueError: As `numeric_array` does.
    """
    return np.ma.filled(numeric_array(name, values).astype(np.float32), np.float32(np.nan))


def stored_dtype(dtype):
    """Returns the type in which observations of a type are kept: float32 or the integer it is."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")
