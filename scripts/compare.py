"""Compares posteriors over several seeds at an equal number of updates, and what they cost."""

import dataclasses

from tfp_dvbf.experiments import (
    command_line,
    histories,
    options,
    protocols,
    recipe,
    run_folder,
    tables,
)
from tfp_dvbf.experiments.command_line import option

PROTOCOL = protocols.COMPARISON


@dataclasses.dataclass
class Args:
    """Trains each posterior with each seed by the quick protocol of gaussian; 95 % intervals."""

    posteriors: tuple[str, ...] = option(
        ("gaussian", "innovation", "iaf", "trajectory_iaf", "chain_iaf"),
        "posteriors; -0 leaves out the flows",
        list(protocols.VARIANTS),
    )
    seeds: tuple[int, ...] = option((1, 2, 3, 4, 5), "a run for each seed")
    epochs: int = option(PROTOCOL["epochs"], "epochs of each run")
    data: str = option("data/pendulum", options.DATA)
    output: str = option(
        "runs/compare", "folder to make: a run folder a model and seed, the report"
    )
    rounds: int = option(9, "timings of the cost of each posterior; 0 leaves them out")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    command_line.check_seeds(args.seeds)
    if args.rounds < 0 or args.epochs < 1:
        raise ValueError("`rounds` must not be negative, and `epochs` must be positive.")
    command_line.check_distinct("posteriors", args.posteriors)
    output = command_line.check_output(args.output, args.resume)
    for seed in args.seeds:
        for name in args.posteriors:
            train_one(args, name, seed, output / f"{name}-seed{seed}")
    write_report(args, output)
    print(f"\n{(output / 'report.md').read_text()}")
    print(f"report and run folders: {output}")


def train_one(args, name, seed, folder):
    """Trains one posterior into its run folder."""
    recipe.run(
        protocols.run_options(
            name,
            {**PROTOCOL, "epochs": args.epochs},
            seed=seed,
            data=args.data,
            output=str(folder),
            resume=args.resume,
            verbose=args.verbose,
        )
    )


def write_report(args, output):
    """Writes the table of means and intervals, the lowest KL of any epoch, and the cost."""
    rows = []
    for name in args.posteriors:
        folders = [output / f"{name}-seed{seed}" for seed in args.seeds]
        group = [run_folder.read_json(folder / run_folder.METRICS) for folder in folders]
        lowest = min(histories.lowest_kl(folder) for folder in folders)
        rows.append({**tables.summary(name, group), "lowest_kl": lowest})
    if args.rounds:
        from tfp_dvbf.experiments import startup

        startup.start(seed=1)
        from tfp_dvbf.experiments import timing

        models = {
            name: options.ModelOptions(**protocols.VARIANTS[name]) for name in args.posteriors
        }
        costs = timing.time_cost(models, run_folder.read_splits(args.data), args.rounds)
        rows = [{**row, **costs[row["model"]]} for row in rows]
    protocol = {**PROTOCOL, "epochs": args.epochs}
    run_folder.write_report(output, rows, seeds=args.seeds, protocol=protocol)


if __name__ == "__main__":
    command_line.run(main, Args)
