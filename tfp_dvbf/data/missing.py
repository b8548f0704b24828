"""Which time steps are missing, which controls count, and where what is known of a sequence ends.

A control counts if an observed step follows it, and then it must be finite. After the last observed
step, controls may go on; the first NaN among them ends the sequence. Each rule has an array face
(NumPy) and a graph face (tensors).
"""

import numpy as np

from tfp_dvbf.data import checks


def observed_steps(observations, mask=None):
    """Returns which steps are observed, or None where all are and no mask was given.

    Args:
      observations: [batch, time, *observation_shape]; of a masked array, a step with a masked value
        is missing.
      mask: [batch, time], 0 where a step is missing, or None.

    Returns:
      bool [batch, time].

    Raises:
      ValueError: If the mask has another shape, or leaves no observed step in a sequence.
    """
    shape = observations.shape[:2]
    if mask is not None:
        mask = checks.check_mask(mask, shape)
    if np.ma.is_masked(observations):
        values_masked = np.ma.getmaskarray(observations).reshape([*shape, -1])
        whole = ~values_masked.any(axis=2)
        mask = checks.check_mask(whole if mask is None else mask & whole, shape)
    return mask


def zero_unless(kept, values):
    """Returns `values` [batch, time, ...] with 0 in the steps that are not `kept`."""
    kept = kept.reshape(kept.shape + (1,) * (values.ndim - 2))
    return np.where(kept, values, values.dtype.type(0))


def steps_follow(mask):
    """Returns for each control u[t] whether an observed step follows, bool [batch, time - 1]."""
    return np.maximum.accumulate(mask[:, ::-1], axis=1)[:, ::-1][:, 1:]


def known_steps(controls, mask):
    """Returns which steps of each sequence are known, or follow from known controls.

    Args:
      controls: u[0:T-1], [batch, time - 1 or time, du], as they were given: NaN where they are not
        known. None where the system has none.
      mask: Whether each step is observed, bool [batch, time].

    Returns:
      bool [batch, time]: False from the first step on that a NaN control leads to, if no observed
      step follows that control.
    """
    mask = np.asarray(mask, bool)
    known = np.ones(mask.shape, bool)
    if controls is not None:
        controls = checks.check_numeric("controls", controls)[:, : mask.shape[1] - 1]
        usable = steps_follow(mask) | ~np.isnan(controls).any(axis=2)
        known[:, 1:] = np.logical_and.accumulate(usable, axis=1)
    return known


def until_last_observed(mask):
    """Returns whether a step is observed or one after it is, a bool tensor [batch, time]."""
    import tensorflow as tf

    return tf.math.cumsum(tf.cast(mask, tf.int32), axis=1, reverse=True) > 0


def known_steps_tensor(controls, mask):
    """Returns `known_steps` of tensors: float controls and a bool mask."""
    import tensorflow as tf

    controls = controls[:, : tf.shape(mask)[1] - 1]
    unknown = tf.reduce_any(tf.math.is_nan(controls), axis=2)
    usable = until_last_observed(mask)[:, 1:] | ~unknown
    usable = tf.concat([tf.ones_like(mask[:, :1]), usable], axis=1)
    return tf.math.cumprod(tf.cast(usable, tf.int32), axis=1) > 0


def fill_missing(observations, controls, mask):
    """Returns tensors with 0 in missing steps and in controls after what is known has ended.

    Args:
      observations: [batch, time, *observation_shape], of any type.
      controls: [batch, time - 1, du].
      mask: Whether each step is observed, bool [batch, time].
    """
    import tensorflow as tf

    event_axes = (tf.newaxis,) * (len(observations.shape) - 2)
    observed = mask[(..., *event_axes)]
    known = known_steps_tensor(controls, mask)[:, 1:, tf.newaxis]
    observations = tf.where(observed, observations, tf.zeros_like(observations))
    return observations, tf.where(known, controls, tf.zeros_like(controls))
