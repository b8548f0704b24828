"""Batches of sequences for training, from memory or streamed from a folder of files."""

import os

from tfp_dvbf import data
from tfp_dvbf.data import shards


def as_dataset(sequences, batch_size=16, seed=None, first_epoch=0):
    """Batches sequences for `DVBF.fit`, `evaluate` and `adapt`.

    A folder is streamed: two of its files are in memory at a time, and batches run across their
    borders. Shuffled, the files come in random order, and so do the sequences within each.

    Args:
      sequences: `Sequences`, `Shards` or the path of a folder of `.npz` files.
      batch_size: Sequences a batch; the last batch may be smaller.
      seed: Shuffles if given: the order of each epoch depends on `seed` and its number alone, so
        that a resumed run sees what an uninterrupted one would have seen. None keeps the order.
      first_epoch: Number of the epoch that the first iteration over the data set is; every
        iteration counts, that of `adapt` too.

    Returns:
      A `tf.data.Dataset` of {"observations": [batch, time, dx], "controls": [batch, time - 1, du]}
      and, where frames are missing or any file has a mask, "mask": bool [batch, time].

    Raises:
      ValueError: If an argument is none of these, or as `Shards` does. A file that turns out
        damaged ends the iteration with a `tf.errors.InvalidArgumentError` that names it.
    """
    import tensorflow as tf  # Here, so that collecting data does not wait for TensorFlow.

    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1; got {batch_size}.")
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
    if isinstance(source, shards.Shards):
        return _shard_tensors(source, keys).prefetch(1).rebatch(batch_size)
    return _batches_in_memory(source, batch_size, keys)


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


def _batches_in_memory(sequences, batch_size, keys):
    """Gathers each batch from tensors of the whole data set."""
    import tensorflow as tf

    arrays = _arrays(sequences, sequences.mask is not None)
    tensors = tf.nest.map_structure(tf.constant, arrays)
    indices = tf.data.Dataset.range(len(sequences))
    if keys is not None:
        indices = keys.flat_map(
            lambda key: tf.data.Dataset.from_tensor_slices(_shuffled_range(len(sequences), key))
        )
    return indices.batch(batch_size).map(lambda index: _gather(tensors, index))


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

    steps = source.num_steps
    specs = {
        "observations": tf.TensorSpec([None, steps, source.observation_dim], tf.float32),
        "controls": tf.TensorSpec([None, steps - 1, source.control_dim], tf.float32),
    }
    if source.has_mask:
        specs["mask"] = tf.TensorSpec([None, steps], tf.bool)
    values = tf.numpy_function(
        lambda number: list(_arrays(source.load(number), source.has_mask).values()),
        [index],
        [spec.dtype for spec in specs.values()],
    )
    return {
        name: tf.ensure_shape(value, spec.shape)
        for (name, spec), value in zip(specs.items(), values)
    }


def _arrays(sequences, has_mask):
    """Returns the arrays of a batch by name, with a mask of ones where one is due and none is."""
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    if has_mask:
        arrays["mask"] = sequences.present
    return arrays
