"""Random numbers: seeds, and those of a particle filter, where a sequence's are its own."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_dvbf import errors

NORMAL = tf.raw_ops.StatelessRandomNormalV2
UNIFORM = tf.raw_ops.StatelessRandomUniformV2
USES = NORMAL, UNIFORM
PHILOX = 1
SEED_SALT = 0x5EED


def stateless_seed(seed=None):
    """Returns a stateless seed, int32 [2], from an integer or scalar tensor.

    None draws a new one. A graph draws it whenever it runs, not once for all when it is traced, by
    TensorFlow's generator, which `tf.random.set_seed` sets.
    """
    if seed is None and not tf.executing_eagerly():
        seed = tf.random.uniform([], tf.int32.min, tf.int32.max, tf.int32)
    elif seed is None:
        seed = np.random.SeedSequence().generate_state(1).view(np.int32)[0]
    elif tf.is_tensor(seed):
        if not seed.dtype.is_integer:
            raise ValueError(f"`seed` must be an integer; got a tensor of {seed.dtype.name}.")
    else:  # Its lower 32 bits, as a cast of a tensor takes them.
        seed = errors.check_integer("seed", seed, least=None) % 2**32
        seed = np.uint32(seed).view(np.int32)
    return tf.stack([tf.cast(seed, tf.int32), SEED_SALT])


def seeds_of_model(seed=None):
    """Returns the seed of a model, a new one for None, and what is made of it.

    That is the key of its noise, an int32, and the seeds of the weights of p and of q.
    """
    seed = None if seed is None else errors.check_integer("seed", seed, least=0)
    entropy = int(np.random.SeedSequence(seed).entropy)
    noise_seed, *seeds = np.random.SeedSequence(entropy).generate_state(3)
    return entropy, int(noise_seed.view(np.int32)), *map(int, seeds)


class Noise(NamedTuple):
    """The random numbers of one time step.

    Attributes:
      offsets: Draws of U(0, 1) to resample by, [batch].
      proposal: Draws of N(0, I) that move the particles by q, [particle, batch, dz].
      prediction: Draws of N(0, I) that move them by p, to predict, [particle, batch, dz].
    """

    offsets: tf.Tensor
    proposal: tf.Tensor
    prediction: tf.Tensor


def key_of(seed):
    """Returns what `draw` takes of a stateless seed, int32 [2], for all time steps."""
    return tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)


def draw(key, step, num_particles, state_dim, batch, first=0):
    """Returns the `Noise` of `batch` sequences from number `first` on, all at one time step.

    Args:
      key: What `key_of` returned.
      step: Scalar, the index t of the time step.
      num_particles: Particles of each sequence.
      state_dim: Size dz of the state.
      batch: Number of sequences.
      first: Place in the batch of the first of them.
    """
    shape = [batch, 2, num_particles, state_dim]
    drawn = _draw_rows(NORMAL, key, step, first, batch, 2 * num_particles * state_dim)
    proposal, prediction = tf.unstack(tf.transpose(tf.reshape(drawn, shape), [1, 2, 0, 3]))
    offsets = _draw_rows(UNIFORM, key, step, first, batch, 1)
    return Noise(offsets[:, 0], proposal, prediction)


def draw_each(key, steps, num_particles, state_dim):
    """Returns the `Noise` of sequences that are at `steps` of their own, int32 [batch]."""
    batch, latest = tf.shape(steps)[0], tf.reduce_max(steps)

    def draw_row(row):
        return draw(key, steps[row], num_particles, state_dim, 1, row)

    def draw_rows():
        types = Noise(*3 * [tf.float32])
        offsets, *normals = tf.map_fn(draw_row, tf.range(batch), fn_output_signature=types)
        normals = [tf.transpose(normal[:, :, 0], [1, 0, 2]) for normal in normals]
        return Noise(offsets[:, 0], *normals)

    return tf.cond(
        tf.reduce_all(steps == latest),
        lambda: draw(key, latest, num_particles, state_dim, batch),
        draw_rows,
    )


def _draw_rows(operation, key, step, first, count, width):
    """Returns rows `first` .. `first + count - 1` of the random numbers of a step, [count, width].

    Philox, the generator behind `tf.random.stateless_*`, turns each value of a counter of 128 bits
    into four numbers (Salmon et al. 2011). Its upper half is the time step and what the numbers are
    for; of its lower half every row has a range to itself, so that a row is the same however many
    are drawn.
    """
    length = -(-width // 4)  # Of a row's range, rounded up.
    upper = len(USES) * step + USES.index(operation)
    place = tf.stack([tf.cast(first * length, tf.uint64), tf.cast(upper, tf.uint64)])
    drawn = operation(
        shape=[count, 4 * length],
        key=key.key,
        counter=key.counter + place,
        alg=PHILOX,
        dtype=tf.float32,
    )
    return drawn[:, :width]
