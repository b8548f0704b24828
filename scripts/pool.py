"""Makes one forecast of models that train.py has trained with several seeds, and reports it."""

import dataclasses

from tfp_dvbf.experiments import command_line, options, recipe, run_folder, tables
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args:
    """Pools models as an ensemble; leaves it in --output with metrics.json and report.html."""

    models: tuple[str, ...] = option((), "run folders of train.py, two or more")
    data: str = option("data/mine", f"{options.DATA}, whose test set is forecast")
    output: str = option("runs/ensemble", "folder to make: the ensemble, its metrics, its report")
    initial_steps: int | None = option(
        None, "time steps that a free run is given; without, those that the models start from"
    )
    seed: int = option(1, "seed of the draws")
    import_: tuple[str, ...] = option((), options.IMPORT)


def main(args):
    if len(args.models) < 2:
        raise ValueError(f"`models` must name two run folders or more; got {len(args.models)}.")
    command_line.check_distinct("models", args.models)
    output = command_line.check_output(args.output)
    train, _, test = run_folder.read_splits(args.data)
    for path in args.models:
        recipe.check_columns(path, "--data", test)
    from tfp_dvbf.experiments import startup

    startup.start(args.seed)
    command_line.import_modules(args.import_)
    from tfp_dvbf import Ensemble, evaluation
    from tfp_dvbf.experiments import html_report

    ensemble = Ensemble.of([run_folder.load_model(path) for path in args.models])
    given = {"seed": args.seed, "initial_steps": args.initial_steps, "train": train}
    metrics = evaluation.report(ensemble, test, **given)
    ensemble.save(output)
    (output / "figures").mkdir()
    run_folder.write_json(output / run_folder.ARGS, vars(args))
    run_folder.write_json(output / run_folder.METRICS, metrics)
    html_report.write_run(ensemble, output, test, metrics, train)
    print(tables.forecast_table(metrics))
    print(f"ensemble and metrics: {output}")
    print(f"report: {output / 'report.html'}")


if __name__ == "__main__":
    command_line.run(main, Args)
