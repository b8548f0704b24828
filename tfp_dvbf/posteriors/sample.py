"""What every posterior returns."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp


class PosteriorSample(NamedTuple):
    """One trajectory of a posterior and its density.

    Attributes:
      states: z[0:T], [batch, time, dz].
      log_prob: ln q of each z[t] in nats, [batch, time].
      densities: q(z[0] | x[0]) and, as one distribution of batch shape [batch, time - 1],
        q(z[t] | z[t-1], ...) for t > 0; None where the latter has no closed form.
    """

    states: tf.Tensor
    log_prob: tf.Tensor
    densities: tuple[tfp.distributions.Distribution, tfp.distributions.Distribution] | None


def prepend(first, rest):
    """Puts first [batch, ...] before rest [batch, time - 1, ...]."""
    return tf.concat([first[:, tf.newaxis], rest], axis=1)
