"""The exact answers of a state-space model whose transition and emission are linear."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import layers

tfd = tfp.distributions


def log_prob(model, observations, controls, mask=None):
    """Returns ln p(x[0:T] | u[0:T-1]) of the model itself, by the Kalman filter.

    Args:
      model: A `StateSpaceModel` with a `LocallyLinearTransition` of one base and a
        `GaussianEmission` without hidden layers.
      observations: x[0:T], [batch, time, dx].
      controls: u[0:T-1], [batch, time - 1, du].
      mask: Whether each step is observed, [batch, time], or None; missing ones are integrated out.

    Returns:
      Nats in the user's units, [batch].

    Raises:
      ValueError: If the model is not linear.
    """
    observations = tf.convert_to_tensor(observations, tf.float32)
    missing = None if mask is None else ~tf.convert_to_tensor(mask, tf.bool)
    return distribution(model, controls).log_prob(observations, mask=missing)


def distribution(model, controls):
    """Returns p(x[0:T] | u[0:T-1]) of a linear model; arguments as for `log_prob`.

    z[0] ~ p(z[0]),  z[t] = A z[t-1] + B u[t-1] + C w,  x[t] = W z[t] + b + s v,  w, v ~ N(0, I)

    Returns:
      A `tfd.LinearGaussianStateSpaceModel` of T steps and batch shape [batch].
    """
    check_linear(model)
    state_matrix, control_matrix, noise_matrix = (m[0] for m in model.transition.matrices())
    kernel, bias = model.emission.network.layers[-1].weights
    _, noise_scale = model.observation_moments(tf.zeros([1, model.spec.state_dim]))
    units = model.observation_standardization
    controls = model.standardise_controls(controls)
    effects = tf.einsum("btj,ij->tbi", controls, control_matrix)
    effects = tf.pad(effects, [[0, 1], [0, 0], [0, 0]])  # TFP predicts one state past the last.
    prior = model.initial_distribution()
    return tfd.LinearGaussianStateSpaceModel(
        num_timesteps=tf.shape(controls)[1] + 1,
        transition_matrix=state_matrix,
        transition_noise=lambda t: tfd.MultivariateNormalTriL(tf.gather(effects, t), noise_matrix),
        observation_matrix=tf.transpose(units.scale * kernel),
        observation_noise=tfd.MultivariateNormalDiag(units.inverse(bias), noise_scale[0]),
        initial_state_prior=tfd.MultivariateNormalDiag(
            prior.mean() + tf.zeros_like(effects[0]), prior.stddev() + tf.zeros_like(effects[0])
        ),
    )


def check_linear(model):
    """Raises ValueError unless the transition and the emission are linear."""
    transition, emission = model.transition, model.emission
    linear = isinstance(transition, layers.LocallyLinearTransition) and transition.num_bases == 1
    if not linear:
        raise ValueError(
            "`transition` must be linear, a LocallyLinearTransition(num_bases=1); "
            f"got {type(transition).__name__}."
        )
    if not isinstance(emission, layers.GaussianEmission) or emission.hidden_units:
        raise ValueError(
            "`emission` must be linear, a GaussianEmission(hidden_units=()); "
            f"got {type(emission).__name__}."
        )
