"""The exact answers of a DVBF whose transition and emission are linear."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def log_prob(model, observations, controls, mask=None):
    """Returns ln p(x[0:T] | u[0:T-1]) of the model itself, by the Kalman filter.

    Args:
      model: A `DVBF` with `transition="locally_linear"`, `num_bases=1`, `decoder_units=()` and a
        Gaussian emission.
      observations: x[0:T], [batch, time, dx].
      controls: u[0:T-1], [batch, time - 1, du].
      mask: Whether each frame is there, [batch, time], or None; missing ones are integrated out.

    Returns:
      Nats in the user's units, [batch].

    Raises:
      ValueError: If the model is not linear.
    """
    observations = tf.convert_to_tensor(observations, tf.float32)
    missing = None if mask is None else ~tf.convert_to_tensor(mask, tf.bool)
    return state_space_model(model, controls).log_prob(observations, mask=missing)


def state_space_model(model, controls):
    """Returns p(x[0:T] | u[0:T-1]) of a linear model; arguments as for `log_prob`.

    z[0] ~ N(0, I),  z[t] = A z[t-1] + B u[t-1] + C w,  x[t] = W z[t] + b + s v,  w, v ~ N(0, I)

    Returns:
      A `tfd.LinearGaussianStateSpaceModel` of T steps and batch shape [batch].
    """
    _check_linear(model)
    state_matrix, control_matrix, noise_matrix = (m[0] for m in model.transition.matrices())
    kernel, bias = model.emission.network.layers[-1].weights
    mean, scale = model.observation_standardization.moments()
    noise_scale = model.emission(tf.zeros([1, model.config["state_dim"]]), mean, scale).stddev()[0]
    controls = model.control_standardization(tf.convert_to_tensor(controls, tf.float32))
    effects = tf.einsum("btj,ij->tbi", controls, control_matrix)
    effects = tf.pad(effects, [[0, 1], [0, 0], [0, 0]])  # TFP predicts one state past the last.
    return tfd.LinearGaussianStateSpaceModel(
        num_timesteps=tf.shape(controls)[1] + 1,
        transition_matrix=state_matrix,
        transition_noise=lambda t: tfd.MultivariateNormalTriL(tf.gather(effects, t), noise_matrix),
        observation_matrix=tf.transpose(scale * kernel),
        observation_noise=tfd.MultivariateNormalDiag(mean + scale * bias, noise_scale),
        initial_state_prior=tfd.MultivariateNormalDiag(
            tf.zeros_like(effects[0]), tf.ones_like(effects[0])
        ),
    )


def _check_linear(model):
    linear = {"transition": "locally_linear", "num_bases": 1, "decoder_units": ()}
    for name, value in {**linear, "emission": "gaussian"}.items():
        if model.config[name] != value:
            raise ValueError(
                f"`model` must be linear, with {name}={value!r}; got {model.config[name]!r}."
            )
