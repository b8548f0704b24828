"""What every posterior is given and what it returns."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras


class PosteriorInputs(NamedTuple):
    """What a posterior sees of a sequence, standardised; each [batch, time - 1, ...].

    Attributes:
      features: h[t] of the encoder, t = 1 .. T-1.
      controls: u[t-1].
      observations: x[t].
      present: Whether x[t] is there, bool [batch, time - 1, 1]; None where all are.
    """

    features: tf.Tensor
    controls: tf.Tensor
    observations: tf.Tensor
    present: tf.Tensor | None = None

    def tensors(self):
        """The fields that are there, as a tuple: what a Keras RNN takes."""
        return tuple(tensor for tensor in self if tensor is not None)

    @property
    def joined(self):
        """(h[t], u[t-1]), [batch, time - 1, dh + du]."""
        return tf.concat([self.features, self.controls], axis=-1)


class PosteriorSample(NamedTuple):
    """One trajectory of a posterior and its density.

    Attributes:
      states: z[0:T], [batch, time, dz].
      log_prob: ln q of each z[t] in nats, [batch, time].
      densities: q(z[0] | x[0:k]) and, as one distribution of batch shape [batch, time - 1],
        q(z[t] | z[t-1], ...) for t > 0; None where the latter has no closed form.
    """

    states: tf.Tensor
    log_prob: tf.Tensor
    densities: tuple[tfp.distributions.Distribution, tfp.distributions.Distribution] | None


def make_rnns(cell):
    """Returns a Keras RNN over `cell` for whole sequences and one for sequences with a mask.

    They share the cell; Keras binds an RNN to the number of its inputs.
    """
    return [tf_keras.layers.RNN(cell, return_sequences=True) for _ in range(2)]


def draw_first(density, noise):
    """Returns z[0] of q(z[0]), a diagonal normal, for eps[0] of eps[0:T], and its ln q."""
    first = density.loc + density.scale.matvec(noise[:, 0])
    return first, density.log_prob(first)


def log_base(noise):
    """Returns ln N(eps; 0, I) of noise [..., dz]."""
    return tf.reduce_sum(tfp.distributions.Normal(0.0, 1.0).log_prob(noise), axis=-1)


def prepend(first, rest):
    """Puts first [batch, ...] before rest [batch, time - 1, ...]."""
    return tf.concat([first[:, tf.newaxis], rest], axis=1)
