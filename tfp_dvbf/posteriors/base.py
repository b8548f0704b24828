"""What a posterior is: the contract of the recursion, and the cell that scans it."""

from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_dvbf.layers import contracts, initial_posteriors, networks, part, variables


class PosteriorInputs(NamedTuple):
    """What a posterior sees of one time step, or of the steps t = 1 .. T-1 of whole sequences.

    Attributes:
      features: h[t] of the encoder, [batch, (time - 1,) dh].
      controls: Standardised u[t-1], [batch, (time - 1,) du].
      observations: x[t] in the emission's units, [batch, (time - 1,) *observation_shape].
    """

    features: tf.Tensor
    controls: tf.Tensor
    observations: tf.Tensor

    @property
    def joined(self):
        """(h[t], u[t-1]), [batch, (time - 1,) dh + du]."""
        return tf.concat([self.features, self.controls], axis=-1)


class Step(NamedTuple):
    """What one step of a posterior returns.

    Attributes:
      carry: What the next step goes on from, a dictionary of tensors [rows, ...]; `states` z[t]
        [rows, dz] is one of them.
      log_prob: ln q(z[t] | ...) in nats, [rows].
      moments: Mean and standard deviation of q(z[t] | z[t-1], ...) [rows, dz], where that is a
        normal with a diagonal covariance whose KL is to be taken in closed form; else None.
      log_prior: ln p(z[t] | z[t-1], u[t-1]) in nats, [rows], where the step has called the
        transition anyway; else None.
    """

    carry: dict
    log_prob: tf.Tensor
    moments: tuple | None = None
    log_prior: tf.Tensor | None = None


class PosteriorSample(NamedTuple):
    """One trajectory of a posterior and its density.

    Attributes:
      states: z[0:T], [batch, time, dz].
      log_prob: ln q of each z[t] in nats, [batch, time].
      densities: q(z[0] | x[0:k]), None where it has a flow, and, as one distribution of batch shape
        [batch, time - 1], q(z[t] | z[t-1], ...) for t > 0; None where the latter is no normal.
      log_prior: ln p(z[t] | z[t-1], u[t-1]) of each t > 0 in nats, [batch, time - 1], where the
        recursion has found it; else None.
    """

    states: tf.Tensor
    log_prob: tf.Tensor
    densities: tuple[tfp.distributions.Distribution, tfp.distributions.Distribution] | None
    log_prior: tf.Tensor | None = None


