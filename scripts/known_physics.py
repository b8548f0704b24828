"""What known physics is worth: the pendulum's equations of motion against a learned transition.

In "physics" the transition and the emission are known, in "equations" the transition alone; in
"learned" both are learned.
"""

import dataclasses

import numpy as np

from tfp_dvbf.experiments import (
    command_line,
    options,
    protocols,
    recipe,
    run_folder,
    startup,
    tables,
)
from tfp_dvbf.experiments.command_line import option

# The size of the state, and the classes of `pendulum_physics` that are known.
VARIANTS = {
    "physics": (3, {"transition": "PendulumPhysics", "emission": "PendulumSensors"}),
    "equations": (3, {"transition": "PendulumPhysics"}),
    "learned": (4, {}),
}


@dataclasses.dataclass
class Args:
    """Trains known and learned parts on few and many sequences, all by equally many updates."""

    variants: tuple[str, ...] = option(tuple(VARIANTS), "what is known", list(VARIANTS))
    sizes: tuple[int, ...] = option((10, 50, 500), "training sequences; divisors of all there are")
    seeds: tuple[int, ...] = option((1, 2, 3), "a run for each seed")
    epochs: int = option(protocols.COMPARISON["epochs"], "epochs, each over as many batches")
    data: str = option("data/pendulum", options.DATA)
    output: str = option("runs/known_physics", "folder to make: run folders and the report")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    command_line.check_seeds(args.seeds)
    for name in ["variants", "sizes"]:
        if not getattr(args, name):
            raise ValueError(f"`{name}` must not be empty.")
        command_line.check_distinct(name, getattr(args, name))
    output = command_line.check_output(args.output, args.resume)
    train, validation, test = run_folder.read_splits(args.data)
    for size in args.sizes:
        if size < 1 or len(train) % size:
            raise ValueError(f"`sizes` must divide the {len(train)} sequences; got {size}.")
    startup.start(args.seeds[0])
    rows = []
    for variant in args.variants:
        for size in args.sizes:
            splits = [few(train, size), validation, test]
            metrics = [
                train_one(args, variant, splits, seed, output / f"{variant}-{size}-{seed}")
                for seed in args.seeds
            ]
            row = tables.summary(f"{variant}, {size} sequences", metrics)
            rows.append(row)
    run_folder.write_report(output, rows, seeds=args.seeds, epochs=args.epochs)
    print(f"\n{(output / 'report.md').read_text()}")
    print(f"report and run folders: {output}")


def few(train, size):
    """Returns the first `size` sequences, repeated until they are as many as before."""
    return train[np.arange(len(train)) % size]


def train_one(args, variant, splits, seed, folder):
    """Trains one model into its run folder, unless that is finished; returns its metrics."""
    protocol = {**protocols.COMPARISON, "epochs": args.epochs}
    settings = options.Settings(seed=seed, verbose=args.verbose, **protocol)
    return recipe.train(make_model(variant, seed), splits, folder, settings, resume=args.resume)


def make_model(variant, seed):
    """Returns a `DVBF` whose known parts are those of `variant`; the others are learned."""
    import pendulum_physics

    import tfp_dvbf

    state_dim, known = VARIANTS[variant]
    parts = {kind: getattr(pendulum_physics, name)() for kind, name in known.items()}
    return tfp_dvbf.DVBF(3, 1, state_dim, **parts, seed=seed)


if __name__ == "__main__":
    command_line.run(main, Args)
