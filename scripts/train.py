"""Trains one model and evaluates it on the test set."""

import dataclasses

from tfp_dvbf.experiments import command_line, hyperparameters, options, recipe, tables
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args(options.RunOptions):
    """Trains one model with `model.fit`, evaluates it on the test set and draws its figures."""

    hyperparameters: str | None = option(
        None, "best.json of tune.py, in place of the options whose values it holds"
    )


def main(args):
    metrics = recipe.run(hyperparameters.with_hyperparameters(args))
    if metrics is not None:  # The chief's, if there are several workers.
        print(tables.format_table([metrics]))
        print(f"\n{tables.forecast_table(metrics)}\n")
        print(f"model, metrics and figures: {args.output}")
        print(f"report: {args.output}/report.html")


if __name__ == "__main__":
    command_line.run(main, Args)
