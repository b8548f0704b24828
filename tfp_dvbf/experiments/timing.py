"""What a model costs: the time of a training step and of drawing from its posterior."""

import statistics
import time

import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import data
from tfp_dvbf.experiments import recipe
from tfp_dvbf.layers import philox

STEPS = 32  # Training steps that are timed together.


def time_cost(models, splits, rounds, num_draws=128):
    """Returns the median milliseconds of a training step and of drawing `num_draws` trajectories.

    Args:
      models: Names mapped to `ModelOptions`; all models are timed in turns.
      splits: Training, validation and test set.
      rounds: Timings of each.
      num_draws: Trajectories drawn.

    Returns:
      Names mapped to `training_ms`, a step of 16 sequences by the default way, and
      `sampling_ms`, `num_draws` trajectories from the posterior.
    """
    batch_size = min(16, len(splits[0]))
    functions = {}
    for name, options in models.items():
        model = recipe.make_model(options, splits[0], seed=1)
        functions[name, "training_ms"] = training(model, splits[0], batch_size)
        functions[name, "sampling_ms"] = sampling(options, splits[2], num_draws)
    medians = in_turns(functions, rounds)
    return {
        name: {kind: medians[name, kind] for kind in ["training_ms", "sampling_ms"]}
        for name in models
    }


def in_turns(functions, rounds):
    """Returns the median milliseconds of functions that return seconds, called in turns.

    Args:
      functions: Keys mapped to functions.
      rounds: Calls of each.
    """
    samples = {key: [] for key in functions}
    for _ in range(rounds):
        for key, function in functions.items():
            samples[key].append(1e3 * function())
    return {key: statistics.median(values) for key, values in samples.items()}


def training(model, train, batch_size, jit_compile=True, steps_per_execution=1):
    """Returns a function that trains a new model `STEPS` steps and returns the seconds a step."""
    dataset = tfp_dvbf.as_dataset(train, batch_size, seed=1).take(len(train) // batch_size)
    model.adapt(dataset)
    model.compile(
        tf_keras.optimizers.Adam(1e-3, clipnorm=10.0),
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    batches = iter(dataset.repeat())
    train_function = model.make_train_function()

    def run():
        start = time.perf_counter()
        for _ in range(STEPS // steps_per_execution):
            logs = train_function(batches)
        float(logs["loss"])
        return (time.perf_counter() - start) / STEPS

    run()
    return run


def sampling(options, sequences, num_draws):
    """Returns a function that draws posterior trajectories of one sequence, timed in seconds."""
    model = recipe.make_model(options, sequences, seed=1)
    one = sequences[:1]
    batch = data.Batch(tf.constant(one.observations), tf.constant(one.controls))
    draw = tf.function(
        lambda noise: (
            model.recognition_model.sample(model.state_space_model, batch, noise, num_draws).states
        ),
        jit_compile=True,
    )
    noise = philox.normal(
        [num_draws, one.observations.shape[1], model.state_space_model.spec.state_dim], [0, 1]
    )

    def run():
        start = time.perf_counter()
        draw(noise).numpy()
        return time.perf_counter() - start

    run()
    return run
