"""Multilayer perceptrons and the Gaussians that they parameterise."""

import numbers

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

tfd = tfp.distributions

SCALE_FLOOR = 1e-4
INITIAL_SCALE = 0.1
GLOROT = "glorot_uniform"

# Adam moves a weight by at most its learning rate a step. A noise scale starts at `INITIAL_SCALE`
# and has to fall by more than a factor of 20, which takes thousands of steps unless the weight
# behind it acts this many times as strongly.
SCALE_SPEED = 10.0

STATE_BOUND = 10.0

# Initializer of the last layer of a residual, z + f(z): a recurrence that does not start near
# the identity explodes over the sequence before training can tame it.
SMALL = {"class_name": "VarianceScaling", "config": {"scale": 1e-3}}


def split_seed(seed, count):
    """Returns `count` seeds that follow from one, or as many times None."""
    if seed is None:
        return [None] * count
    return [int(word >> 1) for word in np.random.SeedSequence(seed).generate_state(count)]


def seeded(identifier, seed):
    """Returns the Keras initializer called `identifier`, with a seed unless that is None."""
    initializer = tf_keras.initializers.get(identifier)
    if seed is None:
        return initializer
    return type(initializer).from_config({**initializer.get_config(), "seed": seed})


class SeededKernels(tf_keras.initializers.Initializer):
    """Glorot uniform kernels of one seed, which differ from each other by their shapes.

    Args:
      seed: The seed, a non-negative integer.
    """

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, shape, dtype=None, **kwargs):
        words = np.random.SeedSequence([self.seed, *map(int, shape)]).generate_state(1)
        return seeded(GLOROT, int(words[0] >> 1))(shape, dtype, **kwargs)

    def get_config(self):
        return {"seed": self.seed}


class MLP(tf_keras.layers.Layer):
    """Dense layers over the last axis, whatever the axes before it.

    A built `tf_keras.Sequential` would squeeze or add an axis of size 1, so that one sensor or one
    state would change ranks.

    Args:
      hidden_units: Sizes of the layers that have an activation.
      output_units: Size of the linear layer that ends the network; None leaves it out.
      activation: Activation of the hidden layers.
      output_initializer: Initializer of the kernel of the linear layer.
      seed: Seed of the kernels; None draws new ones.
    """

    def __init__(
        self,
        hidden_units,
        output_units=None,
        activation="relu",
        output_initializer=GLOROT,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        *seeds, output_seed = split_seed(seed, len(hidden_units) + 1)
        self.layers = [
            tf_keras.layers.Dense(size, activation, kernel_initializer=seeded(GLOROT, layer_seed))
            for size, layer_seed in zip(hidden_units, seeds)
        ]
        if output_units is not None:
            initializer = seeded(output_initializer, output_seed)
            self.layers.append(tf_keras.layers.Dense(output_units, kernel_initializer=initializer))

    def call(self, inputs):
        """Maps [..., inputs] to [..., size of the last layer]."""
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    def after_first(self, total):
        """Maps the sums of the first layer, before its activation, to what `call` returns."""
        first, *rest = self.layers
        outputs = first.activation(total)
        for layer in rest:
            outputs = layer(outputs)
        return outputs


def unfused(total):
    """Returns a sum of dense layers that Grappler leaves apart from the activation that follows.

    Of the two together, where the activation is a Relu or Elu, Grappler of TensorFlow 2.21 makes an
    op without a name, prints errors and gives up on the whole function.
    """
    return tf.ensure_shape(total, total.shape)


def bounded(states, bound=STATE_BOUND):
    """Returns states [..., dz] as a recurrence reads them, held within +-`bound`.

    p(z[0]) is N(0, I), so that a state seldom comes near the default, within which this is the
    identity; 1 in 20 lies beyond a bound of 2. Without it z + f(z) grows by a factor of its own at
    every step: after one update of 1e-3 a sequence of 800 steps ended at 1e4, and longer ones at
    NaN.
    """
    return tf.clip_by_value(states, -bound, bound)


def positive(raw, initial=INITIAL_SCALE, floor=SCALE_FLOOR):
    """Maps `raw` to a scale above `floor`; a raw value of 0 gives about `initial`."""
    offset = np.log(np.expm1(initial))  # A constant, where TFP's inverse is ops.
    return floor + tf.math.softplus(raw + offset)


def gaussian_parameters(raw, floor=SCALE_FLOOR):
    """Splits a network's output [..., 2 dim] into a location and a scale, each [..., dim]."""
    loc, raw_scale = tf.split(raw, 2, axis=-1)
    return loc, positive(raw_scale, floor=floor)


def shift_last_half(network, amount):
    """Adds `amount` to the second half of what an `MLP` returns, the raw scale."""
    bias = network.layers[-1].bias
    half = tf.zeros([bias.shape[0] // 2])
    bias.assign_add(tf.concat([half, half + amount], axis=0))


def check_floor(floor, name="noise_floor"):
    """Returns `floor`, the argument called `name`, or raises ValueError unless it is in (0, 1)."""
    if not isinstance(floor, numbers.Real) or not 0 < floor < 1:
        raise ValueError(f"`{name}` must lie in (0, 1); got {floor!r}.")
    return floor


class DiagonalNormal(tfd.MultivariateNormalDiag):
    """N(loc, diag scale^2), whose density is that of its dimensions, multiplied.

    TFP computes it by a linear operator and a bijector, in some thirty operations, and the mean in
    a dozen. A stream, which takes one time step a call, waits for each of them.
    """

    def _log_prob(self, value):
        each = tfd.Normal(self.loc, self.scale.diag_part()).log_prob(value)
        return tf.reduce_sum(each, axis=-1)

    def _mean(self):
        return self.loc + tf.zeros_like(self.scale.diag_part())  # As wide as both.


def diagonal_normal(loc, scale):
    """Returns N(loc, diag scale^2) over the last axis of `loc` and `scale`, both [..., dim]."""
    return DiagonalNormal(loc, scale)


def standard_normal(dim):
    """Returns N(0, I) over the last axis [dim]."""
    return diagonal_normal(tf.zeros([dim]), tf.ones([dim]))


def flatten(values, event_shape):
    """Returns values [..., *event_shape] as [..., size of an event]."""
    if len(event_shape) == 1:
        return values
    lead = tf.shape(values)[: values.shape.rank - len(event_shape)]
    return tf.reshape(values, tf.concat([lead, [int(np.prod(event_shape))]], axis=0))


def expand_like(mask, tensor):
    """Returns a mask of the first axes of `tensor` with as many axes as it has."""
    for _ in range(tensor.shape.rank - mask.shape.rank):
        mask = mask[..., tf.newaxis]
    return mask


def root(values):
    """Returns the root of values that may be 0, where its gradient is 0 and not infinite."""
    positive_values = values > 0.0
    return tf.where(positive_values, tf.sqrt(tf.where(positive_values, values, 1.0)), 0.0)


def sizes_of(tensor):
    """Returns the size of each axis, a number where it is known and a scalar tensor elsewhere."""
    return [
        tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(tensor.shape)
    ]


def tile_rows(tensor, times):
    """Returns a tensor [batch, ...] `times` over, all of it before any comes again."""
    if isinstance(times, int) and times == 1:
        return tensor
    return tf.tile(tensor, tf.stack([times, *[1] * (tensor.shape.rank - 1)]))
