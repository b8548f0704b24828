"""Reproduces the poster: trains both models, sets them beside the baselines, draws its panels."""

import dataclasses
import pathlib

import train

from tfp_dvbf import registry
from tfp_dvbf.experiments import command_line, run_folder
from tfp_dvbf.experiments.command_line import option

# The poster trained 1000 epochs, 600 of them with a rising KL weight, in batches of 16, from
# these initial learning rates. `iaf` needs no long annealing. The quick protocol shows the same in
# minutes.
PROTOCOLS = {
    "poster": {
        "gaussian": {"epochs": 1000, "kl_annealing_epochs": 600, "learning_rate": 5e-4},
        "chain_iaf": {"epochs": 1000, "kl_annealing_epochs": 600, "learning_rate": 1e-3},
        "iaf": {"epochs": 1000, "kl_annealing_epochs": 100, "learning_rate": 4e-3},
        "trajectory_iaf": {"epochs": 1000, "kl_annealing_epochs": 600, "learning_rate": 1e-3},
    },
    "quick": {
        "gaussian": {"epochs": 200, "kl_annealing_epochs": 10, "learning_rate": 4e-3},
        "chain_iaf": {"epochs": 40, "kl_annealing_epochs": 20, "learning_rate": 1e-3},
        "iaf": {"epochs": 200, "kl_annealing_epochs": 10, "learning_rate": 4e-3},
        "trajectory_iaf": {"epochs": 200, "kl_annealing_epochs": 10, "learning_rate": 4e-3},
    },
}


@dataclasses.dataclass
class Args:
    """Trains the poster's two models, evaluates them and draws its panels."""

    protocol: str = option("quick", "quick takes 3 minutes a model, poster 12", ["quick", "poster"])
    posteriors: tuple[str, ...] = option(
        ("gaussian", "chain_iaf"), "models to train", registry.POSTERIORS
    )
    seeds: tuple[int, ...] = option((1,), "a run for each seed")
    data: str = option("data/pendulum", "folder of generate_data.py, or one .npz file")
    shift_controls: bool = option(False, "feed each control one step late, as the poster did")
    output: str = option("runs/quick", "folder to make: a run folder a model and seed, the report")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(2, "Keras' progress: 0 silent, 1 a bar, 2 a line an epoch", [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    output = pathlib.Path(args.output)
    if output.exists() and not args.resume:
        raise ValueError(f"`--output` must not exist yet without `--resume`; got {output}.")
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


def check_finished(args, output):
    """Raises ValueError if `output` holds runs that one report must not set beside these."""
    for path in sorted(output.glob("*-seed*/args.json")):
        config = run_folder.read_json(path)
        expected = PROTOCOLS[args.protocol][config["posterior"]]
        expected = {**expected, "shift_controls": args.shift_controls}
        changed = [name for name in expected if config[name] != expected[name]]
        if changed:
            raise ValueError(f"{path.parent} was started with other arguments: {changed}.")


def train_one(args, posterior, seed, folder):
    """Trains one model into its run folder with `train.py`."""
    train.main(
        train.Args(
            posterior=posterior,
            seed=seed,
            data=args.data,
            shift_controls=args.shift_controls,
            output=str(folder),
            resume=args.resume,
            verbose=args.verbose,
            **PROTOCOLS[args.protocol][posterior],
        )
    )


def write_report(args, output, paths):
    """Draws the poster's panels and writes the table of all finished run folders in `output`."""
    from tfp_dvbf import data, evaluation
    from tfp_dvbf.experiments import tables

    runs_found = {path.parent.name: run_folder.read_json(path) for path in paths}
    order = list(PROTOCOLS[args.protocol])
    metrics = dict(sorted(runs_found.items(), key=lambda item: order.index(item[1]["model"])))
    test = run_folder.read_splits(args.data)[2]
    if args.shift_controls:
        test = data.shift_controls(test)
    (output / "figures").mkdir(exist_ok=True)
    draw_figures(output, metrics, test)
    rows = list(metrics.values())
    rows = [*rows, *tables.medians(rows), *evaluation.baselines(test)]
    run_folder.write_report(
        output, rows, protocol=args.protocol, shift_controls=args.shift_controls
    )


def draw_figures(output, metrics, test, num_draws=50):
    """Draws the first seed of each model side by side."""
    from tfp_dvbf import evaluation
    from tfp_dvbf.experiments import plots, startup

    startup.start()
    names = {}
    for name, values in metrics.items():
        names.setdefault(values["model"], name)
    first, figures = test[:1], output / "figures"
    draws = {
        title: evaluation.generated_means(run_folder.load_model(output / name), first, num_draws)[
            :, 0
        ]
        for title, name in names.items()
    }
    truth = first.observations_or_nan[0]
    panels = {title: (truth, values) for title, values in draws.items()}
    plots.observations(figures / "observations.png", panels, test.spec)
    histories = {
        title: run_folder.read_history(output / name / "history.csv")
        for title, name in names.items()
    }
    plots.loss_curves(figures / "loss.png", histories)
    plots.bound_curves(figures / "reconstruction_and_kl.png", histories)
    curves = {title: metrics[name]["mad_by_horizon"] for title, name in names.items()}
    plots.mad_by_horizon(figures / "mad_by_horizon.png", curves, test.spec)
    if plots.is_pendulum(test.spec):
        plots.angles(figures / "angle.png", panels, test.spec)
        moving = {"ground truth": truth, **{title: values[0] for title, values in draws.items()}}
        plots.pendulum_gif(figures / "pendulum.gif", moving, test.spec)


if __name__ == "__main__":
    command_line.run(main, Args)
