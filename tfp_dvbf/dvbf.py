"""The Deep Variational Bayes Filter as a Keras model."""

import warnings

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_dvbf import data, errors, registry, training
from tfp_dvbf.data import moments
from tfp_dvbf.inference import (
    bounds,
    execution,
    particle_filter,
    random,
    sampling,
    state_space_model,
    streaming,
    validation,
)
from tfp_dvbf.layers import networks
from tfp_dvbf.posteriors import recognition

PARTS = ("posterior", "transition", "emission", "encoder", "initial_posterior")
FAR_FROM_STANDARD = 5.0


@tf_keras.utils.register_keras_serializable("tfp_dvbf")
class DVBF(training.VariationalModel):
    """Deep Variational Bayes Filter: a latent state-space model trained by variational inference.

        p(x, z | u) = p(z[0]) prod_{t>0} p(z[t] | z[t-1], u[t-1]) prod_t p(x[t] | z[t])
        elbo = E_q sum_t [ ln p(x[t] | z[t]) + ln p(z[t] | z[t-1], u[t-1]) - ln q(z[t] | ...) ]

    with p(z[0]) = N(0, I) in place of the transition at t = 0 (Karl et al. 2017,
    arXiv:1605.06432, equation 8). Observations and controls are standardised inside, after
    `adapt`; every density, metric and output is in the user's units. `fit` and `evaluate` take
    dictionaries of observations [batch, time, *observation_shape], controls
    [batch, time - 1 or time, du] and, where time steps are missing, a mask [batch, time].

    Each part is given by its name, by a Keras config or as an object, which has its own settings:

        model = DVBF(3, 1, state_dim=4, posterior=tfp_dvbf.posteriors.IAF(num_flows=4))

    Args:
      observation_shape: Shape of an observation; an integer is the size dx of a vector.
      control_dim: Size du of a control, 0 where there are none.
      state_dim: Size dz of the latent state.
      posterior: "innovation"; "gaussian", the poster's baseline; "iaf", a flow of fresh noise at
        every step; "trajectory_iaf", one flow over the whole trajectory; "chain_iaf", the poster's,
        whose objective is not a bound; or a `posteriors.Posterior`.
      transition: "mlp", "locally_linear" or a `layers.Transition`.
      emission: "gaussian", "bernoulli" for binary pixels, or a `layers.Emission`.
      encoder: "filter", the posterior of z[t] sees x[t]; "smoother", it sees x[t:T]; or a
        `layers.Encoder`.
      initial_posterior: "gaussian", q(z[0] | x[0]), or a `layers.InitialPosterior`.
      objective: "elbo", or "iwae", the bound of Burda et al. (2016).
      num_samples: Posterior draws a sequence in training and validation.
      seed: Seed of the noise in training and evaluation and of the initial weights of the parts
        that are given by name or config; None draws a new one.

    Attributes:
      state_space_model: The generative `inference.StateSpaceModel`.
      recognition_model: The `posteriors.RecognitionModel` q.

    Raises:
      ValueError: If an argument is out of its range or a part does not fit.
    """

    def __init__(
        self,
        observation_shape,
        control_dim,
        state_dim,
        *,
        posterior="innovation",
        transition="mlp",
        emission="gaussian",
        encoder="filter",
        initial_posterior="gaussian",
        objective="elbo",
        num_samples=1,
        seed=None,
        **kwargs,
    ):
        registry.check_moved(kwargs)
        errors.check_choice("objective", objective, registry.OBJECTIVES)
        _check_policy()
        super().__init__(objective, **kwargs)
        self.num_samples = errors.check_integer("num_samples", num_samples)
        self.seed = int(np.random.SeedSequence(seed).entropy)
        noise_seed, *seeds = np.random.SeedSequence(self.seed).generate_state(3)
        self.noise_key = int(noise_seed.view(np.int32))
        model_seed, recognition_seed = map(int, seeds)
        self.sizes = {
            "observation_shape": check_observation_shape(observation_shape),
            "control_dim": errors.check_integer("control_dim", control_dim, least=0),
            "state_dim": errors.check_integer("state_dim", state_dim),
        }
        self.state_space_model = state_space_model.StateSpaceModel(
            **self.sizes,
            transition=transition,
            emission=emission,
            seed=model_seed,
            name="state_space_model",
        )
        self.recognition_model = recognition.RecognitionModel(
            **self.sizes,
            posterior=posterior,
            encoder=encoder,
            initial_posterior=initial_posterior,
            seed=recognition_seed,
            name="recognition_model",
        )
        bounds.check_bound(self.recognition_model.posterior, objective, registry.OBJECTIVES)
        self._build()

    def _build(self):
        """Makes all weights by one call on zeros, and what runs functions of the two models."""
        self._graphs = execution.Graphs(self.state_space_model, self.recognition_model)
        steps = max(2, self.recognition_model.initial_steps)
        shape = self.sizes["observation_shape"]
        controls = tf.zeros([1, steps - 1, self.sizes["control_dim"]])
        self.terms(data.Batch(tf.zeros([1, steps, *shape]), controls), [0, 0])
        self.built = True

    @property
    def rules(self):
        """What this model takes, as `inference.validation.Rules`."""
        return validation.Rules(
            self.sizes["observation_shape"],
            self.sizes["control_dim"],
            self.recognition_model.initial_steps,
            self.state_space_model.emission,
            self.recognition_model.posterior,
        )

    @property
    def bounds(self):
        """Names of the objectives that `log_prob_bound` takes for this posterior."""
        return bounds.available(self.recognition_model.posterior)

    def call(self, inputs):
        """Returns the posterior's trajectory for zero noise, [batch, time, ...], no draws.

        For use in a graph: unlike `predict` it does not look for values that are not finite.
        """
        batch, _ = self.unpack(inputs)
        found = sampling.reconstruct(self.state_space_model, self.recognition_model, batch)
        return state_space_model.Trajectory(*(tensor[0] for tensor in found))

    def adapt(self, dataset, min_scale=0.0):
        """Sets the standardisation to the mean and scale of a data set.

        Missing steps do not count, nor do controls that no observed step follows. A column that is
        constant to the resolution of its type keeps scale 1. Binary pixels are not standardised.

        Args:
          dataset: `tf.data.Dataset` of dictionaries, as `as_dataset` makes them, or a dictionary of
            arrays.
          min_scale: Least scale of a column, in its unit.

        Raises:
          ValueError, tf.errors.InvalidArgumentError: As `fit` does; or if a column's mean is so far
            from 0 that float32 cannot hold what it varies by.
        """
        checked = self.checked(dataset)
        batches = [checked] if isinstance(checked, dict) else checked.as_numpy_iterator()
        found = moments.dataset_moments(batches)
        scales = [
            moments.mean_and_scale(getattr(found, name), name, min_scale)
            for name in ["observations", "controls"]
        ]
        model = self.state_space_model
        if model.emission.standardises:
            model.observation_standardization.set(*scales[0])
        if found.controls.count > 0:
            model.control_standardization.set(*scales[1])

    def warn_if_not_adapted(self, dataset):
        """Warns if the data are far from standard and `adapt` was not called."""
        model = self.state_space_model
        if not model.emission.standardises or bool(model.observation_standardization.is_set):
            return
        batch = dataset if isinstance(dataset, dict) else next(iter(dataset.take(1)))
        values = tf.cast(batch["observations"], tf.float32)
        spread = tf.sqrt(tf.reduce_mean(tf.square(values), axis=[0, 1]))
        largest = float(tf.reduce_max(spread))
        if not 1 / FAR_FROM_STANDARD < largest < FAR_FROM_STANDARD:
            warnings.warn(
                f"The observations are far from standard (root mean square {largest:.3g}) and "
                "`adapt` was not called; call `model.adapt(dataset)` before `fit`.",
                stacklevel=3,
            )

    def checked(self, dataset):
        """Returns checked arrays, or a data set whose iteration fails at what breaks a rule."""
        if isinstance(dataset, tf.data.Dataset):
            validation.check_dictionary(dataset.element_spec)
            return dataset.map(self._check_inputs)
        validation.check_dictionary(dataset)
        return {name: np.asarray(tensor) for name, tensor in self._check_inputs(dataset).items()}

    def _check_inputs(self, inputs):
        names = ["observations", "controls", "mask"]
        batch, _ = validation.check_batch(self.rules, *map(inputs.get, names))
        checked = {name: value for name, value in batch._asdict().items() if value is not None}
        if "weights" in inputs:
            checked["weights"] = tf.cast(inputs["weights"], tf.float32)
        return checked

    def unpack(self, inputs):
        """Returns the `data.Batch` of one batch as `fit` sees it, and the weights of its rows."""
        validation.check_dictionary(inputs)
        observations = tf.cast(inputs["observations"], tf.float32)
        steps = tf.shape(observations)[1]
        controls = inputs.get("controls")
        if controls is None:
            controls = tf.zeros([tf.shape(observations)[0], steps - 1, 0])
        controls = tf.cast(controls, tf.float32)[:, : steps - 1]
        weights = inputs.get("weights", tf.ones(tf.shape(observations)[:1]))
        mask = inputs.get("mask")
        mask = None if mask is None else tf.cast(mask, tf.bool)
        return data.Batch(observations, controls, mask), weights

    def terms(self, batch, seed):
        """Returns the `bounds.Terms` that the objective is made of.

        A closed-form KL serves the elbo; log weights need ln q - ln p of the draws.
        """
        return bounds.terms(
            self.state_space_model,
            self.recognition_model,
            batch,
            self.num_samples,
            seed,
            closed_form=self.objective == "elbo",
        )

    def sample_posterior(self, observations, controls=None, num_samples=1, seed=None, mask=None):
        """Draws latent trajectories from the posterior q(z[0:T] | x[0:T], u[0:T-1]).

        Args:
          observations: x[0:T], [batch, time, *observation_shape].
          controls: u[0:T-1], [batch, time - 1, du]; a last control is ignored. None where du is 0.
          num_samples: Draws for each sequence.
          seed: Seed of the draws; None draws a new one.
          mask: Whether each step is observed, [batch, time], or None where all are. What stands in
            a missing step has no effect and may be NaN. Controls behind the last observed step
            are used; a NaN among them ends the sequence, and what is returned after it is NaN.

        Returns:
          A `Trajectory` of `num_samples` samples and T steps.

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value.
        """
        return self._infer(
            sampling.sample_posterior, observations, controls, num_samples, seed, mask
        )

    def impute(self, observations, controls=None, mask=None, num_samples=1, seed=None):
        """Draws the missing steps; arguments as for `sample_posterior`.

        With the encoder "smoother" the draws agree with what was observed on both sides of a gap,
        with "filter" with what was observed before it.

        Returns:
          A `Trajectory` whose `observations` are the given ones where `mask` is True.
        """
        batch, _ = validation.check_batch(self.rules, observations, controls, mask)
        drawn = self.sample_posterior(observations, controls, num_samples, seed, mask)
        observed = True
        if batch.mask is not None:
            observed = networks.expand_like(batch.mask, batch.observations)
        return drawn._replace(
            observations=tf.where(observed, batch.observations, drawn.observations)
        )

    def reconstruct(self, observations, controls=None, mask=None):
        """Decodes the posterior's trajectory for zero noise; arguments as for `sample_posterior`.

        Returns:
          A `Trajectory` of one sample; its `observations` are the means.
        """
        return self._infer(_reconstruct, observations, controls, 1, 0, mask)

    def filter(self, observations, controls=None, num_samples=64, seed=None, mask=None):
        """Filters whole sequences by particles: p(z[t] | x[0:t], u[0:t]) at every step.

        Args:
          observations, controls, seed, mask: As for `sample_posterior`.
          num_samples: Particles of each sequence.

        Returns:
          A `particle_filter.Filtered`.

        Raises:
          ValueError: As for `sample_posterior`, or if a part of the model cannot be stepped.
        """
        self._check_steps()
        axes = particle_filter.Filtered(1, 1, 0, 0, 0)
        arguments = observations, controls, num_samples, seed, mask
        return self._infer(particle_filter.filter, *arguments, axis=axes)

    def _infer(self, function, observations, controls, num_samples, seed, mask, axis=1):
        """Runs a function of checked sequences; what is not known is NaN in its results."""
        batch, known = validation.check_batch(self.rules, observations, controls, mask)
        run = {"num_steps": batch.observations.shape[1], "num_samples": num_samples, "seed": seed}
        found = self._run(function, (batch,), **run, axis=axis)
        if known is None or tf.get_static_value(tf.reduce_all(known)):
            return found
        axes = type(found)(*[axis] * len(found)) if isinstance(axis, int) else axis
        return tf.nest.map_structure(
            lambda tensor, axis: _nan_where(~known, tensor, axis), found, axes
        )

    def forecast(
        self, observations, controls=None, num_samples=1, seed=None, mask=None, num_steps=None
    ):
        """Infers the states of the first steps, then continues open loop under later controls.

        Args:
          observations: The context x[0:c], [batch, c, *observation_shape], c at least the number of
            steps that q(z[0]) sees.
          controls: u[0:T-1], [batch, time - 1, du], T - 1 >= c: those of the context, then those
            of the future.
          num_samples: Draws for each sequence.
          seed: Seed of the draws; None draws a new one.
          mask: Whether each step of the context is observed, [batch, c], or None; contexts of
            different lengths end with missing steps.
          num_steps: T, in place of controls where the model has none.

        Returns:
          A `Trajectory` of T steps, the first c of them inferred.

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value.
        """
        context = validation.check_context(self.rules, observations, controls, mask, num_steps)
        rows = context._replace(controls=None), context.controls
        steps = context.controls.shape[1]
        return self._run(sampling.forecast, rows, steps, num_samples, seed)

    def generate(
        self,
        controls=None,
        initial_observations=None,
        initial_state=None,
        num_samples=1,
        seed=None,
        deterministic=False,
        mask=None,
        num_steps=None,
    ):
        """Draws trajectories under given controls from the generative model alone.

        z[0] is drawn from q(z[0] | x[0:k]) if `initial_observations` are given, is
        `initial_state` if that is, and is drawn from p(z[0]) otherwise.

        Args:
          controls: u[0:T-1], [batch, time - 1, du].
          initial_observations: x[0:k], [batch, k, *observation_shape], or None.
          initial_state: z[0], [batch, dz] or [num_samples, batch, dz], or None.
          num_samples: Draws for each sequence.
          seed: Seed of the draws; None draws a new one.
          deterministic: Whether z[0], every z[t] and the observations are the means of their
            densities instead of draws; samples then differ by `initial_state` only.
          mask: Whether each of the `initial_observations` is observed, [batch, k], or None; where
            one is missing z[0] is drawn from p(z[0]).
          num_steps: T, in place of controls where the model has none.

        Returns:
          A `Trajectory` of T steps, one more than `controls`.

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value, or if both
            `initial_observations` and `initial_state` are given.
        """
        if initial_observations is not None and initial_state is not None:
            raise ValueError("Give `initial_observations` or `initial_state`, not both.")
        batch_size = _batch_size(initial_observations, initial_state)
        controls = validation.check_future(self.rules, controls, num_steps, batch_size)
        run = {"num_steps": controls.shape[1], "num_samples": num_samples, "seed": seed}
        if initial_state is not None:
            state = validation.check_initial_state(
                self.sizes["state_dim"], initial_state, num_samples, controls
            )
            state = state[tf.newaxis] if state.shape.rank == 2 else state
            rows = controls, tf.transpose(state, [1, 0, 2])
            return self._run(sampling.generate_from, rows, **run, deterministic=deterministic)
        first = None
        if initial_observations is not None:
            first = validation.check_initial_observations(
                self.rules, initial_observations, controls, mask
            )
            first = first._replace(controls=None)
        return self._run(sampling.generate, (controls, first), **run, deterministic=deterministic)

    def bound_terms(self, observations, controls=None, num_samples=1, seed=None, mask=None):
        """Returns the `Terms` of the elbo for draws; arguments as for `sample_posterior`."""
        batch, _ = validation.check_batch(self.rules, observations, controls, mask)
        steps = batch.observations.shape[1]
        return self._run(bounds.terms, (batch,), steps, num_samples, seed)

    def log_prob_bound(
        self,
        observations,
        controls=None,
        num_samples=64,
        seed=None,
        objective="iwae",
        mask=None,
    ):
        """Estimates a lower bound on ln p of the observed steps of x[0:T], given u[0:T-1].

        Args:
          observations, controls, seed, mask: As for `sample_posterior`.
          num_samples: Number K of draws for each sequence, or of particles.
          objective: "elbo", for chain_iaf the poster's objective, which bounds nothing; "iwae", K
            importance samples; or "fivo", the evidence estimate of a particle filter with the
            posterior as its proposal (Maddison et al. 2017).

        Returns:
          The bound in nats and the user's units, [batch].

        Raises:
          ValueError: If an argument has the wrong shape or a NaN or infinite value, or if the
            posterior cannot serve the objective.
        """
        batch, _ = validation.check_batch(self.rules, observations, controls, mask)
        bounds.check_bound(self.recognition_model.posterior, objective)
        run = {"num_steps": batch.observations.shape[1], "num_samples": num_samples, "seed": seed}
        return self._run(bounds.log_prob_bound, (batch,), **run, objective=objective, axis=0)

    def filter_init(self, initial_observations, num_particles=64, seed=None):
        """Starts streams from x[0:k]; returns the belief, see `inference.streaming.filter_init`."""
        self._check_steps()
        self.check_finite_weights()
        first = validation.check_initial_observations(self.rules, initial_observations, None)
        count = tf.convert_to_tensor(validation.check_count("num_particles", num_particles))
        seed = random.stateless_seed(seed)[0]
        return self._graphs.run(streaming.filter_init, first.observations, count, seed)

    def filter_step(self, belief, observations, controls=None, observed=None, seed=None):
        """Moves streams on by one time step; see `inference.streaming.filter_step`."""
        step = validation.check_step(self.rules, observations, controls, observed)
        seed = random.stateless_seed(seed)[0]
        return self._graphs.run(streaming.filter_step, belief, *step, seed)

    def _run(self, function, rows, num_steps, num_samples, seed, **static):
        self.check_finite_weights()
        count = validation.check_count("num_samples", num_samples)
        seed = random.stateless_seed(seed)
        return self._graphs.run_in_parts(function, rows, count, num_steps, seed, **static)

    def _check_steps(self):
        """Raises ValueError, with the reason, unless sequences can be followed step by step."""
        for kind in ["encoder", "posterior"]:
            part = getattr(self.recognition_model, kind)
            if not part.steps:
                name = registry.name_of(kind, part)
                raise ValueError(f"`filter` is not for {name}: {part.steps.reason}.")

    def check_finite_weights(self):
        """Raises ValueError if a weight is NaN or infinite."""
        if not tf.executing_eagerly():
            return
        for weight in self.weights:
            if weight.dtype.is_floating and not np.all(np.isfinite(weight.numpy())):
                raise ValueError(
                    f"The weights of the model must be finite; {weight.name} is not. "
                    "Training has diverged: a lower learning rate or `clipnorm` may help."
                )

    def save(self, filepath, *args, **kwargs):
        """Saves the model as Keras does, to a path that ends in `.keras`."""
        if not str(filepath).endswith(".keras"):
            raise ValueError(f"`filepath` must end in .keras; got {filepath}.")
        self.check_finite_weights()
        super().save(filepath, *args, **kwargs)

    def get_config(self):
        model, recognised = self.state_space_model, self.recognition_model
        parts = {name: getattr(model, name) for name in ["transition", "emission"]}
        names = ["posterior", "encoder", "initial_posterior"]
        parts |= {name: getattr(recognised, name) for name in names}
        serialize = tf_keras.saving.serialize_keras_object
        return {
            **self.sizes,
            **{name: serialize(parts[name]) for name in PARTS},
            "objective": self.objective,
            "num_samples": self.num_samples,
            "seed": self.seed,
        }


