"""This package as a program of the benchmark: the training step that `fit` takes."""

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_dvbf import data
from tfp_dvbf.data import environments
from tfp_dvbf.experiments import options, recipe
from tfp_dvbf.experiments.benchmarking import reference
from tfp_dvbf.layers import networks
from tfp_dvbf.posteriors import innovation

WAYS = {"xla": (True, 1), "graph": (False, 1), "xla_32": (True, 32)}
LEARNING_RATE = 1e-3
CLIPNORM = 10.0  # Of the gradient of each weight.
NUM_BATCHES = 4
# The weights of a MADE with one hidden layer, in their order.
MADE = ("states/kernel", "states/bias", "context/kernel", "parameters/kernel", "parameters/bias")


def start(threads, device):
    """Starts TensorFlow on a device; returns its version and the device."""
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu":
        if not gpus:
            raise ValueError("`device` must be cpu, since TensorFlow sees no GPU; got gpu.")
        tf.config.experimental.enable_tensor_float_32_execution(False)
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return {"version": tf.__version__, "device": device}


def make_model(posterior, hidden_units, observation_dim, control_dim):
    """Returns a new model, the same one at every call."""
    model_options = options.ModelOptions(posterior=posterior, hidden_units=hidden_units or None)
    if hidden_units:
        model_options.flow_units = hidden_units
    shapes = np.zeros([1, 2, observation_dim]), np.zeros([1, 1, control_dim])
    return recipe.make_model(model_options, data.Sequences(*shapes), seed=1)


def write(path, posterior, batch_size, num_steps, hidden_units=0):
    """Writes the `reference.Reference` of a posterior on the pendulum to an .npz file.

    Args:
      path: The file.
      posterior: "gaussian", "innovation" or "iaf".
      batch_size: Sequences a batch.
      num_steps: Time steps T of a sequence.
      hidden_units: Width of all hidden layers; 0 for the package's own.
    """
    observations, controls = pendulum(batch_size, num_steps)
    model = make_model(posterior, hidden_units, observations.shape[-1], controls.shape[-1])
    batch = data.Batch(tf.constant(observations[0]), tf.constant(controls[0]))
    seed = model.replica_seed(0)
    state_dim = model.state_space_model.spec.state_dim
    noise = tf.random.stateless_normal([batch_size, num_steps, state_dim], seed)
    weights = named_weights(model)

    @tf.function
    def differentiate():
        with tf.GradientTape() as tape:
            terms = model.terms(batch, seed)
            loss = tf.reduce_sum(terms.nll + terms.kl) / (batch_size * num_steps)
        return loss, tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables))

    loss, gradient_norm = differentiate()
    found = reference.Reference(
        posterior=posterior,
        hidden_units=hidden_units,
        observations=observations,
        controls=controls,
        noise=noise.numpy(),
        weights={name: weight.numpy() for name, weight in weights.items()},
        masks=flow_masks(model.recognition_model.posterior),
        constants=constants(model),
        loss=float(loss),
        gradient_norm=float(gradient_norm),
    )
    reference.save(path, found)


def pendulum(batch_size, num_steps):
    """Returns standardised observations and controls, each [batches, batch, time, ...]."""
    sequences = environments.collect(
        "Pendulum-v1", NUM_BATCHES * batch_size, num_steps, seed=1, max_episode_steps=num_steps
    )
    return [
        ((array - array.mean((0, 1))) / array.std((0, 1)))
        .astype(np.float32)
        .reshape(NUM_BATCHES, batch_size, *array.shape[1:])
        for array in (sequences.observations, sequences.controls)
    ]


def prepare(way, path):
    """Takes the first training step on a reference; returns its loss, and what trains on.

    XLA draws other numbers from the same seed, and then the loss is not that of the reference.
    """
    tf_keras.backend.clear_session()
    about = reference.load(path)
    dims = about.observations.shape[-1], about.controls.shape[-1]
    model = make_model(about.posterior, about.hidden_units, *dims)
    jit_compile, steps_per_call = WAYS[way]
    optimizer = tf_keras.optimizers.Adam(LEARNING_RATE, clipnorm=CLIPNORM)
    model.compile(optimizer, jit_compile=jit_compile, steps_per_execution=steps_per_call)
    arrays = {"observations": about.observations, "controls": about.controls}
    batches = iter(tf.data.Dataset.from_tensor_slices(arrays).repeat().prefetch(2))
    train = model.make_train_function()
    loss = float(train(batches)["loss"])
    found = {} if jit_compile else {"loss": loss}

    def run(count):
        for _ in range(-(-count // steps_per_call)):
            logs = train(batches)
        float(logs["loss"])

    return found, run


def constants(model):
    """Returns the `reference.Constants` of a model."""
    return reference.Constants(
        initial_scale=networks.INITIAL_SCALE,
        scale_floor=networks.SCALE_FLOOR,
        transition_floor=model.state_space_model.transition.noise_floor,
        emission_floor=model.state_space_model.emission.noise_floor,
        emission_speed=networks.SCALE_SPEED,
        state_bound=networks.STATE_BOUND,
        gate_bias=innovation.OPEN_GATE,
    )


def named_weights(model):
    """Returns the names of a reference mapped to the variables of a model."""
    generative, recognition = model.state_space_model, model.recognition_model
    posterior = recognition.posterior
    layers = {
        **numbered("transition", generative.transition.network),
        **numbered("emission", generative.emission.network),
        **numbered("encoder", recognition.encoder.network),
        **numbered("initial", recognition.initial_posterior.network),
    }
    if hasattr(posterior, "network"):
        layers |= numbered("posterior", posterior.network)
    else:
        layers |= {"posterior/inputs": posterior.input_layer}
        layers |= {"posterior/states": posterior.state_layer}
        layers |= numbered("posterior/rest", posterior.rest)
    named = {
        f"{name}/{kind}": getattr(layer, kind)
        for name, layer in layers.items()
        for kind in ("kernel", "bias")
        if getattr(layer, kind) is not None
    }
    named |= {"emission/raw_scale": generative.emission.raw_scale, **flow_weights(posterior)}
    if len(named) != len(model.trainable_variables):
        raise ValueError("The benchmark must hand over every weight of the model.")
    return named


def numbered(name, network):
    """Returns the layers of an MLP by names that end in their numbers."""
    return {f"{name}/{index}": layer for index, layer in enumerate(network.layers)}


def flow_weights(posterior):
    """Returns the names of the weights of a posterior's flows, if it has any, mapped to variables.

    The MADE of each has a layer that reads z, one that reads the context, and one that returns the
    parameters.
    """
    chain = getattr(posterior, "flow", None)
    return {
        f"flow/{index}/{name}": weight
        for index, flow in enumerate(chain.flows if chain else [])
        for name, weight in zip(MADE, flow.made.trainable_variables, strict=True)
    }


def flow_masks(posterior):
    """Returns what keeps the kernels of a posterior's flows autoregressive, by their names."""
    return {
        name: weight.constraint(tf.ones_like(weight)).numpy()
        for name, weight in flow_weights(posterior).items()
        if weight.constraint is not None
    }
