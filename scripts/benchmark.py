"""Times the training step: graph or XLA, one or many steps an execution."""

import dataclasses
import itertools
import platform
import statistics
import time

from tfp_dvbf import arguments, runs
from tfp_dvbf.arguments import option

STEPS_PER_EXECUTION = (1, 32)


@dataclasses.dataclass
class Args:
    """Times a training step at the poster's sizes; all ways interleaved in one process."""

    data: str = option("data/pendulum", "folder of generate_data.py, or one .npz file")
    posteriors: tuple[str, ...] = option(
        ("gaussian", "chain_iaf"), "models to time", ["gaussian", "chain_iaf"]
    )
    batch_size: int = option(16, "sequences a batch")
    rounds: int = option(15, "timings of each way, 32 steps each")
    json: str | None = option(None, "file to write the timings to")


def main(args):
    from tfp_dvbf import runtime

    if args.rounds < 1 or args.batch_size < 1:
        raise ValueError("`rounds` and `batch_size` must be positive.")
    train = runs.read_splits(args.data)[0]
    device = runtime.start(seed=1)
    results = [time_posterior(name, train, args) for name in args.posteriors]
    if args.json:
        runs.write_json(
            args.json, {"device": device, "cpu": platform.machine(), "results": results}
        )


def time_posterior(name, train, args):
    """Returns the median milliseconds a step of every way, and how the default compares."""
    ways = {
        (jit_compile, steps): training(name, train, args.batch_size, jit_compile, steps)
        for jit_compile, steps in itertools.product([False, True], STEPS_PER_EXECUTION)
    }
    samples = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, step in ways.items():
            samples[way].append(1e3 * step())
    medians = {way: statistics.median(values) for way, values in samples.items()}
    default = medians[default_way(name, train)]
    labels = {way: f"{'XLA' if way[0] else 'graph'}, {way[1]} a call" for way in ways}
    print(f"\n{name}: milliseconds a training step, batch {args.batch_size}, median")
    for way, value in medians.items():
        chosen = "  (default)" if way == default_way(name, train) else ""
        print(f"  {labels[way]:<18}{value:7.1f}{chosen}", flush=True)
    return {
        "posterior": name,
        "batch_size": args.batch_size,
        "milliseconds": {labels[way]: value for way, value in medians.items()},
        "default_over_best": default / min(medians.values()),
    }


def make_model(name, train):
    import tfp_dvbf

    dims = {"observation_dim": train.observations.shape[2], "control_dim": train.controls.shape[2]}
    return tfp_dvbf.DVBF(**dims, state_dim=4, posterior=name, seed=1)


def default_way(name, train):
    """Returns (jit_compile, steps_per_execution) of a model compiled without saying."""
    model = make_model(name, train)
    model.compile()
    return model.jit_compile, 1


def training(name, train, batch_size, jit_compile, steps_per_execution):
    """Returns a function that trains 32 steps and returns the seconds a step."""
    import tf_keras

    import tfp_dvbf

    model = make_model(name, train)
    dataset = tfp_dvbf.as_dataset(train[: len(train) - len(train) % batch_size], batch_size, seed=1)
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
    arguments.run(main, Args)
