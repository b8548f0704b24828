"""Identifies a real system by the protocol of its benchmark, and scores the free run."""

import dataclasses
import shutil

from tfp_dvbf import registry
from tfp_dvbf.experiments import command_line, options, published_records, run_folder, tables
from tfp_dvbf.experiments.command_line import option

NUM_DRAWN, NUM_DRAWS = 1000, 100  # Most time steps, and draws of a model, in a picture.
FIGURES = {
    "free_run": "Free run with its intervals",
    "by_horizon": "Error and coverage of the free run by time step",
    "calibration": "Where observations fell in their forecasts; even where these are calibrated",
}


@dataclasses.dataclass
class Args:
    """Trains a model for each seed and their ensemble; writes report.json and report.md."""

    benchmark: str = option("tanks", "which benchmark", list(published_records.PROTOCOLS))
    data: str | None = option(
        None, ".npz file with the arrays that docs/data.md names; without, nonlinear_benchmarks"
    )
    seeds: tuple[int, ...] = option((1, 2, 3, 4, 5), "a model for each seed, and their ensemble")
    posterior: str = option("innovation", "posterior of the models", registry.names("posterior"))
    epochs: int = option(0, "epochs of each model; 0 for those of the benchmark")
    state_dim: int = option(4, "size of the latent state")
    output: str = option("runs/sysid", "folder to make: a run folder a seed, the ensemble, reports")
    cross_validate: int = option(
        3, "of so many of the seeds, models that leave a block out and forecast it as one; or 0"
    )
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    command_line.check_seeds(args.seeds)
    if args.epochs < 0 or args.cross_validate < 0:
        raise ValueError("`epochs` and `cross_validate` must not be negative.")
    output = command_line.check_output(args.output, args.resume)
    records = published_records.read(args.benchmark, args.data)
    protocol = published_records.PROTOCOLS[args.benchmark]
    from tfp_dvbf.experiments import startup

    startup.start(args.seeds[0])
    from tfp_dvbf.experiments import identification

    log = identification.log_of(records.train, protocol)
    # The tests are scored once, when the models of all seeds are trained; they decide nothing.
    logs = {name: identification.log_of([pair], protocol) for name, pair in records.test.items()}
    known = {name: each.sequences() for name, each in {"training": log, **logs}.items()}
    models, rows = train(args, protocol, log, output), []
    seconds = {seed: run_folder.training_seconds(output / f"seed-{seed}") for seed in models}
    for seed, model in models.items():
        found = identification.score(model, known, protocol.initial_steps)
        rows += rows_of(seed, model, found, seconds[seed])
    if len(models) > 1:  # It is what the pictures show.
        model = ensemble_of(list(models.values()), output / "ensemble")
        found = identification.score(model, known, protocol.initial_steps)
        total = sum(each or 0.0 for each in seconds.values())
        rows += rows_of(f"ensemble of {len(models)}", model, found, total)
    if args.cross_validate:
        rows.append(cross_validate(args, protocol, log, output))
    baselines = identification.baselines(log, known, protocol)
    rows += [row for record in baselines for row in rows_of_baselines(record, baselines[record])]
    for record, scores in found.items():
        draw(record, model, scores, baselines[record], known[record], output)
    write_report(args, protocol, rows, log, output)
    print(f"\n{(output / 'report.md').read_text()}")
    print(f"report, pictures, run folders and ensemble: {output}")
    print(f"report: {output}/report.html")


def train(args, protocol, log, output):
    """Returns models that were trained on all of the training records, by their seeds."""
    from tfp_dvbf.experiments import identification

    models = {}
    for seed in args.seeds:
        model, settings = start(args, protocol, seed)
        folder = output / f"seed-{seed}"
        models[seed] = identification.train(model, log, protocol, settings, folder, args.resume)
    return models


def start(args, protocol, seed):
    """Returns a new model and how it is trained, `options.Settings`."""
    from tfp_dvbf.experiments import identification

    return (
        identification.make_model(protocol, args.posterior, args.state_dim, seed),
        identification.settings_of(protocol, seed, args.epochs, args.verbose),
    )


