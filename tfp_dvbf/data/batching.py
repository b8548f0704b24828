"""Batches of sequences for training, from memory or streamed from a folder of files."""

import os

from tfp_dvbf import data, errors
from tfp_dvbf.data import shards

BUCKETS = (16, 32, 64, *(128 * 4**power for power in range(12)))


def as_dataset(sequences, batch_size=16, seed=None, first_epoch=0):
    """Batches sequences for `DVBF.fit`, `evaluate` and `adapt`.

    A folder is streamed: two of its files are in memory at a time, and batches run across their
    borders. Shuffled, the files come in random order, and so do the sequences within each.

    All batches have the same size, so that a training step is compiled once. Where the sequences
    do not divide by it, the last batch is filled with rows of its own, repeated with weight 0.

    Args:
      sequences: `Sequences`, `Shards` or the path of a folder of `.npz` files.
      batch_size: Sequences a batch.
      seed: Shuffles if given: the order of each epoch depends on `seed` and its number alone, so
        that a resumed run sees what an uninterrupted one would have seen. None keeps the order.
      first_epoch: Number of the epoch that the first iteration over the data set is; every
        iteration counts, that of `adapt` too.

    Returns:
      A `tf.data.Dataset` of {"observations": [batch, time, *observation_shape], "controls":
      [batch, time - 1, du]}; where steps are missing or any file has a mask, "mask": bool
      [batch, time]; and where the last batch is filled, "weights": float32 [batch], 0 in the rows
      that fill it and 1 in all others. Observations keep the integer type that they have.

    Raises:
      ValueError: If an argument is none of these, or as `Shards` does. A file that turns out
        damaged ends the iteration with a `tf.errors.InvalidArgumentError` that names it.
    """
    import tensorflow as tf  # Here, so that collecting data does not wait for TensorFlow.

    batch_size = errors.check_integer("batch_size", batch_size, least=1)
    first_epoch = errors.check_integer("first_epoch", first_epoch, least=0)
    if seed is not None:
        seed = errors.check_integer("seed", seed, least=None) % 2**63
    if isinstance(sequences, (str, os.PathLike)):
        sequences = shards.Shards(sequences)
    if not isinstance(sequences, (data.Sequences, shards.Shards)):
        kind = type(sequences).__name__
        raise ValueError(f"`sequences` must be Sequences, Shards or a folder; got {kind}.")
    num_batches = -(-len(sequences) // batch_size)
    options = tf.data.Options()  # Under a strategy every worker takes its rows of each batch.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = _batches(sequences, batch_size, seed, first_epoch).with_options(options)
    return batches.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(2)


def _batches(source, batch_size, seed, first_epoch):
    """Returns the data set of batches, dictionaries of tensors, of `Sequences` or `Shards`."""
    keys = None if seed is None else _keys(seed, first_epoch)
    even = len(source) % batch_size == 0
    if isinstance(source, shards.Shards):
        batches = _shard_tensors(source, keys).prefetch(1).rebatch(batch_size, drop_remainder=even)
        return batches if even else batches.map(lambda batch: fill_rows(batch, batch_size))
    return _batches_in_memory(source, batch_size, keys, even)


def fill_rows(batch, batch_size):
    """Returns a batch of `batch_size`, its rows repeated as often as it takes, with weights.

    Args:
      batch: Dictionary of tensors or arrays [batch, ...]; one of "weights" is kept.
      batch_size: Number of rows, not less than there are; those that are added get weight 0.
    """
    import tensorflow as tf

    count = tf.shape(batch["observations"])[0]
    rows = tf.range(batch_size)
    filled = _gather(batch, rows % count)
    weights = tf.cast(rows < count, tf.float32)
    return {**filled, "weights": weights * tf.cast(filled.get("weights", 1.0), tf.float32)}


def fill_batches(dataset):
    """Fills batches that are smaller than an earlier one with rows of weight 0.

    A training step is compiled for every size that comes, such as that of a last, smaller batch.

    Args:
      dataset: `tf.data.Dataset` of dictionaries, as `as_dataset` makes them.

    Returns:
      `dataset` itself where its element_spec knows the batch size. Otherwise a data set with the
      same keys and "weights" [batch]. A batch that is longer in time than the largest so far is
      not filled: where lengths are batched by themselves, the long batches are the small ones.
    """
    import tensorflow as tf

    if dataset.element_spec["observations"].shape[0] is not None:
        return dataset
    with tf.device("CPU:0"):  # Where data sets are made.
        largest = tf.Variable([0, 0], dtype=tf.int64, trainable=False)  # Rows, and time steps.

    def fill(batch):
        size = tf.shape(batch["observations"], tf.int64)[:2]
        known = tf.cond(
            tf.reduce_all(size >= largest), lambda: largest.assign(size), largest.read_value
        )
        rows = tf.where(size[1] <= known[1], tf.maximum(size[0], known[0]), size[0])
        return fill_rows(batch, tf.cast(rows, tf.int32))

    return dataset.map(fill)


def _keys(seed, first_epoch):
    """Returns a data set of one element, (seed, epoch); each iteration over it is an epoch."""
    import tensorflow as tf

    # A variable, since only state outside the data set survives from one iteration to the next.
    epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)
    return tf.data.Dataset.range(1).map(
        lambda _: tf.stack([tf.cast(seed, tf.int64), epoch.assign_add(1) - 1])
    )


