"""Evaluates a trained model on a data set, beside the baselines that need no model."""

import dataclasses
import os
import pathlib

from tfp_dvbf.experiments import command_line, options, recipe, run_folder, tables
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args:
    """Evaluates the model of a run folder on a data set."""

    model: str = option("runs/innovation", "run folder of train.py, or a .keras file")
    data: str = option("data/pendulum/test.npz", ".npz file, or a folder of them, of any size")
    json: str | None = option(None, "new file for the metrics; the table goes beside it as .md")
    num_samples: int = option(10, "generated trajectories a sequence")
    seed: int = option(1, "seed of the draws")
    batch_size: int = option(128, "sequences evaluated at a time")
    initial_steps: int | None = option(
        None, "time steps that a free run is given; those that the model starts from"
    )
    train: str | None = option(None, "training set, as --data, to fit the free run's baselines on")
    import_: tuple[str, ...] = option((), options.IMPORT)


def main(args):
    from tfp_dvbf import evaluation
    from tfp_dvbf.experiments import startup

    for name in ["data", "train"]:
        path = getattr(args, name)
        if path is not None and not os.path.exists(path):
            raise ValueError(f"`--{name}` must be an .npz file or a folder; {path} does not exist.")
    command_line.check_new_file("json", args.json)
    if args.json:
        table_path = pathlib.Path(args.json).with_suffix(".md")
        if table_path == pathlib.Path(args.json):
            raise ValueError(f"`--json` must not end in .md, as the table does; got {args.json}.")
        command_line.check_new_file("json", table_path)
    sequences, train = read(args.data), args.train and read(args.train)
    for name, given in {"--data": sequences, "--train": train}.items():
        if given:
            recipe.check_columns(args.model, name, given)
    startup.start(args.seed)
    command_line.import_modules(args.import_)
    model = run_folder.load_model(args.model)
    metrics = evaluation.report(
        model,
        sequences,
        run_folder.training_seconds(args.model),
        num_samples=args.num_samples,
        seed=args.seed,
        batch_size=args.batch_size,
        initial_steps=args.initial_steps,
        train=train,
    )
    table = tables.format_table([metrics, *metrics["baselines"]])
    table = f"{table}\n\n{tables.forecast_table(metrics)}"
    print(table)
    if args.json:
        run_folder.write_json(args.json, metrics)
        table_path.write_text(table + "\n")


def read(path):
    """Returns the `Sequences` of a file or the `Shards` of a folder."""
    from tfp_dvbf import data
    from tfp_dvbf.data import shards

    return shards.Shards(path) if os.path.isdir(path) else data.load(path)


if __name__ == "__main__":
    command_line.run(main, Args)