class Posterior(part.Part):
    """Base of the posteriors q(z[0:T] | x[0:T], u[0:T-1]), each defined by one step.

    A subclass makes its weights in `build(spec)` and implements

        step(model, carry, inputs, noise) -> Step

    which maps z[t-1] and fresh noise eps[t] ~ N(0, I) to z[t] and its exact log density, a smooth
    bijection of eps[t] given the rest. The model is passed in and never stored. A generic cell
    (`StepCell`) scans `step` over time in a Keras RNN. Where x[t] is missing nothing is to be
    inferred: z[t] is drawn from the transition with the same noise, and the recursion starts anew
    from it, so that every posterior takes gaps and its KL is 0 there.

    A subclass may override `prepare`, to do once for all time steps what does not depend on the
    state; `start`, if it carries more than z[t]; and `call`, if it has a way that is parallel in
    time, which must equal the scan of `step`.

    Attributes:
      has_density: Whether the trajectory has a density, which iwae and fivo need; or `errors.No`.
      takes_gaps: Whether steps may be missing between observed ones; or `errors.No`.
      steps: Whether it can follow a stream step by step; or `errors.No`.
    """

    has_density = True
    takes_gaps = True
    steps = True

    def prepare(self, inputs):
        """Maps `PosteriorInputs` of any number of steps to the inputs of `step`, a nest of tensors.

        Each tensor keeps the first axes, [batch, (time - 1,) ...].
        """
        return inputs

    def start(self, states, noise):
        """Returns the carry after z[0] [rows, dz] was made of eps[0] [rows, dz]."""
        del noise
        return {"states": states}

    def step(self, model, carry, inputs, noise):
        """Maps z[t-1], the inputs of step t and eps[t] to a `Step`.

        Args:
          model: The `StateSpaceModel`.
          carry: What `start` or the last `step` returned, tensors [rows, ...].
          inputs: One time step of what `prepare` returned, [rows, ...].
          noise: eps[t], [rows, dz].
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `step`.")

    def advance(self, model, carry, inputs, controls, observed, noise):
        """Returns the `Step` of `step` where x[t] is observed, that of the transition elsewhere.

        Args:
          model, carry, inputs, noise: As for `step`.
          controls: Standardised u[t-1], [rows, du].
          observed: Whether x[t] is observed, bool [rows, 1].
        """
        prior = model.transition_distribution(carry["states"], controls)
        moved = prior.loc + prior.scale.matvec(noise)
        inferred = self.step(model, carry, inputs, noise)
        drawn = log_base(noise) - prior.scale.log_abs_determinant()  # There q is p.
        restarted = self.start(moved, noise)
        carry = {
            name: tf.where(networks.expand_like(observed[:, 0], tensor), tensor, restarted[name])
            for name, tensor in inferred.carry.items()
        }
        log_prob, log_prior = tf.where(observed[:, 0], inferred.log_prob, drawn), inferred.log_prior
        if log_prior is not None:
            log_prior = tf.where(observed[:, 0], log_prior, drawn)
        return Step(carry, log_prob, inferred.moments, log_prior)

    def call(self, model, first, inputs, noise, observed=None):
        """Draws one trajectory by a scan of `step`.

        Args:
          model: The `StateSpaceModel`.
          first: q(z[0] | x[0:k]) of batch shape [batch], a `layers.FirstState` or a diagonal
            normal.
          inputs: `PosteriorInputs` of t = 1 .. T-1, [batch, time - 1, ...].
          noise: eps[0:T], [batch, time, dz].
          observed: Whether x[t] is observed, bool [batch, time - 1, 1]; None where all are.

        Returns:
          A `PosteriorSample`.
        """
        first = initial_posteriors.first_state(first)
        states, log_first = first.draw(noise[:, 0])
        carry = self.start(states, noise[:, 0])
        masked = () if observed is None else (inputs.controls, observed)
        scanned = (noise[:, 1:], self.prepare(inputs), *masked)
        outputs = scan(self, model, carry, scanned)
        densities = None
        if outputs.moments is not None:
            later = tfp.distributions.MultivariateNormalDiag(*outputs.moments)
            densities = None if first.flow else first.normal, later
        return PosteriorSample(
            prepend(states, outputs.states),
            prepend(log_first, outputs.log_prob),
            densities,
            outputs.log_prior,
        )


class Scanned(NamedTuple):
    """What `scan` returns for t = 1 .. T-1: each [batch, time - 1, ...], as in `Step`."""

    states: tf.Tensor
    log_prob: tf.Tensor
    log_prior: tf.Tensor | None
    moments: tuple | None


class StepCell(tf_keras.layers.AbstractRNNCell):
    """The recurrent cell of any posterior: one call of its `step`, or `advance` where steps lack.

    It belongs to one scan and holds no weights of its own.

    Args:
      posterior: A `Posterior`.
      model: The `StateSpaceModel`.
      carry: The carry at t = 0.
      structure: The nest of inputs that `call` takes.
    """

    def __init__(self, posterior, model, carry, structure):
        super().__init__()
        self.functions = posterior.step, posterior.advance, model
        self.names = list(carry)
        self.sizes = [tensor.shape[1:] for tensor in carry.values()]
        self.structure = structure

    @property
    def state_size(self):
        return self.sizes

    def call(self, inputs, states):
        """Maps the inputs of step t and the carry of t-1 to what is kept of it and the carry."""
        step, advance, model = self.functions
        inputs = tf.nest.pack_sequence_as(self.structure, tf.nest.flatten(inputs))
        noise, prepared, *masked = inputs
        carry = dict(zip(self.names, states))
        if masked:
            result = advance(model, carry, prepared, *masked, noise)
        else:
            result = step(model, carry, prepared, noise)
        outputs = {"states": result.carry["states"], "log_prob": result.log_prob[:, tf.newaxis]}
        if result.log_prior is not None:
            outputs["log_prior"] = result.log_prior[:, tf.newaxis]
        if result.moments is not None:
            outputs["moments"] = result.moments
        return outputs, [result.carry[name] for name in self.names]


def scan(posterior, model, carry, inputs):
    """Scans `step` over t = 1 .. T-1 in a Keras RNN; returns `Scanned`.

    Args:
      posterior: A `Posterior`.
      model: The `StateSpaceModel`.
      carry: The carry at t = 0, tensors [batch, ...].
      inputs: eps[1:T], what `prepare` returned and, where steps are missing, u[0:T-1] and whether
        x[t] is observed, each [batch, time - 1, ...].
    """
    structure = tf.nest.map_structure(lambda tensor: None, inputs)
    cell = StepCell(posterior, model, carry, structure)
    rnn = tf_keras.layers.RNN(cell, return_sequences=True)
    with variables.read_once(posterior, model):
        outputs = rnn(tuple(tf.nest.flatten(inputs)), initial_state=list(carry.values()))
    log_prior = outputs.get("log_prior")
    return Scanned(
        outputs["states"],
        outputs["log_prob"][..., 0],
        None if log_prior is None else log_prior[..., 0],
        outputs.get("moments"),
    )


def check_posterior(posterior, model, first, inputs):
    """Draws from a posterior once; raises ValueError unless it returns what `Posterior` says.

    Args:
      posterior: A `Posterior`, built.
      model: The `StateSpaceModel`.
      first: The `layers.FirstState` of one sequence.
      inputs: `PosteriorInputs` of t = 1 .. T-1, [1, time - 1, ...].
    """
    steps, dim = inputs.features.shape[1] + 1, posterior.spec.state_dim
    noise = tf.zeros([1, steps, dim])
    if type(posterior).step is not Posterior.step:
        with contracts.named("posterior", "make a step"):
            row = tf.nest.map_structure(lambda tensor: tensor[:, 0], posterior.prepare(inputs))
            carry = posterior.start(noise[:, 0], noise[:, 0])
            step = posterior.step(model, carry, row, noise[:, 0])
        if not isinstance(step, Step) or set(step.carry) != set(carry):
            got = list(step.carry) if isinstance(step, Step) else type(step).__name__
            raise ValueError(
                f"`posterior.step` must return a `Step` whose carry has {list(carry)}; got {got}."
            )
        contracts.check_tensor("posterior.step", step.carry["states"], [1, dim])
        for log_prob in [step.log_prob, step.log_prior]:
            if log_prob is not None:
                contracts.check_tensor("posterior.step", log_prob, [1])
        for moment in step.moments or ():
            contracts.check_tensor("posterior.step", moment, [1, dim])
    with contracts.named("posterior", f"draw {steps} steps"):
        sample = posterior(model, first=first, inputs=inputs, noise=noise)
    if not isinstance(sample, PosteriorSample):
        got = type(sample).__name__
        raise ValueError(f"`posterior` must return a `PosteriorSample`; got {got}.")
    contracts.check_tensor("posterior", sample.states, [1, steps, dim])
    contracts.check_tensor("posterior", sample.log_prob, [1, steps])


def log_base(noise):
    """Returns ln N(eps; 0, I) of noise [..., dz]."""
    return tf.reduce_sum(tfp.distributions.Normal(0.0, 1.0).log_prob(noise), axis=-1)


def prepend(first, rest):
    """Puts first [batch, ...] before rest [batch, time - 1, ...]."""
    return tf.concat([first[:, tf.newaxis], rest], axis=1)
