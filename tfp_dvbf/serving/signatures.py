"""The signatures of an exported model: functions of tensors alone."""

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_dvbf import registry
from tfp_dvbf.inference import bounds, checks, execution, random, sampling, streaming, validation
from tfp_dvbf.serving import frozen

FLOAT, INT = tf.float32, tf.int32


class Signature(NamedTuple):
    """One signature of a model.

    Attributes:
      function: Function of the tensors in `specs`, by name, that returns a dictionary of tensors.
      specs: Names of the arguments mapped to their `tf.TensorSpec`.
      reason: Why it is left out, or None.
    """

    function: Any
    specs: dict
    reason: str | None = None


def signatures_of(model, jit_compile=False):
    """Returns the signatures of a `DVBF` by name; `jit_compile` is that of `saved_model.export`.

    All tensors are float32 unless said otherwise. `controls` of T steps have T or T - 1 steps; T is
    2 or more, and the steps that q(z[0]) sees or more. Observations are in the user's units. Sizes
    that do not fit each other, and a NaN or infinite value where a step is observed, end a call
    with an InvalidArgumentError. A model without controls has no argument `controls`; where they
    say how far to go, `num_steps` takes their place.
    """
    functions, plain = Functions(model, jit_compile), Functions(model)
    steps = model.recognition_model.steps
    has_density = model.recognition_model.posterior.has_density
    needed = {"filter_init": steps, "filter_step": steps, "log_prob_bound": has_density}
    reasons = {name: answer.reason for name, answer in needed.items() if not answer}
    made = {}
    for name in registry.SIGNATURES:
        reason = reasons.get(name)
        specs = {} if reason else plain.specs(name)
        made[name] = Signature(of_shapes(getattr(functions, name), specs), specs, reason)
    return made


def of_shapes(function, specs):
    """Returns a function of tensors, by name, that fails unless they have the shapes of `specs`.

    TensorFlow compares what a loaded signature is called with to the types of its specs alone; a
    size of 1 in place of another would be broadcast.
    """

    def call(**tensors):
        rules = checks.Checks()
        for name, tensor in tensors.items():
            sizes = specs[name].shape.as_list()
            wanted = [0 if size is None else size for size in sizes]
            # Of another rank it is False as a whole: an error of its own would say nothing.
            equal = tf.raw_ops.Equal(x=tf.shape(tensor), y=wanted, incompatible_shape_error=False)
            fits = tf.reduce_all(equal | [size is None for size in sizes]) if sizes else True
            labels = ", ".join("any" if size is None else str(size) for size in sizes)
            rules.require(fits, f"`{name}` must have shape [{labels}].")
        passed = rules.passed(tensors)
        # A rank that the specs know is a constant of the graph; this operation alone looks at it.
        return function(**{n: tf.ensure_shape(passed[n], specs[n].shape) for n in passed})

    return call


class Functions:
    """The functions behind the signatures of one model, and their specs.

    Each checks what it is given, which XLA cannot, and hands it on to one that XLA may compile.
    """

    def __init__(self, model, jit_compile=False):
        self.rules = model.rules
        self.models = model.state_space_model, model.recognition_model
        self.jit_compile = jit_compile

    def run(self, function, *arguments):
        """Returns what `function(model, recognition, *arguments)` returns."""
        function = functools.partial(function, *self.models)
        return (
            frozen.call_compiled(function, arguments) if self.jit_compile else function(*arguments)
        )

    def specs(self, name):
        """Returns the specs of the arguments of a signature."""
        shape, dim = self.rules.observation_shape, self.rules.control_dim
        kinds = {
            "observations": ([None, None, *shape], FLOAT),
            "initial_observations": ([None, self.rules.initial_steps, *shape], FLOAT),
            "controls": ([None, None, dim], FLOAT),
            "mask": ([None, None], FLOAT),
            "observed": ([None], FLOAT),
        }
        names = list(registry.SIGNATURES[name])
        if name == "filter_step":
            kinds |= {"observations": ([None, *shape], FLOAT), "controls": ([None, dim], FLOAT)}
        if not dim and "controls" in names:
            names.remove("controls")
            names += ["num_steps"] * (name in ("forecast", "generate"))
        specs = {
            argument: tf.TensorSpec(*kinds.get(argument, ([], INT)), argument) for argument in names
        }
        return {**self._belief_specs(), **specs} if name == "filter_step" else specs

    def _belief_specs(self):
        """Returns the specs of the belief: what `filter_init` returns, less its evidence."""
        start = tf.function(self.filter_init, autograph=False)
        start = start.get_concrete_function(**self.specs("filter_init"))
        return {
            name: tf.TensorSpec(spec.shape, spec.dtype, name)
            for name, spec in start.structured_outputs.items()
            if name != "log_evidence"
        }

    def filter_init(self, initial_observations, num_particles, seed):
        """Starts streams from their first steps; returns the belief and ln p(x[0])."""
        first = streaming.check_start(self.rules, initial_observations)
        count = validation.check_count("num_particles", num_particles)
        return self.run(streaming.filter_init, first, count, seed)

    def filter_step(self, observations, observed, seed, controls=None, **belief):
        """Moves each stream on by one step, which is missing where `observed` is 0."""
        belief = streaming.check_belief(belief, observations)
        step = streaming.check_step(self.rules, observations, controls, observed)
        return self.run(streaming.filter_step, belief, *step, seed)

    def sample_posterior(self, observations, mask, seed, controls=None):
        """Draws one trajectory of the posterior for each sequence."""
        batch, known = validation.check_batch(self.rules, observations, controls, mask)
        seed = random.stateless_seed(seed)
        drawn = self.run(sampling.sample_posterior, batch, 1, seed)
        drawn = execution.nan_where_unknown(known, drawn)
        return {name: tensor[0] for name, tensor in drawn._asdict().items()}

    def forecast(self, observations, mask, num_samples, seed, controls=None, num_steps=None):
        """Infers the steps given and goes on open loop to one step more than controls."""
        given = observations, controls, mask, num_steps
        context, known = validation.check_context(self.rules, *given)
        count = validation.check_count("num_samples", num_samples)
        seed = random.stateless_seed(seed)
        drawn = self.run(sampling.forecast, context, context.controls, count, seed)
        return execution.nan_where_unknown(known, drawn)._asdict()

    def generate(
        self, initial_observations, mask, num_samples, seed, controls=None, num_steps=None
    ):
        """Draws from the generative model, z[0] from p(z[0]) where one of x[0:k] is missing."""
        controls = validation.check_future(self.rules, controls, num_steps, initial_observations)
        first = validation.check_initial_observations(
            self.rules, initial_observations, controls, mask
        )
        count = validation.check_count("num_samples", num_samples)
        drawn = self.run(sampling.generate, controls, first, count, random.stateless_seed(seed))
        return drawn._asdict()

    def log_prob_bound(self, observations, mask, num_samples, seed, controls=None):
        """Returns the importance-weighted bound on ln p of what is observed, nats a sequence."""
        batch, _ = validation.check_batch(self.rules, observations, controls, mask)
        count = validation.check_count("num_samples", num_samples)
        bound = self.run(bounds.log_prob_bound, batch, count, random.stateless_seed(seed))
        return {"log_prob_bound": bound}
