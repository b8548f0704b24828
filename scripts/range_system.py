"""Systems that only show how far their state is, and how a bound is held against exact evidence."""

import json
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import tfp_dvbf
from tfp_dvbf import layers
from tfp_dvbf.inference import grid


class System(NamedTuple):
    """A system of z[t] = 0.5 z[t-1] + (u[t-1], 0, ..) + N(0, I), x[t] = |z[t]| + N(0, noise^2).

    Attributes:
      state_dim: Size of z.
      control_dim: 1, or 0 for a system that is left alone.
      num_steps: Time steps of a sequence.
      noise_scale: Standard deviation of the observation.
      reach: The grid of the exact evidence is [-reach, reach] in each dimension.
      num_points: Points of the grid in each dimension.
    """

    state_dim: int
    control_dim: int
    num_steps: int
    noise_scale: float
    reach: float
    num_points: int

    @property
    def axis(self):
        """The points of the grid in each dimension."""
        return np.linspace(-self.reach, self.reach, self.num_points)


SYSTEMS = {
    "range": System(2, 1, 50, 0.2, 9.0, 161),
    "abs": System(1, 0, 30, 0.05**0.5, 9.0, 361),
}
DECAY = 0.5
NOISE_FLOOR = 0.1  # Least noise of a learned transition, twice the spacing of its grid.
# The grid for learned models, whose state need not be that of the system but has p(z[0]) = N(0, I).
LEARNED_AXIS = np.linspace(-8.0, 8.0, 321)


