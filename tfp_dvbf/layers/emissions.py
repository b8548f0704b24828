"""Emission densities p(x[t] | z[t])."""

import numbers

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import errors
from tfp_dvbf.layers import networks, part

tfd = tfp.distributions

NOISE_FLOOR = 5e-3  # Costs nothing in the error of the pendulum; 0.01 costs a quarter.
LARGE = 1e9


class Emission(part.Part):
    """Base of the emissions: p(x[t] | z[t]).

    A subclass makes its weights in `build(spec)` and implements

        call(states) -> p(x[t] | z[t])

    with states z[t] [..., dz] to a distribution of batch shape [...] and the event shape of an
    observation, which has a mean and a variance and draws reparameterised samples where it can.
    It overrides `innovation` where the variance is infinite, and names in `support`, with
    `supports`, what its observations must be, where not any number will do; other values are then
    refused by that name.

    Attributes:
      units: "standardised" where the density is that of standardised observations, "user" where it
        is that of observations in the user's units.
      standardises: Whether `adapt` standardises the observations that encoder and posteriors see.
      support: What observations must be, such as "0 or 1"; None where any finite value will do.
    """

    units = "standardised"
    standardises = True
    support = None

    def supports(self, observations):
        """Returns whether each value lies in `support`, a bool tensor; called if there is one."""
        return tf.ones_like(observations, tf.bool)

    def doubt(self, mean, scale):
        """Returns what speaks against data of this mean and scale, a sentence, or None.

        Args:
          mean, scale: Mean and standard deviation of each value, of the shape of an observation.
        """
        del mean, scale

    def innovation(self, states, observations):
        """Returns how far x lies from what is expected at z, [..., size of an observation].

        asinh((x - E[x | z]) / sd[x | z]) is linear near 0; its logarithmic tails keep a wrong
        prediction from exploding the recursion. The variance is floored before its root is taken,
        since the gradient of a root at 0 is infinite.

        Args:
          states: z, [..., dz].
          observations: x in the emission's units, [..., *observation_shape].
        """
        density = self(states)
        variance = tf.maximum(density.variance(), networks.SCALE_FLOOR**2)
        deviations = (observations - density.mean()) / tf.sqrt(variance)
        return networks.flatten(asinh(deviations), self.spec.observation_shape)


def asinh(values):
    """Returns asinh of `values` by elementary functions, which LiteRT has; it has no Asinh."""
    negative = values < 0.0
    size = tf.where(negative, -values, values)  # Its gradient at 0 is 1, where that of abs is 0.
    root = tf.sqrt(1.0 + tf.minimum(size, LARGE) ** 2)  # Else its square would leave float32.
    root = tf.where(size > LARGE, size, root)
    positive = tf.math.log1p(size + size * (size / (1.0 + root)))
    return tf.where(negative, -positive, positive)


