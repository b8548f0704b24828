"""This package as a program of the benchmark: the training step that `fit` takes."""

import functools
import itertools
import math

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_dvbf import data, errors, feeding
from tfp_dvbf.data import batching, environments
from tfp_dvbf.experiments import options, recipe
from tfp_dvbf.experiments.benchmarking import agreement, handed_over
from tfp_dvbf.layers import philox

FEEDS = "batch", "batches", "sequences"
WAYS = {"xla": (True, 1), "graph": (False, 1), "xla_32": (True, 32)}
LEARNING_RATE = 1e-3
CLIPNORM = 10.0  # Of the gradient of each weight.
VALIDATION = 1000  # What is added to the seed of the data of fresh sequences.
NUM_DRAWS = 10  # Generated trajectories of each sequence by which a model is judged.


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


def make_model(posterior, hidden_units, observation_dim, control_dim, seed=1):
    """Returns a new model, the same one at every call."""
    model_options = options.ModelOptions(posterior=posterior, hidden_units=hidden_units or None)
    if hidden_units:
        model_options.flow_units = hidden_units
    shapes = np.zeros([1, 2, observation_dim]), np.zeros([1, 1, control_dim])
    return recipe.make_model(model_options, data.Sequences(*shapes), seed)


def write(
    path, posterior, batch_size, num_steps, hidden_units=0, num_batches=4, seed=1, window=None
):
    """Writes the `agreement.Reference` of a posterior on the pendulum to an .npz file.

    Args:
      path: The file.
      posterior: Name of the posterior.
      batch_size: Sequences a batch.
      num_steps: Time steps T of a sequence.
      hidden_units: Width of all hidden layers; 0 for the package's own.
      num_batches: Batches of an epoch.
      seed: Seed of the data and the weights.
      window: Time steps of the windows that the sequences are cut into; a batch has those of
        `batch_size` sequences. None for whole sequences.
    """
    arrays = standardised(pendulum(num_batches * batch_size, num_steps, seed))
    cut = data.Sequences(*arrays).windows(window or num_steps)
    observations, controls = (
        array.reshape(num_batches, -1, *array.shape[1:])
        for array in (cut.observations, cut.controls)
    )
    dims = observations.shape[-1], controls.shape[-1]
    model = make_model(posterior, hidden_units, *dims, seed=seed)
    batch = data.Batch(tf.constant(observations[0]), tf.constant(controls[0]))
    noise_seed = model.replica_seed(0)
    state_dim = model.state_space_model.spec.state_dim
    noise = philox.normal([*observations.shape[1:3], state_dim], noise_seed)
    weights = handed_over.named_weights(model)

    @tf.function
    def differentiate():
        with tf.GradientTape() as tape:
            terms = model.terms(batch, noise_seed)
            loss = tf.reduce_sum(terms.nll + terms.kl) / math.prod(observations.shape[1:3])
        return loss, tf.linalg.global_norm(tape.gradient(loss, model.trainable_variables))

    loss, gradient_norm = differentiate()
    found = agreement.Reference(
        posterior=posterior,
        hidden_units=hidden_units,
        seed=seed,
        observations=observations,
        controls=controls,
        noise=noise.numpy(),
        weights={name: weight.numpy() for name, weight in weights.items()},
        masks=handed_over.flow_masks(model.recognition_model.posterior),
        constants=handed_over.constants(model),
        loss=float(loss),
        gradient_norm=float(gradient_norm),
    )
    agreement.save(path, found)


@functools.cache
def pendulum(num_sequences, num_steps, seed):
    """Returns observations, [sequence, time, dx], and controls, [sequence, time - 1, du]."""
    sequences = environments.collect(
        "Pendulum-v1", num_sequences, num_steps, seed=seed, max_episode_steps=num_steps
    )
    return sequences.observations, sequences.controls


def standardised(arrays, like=None):
    """Returns observations and controls in the mean and spread of others, or of their own."""
    return [
        ((array - other.mean((0, 1))) / other.std((0, 1))).astype(np.float32)
        for array, other in zip(arrays, arrays if like is None else like)
    ]


