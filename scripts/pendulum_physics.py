"""The equations of motion and the sensors of Gymnasium's pendulum (docs/extending.md)."""

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import layers

GRAVITY, MASS, LENGTH, TIME_STEP = 10.0, 1.0, 1.0, 0.05  # m/s^2, kg, m, s
MAX_SPEED = 8.0  # rad/s


def learned_scale(raw_scale, floor):
    """Returns a standard deviation above `floor`; it moves faster than Adam moves a weight."""
    return floor + 0.1 * tf.exp(10.0 * raw_scale)


@tf_keras.utils.register_keras_serializable("examples")
class PendulumPhysics(layers.Transition):
    """p(z[t] | z[t-1], u[t-1]) = N(one step of the pendulum, diag s^2), s learned and constant."""

    units = "user"

    def build(self, spec):
        self.raw_scale = self.add_weight("raw_scale", [3], initializer="zeros")
        super().build(spec)

    def call(self, states, controls):
        """Maps (cos θ, sin θ, θ̇) [..., 3] and the torque in N m [..., 1] to the density of z[t]."""
        cosine, sine, velocity = tf.unstack(states, axis=-1)
        angle, torque = tf.atan2(sine, cosine), tf.clip_by_value(controls[..., 0], -2.0, 2.0)
        acceleration = 1.5 * GRAVITY / LENGTH * tf.sin(angle) + 3.0 / (MASS * LENGTH**2) * torque
        velocity = tf.clip_by_value(velocity + acceleration * TIME_STEP, -MAX_SPEED, MAX_SPEED)
        angle += velocity * TIME_STEP
        loc = tf.stack([tf.cos(angle), tf.sin(angle), velocity], axis=-1)
        scale = learned_scale(self.raw_scale, floor=1e-3)
        return tfp.distributions.MultivariateNormalDiag(loc, scale * tf.ones_like(loc))


@tf_keras.utils.register_keras_serializable("examples")
class PendulumSensors(layers.Emission):
    """p(x[t] | z[t]) = N((cos θ, sin θ, θ̇ / 8), diag s^2), s learned and constant."""

    units = "user"

    def build(self, spec):
        self.raw_scale = self.add_weight("raw_scale", [3], initializer="zeros")
        super().build(spec)

    def call(self, states):
        """Maps (cos θ, sin θ, θ̇) [..., 3] to the density of observations in the user's units."""
        loc = states / tf.constant([1.0, 1.0, MAX_SPEED])
        scale = learned_scale(self.raw_scale, floor=3e-3)
        return tfp.distributions.MultivariateNormalDiag(loc, scale * tf.ones_like(loc))
