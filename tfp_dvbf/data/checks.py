"""What arrays from outside must be: clear errors before work starts."""

import operator

import numpy as np


def check_shape(name, shape, batch=None, time=None, dim=None):
    """Raises ValueError unless `shape` is [batch, time, dim].

    Each size is None (any but 0) or a tuple of the allowed ones; a size of `shape` that is None
    is not known yet and passes.
    """
    shape = tuple(shape)
    expected = {"batch": batch, "time": time, "dim": dim}
    fits = len(shape) == 3 and all(
        size is None or (size > 0 if allowed is None else size in allowed)
        for size, allowed in zip(shape, expected.values())
    )
    if not fits:
        sizes = [
            " or ".join(map(str, allowed)) if allowed else axis
            for axis, allowed in expected.items()
        ]
        raise ValueError(f"`{name}` must have shape [{', '.join(sizes)}]; got {shape}.")


def check_shapes(observations, controls, observation_dim=None, control_dim=None, min_steps=2):
    """Raises ValueError unless the two shapes fit each other and the sizes given."""
    dims = [None if dim is None else (dim,) for dim in [observation_dim, control_dim]]
    check_shape("observations", observations, dim=dims[0])
    batch, steps, _ = observations
    min_steps = max(min_steps, 2)
    if steps is not None and steps < min_steps:
        raise ValueError(f"`observations` must have at least {min_steps} steps; got {steps}.")
    check_shape(
        "controls",
        controls,
        batch=None if batch is None else (batch,),
        time=None if steps is None else (steps - 1, steps),
        dim=dims[1],
    )


def check_mask(mask, shape):
    """Returns `mask` as bool, or raises ValueError unless it has `shape`, 0 and 1
    only, and a frame in every sequence.
    """
    mask = np.asarray(mask)
    if mask.shape != tuple(shape):
        raise ValueError(f"`mask` must have shape {tuple(shape)}; got {mask.shape}.")
    if not np.isin(mask, [0, 1]).all():
        raise ValueError("`mask` must hold 0 (missing) and 1 only.")
    mask = mask.astype(bool)
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        raise ValueError(f"`mask` must leave a frame in every sequence; {empty[0]} has none.")
    return mask


def check_finite(**arrays):
    """Raises ValueError naming the first place with a NaN or infinite value."""
    for name, array in arrays.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            first = ["sample", "sequence"] if name == "initial_state" else ["sequence", "step"]
            axes = [*first, "dimension"][-array.ndim :]
            place = ", ".join(f"{axis} {index}" for axis, index in zip(axes, bad[0]))
            raise ValueError(f"`{name}` must be finite; got {array[tuple(bad[0])]} in {place}.")


def check_num_samples(num_samples):
    """Returns `num_samples` as an int, or raises ValueError unless it is a positive integer."""
    try:
        number = operator.index(num_samples)
    except TypeError as error:
        raise ValueError(f"`num_samples` must be an integer; got {num_samples!r}.") from error
    if number < 1:
        raise ValueError(f"`num_samples` must be at least 1; got {number}.")
    return number


def check_numeric(name, array):
    """Returns `array` as float32, or raises ValueError if it holds anything but numbers."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"`{name}` must be numeric; got dtype {array.dtype}.")
    return array.astype(np.float32)