@tf_keras.utils.register_keras_serializable("examples")
class Decay(layers.Transition):
    """p(z[t] | z[t-1], u[t-1]) = N(0.5 z[t-1] + (u[t-1], 0, ..), I); nothing is learned."""

    units = "user"

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and u[t-1] [..., 0 or 1] to the density of z[t]."""
        missing = self.spec.state_dim - self.spec.control_dim
        push = tf.concat([controls, tf.zeros_like(states[..., :missing])], axis=-1)
        loc = DECAY * states + push
        return tfp.distributions.MultivariateNormalDiag(loc, tf.ones_like(loc))


@tf_keras.utils.register_keras_serializable("examples")
class LearnedDecay(layers.Transition):
    """p(z[t] | z[t-1], u[t-1]) = N(a * z[t-1] + B u[t-1], diag s^2); a, B and s are learned.

    Each dimension moves on its own, as the grid filter asks.
    """

    def build(self, spec):
        dim, zeros = spec.state_dim, "zeros"
        self.decay = self.add_weight("decay", [dim], initializer=zeros)
        self.control_matrix = self.add_weight("control", [dim, spec.control_dim], initializer=zeros)
        self.raw_scale = self.add_weight("raw_scale", [dim], initializer=zeros)
        super().build(spec)

    def call(self, states, controls):
        """Maps z[t-1] [..., dz] and u[t-1] [..., 0 or 1] to the density of z[t]."""
        loc = self.decay * states + tf.linalg.matvec(self.control_matrix, controls)
        scale = NOISE_FLOOR + tf.nn.softplus(1.0 + self.raw_scale)
        return tfp.distributions.MultivariateNormalDiag(loc, scale + tf.zeros_like(loc))


@tf_keras.utils.register_keras_serializable("examples")
class Range(layers.Emission):
    """p(x[t] | z[t]) = N(|z[t]|, noise_scale^2): the distance is seen, the direction is not.

    Args:
      noise_scale: Standard deviation of the distance.
    """

    units = "user"

    def __init__(self, noise_scale, **kwargs):
        super().__init__(**kwargs)
        self.noise_scale = noise_scale

    def call(self, states):
        """Maps states [..., dz] to the density of the distance [..., 1]."""
        square = tf.reduce_sum(states**2, axis=-1, keepdims=True)
        distance = tf.sqrt(tf.maximum(square, 1e-12))  # The gradient of sqrt(0) is infinite.
        return tfp.distributions.Independent(
            tfp.distributions.Normal(distance, self.noise_scale), 1
        )

    def get_config(self):
        return {**super().get_config(), "noise_scale": self.noise_scale}


def simulate(system, num_sequences, seed):
    """Returns `Sequences` of a system; |u| lies in [0.75, 1.5], with one sign a sequence."""
    rng = np.random.default_rng(seed)
    shape = num_sequences, system.num_steps - 1, system.control_dim
    controls = rng.uniform(0.75, 1.5, shape) * rng.choice([-1.0, 1.0], (num_sequences, 1, 1))
    states = [rng.normal(size=(num_sequences, system.state_dim))]
    push = np.zeros([num_sequences, system.num_steps - 1, system.state_dim])
    push[..., : system.control_dim] = controls
    for t in range(system.num_steps - 1):
        states.append(DECAY * states[-1] + push[:, t] + rng.normal(size=states[0].shape))
    states = np.stack(states, axis=1)
    distance = np.linalg.norm(states, axis=-1, keepdims=True)
    observations = distance + system.noise_scale * rng.normal(size=distance.shape)
    controls = controls if system.control_dim else None
    return tfp_dvbf.Sequences(observations, controls, states=states)


def make_model(system, posterior, seed, num_samples=1, learned=False, first="gaussian"):
    """Returns a `DVBF` that learns q, and with `learned` its generative model as well.

    Otherwise that is the system itself. With several samples it trains the iwae, which a q that has
    lost a mode raises by finding it. `first` is the posterior of z[0].
    """
    emission = layers.GaussianEmission((64,), "tanh") if learned else Range(system.noise_scale)
    return tfp_dvbf.DVBF(
        *(1, system.control_dim, system.state_dim),
        posterior=posterior,
        initial_posterior=first,
        transition=LearnedDecay() if learned else Decay(),
        emission=emission,
        objective="elbo" if num_samples == 1 else "iwae",
        num_samples=num_samples,
        seed=seed,
    )


def filtered(axis, model, sequences, keep_density=False):
    """Returns the exact `grid.Filtered` of sequences under the generative model of `model`."""
    space = model.state_space_model
    x, u = sequences.observations, sequences.controls
    return grid.filter(space, x, u, axis, keep_density)


def checkpoint_epochs(epochs, count=10):
    """Returns at most `count` of the epochs 1, .., `epochs`, evenly spread, the last among them."""
    return sorted({-(-epochs * part // count) for part in range(1, count + 1)})


def checkpoints(path):
    """Returns what `BoundAgainstEvidence` has written, [] where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


class BoundAgainstEvidence(tf_keras.callbacks.Callback):
    """Writes, now and then, by how much the elbo exceeds the exact evidence, and its error.

    An interrupted training goes on from an earlier epoch, whose later lines are then written anew.

    Args:
      sequences: `Sequences`.
      exact: ln p(x[0:T] | u[0:T-1]) of each, [batch].
      path: File of a JSON line a checkpoint: `epoch`, `excess` and `standard_error`, nats.
      epochs: The epochs, from 1 on, after which it writes.
    """

    def __init__(self, sequences, exact, path, epochs):
        super().__init__()
        self.sequences = sequences
        self.exact = exact
        self.path = path
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 not in self.epochs:
            return
        x, u = self.sequences.observations, self.sequences.controls
        elbo = self.model.log_prob_bound(x, u, num_samples=4, seed=epoch, objective="elbo")
        excess = np.float64(elbo) - self.exact
        error = excess.std(ddof=1) / np.sqrt(len(excess))
        line = {"epoch": epoch + 1, "excess": excess.mean(), "standard_error": error}
        lines = [each for each in checkpoints(self.path) if each["epoch"] <= epoch] + [line]
        partial = self.path.with_name(f"{self.path.name}.partial")
        partial.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
        partial.replace(self.path)