def cross_validate(args, protocol, log, output):
    """Returns a row of the free runs of blocks, each by models that were trained on the others."""
    from tfp_dvbf.experiments import identification

    ensembles, blocks, seeds = [], [], args.seeds[: args.cross_validate]
    for index in range(identification.NUM_FOLDS):
        models = []
        for seed in seeds:
            model, settings = start(args, protocol, seed)
            folder = output / f"without-{index}-seed-{seed}"
            model, block = identification.train_without_block(
                model, log, index, protocol, settings, folder, args.resume
            )
            models.append(model)
        ensembles.append(identification.as_one(models))
        blocks.append(block)
    found = identification.pooled(ensembles, blocks, protocol.initial_steps)
    name = "single" if len(seeds) == 1 else f"ensemble of {len(seeds)}"
    row = {"seed": f"{name}, on blocks left out", "record": "training"}
    return {**row, **identification.chosen(found)}


def ensemble_of(models, folder):
    """Returns the ensemble of models, saved in `folder` in place of one that is there."""
    from tfp_dvbf import Ensemble

    ensemble = Ensemble.of(models)
    if folder.exists():  # Perhaps of other seeds.
        shutil.rmtree(folder)
    ensemble.save(folder)
    return ensemble


def rows_of(name, model, found, seconds):
    """Returns a row for each record: the scores of the free run of a model or an ensemble.

    The row of the training record shows a model that runs away over the length of a record.
    """
    from tfp_dvbf.experiments import identification

    about = {"seed": name, "seconds": seconds, "parameters": model.count_params()}
    return [
        {**about, "record": record, **identification.chosen(scores)}
        for record, scores in found.items()
    ]


def rows_of_baselines(record, baselines):
    """Returns a row for each forecast of a record that needs no network."""
    from tfp_dvbf.experiments import identification

    return [
        {"seed": row["model"], "record": record, **identification.chosen(row)} for row in baselines
    ]


def draw(record, model, found, baselines, sequences, output):
    """Draws the free run of a model on a record, its errors by time step and its calibration."""
    from tfp_dvbf.experiments import forecast_plots

    x, u = sequences.observations[:, :NUM_DRAWN], sequences.controls[:, : NUM_DRAWN - 1]
    given = found["initial_steps"]
    drawn = model.forecast(x[:, :given], u, NUM_DRAWS, seed=1).observations.numpy()[:, 0]
    forecast_plots.free_run(output / f"free_run_{record}.png", x[0], drawn, given, sequences.spec)
    path = output / f"by_horizon_{record}.png"
    forecast_plots.by_horizon(path, {**found, "baselines": baselines}, "model", sequences.spec)
    forecast_plots.calibration(output / f"calibration_{record}.png", {"free run": found["pit"]})


def published_rows(protocol):
    """Returns a row for each figure that was published on the benchmark."""
    return [
        {"seed": f"published: {name}", "record": record, "rmse": rmse}
        for name, figures in protocol.published.items()
        for record, rmse in figures.items()
    ]


def write_report(args, protocol, rows, log, output):
    """Writes `report.json`, its table as `report.md`, and with the pictures as `report.html`."""
    from tfp_dvbf.experiments import html_report

    rows = [*rows, *published_rows(protocol)]
    about = {"benchmark": args.benchmark, "unit": protocol.unit}
    about |= {"posterior": args.posterior, "state_dim": args.state_dim, "seeds": args.seeds}
    about["epochs"] = args.epochs or protocol.epochs
    run_folder.write_json(output / "report.json", {**about, "rows": rows})
    (output / "report.md").write_text(f"{tables.identification_table(rows)}\n")
    figures = {
        output / f"{kind}_{record}.png": f"{caption}, {record} record."
        for record in dict.fromkeys(row["record"] for row in rows if "parameters" in row)
        for kind, caption in FIGURES.items()
    }
    for seed in args.seeds:
        curve = output / f"seed-{seed}" / "figures" / "loss.png"
        figures[curve] = f"Loss by epoch, seed {seed}; its training record in place of validation."
    title, cells = f"{args.benchmark}: free run", tables.identification_rows(rows)
    train = log.windows(protocol.window)
    html_report.write_table(output / "report.html", title, cells, figures, vars(args), train)


if __name__ == "__main__":
    command_line.run(main, Args)
