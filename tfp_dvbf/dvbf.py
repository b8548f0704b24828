"""The Deep Variational Bayes Filter as a Keras model."""

import inspect

import tensorflow as tf
import tf_keras

from tfp_dvbf import registry, training
from tfp_dvbf.data import checks
from tfp_dvbf.inference import (
    bounds,
    execution,
    particle_filter,
    random,
    sampling,
    streaming,
    validation,
)
from tfp_dvbf.inference import hidden_steps as hiding
from tfp_dvbf.layers import networks, state_space_model
from tfp_dvbf.posteriors import recognition

KERAS_ARGUMENTS = ("name", "dtype", "trainable")


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
      posterior: "innovation"; "gaussian", the poster's baseline; "iaf", with a flow at every step;
        "trajectory_iaf", one flow over the whole trajectory; "chain_iaf", the poster's, whose
        objective is not a bound; or a `posteriors.Posterior`.
      transition: "mlp", "locally_linear", "rotation" or a `layers.Transition`.
      emission: "gaussian", "student_t" or "heteroscedastic"; "bernoulli", "poisson" or
        "categorical"; "image_gaussian" or "image_bernoulli"; or a `layers.Emission`.
      encoder: "filter", the posterior of z[t] sees x[t]; "smoother", it sees x[t:T];
        "convolutional", for images; or a `layers.Encoder`.
      initial_posterior: "gaussian", "iaf", "convolutional" or `layers.InitialPosterior`.
      objective: "elbo", or "iwae", the bound of Burda et al. (2016).
      num_samples: Posterior draws a sequence in training and validation.
      hidden_steps: Share of the time steps, each on its own, that the posterior is not shown in
        training, where the transition has to carry the state; or a pair with the mean length of a
        run of them.
      seed: Seed of the noise in training and evaluation and of the initial weights, but for those
        of a part of your own that does not read `Spec.seed`; None draws a new one.

    All methods take x[0:T], u[0:T-1] (a last one is ignored; None where du is 0), the number of
    samples or particles of a sequence, a seed (None draws a new one) and a mask [batch, time] of
    the observed steps, None where all are. What stands in a missing step has no effect and may be
    NaN. Controls behind the last observed step are used; a NaN among them ends the sequence, and
    what is returned after it is NaN. Gradients flow to what is given as tensors. A wrong shape and
    values or weights that are not finite raise a ValueError.

    Attributes:
      state_space_model: The generative `layers.StateSpaceModel`.
      recognition_model: The `posteriors.RecognitionModel` q.
    """

    def __init__(
        self,
        observation_shape=None,
        control_dim=None,
        state_dim=None,
        *,
        posterior="innovation",
        transition="mlp",
        emission="gaussian",
        encoder="filter",
        initial_posterior="gaussian",
        objective="elbo",
        num_samples=1,
        hidden_steps=None,
        seed=None,
        **kwargs,
    ):
        *own, _ = inspect.signature(DVBF).parameters  # The last one collects all others.
        registry.check_arguments(kwargs, [*own, *KERAS_ARGUMENTS])
        super().__init__(objective, num_samples, hidden_steps, **kwargs)
        self.seed, self.noise_key, model_seed, recognition_seed = random.seeds_of_model(seed)
        self.sizes = checks.check_sizes(observation_shape, control_dim, state_dim)
        generative = {"transition": transition, "emission": emission}
        others = {"posterior": posterior, "initial_posterior": initial_posterior}
        parts = registry.resolve_all(**generative, **others, encoder=encoder)
        own = {kind: parts.pop(kind) for kind in generative}
        self.state_space_model = state_space_model.StateSpaceModel(
            **self.sizes, **own, seed=model_seed, name="state_space_model"
        )
        self.recognition_model = recognition.RecognitionModel(
            **self.sizes, **parts, seed=recognition_seed, name="recognition_model"
        )
        bounds.check_bound(self.recognition_model.posterior, objective, registry.OBJECTIVES)
        hiding.check_posterior(self.hidden_steps, self.recognition_model.posterior)
        self.recognition_model.check_parts(self.state_space_model)
        self.graphs = execution.Graphs(self.state_space_model, self.recognition_model)
        self.built = True

    @property
    def bounds(self):
        """Names of the objectives that `log_prob_bound` takes for this posterior."""
        return bounds.available(self.recognition_model.posterior)

    def sample_posterior(self, observations, controls=None, num_samples=1, seed=None, mask=None):
        """Draws from the posterior q(z[0:T] | x[0:T], u[0:T-1]).

        Returns:
          A `Trajectory` of T steps.
        """
        arguments = observations, controls, num_samples, seed, mask
        return self._infer(sampling.sample_posterior, *arguments)

    def impute(self, observations, controls=None, mask=None, num_samples=1, seed=None):
        """Draws the missing steps.

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
        """Returns the `Trajectory` of the posterior for zero noise: one sample."""
        return self._infer(sampling.reconstruct, observations, controls, 1, 0, mask)

    def filter(self, observations, controls=None, num_samples=64, seed=None, mask=None):
        """Filters whole sequences by `num_samples` particles each: p(z[t] | x[0:t], u[0:t-1]).

        From 16,384 steps on XLA compiles it, and a seed stands for other random numbers.
        Returns:
          A `particle_filter.Filtered`.
        """
        self._check_steps("filter")
        axes = particle_filter.Filtered(1, 1, 0, 0, 0)
        arguments = observations, controls, num_samples, seed, mask
        return self._infer(particle_filter.filter, *arguments, axis=axes, compiles=True)

    def forecast(
        self, observations, controls=None, num_samples=1, seed=None, mask=None, num_steps=None
    ):
        """Infers the states of the first steps, then continues open loop under later controls.

        Args:
          observations: The context x[0:c], c at least the steps that q(z[0]) sees.
          controls: u[0:T-1], T - 1 >= c: those of the context, then those of the future.
          mask: As elsewhere, of the context; shorter contexts end with missing steps.
          num_steps: T, in place of controls where the model has none.

        Returns:
          A `Trajectory` of T steps, the first c of them inferred.
        """
        given = observations, controls, mask, num_steps
        context, known = validation.check_context(self.rules, *given)
        controls, context = context.controls, context._replace(controls=None)
        out = self._run(
            sampling.forecast, (context, controls), controls.shape[1], num_samples, seed
        )
        return execution.nan_where_unknown(known, out)

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

        z[0] is drawn from q(z[0] | x[0:k]) if `initial_observations` [batch, k, ...] are given,
        from p(z[0]) where their `mask` [batch, k] says that one is missing or where there are none,
        and is `initial_state`, [batch, dz] or [num_samples, batch, dz], if that is given.

        Args:
          deterministic: Whether z[0] (unless q(z[0]) has a flow), z[t] and x[t] are means.
          num_steps: T, in place of controls where the model has none.

        Returns:
          A `Trajectory` of T steps, one more than `controls`.
        """
        validation.check_starts(initial_observations, initial_state, mask)
        sizes = num_steps, initial_observations, initial_state
        controls = validation.check_future(self.rules, controls, *sizes)
        run = {"num_steps": controls.shape[1], "num_samples": num_samples, "seed": seed}
        if initial_state is not None:
            state = self.sizes["state_dim"], initial_state, num_samples, controls
            rows = controls, validation.check_initial_state(*state)
            return self._run(sampling.generate_from, rows, **run, deterministic=deterministic)
        first = None
        if initial_observations is not None:
            first = validation.check_initial_observations(
                self.rules, initial_observations, controls, mask
            )
            first = first._replace(controls=None)
        return self._run(sampling.generate, (controls, first), **run, deterministic=deterministic)

    def bound_terms(self, observations, controls=None, num_samples=1, seed=None, mask=None):
        """Returns the `bounds.Terms` of the elbo for posterior draws."""
        batch, _ = validation.check_batch(self.rules, observations, controls, mask)
        return self._run(bounds.terms, (batch,), batch.observations.shape[1], num_samples, seed)

    def log_prob_bound(
        self, observations, controls=None, num_samples=64, seed=None, objective="iwae", mask=None
    ):
        """Estimates a lower bound on ln p of the observed steps of x[0:T], given u[0:T-1].

        `objective` is "elbo", for chain_iaf the poster's, which bounds nothing; "iwae", K
        importance samples; or "fivo", the evidence estimate of a particle filter of K particles
        with the posterior as its proposal (Maddison et al. 2017). K is `num_samples`.

        Returns:
          The bound in nats and the user's units, [batch].
        """
        bounds.check_bound(self.recognition_model.posterior, objective)
        arguments = observations, controls, num_samples, seed, mask
        return self._infer(bounds.log_prob_bound, *arguments, axis=0, objective=objective)

    def filter_init(self, initial_observations, num_particles=64, seed=None):
        """Starts streams from x[0:k]; returns the belief, see `streaming.filter_init`."""
        self._check_steps("filter_init")
        self.check_finite_weights()
        first = streaming.check_start(self.rules, initial_observations)
        count = tf.convert_to_tensor(validation.check_count("num_particles", num_particles))
        arguments = first, count, random.stateless_seed(seed)[0]
        return self.graphs.run(streaming.filter_init, *arguments)

    def filter_step(self, belief, observations, controls=None, observed=None, seed=None):
        """Moves streams on by one time step; see `streaming.filter_step`."""
        step = streaming.check_step(self.rules, observations, controls, observed)
        arguments = streaming.check_belief(belief, step[0]), *step, random.stateless_seed(seed)[0]
        return self.graphs.run(streaming.filter_step, *arguments)

    def _infer(self, function, observations, controls, num_samples, seed, mask, axis=1, **static):
        """Runs a function of checked sequences; what is not known is NaN in its results."""
        batch, known = validation.check_batch(self.rules, observations, controls, mask)
        steps = batch.observations.shape[1]
        found = self._run(function, (batch,), steps, num_samples, seed, axis=axis, **static)
        return execution.nan_where_unknown(known, found, axis)

    def _run(self, function, rows, num_steps, num_samples, seed, **static):
        self.check_finite_weights()
        count = validation.check_count("num_samples", num_samples)
        seed = random.stateless_seed(seed)
        return self.graphs.run_in_parts(function, rows, count, num_steps, seed, **static)

    def _check_steps(self, name):
        """Raises ValueError, with the reason, unless sequences can be followed step by step."""
        if not self.recognition_model.steps:
            raise ValueError(f"`{name}` is not for {self.recognition_model.steps.reason}.")

    def get_config(self):
        serialize = tf_keras.saving.serialize_keras_object
        owners = {
            self.state_space_model: ["transition", "emission"],
            self.recognition_model: ["posterior", "encoder", "initial_posterior"],
        }
        parts = {kind: getattr(owner, kind) for owner, kinds in owners.items() for kind in kinds}
        for kind, part in parts.items():
            registry.check_registered(kind, part)
        parts = {kind: serialize(part) for kind, part in parts.items()}
        names = ["objective", "num_samples", "hidden_steps", "seed"]
        others = {name: getattr(self, name) for name in names}
        return {**self.sizes, **parts, **others}
