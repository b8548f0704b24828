"""What every posterior is given and what it returns."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp


class PosteriorInputs(NamedTuple):
    """What a posterior sees of a sequence, standardised; each [batch, time - 1, ...].

    Attributes:
      features: h[t] of the encoder, t = 1 .. T-1.
      controls: u[t-1].
      observations: x[t].
    """

    features: tf.Tensor
    controls: tf.Tensor
    observations: tf.Tensor


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