class NetworkEmission(Emission):
    """Base of the emissions one of whose parameters a value is the output of a network g(z[t]).

    Args:
      hidden_units: Sizes of the hidden layers of g; () makes g linear.
      activation: Activation of the hidden layers.
    """

    def __init__(self, hidden_units=(128,), activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.hidden_units = errors.check_units("hidden_units", hidden_units)
        self.activation = activation

    def build(self, spec):
        self.network = self.make_network(spec)
        super().build(spec)

    def make_network(self, spec):
        """Returns the network g, which `parameters_of` calls; a subclass may have another."""
        sizes = self.hidden_units, spec.observation_size
        return networks.MLP(*sizes, self.activation, seed=spec.seed, name="g")

    def parameters_of(self, states):
        """Returns g(z), [..., *observation_shape]."""
        return self.shaped(self.network(states))

    def shaped(self, outputs):
        """Returns [..., size of an observation] as [..., *observation_shape]."""
        shape = self.spec.observation_shape
        if len(shape) == 1:
            return outputs
        return tf.reshape(outputs, tf.concat([tf.shape(outputs)[:-1], shape], axis=0))

    def independent(self, density):
        """Returns one density of all values of an observation from one of each."""
        return tfd.Independent(density, len(self.spec.observation_shape))

    def get_config(self):
        config = {"hidden_units": self.hidden_units, "activation": self.activation}
        return {**super().get_config(), **config}


class ScaledEmission(NetworkEmission):
    """Base of the emissions with a location and a scale, which lies above a floor.

    A subclass implements `location_and_scale(states)`, and the density is normal unless it
    overrides `call`. Its arguments are those of `GaussianEmission`.
    """

    def __init__(self, hidden_units=(128,), activation="relu", noise_floor=NOISE_FLOOR, **kwargs):
        super().__init__(hidden_units, activation, **kwargs)
        self.noise_floor = networks.check_floor(noise_floor)

    def call(self, states):
        """Maps states [..., dz] to the density of standardised observations."""
        return self.independent(tfd.Normal(*self.location_and_scale(states)))

    def get_config(self):
        return {**super().get_config(), "noise_floor": self.noise_floor}


class ConstantScaleEmission(ScaledEmission):
    """Base of the emissions with a learned scale s_x that does not depend on the state."""

    def build(self, spec):
        self.raw_scale = self.add_weight("raw_scale", spec.observation_shape, initializer="zeros")
        super().build(spec)

    def location_and_scale(self, states):
        """Returns g(z), [..., *observation_shape], and s_x, learned and constant."""
        raw_scale = networks.SCALE_SPEED * self.raw_scale
        scale = networks.positive(raw_scale, floor=self.noise_floor)
        return self.parameters_of(states), scale

    def shift_noise(self, amount):
        """Adds `amount` to the raw values of s_x."""
        self.raw_scale.assign(self.raw_scale + amount / networks.SCALE_SPEED)


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class GaussianEmission(ConstantScaleEmission):
    """p(x[t] | z[t]) = N(g(z[t]), diag s_x^2), standardised x, s_x learned and constant.

    Args:
      hidden_units: Sizes of the hidden layers of g; () makes g linear.
      activation: Activation of the hidden layers.
      noise_floor: Least s_x, a fraction of the scale of the data. Without one the noise that is
        learned from simulations without noise falls so far that a system which differs by less
        than a percent costs thousands of nats.
    """


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class StudentTEmission(ConstantScaleEmission):
    """p(x[t] | z[t]) = prod_d StudentT(x[t]_d; df, g(z[t])_d, s_d), for data with outliers.

    A value r scales off costs about (df + 1) ln r nats where it is far, in place of the r^2 / 2 of
    a normal density, so that a sensor that fails now and then moves the state less (Lange, Little
    and Taylor 1989). The scale s is not the standard deviation, which is s sqrt(df / (df - 2)).

    Args:
      hidden_units: Sizes of the hidden layers of g; () makes g linear.
      activation: Activation of the hidden layers.
      noise_floor: Least s, a fraction of the scale of the data.
      df: Degrees of freedom, above 2; from about 30 on the density is nearly normal.
    """

    def __init__(
        self, hidden_units=(128,), activation="relu", noise_floor=NOISE_FLOOR, df=4.0, **kwargs
    ):
        super().__init__(hidden_units, activation, noise_floor, **kwargs)
        if not isinstance(df, numbers.Real) or not 2.0 < df < float("inf"):
            raise ValueError(f"`df` must be finite and above 2, to have a variance; got {df!r}.")
        self.df = float(df)

    def call(self, states):
        """Maps states [..., dz] to the density of standardised observations."""
        return self.independent(tfd.StudentT(self.df, *self.location_and_scale(states)))

    def innovation(self, states, observations):
        """Returns how far x lies from g(z), in scales s; arguments as for `Emission`."""
        location, scale = self.location_and_scale(states)
        deviations = (observations - location) / scale
        return networks.flatten(asinh(deviations), self.spec.observation_shape)

    def get_config(self):
        return {**super().get_config(), "df": self.df}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class HeteroscedasticEmission(ScaledEmission):
    """p(x[t] | z[t]) = N(g(z[t]), diag s_x(z[t])^2), standardised x, for noise that changes.

    Location and scale are the halves of what one network makes of the state. Where the scale may
    follow the state a model can explain an error by noise that it learns instead of by dynamics:
    take it where the noise of a sensor is known to depend on what it measures.

    Args:
      hidden_units: Sizes of the hidden layers of the network; () makes it linear.
      activation: Activation of the hidden layers.
      noise_floor: Least s_x, a fraction of the scale of the data.
    """

    def make_network(self, spec):
        """Returns the network of location and scale."""
        sizes = self.hidden_units, 2 * spec.observation_size
        return networks.MLP(*sizes, self.activation, seed=spec.seed, name="g")

    def parameters_of(self, states):
        """Returns g(z), [..., *observation_shape]."""
        return self.location_and_scale(states)[0]

    def location_and_scale(self, states):
        """Returns g(z) and s_x(z), each [..., *observation_shape]."""
        parameters = networks.gaussian_parameters(self.network(states), self.noise_floor)
        return tuple(map(self.shaped, parameters))

    def shift_noise(self, amount):
        """Adds `amount` to the raw values of s_x."""
        networks.shift_last_half(self.network, amount)
