"""Times training and sampling: graph or XLA, one or many steps an execution, each posterior."""

import dataclasses
import itertools
import platform
import statistics
import time

from tfp_dvbf import data
from tfp_dvbf.experiments import command_line, run_folder
from tfp_dvbf.experiments.command_line import option

POSTERIORS = ("gaussian", "iaf", "trajectory_iaf", "chain_iaf")
STEPS_PER_EXECUTION = (1, 32)


@dataclasses.dataclass
class Args:
    """Times a training step at the poster's sizes; all ways interleaved in one process."""

    data: str = option("data/pendulum", "folder of generate_data.py, or one .npz file")
    posteriors: tuple[str, ...] = option(POSTERIORS, "models to time", list(POSTERIORS))
    batch_size: int = option(16, "sequences a batch")
    rounds: int = option(15, "timings of each way, 32 steps each")
    streaming_steps: int = option(300, "timings of a streaming step")
    json: str | None = option(None, "new file for the timings")


def main(args):
    from tfp_dvbf.experiments import startup

    if min(args.rounds, args.batch_size, args.streaming_steps) < 1:
        raise ValueError("`rounds`, `batch_size` and `streaming_steps` must be positive.")
    command_line.check_new_file("json", args.json)
    train = run_folder.read_splits(args.data)[0]
    device = startup.start(seed=1).device
    streaming_ms = time_streaming(args.data, args.streaming_steps)  # First: alone in its process.
    results = [time_posterior(name, train, args) for name in args.posteriors]
    if args.json:
        about = {"device": device, "cpu": platform.machine()}
        run_folder.write_json(args.json, {**about, "results": results, "streaming": streaming_ms})


def time_streaming(path, rounds, num_particles=32, streams=(1, 64)):
    """Returns the latency of an exported `iaf` model's `filter_step`, by number of streams.

    Args:
      path: The data, as `run_folder.read_splits` reads them.
      rounds: Steps timed, after as many to warm up.
      num_particles: Particles of each stream.
      streams: Numbers of streams that are stepped together.

    Returns:
      Numbers of streams mapped to `median_ms` and `p99_ms`.
    """
    import tempfile

    import numpy as np

    from tfp_dvbf.serving import saved_model

    test = run_folder.read_splits(path)[2]
    with tempfile.TemporaryDirectory() as folder:
        saved_model.export(make_model({"posterior": "iaf"}, test), f"{folder}/model")
        signatures = saved_model.load_exported(f"{folder}/model").signatures
    latencies = {}
    for count in streams:
        step = streaming(signatures, test[np.arange(count) % len(test)], num_particles)
        times = [1e3 * step() for _ in range(2 * rounds)][rounds:]
        latencies[count] = {
            "median_ms": float(np.median(times)),
            "p99_ms": float(np.quantile(times, 0.99)),
        }
        print(
            f"filter_step, {count} streams of {num_particles} particles: "
            f"{latencies[count]['median_ms']:.2f} ms, 99 % below {latencies[count]['p99_ms']:.2f}",
            flush=True,
        )
    return latencies


def streaming(signatures, sequences, num_particles):
    """Returns a function that steps streams by one frame and returns the seconds it took."""
    import tensorflow as tf

    seed = tf.constant(1)
    frame = {
        "observations": tf.constant(sequences.observations[:, 1]),
        "controls": tf.constant(sequences.controls[:, 0]),
        "present": tf.ones([len(sequences)]),
        "seed": seed,
    }
    names = ["particles", "log_weights", "step"]
    belief = signatures["init"](
        initial_observations=tf.constant(sequences.observations[:, :1]),
        num_particles=tf.constant(num_particles),
        seed=seed,
    )

    def step():
        start = time.perf_counter()
        signatures["filter_step"](**{name: belief[name] for name in names}, **frame)[
            "log_score"
        ].numpy()
        return time.perf_counter() - start

    return step


