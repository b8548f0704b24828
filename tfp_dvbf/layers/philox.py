"""Random numbers of the generator Philox (Salmon et al. 2011), by stateless seeds.

In a graph on a CPU they are those of `tf.random.stateless_normal` and `stateless_uniform`. Where
the generator is left to XLA, it takes Philox as well, but computes its key anew for every number,
which on a CPU takes 15 to 30 times as long.
"""

import tensorflow as tf


def normal(shape, seed):
    """Returns draws of N(0, 1), float32 of `shape`; `seed` is int32 [2]."""
    return tf.random.stateless_normal(shape, seed, alg="philox")


def uniform(shape, seed):
    """Returns draws of U(0, 1), float32 of `shape`; `seed` is int32 [2]."""
    return tf.random.stateless_uniform(shape, seed, alg="philox")
