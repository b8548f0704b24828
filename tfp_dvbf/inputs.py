"""What a model takes: checked sequences, standardised by the data it was adapted to."""

import tensorflow as tf

from tfp_dvbf import checks, choices, data


class Inputs:
    """The methods of `DVBF` that check what comes in and learn its standardisation."""

    def adapt(self, dataset):
        """Sets the standardisation to the mean and scale of a data set.

        Missing frames do not count, nor do controls that no frame follows. Binary pixels are not
        standardised.

        Args:
          dataset: `tf.data.Dataset` of dictionaries, as `as_dataset` makes them.

        Raises:
          ValueError: If the data do not fit the model, the posterior cannot do with their masks,
            or the emission cannot do with their values.
          tf.errors.InvalidArgumentError: If a frame that is there, or a control that a frame
            follows, is not finite.
        """
        self._check_inputs(dataset.element_spec)
        pixels = self.config["emission"] == "bernoulli"
        if pixels or (self.config["posterior"] == "chain_iaf" and "mask" in dataset.element_spec):
            for inputs in dataset.as_numpy_iterator():
                mask, observations = inputs.get("mask"), inputs["observations"]
                if mask is not None:
                    mask = mask.astype(bool)
                    observations = observations[mask]
                choices.check_mask(self.config["posterior"], mask)
                choices.check_pixels(self.config["emission"], observations)
        if not pixels:
            self.observation_standardization.adapt(dataset.map(_present_observations))
        applied = dataset.map(_applied_controls).filter(lambda controls: tf.size(controls) > 0)
        self.control_standardization.adapt(applied)

    def _check_inputs(self, inputs):
        """Raises ValueError unless `inputs` are what `fit` takes, tensors or their specs."""
        if not isinstance(inputs, dict) or not {"observations", "controls"} <= set(inputs):
            raise ValueError(
                "Data must be dictionaries {'observations': ..., 'controls': ...}; "
                f"got {type(inputs).__name__}. `as_dataset` makes them."
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
        choices.check_mask(self.config["posterior"], batch.mask)
        choices.check_pixels(self.config["emission"], batch.observations)
        return batch


def _present_observations(batch):
    """Returns the observations that are there, [1, frames, dx] of a batch with a mask."""
    observations = batch["observations"]
    if "mask" in batch:
        observations = tf.boolean_mask(observations, tf.cast(batch["mask"], tf.bool))[tf.newaxis]
    return tf.debugging.check_numerics(observations, "`observations` must be finite")


def _applied_controls(batch):
    """Returns the controls that a frame follows, [1, controls, du] of a batch with a mask."""
    controls = batch["controls"][:, : tf.shape(batch["observations"])[1] - 1]
    if "mask" in batch:
        follow = data.until_last_frame(tf.cast(batch["mask"], tf.bool))[:, 1:]
        controls = tf.boolean_mask(controls, follow)[tf.newaxis]
    return tf.debugging.check_numerics(controls, "`controls` must be finite")