def _shuffled_range(count, key):
    import tensorflow as tf

    return tf.random.experimental.stateless_shuffle(tf.range(count), key)


def _gather(tensors, index):
    import tensorflow as tf

    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, index), tensors)


def _batches_in_memory(sequences, batch_size, keys, even):
    """Gathers each batch from tensors of the whole data set."""
    import tensorflow as tf

    arrays = _arrays(sequences, sequences.mask is not None, sequences.observations.dtype)
    tensors = tf.nest.map_structure(tf.constant, arrays)
    indices = tf.data.Dataset.range(len(sequences))
    if keys is not None:
        indices = keys.flat_map(
            lambda key: tf.data.Dataset.from_tensor_slices(_shuffled_range(len(sequences), key))
        )
    batches = indices.batch(batch_size, drop_remainder=even).map(
        lambda index: _gather(tensors, index)
    )
    return batches if even else batches.map(lambda batch: fill_rows(batch, batch_size))


def _shard_tensors(source, keys):
    """Returns a data set of one dictionary of tensors [sequences, ...] a file."""
    import tensorflow as tf

    count = len(source.paths)
    if keys is None:
        return tf.data.Dataset.range(count).map(lambda index: _load_tensors(source, index))

    def load_shuffled(index, key):
        tensors = _load_tensors(source, index)
        key = tf.random.experimental.stateless_fold_in(key, index)
        return _gather(tensors, _shuffled_range(tf.shape(tensors["observations"])[0], key))

    return keys.flat_map(
        lambda key: tf.data.Dataset.from_tensor_slices(_shuffled_range(count, key)).map(
            lambda index: load_shuffled(index, key)
        )
    )


def _load_tensors(source, index):
    """Returns the tensors [sequences, ...] of one file, read when the graph runs."""
    import tensorflow as tf

    steps, dtype = source.num_steps, source.observation_dtype
    specs = {
        "observations": tf.TensorSpec([None, steps, *source.observation_shape], dtype),
        "controls": tf.TensorSpec([None, steps - 1, source.control_dim], tf.float32),
    }
    if source.has_mask:
        specs["mask"] = tf.TensorSpec([None, steps], tf.bool)
    values = tf.numpy_function(
        lambda number: list(_arrays(source.load(number), source.has_mask, dtype).values()),
        [index],
        [spec.dtype for spec in specs.values()],
    )
    return {
        name: tf.ensure_shape(value, spec.shape)
        for (name, spec), value in zip(specs.items(), values)
    }


def _arrays(sequences, has_mask, dtype):
    """Returns the arrays of a batch by name, with a mask of ones where one is due and none is."""
    observations = sequences.observations.astype(dtype, copy=False)
    arrays = {"observations": observations, "controls": sequences.controls}
    if has_mask:
        arrays["mask"] = sequences.observed
    return arrays


def bucket_lengths(dataset):
    """Pads the time axis of batches whose length is not known, so that few lengths are compiled.

    A training step is compiled for every length that comes. Here each batch is padded with missing
    steps to the next of 16, 32, 64, 128, 512, 2048, 8192 and so on, by factors of 4.

    Args:
      dataset: `tf.data.Dataset` of dictionaries, as `as_dataset` makes them.

    Returns:
      `dataset` itself where its element_spec knows the number of steps. Otherwise a data set with
      the same keys and a "mask", False in the padding; there observations and controls are 0.

    Raises:
      ValueError: If `dataset` yields anything else.
    """
    spec = dataset.element_spec
    got = ", ".join(spec) if isinstance(spec, dict) else type(spec).__name__
    if isinstance(spec, dict) and "observations" in spec:
        shape = spec["observations"].shape
        if shape.rank is not None:
            return dataset.map(_padded_to_bucket) if shape[1] is None else dataset
        got = shape
    raise ValueError(
        f"`dataset` must yield dictionaries with `observations` of a known rank; got {got}."
    )


def _padded_to_bucket(batch):
    import tensorflow as tf

    batch = dict(batch)
    shape = tf.shape(batch["observations"])
    steps = shape[1]
    bounds = tf.constant(BUCKETS)
    bucket = bounds[tf.searchsorted(bounds, steps[tf.newaxis])[0]]
    if "controls" in batch:
        batch["controls"] = batch["controls"][:, : steps - 1]  # A last one would move the padding.
    batch.setdefault("mask", tf.ones(shape[:2], tf.bool))
    for name in {"observations", "controls", "mask"} & set(batch):
        batch[name] = _pad_steps(batch[name], bucket - steps)
    return batch


def _pad_steps(tensor, count):
    """Returns a tensor [batch, time, ...] with `count` steps of 0 more."""
    import tensorflow as tf

    others = [[0, 0]] * (len(tensor.shape) - 2)
    return tf.pad(tensor, [[0, 0], [0, count], *others])
