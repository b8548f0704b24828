"""What a model takes: checked sequences, standardised by the data it was adapted to."""

import numpy as np
import tensorflow as tf

from tfp_dvbf import data, registry
from tfp_dvbf.data import checks


class Inputs:
    """The methods of `DVBF` that check what comes in and learn its standardisation."""

    def adapt(self, dataset):
        """Sets the standardisation to the mean and scale of a data set.

        Missing frames do not count, nor do controls that no frame follows. Binary pixels are not
        standardised.

        Args:
          dataset: `tf.data.Dataset` of dictionaries, as `as_dataset` makes them, or a dictionary of
            arrays.

        Raises:
          ValueError, tf.errors.InvalidArgumentError: As `fit` does.
        """
        checked = self._checked(dataset)
        if isinstance(checked, dict):
            checked = tf.data.Dataset.from_tensors(checked)
        if self.config["emission"] != "bernoulli":
            self.observation_standardization.adapt(checked.map(_present_observations))
        applied = checked.map(_applied_controls).filter(lambda controls: tf.size(controls) > 0)
        self.control_standardization.adapt(applied)

    def _checked(self, dataset):
        """Returns a data set whose iteration fails at values that are none, or checked arrays."""
        if isinstance(dataset, tf.data.Dataset):
            self._check_inputs(dataset.element_spec)
            return dataset.map(self._check_values)
        if isinstance(dataset, dict):
            dataset = {name: np.asarray(array) for name, array in dataset.items()}
        self._check_inputs(dataset)
        batch = self._check_batch(*map(dataset.get, data.Batch._fields))
        return {name: array for name, array in batch._asdict().items() if array is not None}

    def _check_values(self, inputs):
        with tf.control_dependencies(self._size_assertions(**inputs)):
            inputs = tf.nest.map_structure(tf.identity, inputs)
        with tf.control_dependencies(self._assertions(**self._unpack(inputs)._asdict())):
            return tf.nest.map_structure(tf.identity, inputs)

    def _size_assertions(self, observations, controls, mask=None, **others):
        """Returns ops that fail unless tensors of sizes not known before fit each other."""
        del others
        batch, steps = tf.unstack(tf.shape(observations)[:2])
        least = max(2, self.config["initial_frames"])
        extra = tf.shape(controls)[1] - (steps - 1)
        rules = {
            f"`observations` must have {least} frames or more.": steps >= least,
            "`controls` must have the batch size of `observations`.": tf.shape(controls)[0]
            == batch,
            "`controls` must have as many steps as `observations`, or one fewer.": (extra == 0)
            | (extra == 1),
        }
        if mask is not None:
            same = tf.reduce_all(tf.shape(mask) == tf.stack([batch, steps]))
            rules["`mask` must have the batch and steps of `observations`."] = same
        return [require(holds, rule) for rule, holds in rules.items()]

    def _assertions(self, mask=None, **tensors):
        """Returns ops that fail if `tensors`, or `mask`, hold what is no data for this model.

        XLA drops such ops: they belong into a graph that it does not compile.

        Args:
          mask: Whether each frame is there, bool [batch, time], or None.
          **tensors: Controls and what is observed, 0 where it is missing.
        """
        ops = [
            tf.debugging.assert_all_finite(tensor, f"`{name}` must be finite.")
            for name, tensor in tensors.items()
        ]
        if self.config["emission"] == "bernoulli":
            observed = [tensor for name, tensor in tensors.items() if name != "controls"]
            binary = [tf.reduce_all((pixels == 0) | (pixels == 1)) for pixels in observed]
            ops += [require(each, registry.NOT_BINARY) for each in binary]
        if mask is not None and self.config["posterior"] == "chain_iaf":
            gaps = tf.reduce_any(~mask[:, :-1] & mask[:, 1:])
            ops.append(require(~gaps, registry.GAPS))
        return ops

    def _check_inputs(self, inputs):
        """Raises ValueError unless `inputs` are what `fit` takes, tensors or their specs."""
        if not isinstance(inputs, dict) or not {"observations", "controls"} <= set(inputs):
            raise ValueError(
                "Data must be dictionaries {'observations': ..., 'controls': ...} or a "
                f"`tf.data.Dataset` of them; got {type(inputs).__name__}. `as_dataset` makes them."
            )
        shapes = {name: inputs[name].shape for name in ["observations", "controls"]}
        checks.check_shapes(
            shapes["observations"],
            shapes["controls"],
            self.config["observation_dim"],
            self.config["control_dim"],
            min_steps=self.config["initial_frames"],
        )
        frames = tf.TensorShape(shapes["observations"])[:2]
        if "mask" in inputs and not frames.is_compatible_with(inputs["mask"].shape):
            raise ValueError(f"`mask` must have shape {frames}; got {inputs['mask'].shape}.")

    def _unpack(self, inputs):
        """Checks one batch as `fit` sees it; returns a `data.Batch`, what is missing set to 0."""
        self._check_inputs(inputs)
        observations = tf.cast(inputs["observations"], tf.float32)
        controls = tf.cast(inputs["controls"], tf.float32)[:, : tf.shape(observations)[1] - 1]
        if "mask" not in inputs:
            return data.Batch(observations, controls)
        mask = tf.cast(inputs["mask"], tf.bool)
        return data.Batch(*data.fill_missing(observations, controls, mask), mask)

    def _check_batch(self, observations, controls, mask=None):
        names = ["observation_dim", "control_dim", "initial_frames"]
        sizes = [self.config[name] for name in names]
        batch = data.check_sequences(observations, controls, mask, *sizes)
        registry.check_mask(self.config["posterior"], batch.mask)
        registry.check_pixels(self.config["emission"], batch.observations)
        return batch


def require(condition, message):
    """Returns an op that fails with `message`, when the graph runs, unless `condition` holds.

    One op, where those of `tf.debugging` are a conditional with a dozen.
    """
    return tf.raw_ops.Assert(condition=condition, data=[message])


def _present_observations(batch):
    """Returns the observations that are there, [1, frames, dx] of a batch with a mask."""
    observations = batch["observations"]
    if "mask" in batch:
        observations = tf.boolean_mask(observations, tf.cast(batch["mask"], tf.bool))[tf.newaxis]
    return observations


def _applied_controls(batch):
    """Returns the controls that a frame follows, [1, controls, du] of a batch with a mask."""
    controls = batch["controls"][:, : tf.shape(batch["observations"])[1] - 1]
    if "mask" in batch:
        follow = data.until_last_frame(tf.cast(batch["mask"], tf.bool))[:, 1:]
        controls = tf.boolean_mask(controls, follow)[tf.newaxis]
    return controls
