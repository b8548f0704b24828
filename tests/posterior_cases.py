"""Small posteriors, a model and inputs for them, and what draws from them step by step."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfp_dvbf import layers, posteriors, registry
from tfp_dvbf.layers import initial_posteriors, networks
from tfp_dvbf.layers.state_space_model import StateSpaceModel
from tfp_dvbf.posteriors import base

BATCH, STEPS, DIM, FEATURES, CONTROLS = 3, 6, 2, 4, 1
NOISE = tf.random.stateless_normal([BATCH, STEPS, DIM], [0, 1])
INPUTS = posteriors.PosteriorInputs(
    *(
        tf.random.stateless_normal([BATCH, STEPS - 1, dim], [0, seed])
        for seed, dim in enumerate([FEATURES, CONTROLS, 3])
    )
)
SPEC = layers.Spec((3,), CONTROLS, DIM, FEATURES)

GAPS = np.ones([BATCH, STEPS - 1, 1], bool)
GAPS[0, 2:4] = GAPS[1, 0] = GAPS[2, 4] = False
END = np.minimum.accumulate(GAPS, axis=1)  # The same, but with nothing observed behind a gap.


def masks(posterior):
    """Returns the masks that a posterior takes: none, gaps, missing steps at the end alone."""
    return [None, tf.constant(GAPS if posterior.takes_gaps else END)]


@tf_keras.utils.register_keras_serializable("tests")
class Drift(posteriors.Posterior):
    """z[t] = z[t-1] + W i[t] + s * eps[t], as a user may write it: in parallel, without gaps."""

    def build(self, spec):
        self.drift = tf_keras.layers.Dense(spec.state_dim, kernel_initializer="random_normal")
        self.raw_scale = self.add_weight("raw_scale", [spec.state_dim], initializer="zeros")
        super().build(spec)

    def prepare(self, inputs):
        return {"drift": self.drift(inputs.joined)}

    def log_prob(self, noise):
        log_scale = tf.reduce_sum(tf.math.log(networks.positive(self.raw_scale)))
        return base.log_base(noise) - log_scale

    def step(self, model, carry, inputs, noise):
        states = carry["states"] + inputs["drift"] + networks.positive(self.raw_scale) * noise
        return posteriors.Step({"states": states}, self.log_prob(noise))

    def call(self, model, first, inputs, noise, observed=None):
        if observed is not None:
            return super().call(model, first, inputs, noise, observed)
        states, log_first = initial_posteriors.first_state(first).draw(noise[:, 0])
        moves = self.prepare(inputs)["drift"] + networks.positive(self.raw_scale) * noise[:, 1:]
        states = tf.cumsum(base.prepend(states, moves), axis=1)
        return posteriors.PosteriorSample(
            states, base.prepend(log_first, self.log_prob(noise[:, 1:])), None
        )


SETTINGS = {
    "drift": {},
    "gaussian": {"hidden_units": (8, 8)},
    "innovation": {"hidden_units": (8, 8)},
    "iaf": {"hidden_units": (8, 8), "flow_units": (8,)},
    "trajectory_iaf": {"hidden_units": (8, 8), "flow_units": (8,), "receptive_field": STEPS},
    "chain_iaf": {"hidden_units": (8, 8)},
}
ALL = pytest.mark.parametrize("name", ["drift", *registry.names("posterior")])
VALID = ["gaussian", "innovation", "iaf", "trajectory_iaf"]


def make(name, **settings):
    """Returns a small posterior, built by itself."""
    settings = {**SETTINGS[name], **settings}
    if name == "drift":
        posterior = Drift()
    else:
        posterior = registry.class_of("posterior", name)(activation="tanh", **settings)
    posterior.build(SPEC)
    return posterior


def make_model(transition):
    settings = {
        "mlp": {"hidden_units": (8,), "activation": "tanh"},
        "locally_linear": {"num_bases": 2, "hidden_units": (8,), "activation": "tanh"},
        "rotation": {},
    }
    transition = registry.class_of("transition", transition)(**settings[transition])
    emission = layers.GaussianEmission((8,), "tanh")
    return StateSpaceModel((3,), CONTROLS, DIM, transition, emission)


def make_first():
    """Returns q(z[0] | x[0])."""
    part = layers.GaussianInitialPosterior(1, (8,))
    part.build(SPEC)
    return part(tf.random.stateless_normal([BATCH, 1, 3], [0, 3]))


def draw(posterior, model, first, inputs=INPUTS, noise=NOISE, observed=None):
    return posterior(model, first=first, inputs=inputs, noise=noise, observed=observed)


def perturb(posterior, model, first):
    """Moves all weights away from the near-zero ones that residuals start with.

    A kernel's zeros are those of the masks of a MADE, and stay.
    """
    draw(posterior, model, first)
    rng = np.random.default_rng(0)
    for weight in posterior.trainable_variables:
        free = np.ones(weight.shape) if weight.shape.rank == 1 else weight.numpy() != 0
        weight.assign_add(0.2 * free * rng.standard_normal(weight.shape))
    return posterior


def step_by_step(posterior, model, first, inputs=INPUTS, noise=NOISE, observed=None):
    """Returns states and ln q as `step` and, where steps are missing, `advance` give them."""
    states, log_first = initial_posteriors.first_state(first).draw(noise[:, 0])
    carry = posterior.start(states, noise[:, 0])
    found = [(states, log_first)]
    for t in range(1, noise.shape[1]):
        now = posteriors.PosteriorInputs(*(tensor[:, t - 1] for tensor in inputs))
        prepared = posterior.prepare(now)
        if observed is None:
            step = posterior.step(model, carry, prepared, noise[:, t])
        else:
            seen = observed[:, t - 1]
            step = posterior.advance(model, carry, prepared, now.controls, seen, noise[:, t])
        assert set(step.carry) == set(carry)
        carry = step.carry
        # The step of a posterior without a density knows nothing of ln q(z[0]).
        log_prob = step.log_prob + (0.0 if posterior.has_density else log_first)
        found.append((carry["states"], log_prob))
    return [tf.stack(tensors, axis=1) for tensors in zip(*found)]


def with_gradients(function, posterior, model, first, observed):
    """Returns states, ln q, and the gradients of a mixture of both to noise, inputs and weights."""
    watched = [NOISE, *INPUTS, *posterior.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        states, log_prob = function(posterior, model, first, INPUTS, NOISE, observed)[:2]
        weights = tf.random.stateless_normal([BATCH, STEPS, DIM + 1], [0, 9])
        total = tf.reduce_sum(weights * tf.concat([states, log_prob[..., tf.newaxis]], axis=-1))
    return states, log_prob, *tape.gradient(total, watched, unconnected_gradients="zero")
