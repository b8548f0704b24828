"""Times training and sampling: graph or XLA, one or many steps an execution, each posterior."""

import dataclasses
import itertools
import platform
import time

from tfp_dvbf import registry
from tfp_dvbf.experiments import command_line, options, recipe, run_folder
from tfp_dvbf.experiments.command_line import option

STEPS_PER_EXECUTION = (1, 32)


@dataclasses.dataclass
class Args:
    """Times a training step at the poster's sizes; all ways interleaved in one process."""

    data: str = option("data/pendulum", options.DATA)
    posteriors: tuple[str, ...] = option(
        registry.names("posterior"), "models to time", list(registry.names("posterior"))
    )
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
        saved_model.export(
            recipe.make_model(options.ModelOptions(posterior="iaf"), test, seed=1),
            f"{folder}/model",
        )
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
        "observed": tf.ones([len(sequences)]),
        "seed": seed,
    }
    names = ["particles", "log_weights", "step"]
    belief = signatures["filter_init"](
        initial_observations=tf.constant(sequences.observations[:, :1]),
        num_particles=tf.constant(num_particles),
        seed=seed,
    )

    def step():
        start = time.perf_counter()
        signatures["filter_step"](**{name: belief[name] for name in names}, **frame)[
            "log_evidence"
        ].numpy()
        return time.perf_counter() - start

    return step


def time_posterior(name, train, args):
    """Returns the median milliseconds a step of every way, and how the default compares."""
    from tfp_dvbf.experiments import timing

    ways = {
        way: timing.training(make_model(name, train), train, args.batch_size, *way)
        for way in itertools.product([False, True], STEPS_PER_EXECUTION)
    }
    medians = timing.in_turns(ways, args.rounds)
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


def make_model(name, train):
    """Returns a new model with a posterior."""
    return recipe.make_model(options.ModelOptions(posterior=name), train, seed=1)


def default_way(name, train):
    """Returns (jit_compile, steps_per_execution) of a model compiled without saying."""
    model = make_model(name, train)
    model.compile()
    return model.jit_compile, 1


if __name__ == "__main__":
    command_line.run(main, Args)
