"""No gradient is NaN where logits, scales and innovations are as large as they can become."""

import itertools

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data, layers, registry
from tfp_dvbf.inference import bounds
from tfp_dvbf.layers.state_space_model import StateSpaceModel
from tfp_dvbf.posteriors import RecognitionModel

NUM_SEEDS, BATCH, STEPS = 20, 4, 4
EXTREME = 200.0  # A logit; the raw value of a scale or gate.
FAR = 1e3  # An observation; at the floor of the noise it lies 1e7 standard deviations off.


def extreme_weights(weights, seed):
    """Draws all kernels anew, and biases of which most are `EXTREME`, one way or the other.

    Biases are what logits, raw scales and gates come from. A kernel's zeros are the masks of a
    MADE, and stay.
    """
    rng = np.random.default_rng(seed)
    for weight in weights:
        drawn = rng.standard_normal(weight.shape) / np.sqrt(weight.shape[0])
        if weight.shape.rank == 1:
            drawn += EXTREME * rng.integers(-1, 2, weight.shape)
        else:
            drawn *= weight.numpy() != 0
        weight.assign(drawn)


def observations(emission, seed):
    rng = np.random.default_rng(seed)
    if isinstance(emission, layers.BernoulliEmission):
        return rng.integers(0, 2, [BATCH, STEPS, 3]).astype(np.float32)
    if isinstance(emission, layers.PoissonEmission):
        return rng.poisson(FAR, [BATCH, STEPS, 3]).astype(np.float32)
    if isinstance(emission, layers.CategoricalEmission):
        return np.eye(3, dtype=np.float32)[rng.integers(0, 3, [BATCH, STEPS])]
    return (FAR * rng.standard_normal([BATCH, STEPS, 3])).astype(np.float32)


PAIRS = list(itertools.product(models.VECTOR_EMISSIONS, registry.names("posterior")))
FEW = [pair for pair in PAIRS if "gaussian" in pair[:1] or "innovation" in pair]


@pytest.mark.parametrize(
    "emission, posterior", FEW + models.marked([pair for pair in PAIRS if pair not in FEW], [])
)
def test_no_gradient_is_nan(emission, posterior):
    """In 20 draws each, of the bound in closed form and of its log weights."""
    check(emission, posterior)


def test_no_gradient_is_nan_in_xla():
    """Bernoulli pixels under a flow ended in NaN after 56 epochs of the compiled step."""
    check("bernoulli", "iaf", jit_compile=True)


def check(emission, posterior, jit_compile=False):
    emission = registry.class_of("emission", emission)(hidden_units=())
    reach = {"receptive_field": 4} if posterior == "trajectory_iaf" else {}
    posterior = registry.class_of("posterior", posterior)(hidden_units=(8,), **reach)
    transition = registry.class_of("transition", "mlp")(hidden_units=(8,))
    model = StateSpaceModel((3,), 1, 2, transition, emission)
    recognition = RecognitionModel((3,), 1, 2, posterior, encoder="filter")
    controls = tf.random.stateless_normal([BATCH, STEPS - 1, 1], [0, 1])

    def loss(batch, seed, closed_form):
        terms = bounds.terms(model, recognition, batch, 1, seed, closed_form)
        return tf.reduce_sum(terms.nll + terms.kl)

    loss(data.Batch(tf.zeros([BATCH, STEPS, 3]), controls), [0, 1], True)
    weights = [*model.trainable_variables, *recognition.trainable_variables]

    @tf.function(jit_compile=jit_compile, autograph=False)
    def gradients(x, seed):
        found = []
        for closed_form in [True, False]:
            with tf.GradientTape() as tape:
                tape.watch([x, controls])
                value = loss(data.Batch(x, controls), seed, closed_form)
            found.append(
                (
                    value,
                    *tape.gradient(value, [x, controls, *weights], unconnected_gradients="zero"),
                )
            )
        return tf.nest.flatten(tf.nest.map_structure(tf.convert_to_tensor, found))

    for seed in range(NUM_SEEDS):
        extreme_weights(weights, seed)
        x = observations(emission, seed)
        for tensor in gradients(tf.constant(x), tf.constant([0, seed])):
            assert np.all(np.isfinite(tensor)), f"seed {seed}, shape {tensor.shape}"
