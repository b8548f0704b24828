"""Evaluates a trained model on a data set, beside the baselines that need no model."""

import dataclasses
import os
import pathlib

from tfp_dvbf.experiments import command_line, options, run_folder, tables
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
    import_: tuple[str, ...] = option((), options.IMPORT)


def main(args):
    from tfp_dvbf import data, evaluation
    from tfp_dvbf.data import shards
    from tfp_dvbf.experiments import startup

    if not os.path.exists(args.data):
        raise ValueError(f"`--data` must be an .npz file or a folder; {args.data} does not exist.")
    command_line.check_new_file("json", args.json)
    if args.json:
        table_path = pathlib.Path(args.json).with_suffix(".md")
        if table_path == pathlib.Path(args.json):
            raise ValueError(f"`--json` must not end in .md, as the table does; got {args.json}.")
        command_line.check_new_file("json", table_path)
    folder = os.path.isdir(args.data)
    sequences = shards.Shards(args.data) if folder else data.load(args.data)
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
    )
    table = tables.format_table([metrics, *metrics["baselines"]])
    print(table)
    if args.json:
        run_folder.write_json(args.json, metrics)
        table_path.write_text(table + "\n")


if __name__ == "__main__":
    command_line.run(main, Args)
