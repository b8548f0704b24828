"""Reproduces the poster: trains both models, sets them beside the baselines, draws its panels."""

import dataclasses

from tfp_dvbf import registry
from tfp_dvbf.experiments import command_line, options, protocols, recipe, run_folder
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args:
    """Trains the poster's two models, evaluates them and draws its panels."""

    protocol: str = option("quick", "quick takes 3 minutes a model, poster 12", ["quick", "poster"])
    posteriors: tuple[str, ...] = option(
        ("gaussian", "chain_iaf"), "models to train", registry.names("posterior")
    )
    seeds: tuple[int, ...] = option((1,), "a run for each seed")
    data: str = option("data/pendulum", options.DATA)
    shift_controls: bool = option(False, "feed each control one step late, as the poster did")
    output: str = option("runs/quick", "folder to make: a run folder a model and seed, the report")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    command_line.check_seeds(args.seeds)
    output = command_line.check_output(args.output, args.resume)
    check_finished(args, output)
    for name in args.posteriors:
        for seed in args.seeds:
            train_one(args, name, seed, output / f"{name}-seed{seed}")
    report, metrics = output / "report.md", sorted(output.glob("*-seed*/metrics.json"))
    if not report.exists() or report.stat().st_mtime < max(
        path.stat().st_mtime for path in metrics
    ):
        write_report(args, output, metrics)
    print(f"\n{report.read_text()}")
    print(f"report, run folders and pictures: {output}, {output / 'figures'}")
    print(f"report: {output / 'report.html'}")


def check_finished(args, output):
    """Raises ValueError if `output` holds runs that one report must not set beside these."""
    for path in sorted(output.glob("*-seed*/args.json")):
        config = run_folder.read_json(path)
        expected = protocols.protocol_of(args.protocol, config["posterior"])
        expected = {**expected, "shift_controls": args.shift_controls}
        changed = [name for name in expected if config[name] != expected[name]]
        if changed:
            raise ValueError(f"{path.parent} was started with other arguments: {changed}.")


def train_one(args, posterior, seed, folder):
    """Trains one model into its run folder."""
    recipe.run(
        protocols.run_options(
            posterior,
            protocols.protocol_of(args.protocol, posterior),
            seed=seed,
            data=args.data,
            shift_controls=args.shift_controls,
            noise_floor=protocols.POSTER_NOISE_FLOOR,
            output=str(folder),
            resume=args.resume,
            verbose=args.verbose,
        )
    )


def write_report(args, output, paths):
    """Draws the poster's panels and writes the table of all finished run folders in `output`."""
    from tfp_dvbf import data, evaluation
    from tfp_dvbf.experiments import html_report, report, startup, tables

    startup.start()
    runs_found = {path.parent: run_folder.read_json(path) for path in paths}
    order = registry.names("posterior")
    metrics = dict(sorted(runs_found.items(), key=lambda item: order.index(item[1]["model"])))
    test = run_folder.read_splits(args.data)[2]
    if args.shift_controls:
        test = data.shift_controls(test)
    first_seeds = {}
    for folder, values in metrics.items():
        first_seeds.setdefault(values["model"], folder)
    report.draw_comparison(output, first_seeds, test)
    rows = list(metrics.values())
    rows = [*rows, *tables.medians(rows), *evaluation.baselines(test)]
    if args.protocol == "poster":
        rows += protocols.POSTER_ROWS
    about = {"protocol": args.protocol, "shift_controls": args.shift_controls}
    run_folder.write_report(output, rows, **about)
    figures = {path: path.stem.replace("_", " ") for path in sorted(output.glob("figures/*.png"))}
    title = f"The poster's models, protocol {args.protocol}"
    html_report.write_table(
        output / "report.html", title, tables.cells(rows), figures, {**about, "data": args.data}
    )


if __name__ == "__main__":
    command_line.run(main, Args)