def prepare(way, path, schedule=None, feed=None):
    """Takes the first training step on a reference; returns an `agreement.Training`.

    XLA draws other numbers from the same seed, and then the loss is not that of the reference.

    Args:
      way: One of `WAYS`.
      path: That of the reference.
      schedule: Arguments of an `agreement.Schedule`; None trains at a constant rate.
      feed: One of `FEEDS`, see `dataset_of`; None for "sequences" by a schedule, else "batches".
    """
    tf_keras.backend.clear_session()
    about = agreement.load(path)
    jit_compile, steps_per_call = WAYS[way]
    feed = feed or ("sequences" if schedule else "batches")
    errors.check_choice("feed", feed, FEEDS)
    rate, beta_2 = LEARNING_RATE, agreement.BETA_2
    if schedule:
        schedule = agreement.Schedule(**schedule)
        rate = tf_keras.optimizers.schedules.CosineDecay(
            schedule.learning_rate, schedule.num_updates
        )
        beta_2 = schedule.beta_2
    model = model_of(about)
    optimizer = tf_keras.optimizers.Adam(rate, beta_2=beta_2, clipnorm=CLIPNORM)
    model.compile(optimizer, jit_compile=jit_compile, steps_per_execution=steps_per_call)
    batches, train = iter(dataset_of(about, feed, model.rules)), model.make_train_function()
    loss = float(train(batches)["loss"])
    steps = itertools.count(1, steps_per_call)

    def run(count):
        for step in itertools.islice(steps, -(-count // steps_per_call)):
            if schedule:
                model.kl_weight.assign(schedule.kl_weight(step))
            logs = train(batches)
        float(logs["loss"])

    weights = functools.partial(handed_over.named_weights, model)
    return agreement.Training({} if jit_compile else {"loss": loss}, run, weights)


def dataset_of(about, feed, rules):
    """Returns a `tf.data.Dataset` without end of the batches of a reference.

    Args:
      about: `agreement.Reference`.
      feed: "batch" for the first one over and over, "batches" for all in their order, "sequences"
        for `as_dataset`, shuffled and checked as `fit` does it.
      rules: The `rules` of the model.
    """
    arrays = {"observations": about.observations, "controls": about.controls}
    if feed == "sequences":
        flat = (array.reshape(-1, *array.shape[2:]) for array in arrays.values())
        batch_size = about.observations.shape[1]
        dataset = batching.as_dataset(data.Sequences(*flat), batch_size, about.seed)
        return feeding.checked(rules, dataset).repeat()
    dataset = tf.data.Dataset.from_tensor_slices(arrays)
    if feed == "batch":
        dataset = dataset.take(1).cache()
    return dataset.repeat().prefetch(2)


def model_of(about):
    """Returns a model with the weights of a reference."""
    dims = about.observations.shape[-1], about.controls.shape[-1]
    model = make_model(about.posterior, about.hidden_units, *dims, about.seed)
    for name, weight in handed_over.named_weights(model).items():
        weight.assign(about.weights[name])
    return model


def judge(path, weights, trained_on, num_sequences):
    """Returns the error of what a model with given weights generates on fresh sequences.

    Args:
      path: That of the reference the model has been trained on.
      weights: Path of an .npz file of its weights.
      trained_on: Number and time steps of the sequences of the reference, before they were cut
        into windows.
      num_sequences: Number of fresh ones, of as many time steps, the same at every call.

    Returns:
      `mae_sampled`, as `evaluation.evaluate` has it, in the unit of the data.
    """
    model, about = judged(path)
    scale, x, u = fresh(about.seed, tuple(trained_on), num_sequences)
    with np.load(weights) as found:
        for name, weight in handed_over.named_weights(model).items():
            weight.assign(found[name])
    drawn = model.generate(u, x[:, :1], num_samples=NUM_DRAWS, seed=1).observation_mean
    return {"mae_sampled": float(np.mean(np.abs(drawn - x) * scale))}


@functools.cache
def judged(path):
    """Returns the model of a reference, and the reference."""
    about = agreement.load(path)
    return model_of(about), about


@functools.cache
def fresh(seed, trained_on, num_sequences):
    """Returns the spread of the observations trained on, and fresh ones with their controls."""
    train = pendulum(*trained_on, seed)
    arrays = standardised(pendulum(num_sequences, trained_on[1], seed + VALIDATION), like=train)
    return train[0].std((0, 1)), *arrays
