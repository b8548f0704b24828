"""Data sets of sequences: checked, stored, read and batched."""

import dataclasses
import hashlib
import json
import os

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Checked sequences of observations and the controls applied between them.

    Attributes:
      observations: x[0:T], float32 [sequences, time, dx].
      controls: u[0:T-1], float32 [sequences, time - 1, du]; u[t] acts between x[t] and x[t+1].
        A last control u[T-1] is accepted and dropped.
      states: The environment's own states, [sequences, time, ds], or None.
      spec: Where the data come from (environment, observation_scale, seed, ...), or None.

    Raises:
      ValueError: If an array is not numeric, has the wrong shape or a NaN or infinite value.
    """

    observations: np.ndarray
    controls: np.ndarray
    states: np.ndarray | None = None
    spec: dict | None = None

    def __post_init__(self):
        observations, controls = check_sequences(self.observations, self.controls)
        object.__setattr__(self, "observations", observations)
        object.__setattr__(self, "controls", controls)
        if self.states is not None:
            check_numeric("states", self.states)
            check_shape("states", self.states.shape, *((size,) for size in observations.shape[:2]))

    def __len__(self):
        return len(self.observations)

    def __getitem__(self, index):
        """Selects sequences by a slice or an index array; the spec stays."""
        states = None if self.states is None else self.states[index]
        return Sequences(self.observations[index], self.controls[index], states, self.spec)


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


def check_sequences(observations, controls, observation_dim=None, control_dim=None, min_steps=2):
    """Returns float32 observations [batch, time, dx] and controls [batch, time - 1, du].

    Raises:
      ValueError: If they are not numeric, do not fit each other or the dimensions, or hold a NaN.
    """
    observations = check_numeric("observations", observations)
    controls = check_numeric("controls", controls)
    check_shapes(observations.shape, controls.shape, observation_dim, control_dim, min_steps)
    controls = controls[:, : observations.shape[1] - 1]
    check_finite(observations=observations, controls=controls)
    return observations, controls


def check_finite(**arrays):
    """Raises ValueError naming the first sequence and step with a NaN or infinite value."""
    for name, array in arrays.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            axes = ["sequence", "step", "dimension"] if array.ndim == 3 else ["row", "column"]
            place = ", ".join(f"{axis} {index}" for axis, index in zip(axes, bad[0]))
            raise ValueError(f"`{name}` must be finite; got {array[tuple(bad[0])]} in {place}.")


def check_num_samples(num_samples):
    """Raises ValueError unless `num_samples` is positive."""
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1; got {num_samples}.")


def check_numeric(name, array):
    """Returns `array` as float32, or raises ValueError if it holds anything but numbers."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"`{name}` must be numeric; got dtype {array.dtype}.")
    return array.astype(np.float32)


def shift_controls(sequences):
    """Returns the sequences with every control one step late, as the poster's code paired them.

    The model then sees u[t-1] between x[t] and x[t+1]; before the first control it sees 0, where
    the Ornstein-Uhlenbeck policy starts.
    """
    late = np.zeros_like(sequences.controls)
    late[:, 1:] = sequences.controls[:, :-1]
    spec = {**(sequences.spec or {}), "controls": "one step late"}
    return dataclasses.replace(sequences, controls=late, spec=spec)


def save(path, sequences):
    """Writes `sequences` to the `.npz` file `path`, whole or not at all."""
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    if sequences.states is not None:
        arrays["states"] = sequences.states
    spec = {**(sequences.spec or {}), "sha256": content_hash(arrays)}
    temporary = f"{path}.partial"
    with open(temporary, "wb") as file:
        np.savez_compressed(file, spec=json.dumps(spec), **arrays)
    os.replace(temporary, path)


def load(path):
    """Reads `Sequences` from an `.npz` file; never unpickles.

    The file holds `observations` [N, T, dx], `controls` [N, T or T - 1, du] and, optionally,
    `states` and `spec` (JSON).

    Raises:
      ValueError: If the file is not such a file, or does not match the hash in its spec.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for damaged files.
        raise ValueError(f"{path} must be an .npz file of numeric arrays; {error}.") from error
    missing = {"observations", "controls"} - set(arrays)
    if missing:
        raise ValueError(f"{path} must hold `observations` and `controls`; it lacks {missing}.")
    if "mask" in arrays and not np.all(arrays["mask"]):
        raise ValueError(f"{path} has a `mask` with missing frames, which is not supported yet.")
    try:
        spec = json.loads(str(arrays.get("spec", "{}")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: `spec` must be JSON; {error}.") from error
    if not isinstance(spec, dict):
        raise ValueError(f"{path}: `spec` must be a JSON object; got {spec!r}.")
    stored = {
        name: arrays[name] for name in ["observations", "controls", "states"] if name in arrays
    }
    if spec.get("sha256", content_hash(stored)) != content_hash(stored):
        raise ValueError(f"{path} is corrupt: its content does not match its sha256.")
    return Sequences(stored["observations"], stored["controls"], stored.get("states"), spec or None)


def as_dataset(sequences, batch_size=16, seed=None, first_epoch=0):
    """Batches sequences for `DVBF.fit`, `evaluate` and `adapt`.

    Args:
      sequences: `Sequences`.
      batch_size: Sequences a batch; the last batch may be smaller.
      seed: Shuffles if given: the order of each epoch depends on `seed` and its number alone, so
        that a resumed run sees what an uninterrupted one would have seen. None keeps the order.
      first_epoch: Number of the epoch that the first iteration over the data set is; every
        iteration counts, that of `adapt` too.

    Returns:
      A `tf.data.Dataset` of {"observations": [batch, time, dx], "controls": [batch, time - 1, du]}.
    """
    import tensorflow as tf  # Here, so that collecting data does not wait for TensorFlow.

    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1; got {batch_size}.")
    count = len(sequences)
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    tensors = tf.nest.map_structure(tf.constant, arrays)

    indices = tf.data.Dataset.range(count)
    if seed is not None:
        # A variable, since only state outside the data set survives from one iteration to the next.
        epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

        def shuffled_indices(_):
            key = tf.stack([tf.cast(seed, tf.int64), epoch.assign_add(1) - 1])
            order = tf.random.experimental.stateless_shuffle(tf.range(count), key)
            return tf.data.Dataset.from_tensor_slices(order)

        indices = tf.data.Dataset.range(1).flat_map(shuffled_indices)
    batches = indices.batch(batch_size).map(
        lambda index: tf.nest.map_structure(lambda tensor: tf.gather(tensor, index), tensors)
    )
    num_batches = -(-count // batch_size)
    return batches.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(2)


def content_hash(arrays):
    """Returns the SHA-256 of named arrays, their dtypes and shapes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
