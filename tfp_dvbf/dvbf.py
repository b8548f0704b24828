"""The Deep Variational Bayes Filter as a Keras model."""

import inspect

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_dvbf import data, posteriors, registry, training
from tfp_dvbf.inference import bounds, filtering, generation, inputs, particle_filter
from tfp_dvbf.layers import emissions, encoders, initial, networks, transitions

EMISSIONS = {"gaussian": emissions.GaussianEmission, "bernoulli": emissions.BernoulliEmission}


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class DVBF(
    training.Training,
    inputs.Inputs,
    filtering.Inference,
    generation.Generation,
    bounds.Bounds,
    particle_filter.ParticleFilter,
    tf_keras.Model,
):
    """Deep Variational Bayes Filter: a latent state-space model trained by variational inference.

        p(x, z | u) = p(z[0]) prod_{t>0} p(z[t] | z[t-1], u[t-1]) prod_t p(x[t] | z[t])
        elbo = E_q sum_t [ ln p(x[t] | z[t]) + ln p(z[t] | z[t-1], u[t-1]) - ln q(z[t] | ...) ]

    with p(z[0]) = N(0, I) in place of the transition at t = 0 (Karl et al. 2017,
    arXiv:1605.06432, equation 8). Observations and controls are standardised inside, after
    `adapt`; every density, metric and output is in the user's units. `fit` and `evaluate` take
    dictionaries of observations [batch, time, dx], controls [batch, time - 1 or time, du] and,
    where frames are missing, a mask [batch, time].

    Args:
      observation_dim: Size dx of an observation.
      control_dim: Size du of a control.
      state_dim: Size dz of the latent state.
      posterior: "gaussian"; "iaf", a flow of fresh noise at every step; "trajectory_iaf", one flow
        over the whole trajectory; or "chain_iaf", the poster's, whose objective is not a bound.
      num_flows: Flows a time step, for the posteriors made of flows.
      transition: "mlp", or "locally_linear".
      num_bases: Base matrices of the locally linear transition.
      emission: "gaussian", or "bernoulli" for binary pixels.
      encoder: "filter", the posterior of z[t] sees x[t]; or "smoother", it sees x[t:T].
      initial_frames: Number k of frames that q(z[0] | x[0:k]) sees.
      objective: "elbo", or "iwae", the bound of Burda et al. (2016).
      num_samples: Posterior draws a sequence in training and validation.
      encoder_units: Sizes of the layers of the encoder and of the hidden layers of q(z[0]).
      posterior_units: Sizes of the hidden layers of the posterior; None takes its own default.
      flow_units: Sizes of the hidden layers of each MADE in "iaf" and "trajectory_iaf".
      receptive_field: Steps that "trajectory_iaf" reaches back.
      transition_units: Sizes of the hidden layers of the transition.
      decoder_units: Sizes of the hidden layers of the emission.
      activation: Activation of all hidden layers.
      seed: Seed of the noise in training and evaluation; None draws a new one.

    Raises:
      ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        observation_dim,
        control_dim,
        state_dim,
        *,
        posterior="gaussian",
        num_flows=1,
        transition="mlp",
        num_bases=16,
        emission="gaussian",
        encoder="filter",
        initial_frames=1,
        objective="elbo",
        num_samples=1,
        encoder_units=(128,),
        posterior_units=None,
        flow_units=(64,),
        receptive_field=64,
        transition_units=(256, 256),
        decoder_units=(128,),
        activation="relu",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = _primitives(locals())
        registry.check_model(self.config)
        self._make_layers()
        self.trackers = {
            name: tf_keras.metrics.Mean(name) for name in ["loss", "neg_elbo", "nll", "kl"]
        }
        words = np.random.SeedSequence(self.config["seed"]).generate_state(1)
        self._noise_key = int(words.view(np.int32)[0])
        steps = max(2, initial_frames)
        shapes = [1, steps, observation_dim], [1, steps - 1, control_dim]
        self._terms(data.Batch(*map(tf.zeros, shapes)), [0, 0])
        self.built = True

    def _make_layers(self):
        config, activation = self.config, self.config["activation"]
        self.observation_standardization = networks.Standardization(name="observations")
        self.control_standardization = networks.Standardization(name="controls")
        self.encoder = encoders.ENCODERS[config["encoder"]](
            config["encoder_units"], activation, name="encoder"
        )
        self.initial_posterior = initial.InitialPosterior(
            config["state_dim"],
            config["encoder_units"],
            activation,
            num_frames=config["initial_frames"],
            name="initial_posterior",
        )
        self.transition = transitions.make_transition(
            config["transition"],
            config["state_dim"],
            config["control_dim"],
            num_bases=config["num_bases"],
            hidden_units=config["transition_units"],
            activation=activation,
        )
        self.emission = EMISSIONS[config["emission"]](
            config["observation_dim"], config["decoder_units"], activation, name="emission"
        )
        self.posterior = posteriors.make_posterior(config, self.transition, self.emission)
        self.kl_weight = self.add_weight("kl_weight", [], initializer="ones", trainable=False)

    def call(self, inputs):
        """Returns the posterior's trajectory for zero noise, [batch, time, ...], no draws.

        For use in a graph: unlike `predict` it does not look for values that are not finite.
        """
        batch = self._unpack(inputs)
        return self._observe(self._noiseless_states(batch), seed=None)

    def _encode(self, batch):
        """Returns q(z[0] | x[0:k]) and the `PosteriorInputs` of t = 1 .. T-1."""
        observations = self.observation_standardization(batch.observations)
        controls = self.control_standardization(batch.controls)
        first, mask, present = self.initial_posterior(observations), None, None
        later_controls = controls[:, 1:]
        if batch.mask is not None:
            follow = data.until_last_frame(batch.mask)[:, 2:, tf.newaxis]
            later_controls = tf.where(follow, later_controls, 0.0)
            seen = tf.reduce_all(batch.mask[:, : self.config["initial_frames"]], 1, keepdims=True)
            first = initial.prior_where_missing(first, seen)
            mask, present = batch.mask[:, 1:], batch.mask[:, 1:, tf.newaxis]
        features = self.encoder(observations[:, 1:], later_controls, mask)
        return first, posteriors.PosteriorInputs(features, controls, observations[:, 1:], present)

    def _sample_posterior(self, batch, noise):
        """Returns the `PosteriorSample` for noise eps[0:T] [batch, time, dz]."""
        return self.posterior(*self._encode(batch), noise)

    def _noiseless_states(self, batch):
        """Returns the posterior's states for zero noise, [batch, time, dz]."""
        return self._sample_posterior(batch, tf.zeros(self._noise_shape(batch))).states

    def _noise_shape(self, batch):
        shape = tf.shape(batch.observations)
        return tf.concat([shape[:2], [self.config["state_dim"]]], axis=0)

    def _emit(self, states):
        """Returns p(x[t] | z[t]) in the user's units."""
        return self.emission(states, *self.observation_standardization.moments())

    def get_config(self):
        return dict(self.config)


def _primitives(arguments):
    """Returns the arguments of the constructor of `DVBF` as `get_config` does, the seed drawn."""
    signature = inspect.getfullargspec(DVBF.__init__)
    config = {name: arguments[name] for name in [*signature.args[1:], *signature.kwonlyargs]}
    for name, value in config.items():
        if name.endswith("_units") and isinstance(value, (list, tuple)):
            config[name] = tuple(value)
    config["seed"] = np.random.SeedSequence(config["seed"]).entropy
    return config
