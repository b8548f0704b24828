"""The recognition model: what turns observations into posterior draws."""

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf import data, errors, registry
from tfp_dvbf.data import checks
from tfp_dvbf.layers import contracts, initial_posteriors, networks, part
from tfp_dvbf.posteriors import base


class RecognitionModel(tf_keras.layers.Layer):
    """q(z[0:T] | x[0:T], u[0:T-1]): an encoder, a posterior of z[0] and the recursion after it.

    Args:
      observation_shape: Shape of x[t].
      control_dim: Size du of u[t].
      state_dim: Size dz of z[t].
      posterior, encoder, initial_posterior: A name, a config or an object each.
      seed: Seed of the initial weights, or None.
    """

    def __init__(
        self,
        observation_shape,
        control_dim,
        state_dim,
        posterior="innovation",
        encoder="filter",
        initial_posterior="gaussian",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        given = {"encoder": encoder, "initial_posterior": initial_posterior, "posterior": posterior}
        parts = {kind: registry.resolve(kind, part) for kind, part in given.items()}
        self.encoder = parts["encoder"]
        self.initial_posterior = parts["initial_posterior"]
        self.posterior = parts["posterior"]
        sizes = checks.check_sizes(observation_shape, control_dim, state_dim)
        features = errors.check_integer("encoder.feature_dim", self.encoder.feature_dim)
        spec = part.Spec(**sizes, feature_dim=features)
        for (kind, built), part_seed in zip(parts.items(), networks.split_seed(seed, 3)):
            contracts.build(kind, built, spec._replace(seed=part_seed))

    def check_parts(self, model):
        """Calls each part once on zeros, which makes its networks.

        Args:
          model: The `StateSpaceModel` of the posterior.

        Raises:
          ValueError: If what a part returns is not what its base class says.
        """
        spec, steps = self.posterior.spec, max(2, self.initial_steps)
        observations = tf.zeros([1, steps, *spec.observation_shape])
        with contracts.named("initial_posterior", f"map observations {observations.shape}"):
            first = initial_posteriors.first_state(self.initial_posterior(observations))
        kind = tfp.distributions.MultivariateNormalDiag
        contracts.check_density("initial_posterior", first.normal, [spec.state_dim], kind)
        controls = tf.zeros([1, steps - 1, spec.control_dim])
        with contracts.named("encoder", f"map observations {observations[:, 1:].shape}"):
            features = self.encoder(observations[:, 1:], controls=controls[:, 1:], mask=None)
        contracts.check_tensor("encoder", features, [1, steps - 1, spec.feature_dim])
        if self.encoder.steps:
            with contracts.named("encoder", "make a step"):
                step, _ = self.encoder.step(self.encoder.start(1), observations[:, 1])
            contracts.check_tensor("encoder.step", step, [1, spec.feature_dim])
        inputs = base.PosteriorInputs(features, controls, observations[:, 1:])
        base.check_posterior(self.posterior, model, first, inputs)

    @property
    def initial_steps(self):
        """The number k of time steps that q(z[0] | x[0:k]) sees."""
        return self.initial_posterior.num_steps

    @property
    def steps(self):
        """Whether it can follow a stream, True or an `errors.No` with the name of a part."""
        for kind in ["encoder", "posterior"]:
            owner = getattr(self, kind)
            if not owner.steps:
                return errors.No(f"{registry.name_of(kind, owner)}: {owner.steps.reason}")
        return True

    def encode(self, model, batch):
        """Returns the `FirstState` and the `PosteriorInputs` of t = 1 .. T-1.

        Args:
          model: The `StateSpaceModel`.
          batch: `data.Batch` in the user's units, what is missing set to 0.
        """
        observations = model.standardise_observations(batch.observations)
        controls = model.standardise_controls(batch.controls)
        mask, later_controls = None, controls[:, 1:]
        if batch.mask is not None:
            mask = batch.mask[:, 1:]
            observations = tf.where(
                networks.expand_like(batch.mask, observations), observations, 0.0
            )
            # A control behind the last observed step says nothing of the states before it.
            follow = data.until_last_observed(batch.mask)[:, 2:, tf.newaxis]
            later_controls = tf.where(follow, later_controls, 0.0)
        features = self.encoder(observations[:, 1:], controls=later_controls, mask=mask)
        seen = model.to_emission_units(batch.observations[:, 1:])
        inputs = base.PosteriorInputs(features, controls, seen)
        return self.initial(model, observations, batch.mask), inputs

    def initial(self, model, observations, mask=None):
        """Returns the `FirstState`, which is p(z[0]) where one of the steps it needs is missing.

        Args:
          model: The `StateSpaceModel`.
          observations: Standardised x, [batch, k or more, *observation_shape].
          mask: Whether each of them is observed, bool [batch, k or more], or None where all are.
        """
        first = initial_posteriors.first_state(self.initial_posterior(observations))
        if mask is None:
            return first
        seen = tf.reduce_all(mask[:, : self.initial_steps], axis=1, keepdims=True)
        return first.where(seen, model.transition.initial())

    def sample(self, model, batch, noise, num_samples=1):
        """Returns the `PosteriorSample` of `num_samples` draws for each sequence.

        Args:
          model: The `StateSpaceModel`.
          batch: `data.Batch`, which is encoded once.
          noise: eps[0:T], [num_samples * batch, time, dz], all sequences before any comes again.
          num_samples: Draws for each sequence.
        """
        first, inputs = self.encode(model, batch)
        observed = None
        if batch.mask is not None:
            observed = networks.tile_rows(batch.mask[:, 1:, tf.newaxis], num_samples)
        first = first.tiled(num_samples)
        inputs = tf.nest.map_structure(
            lambda tensor: networks.tile_rows(tensor, num_samples), inputs
        )
        return self.posterior(model, first=first, inputs=inputs, noise=noise, observed=observed)

    def step_inputs(self, model, memory, observations, controls, observed):
        """Returns the `PosteriorInputs` of one time step, and the encoder's memory after it.

        Args:
          model: The `StateSpaceModel`.
          memory: What `encoder.start` or the last `encoder.step` returned.
          observations: x[t] in the user's units, [batch, *observation_shape].
          controls: Standardised u[t-1], [batch, du].
          observed: Whether x[t] is observed, bool [batch].
        """
        standardised = model.standardise_observations(observations)
        standardised = tf.where(networks.expand_like(observed, standardised), standardised, 0.0)
        features, memory = self.encoder.step(memory, standardised)
        seen = model.to_emission_units(observations)
        return base.PosteriorInputs(features, controls, seen), memory
