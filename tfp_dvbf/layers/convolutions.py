"""Convolutional networks of images, and the encoder and initial posterior that are made of them."""

import tensorflow as tf
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import encoders, initial_posteriors, networks

FILTERS = (16, 32)
KERNEL_SIZE = 3
STRIDE = 2


def check_image_shape(owner, observation_shape):
    """Raises ValueError unless observations are images [height, width, channels]."""
    if len(observation_shape) != 3:
        raise ValueError(
            f"`observation_shape` must be (height, width, channels) for {owner}; "
            f"got {observation_shape}."
        )


def sizes_by_layer(size, num_layers):
    """Returns the height or width of an image, and what each of the layers leaves of it."""
    sizes = [size]
    for _ in range(num_layers):
        sizes.append(-(-sizes[-1] // STRIDE))
    return sizes


class ConvolutionalNetwork(tf_keras.layers.Layer):
    """Convolutions with a stride of 2 over images, then an MLP of what they leave.

    Args:
      image_shape: Height, width and channels of the images.
      filters: Number of channels that each convolution makes.
      hidden_units: Sizes of the dense layers that have an activation.
      output_units: Size of the linear layer that ends the network; None leaves it out.
      activation: Activation of the hidden layers.
      seed: Seed of the kernels; None draws new ones.
    """

    def __init__(
        self,
        image_shape,
        filters,
        hidden_units,
        output_units=None,
        activation="relu",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        *seeds, dense_seed = networks.split_seed(seed, len(filters) + 1)
        self.convolutions = [
            tf_keras.layers.Conv2D(
                count,
                KERNEL_SIZE,
                STRIDE,
                padding="same",
                activation=activation,
                kernel_initializer=networks.seeded(networks.GLOROT, layer_seed),
            )
            for count, layer_seed in zip(filters, seeds)
        ]
        self.dense = networks.MLP(hidden_units, output_units, activation, seed=dense_seed)

    def call(self, images):
        """Maps [..., height, width, channels] to [..., size of the last layer]."""
        lead = tf.shape(images)[:-3]
        hidden = tf.reshape(images, [-1, *self.image_shape])
        for layer in self.convolutions:
            hidden = layer(hidden)
        hidden = self.dense(networks.flatten(hidden, hidden.shape[1:]))
        return tf.reshape(hidden, tf.concat([lead, hidden.shape[1:]], axis=0))


class TransposedConvolutionalNetwork(tf_keras.layers.Layer):
    """An MLP, then transposed convolutions with a stride of 2, each of which doubles the image.

    What stands over at the right and lower edges is cut off, so that any height and width will do.

    Args:
      image_shape: Height, width and channels of the images that it makes.
      filters: Number of channels that enter each transposed convolution; () leaves the MLP alone.
      hidden_units: Sizes of the dense layers that have an activation.
      activation: Activation of all layers but the last.
      seed: Seed of the kernels; None draws new ones.
    """

    def __init__(self, image_shape, filters, hidden_units, activation="relu", seed=None, **kwargs):
        super().__init__(**kwargs)
        *seeds, dense_seed = networks.split_seed(seed, len(filters) + 1)
        by_layer = zip(*(sizes_by_layer(size, len(filters)) for size in image_shape[:2]))
        self.first_size, *self.sizes = list(by_layer)[::-1]
        self.channels = [*filters, image_shape[2]]
        height, width = self.first_size
        output = height * width * self.channels[0]
        self.dense = networks.MLP(hidden_units, output, activation, seed=dense_seed)
        self.activation = tf_keras.layers.Activation(activation)
        self.convolutions = [
            tf_keras.layers.Conv2DTranspose(
                count,
                KERNEL_SIZE,
                STRIDE,
                padding="same",
                kernel_initializer=networks.seeded(networks.GLOROT, layer_seed),
            )
            for count, layer_seed in zip(self.channels[1:], seeds)
        ]

    def call(self, states):
        """Maps [..., dim] to images [..., height, width, channels]."""
        lead = tf.shape(states)[:-1]
        outputs = self.dense(tf.reshape(states, [-1, states.shape[-1]]))
        image = tf.reshape(outputs, [-1, *self.first_size, self.channels[0]])
        for layer, (height, width) in zip(self.convolutions, self.sizes):
            image = layer(self.activation(image))[:, :height, :width]
        return tf.reshape(image, tf.concat([lead, image.shape[1:]], axis=0))


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class ConvolutionalEncoder(encoders.WindowEncoder):
    """h[t] = g(x[t-k+1], ..., x[t]), convolutions over the last k images as channels of one.

    Args:
      units: Sizes of the dense layers; the last one is the size of h[t].
      activation: Activation of all layers.
      num_steps: The number k of images that h[t] sees.
      filters: Number of channels that each convolution makes.
    """

    def __init__(self, units=(64,), activation="relu", num_steps=1, filters=FILTERS, **kwargs):
        super().__init__(units, activation, num_steps, **kwargs)
        self.filters = errors.check_units("filters", filters, least=1)

    def build(self, spec):
        check_image_shape(type(self).__name__, spec.observation_shape)
        shape = stacked_shape(spec.observation_shape, self.num_steps)
        settings = self.filters, self.units, None, self.activation, spec.seed
        self.network = ConvolutionalNetwork(shape, *settings, name="network")
        super().build(spec)

    def features(self, joined):
        """Maps x[t-k+1], ..., x[t], the channels of one image, to h[t] of the same first axes."""
        return self.network(joined)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class ConvolutionalInitialPosterior(initial_posteriors.GaussianInitialPosterior):
    """q(z[0] | x[0:k]) = N(m(x[0:k]), diag s(x[0:k])^2) of k images, the channels of one network.

    Args:
      num_steps: The number k of time steps that it sees.
      hidden_units: Sizes of the hidden dense layers.
      activation: Activation of the hidden layers.
      filters: Number of channels that each convolution makes.
    """

    def __init__(
        self, num_steps=1, hidden_units=(64,), activation="relu", filters=FILTERS, **kwargs
    ):
        super().__init__(num_steps, hidden_units, activation, **kwargs)
        self.filters = errors.check_units("filters", filters, least=1)

    def make_network(self, spec):
        """Returns the network of x[0:k], which are stacked as channels."""
        check_image_shape(type(self).__name__, spec.observation_shape)
        shape = stacked_shape(spec.observation_shape, self.num_steps)
        settings = self.filters, self.hidden_units, 2 * spec.state_dim, self.activation, spec.seed
        return ConvolutionalNetwork(shape, *settings, name="network")

    def join(self, observations):
        """Returns x[0:k] as the channels of one image, [batch, height, width, k channels]."""
        return tf.concat([observations[:, t] for t in range(self.num_steps)], axis=-1)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def stacked_shape(observation_shape, num_steps):
    """Returns the shape of images of several steps as the channels of one."""
    height, width, channels = observation_shape
    return height, width, channels * num_steps
