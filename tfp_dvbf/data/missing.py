"""Which time steps are missing, and which controls an observed one follows."""

import numpy as np


def fill_missing(observations, controls, mask):
    """Returns tensors with 0 in missing frames and in controls that no frame follows."""
    import tensorflow as tf

    follow = until_last_frame(mask)[:, 1:]
    observations = tf.where(mask[..., tf.newaxis], observations, tf.zeros_like(observations))
    return observations, tf.where(follow[..., tf.newaxis], controls, tf.zeros_like(controls))


def until_last_frame(mask):
    """Returns whether a frame is there or follows, a bool tensor [batch, time]."""
    import tensorflow as tf

    return tf.math.cumsum(tf.cast(mask, tf.int32), axis=1, reverse=True) > 0


def frames_follow(mask):
    """Returns for each control u[t] whether a frame after t is there, [batch, time - 1]."""
    return np.maximum.accumulate(mask[:, ::-1], axis=1)[:, ::-1][:, 1:]