def time_cost(models, path, rounds, num_draws=128):
    """Returns the median milliseconds of a training step and of drawing `num_draws` trajectories.

    Args:
      models: Names mapped to the arguments of `DVBF`; all models are timed in turns.
      path: The data, as `run_folder.read_splits` reads them.
      rounds: Timings of each.

    Returns:
      Names mapped to `training_ms`, a step of 16 sequences by the default way, and
      `sampling_ms`, `num_draws` trajectories from the posterior.
    """
    from tfp_dvbf.experiments import startup

    splits = run_folder.read_splits(path)
    startup.start(seed=1)
    batch_size = min(16, len(splits[0]))
    functions = {}
    for name, kwargs in models.items():
        functions[name, "training_ms"] = training(kwargs, splits[0], batch_size, True, 1)
        functions[name, "sampling_ms"] = sampling(kwargs, splits[2], num_draws)
    samples = {key: [] for key in functions}
    for _ in range(rounds):
        for key, function in functions.items():
            samples[key].append(1e3 * function())
    medians = {key: statistics.median(values) for key, values in samples.items()}
    return {
        name: {kind: medians[name, kind] for kind in ["training_ms", "sampling_ms"]}
        for name in models
    }


def time_posterior(name, train, args):
    """Returns the median milliseconds a step of every way, and how the default compares."""
    ways = {
        (jit_compile, steps): training(
            {"posterior": name}, train, args.batch_size, jit_compile, steps
        )
        for jit_compile, steps in itertools.product([False, True], STEPS_PER_EXECUTION)
    }
    samples = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, step in ways.items():
            samples[way].append(1e3 * step())
    medians = {way: statistics.median(values) for way, values in samples.items()}
    default = default_way(name, train)
    labels = {way: f"{'XLA' if way[0] else 'graph'}, {way[1]} a call" for way in ways}
    print(f"\n{name}: milliseconds a training step, batch {args.batch_size}, median")
    for way, value in medians.items():
        chosen = "  (default)" if way == default else ""
        print(f"  {labels[way]:<18}{value:7.1f}{chosen}", flush=True)
    return {
        "posterior": name,
        "batch_size": args.batch_size,
        "milliseconds": {labels[way]: value for way, value in medians.items()},
        "default_over_best": medians[default] / min(medians.values()),
    }


def make_model(kwargs, train):
    import tfp_dvbf

    dims = {"observation_dim": train.observation_dim, "control_dim": train.control_dim}
    return tfp_dvbf.DVBF(**dims, state_dim=4, seed=1, **kwargs)


def default_way(name, train):
    """Returns (jit_compile, steps_per_execution) of a model compiled without saying."""
    model = make_model({"posterior": name}, train)
    model.compile()
    return model.jit_compile, 1


def sampling(kwargs, sequences, num_draws):
    """Returns a function that draws posterior trajectories of one sequence, timed in seconds."""
    import tensorflow as tf

    model = make_model(kwargs, sequences)
    one = sequences[:1]
    draw = tf.function(
        lambda noise: (
            model._sample_posterior(
                data.Batch(one.observations, one.controls).repeat(num_draws), noise
            ).states
        ),
        jit_compile=True,
    )
    noise = tf.random.stateless_normal(
        [num_draws, one.observations.shape[1], model.config["state_dim"]], [0, 1]
    )

    def run():
        start = time.perf_counter()
        draw(noise).numpy()
        return time.perf_counter() - start

    run()
    return run


def training(kwargs, train, batch_size, jit_compile, steps_per_execution):
    """Returns a function that trains 32 steps and returns the seconds a step."""
    import tf_keras

    import tfp_dvbf

    model = make_model(kwargs, train)
    dataset = tfp_dvbf.as_dataset(train, batch_size, seed=1).take(len(train) // batch_size)
    model.adapt(dataset)
    model.compile(
        tf_keras.optimizers.Adam(1e-3, clipnorm=10.0),
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    steps = max(STEPS_PER_EXECUTION)
    batches = iter(dataset.repeat())
    train_function = model.make_train_function()

    def run():
        start = time.perf_counter()
        for _ in range(steps // steps_per_execution):
            logs = train_function(batches)
        float(logs["loss"])
        return (time.perf_counter() - start) / steps

    run()
    return run


if __name__ == "__main__":
    command_line.run(main, Args)