def check_observation_shape(shape):
    """Returns the shape of an observation as a tuple; an integer is the size of a vector."""
    sizes = shape if isinstance(shape, (list, tuple)) else [shape]
    if not sizes:
        raise ValueError("`observation_shape` must have an axis or more; got ().")
    return tuple(errors.check_integer("observation_shape", size) for size in sizes)


def _batch_size(initial_observations, initial_state):
    """Returns the number of sequences that a start is given for, 1 where none is."""
    given, axis = (initial_observations, 0) if initial_state is None else (initial_state, -2)
    if np.ndim(given) < 2:  # None, or a wrong shape, which is refused later.
        return 1
    return tf.shape(given)[axis]


def _check_policy():
    policy = tf_keras.mixed_precision.global_policy().name
    if policy != "float32":
        raise ValueError(f"The policy of tf_keras must be float32 for a DVBF; got {policy}.")


def _reconstruct(model, recognition, batch, num_samples, seed):
    del num_samples, seed
    return sampling.reconstruct(model, recognition, batch)


def _nan_where(unknown, tensor, axis):
    """Returns a tensor, NaN where `unknown`, [batch, time]; `axis` is that of its batch."""
    ones = [1] * (tensor.shape.rank - 2 - axis)
    unknown = tf.reshape(unknown, tf.concat([tf.shape(unknown), ones], axis=0))
    return tf.where(unknown, np.nan, tensor)
