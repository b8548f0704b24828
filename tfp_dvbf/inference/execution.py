"""How functions of tensors are run: as graphs of open sizes, a part of the rows at a time."""

import math

import numpy as np
import tensorflow as tf

# Values of the widest layer that a call holds at a time, 256 MiB.
VALUES = 2**26
# What a time step counts for: the units of a decoder's layer; or the values of a large observation,
# which has a mean, a scale, noise and a draw.
LAYER_UNITS, COPIES = 128, 4
# Time steps of sequences from which on XLA, which takes seconds to compile for every size, is worth
# them to a particle filter: a step of its loop takes half the time. Its random numbers are others
# there, since XLA makes normal numbers in another order.
COMPILED_STEPS = 2**14


class Graphs:
    """Runs functions of a model as graphs whose batch and time axes are open.

    Two things need the open axes. One graph serves all sizes; and Grappler, which turns sums of
    three or more large tensors in the body of a loop into an operation that fails when the loop
    runs again (AlreadyExistsError), does so only where their sizes are known.

    Args:
      model: A `StateSpaceModel`.
      recognition: A `RecognitionModel`.
    """

    def __init__(self, model, recognition):
        self._models = model, recognition
        self._functions = {}

    def run(self, function, *arguments, jit_compile=False, **static):
        """Returns what `function(model, recognition, *arguments, **static)` returns.

        It runs without a graph, to be debugged, after `tf.config.run_functions_eagerly(True)`.

        Args:
          function: One of the functions of this package.
          *arguments: Tensors, or structures of them.
          jit_compile: Whether XLA compiles the graph, anew for all sizes.
          **static: Values that the graph is made for.
        """
        if tf.config.functions_run_eagerly():
            return function(*self._models, *arguments, **static)
        key = function, jit_compile, *sorted(static.items())
        if key not in self._functions:
            self._functions[key] = tf.function(
                lambda *tensors: function(*self._models, *tensors, **static),
                autograph=False,
                jit_compile=jit_compile or None,
            )
        specs = tf.nest.map_structure(_open, arguments)
        graph = self._functions[key].get_concrete_function(*specs)
        try:
            return graph(*arguments)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            if not jit_compile:
                raise
            return self.run(function, *arguments, **static)  # A part has an op that XLA lacks.

    def run_in_parts(
        self, function, rows, num_samples, num_steps, seed, axis=1, compiles=False, **static
    ):
        """Runs a function on a part of the batch at a time and joins what it returns.

        Args:
          function: Function of `*rows`, the number of samples and a seed.
          rows: Tensors [batch, ...], or structures of them.
          num_samples: Draws for each sequence.
          num_steps: Time steps T of a sequence, which with `num_samples` say how large a part is.
          seed: Stateless seed, int32 [2]; each part has another.
          axis: The axis of the results that is the batch, or a structure of axes like theirs.
          compiles: Whether XLA compiles it for sequences of `COMPILED_STEPS` or more.
          **static: As for `run`.
        """
        static["jit_compile"] = compiles and (num_steps or 0) >= COMPILED_STEPS
        batch, draws = tf.nest.flatten(rows)[0].shape[0], tf.convert_to_tensor(num_samples)
        known = None not in (batch, num_steps, tf.get_static_value(draws))
        size = batch
        if known:
            width = max(LAYER_UNITS, COPIES * math.prod(self._models[0].spec.observation_shape))
            size = max(1, VALUES // (int(num_samples) * num_steps * width))
        if not known or batch <= size:
            return self.run(function, *rows, draws, seed, **static)
        parts = []
        for start in range(0, batch, size):
            part = tf.nest.map_structure(
                lambda tensor, s=start: None if tensor is None else tensor[s : s + size], rows
            )
            part_seed = tf.random.experimental.stateless_fold_in(seed, start)
            parts.append(self.run(function, *part, draws, part_seed, **static))
        if isinstance(axis, int):
            axis = tf.nest.map_structure(lambda _: axis, parts[0])
        return tf.nest.map_structure(lambda axis, *part: tf.concat(part, axis), axis, *parts)


def weights_are_finite(model, recognition):
    """Returns whether no weight of a `StateSpaceModel` or `RecognitionModel` is NaN or infinite."""
    weights = [each for each in [*model.weights, *recognition.weights] if each.dtype.is_floating]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(weight)) for weight in weights])


def nan_where_unknown(known, results, axis=1):
    """Returns results with NaN in the time steps that are not known.

    Args:
      known: bool [batch, time], or None where all steps are known.
      results: Structure of tensors with a batch and a time axis.
      axis: The axis that is the batch, before that of time; or a structure of such axes.
    """
    if known is None or tf.get_static_value(tf.reduce_all(known)):
        return results
    axes = tf.nest.map_structure(lambda _: axis, results) if isinstance(axis, int) else axis

    def fill(tensor, axis):
        if tensor.shape.rank < axis + 2:  # A sum over time, which ends with what is known.
            return tensor
        ones = [1] * (tensor.shape.rank - 2 - axis)
        shape = tf.concat([tf.shape(known), ones], axis=0)
        return tf.where(tf.reshape(known, shape), tensor, np.nan)

    return tf.nest.map_structure(fill, results, axes)


def _open(tensor):
    """Returns the spec of a tensor with its first two axes open; of scalars and seeds, as it is."""
    if tensor is None:
        return None
    shape = tensor.shape.as_list()
    if len(shape) > 1:
        shape[:2] = [None, None]
    return tf.TensorSpec(shape, tensor.dtype)
