"""Trains the recommended model, sets it beside the others' published results, draws a picture."""

import dataclasses
import pathlib

from tfp_dvbf.experiments import command_line, options, protocols, recipe, run_folder, tables
from tfp_dvbf.experiments.command_line import option

PUBLISHED = pathlib.Path(__file__).parent.parent / "docs" / "results" / "compare.json"
COLUMNS = ("model", "seeds", "mae_sampled", "mae_mean", "elbo", "iwae_64", "updates", "seconds")


@dataclasses.dataclass
class Args:
    """Trains the recommended model on the pendulum: a table and a picture within minutes."""

    data: str = option("data/pendulum", options.DATA)
    output: str = option("runs/demo", "run folder to make")
    seed: int = option(1, "seed of weights, noise and shuffling")
    epochs: int = option(protocols.DEMO["epochs"], "epochs")
    window: int = option(
        protocols.DEMO["window"],
        "time steps of its training windows; 0 for whole sequences",
    )
    resume: bool = option(False, "continue in --output; a finished run is shown again")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    output = pathlib.Path(args.output)
    protocol = {**protocols.DEMO, "epochs": args.epochs, "window": args.window}
    others = {"data": args.data, "seed": args.seed, "output": args.output, "resume": args.resume}
    run = protocols.run_options(protocols.RECOMMENDED, protocol, verbose=args.verbose, **others)
    metrics = recipe.run(run)
    picture = draw(output, run_folder.read_splits(args.data)[2])
    print(f"\n{comparison(metrics)}")
    print(f"picture: {picture}")


def comparison(metrics):
    """Returns the table of this run and of the published ones."""
    own = {**metrics, "model": f"{protocols.RECOMMENDED}, this run", "seeds": 1}
    rows = [own, *run_folder.read_json(PUBLISHED)["rows"]]
    return tables.format_table([{key: row.get(key) for key in COLUMNS} for row in rows])


def draw(output, test):
    """Draws a true and a generated trajectory into a finished run folder; returns the file."""
    from tfp_dvbf.experiments import plots

    figures = output / "figures"
    if not plots.is_pendulum(test.spec):
        return figures / "observations.png"
    picture = figures / "pendulum.gif"
    if not picture.exists():
        from tfp_dvbf.experiments import report

        report.animate(picture, run_folder.load_model(output), test)
    return picture


if __name__ == "__main__":
    command_line.run(main, Args)
