"""Learns a pendulum from images, and shows what the latent state knows of angle and velocity."""

import dataclasses
import functools

from tfp_dvbf.experiments import command_line, latent_regression, options, run_folder, tables
from tfp_dvbf.experiments.command_line import option

PUBLISHED = {"r2_sin": 0.961, "r2_cos": 0.982, "r2_velocity": 0.916}  # Karl et al. 2017, pixels.
DEFAULTS = latent_regression.Protocol()


@dataclasses.dataclass
class Args:
    """Trains a model for each seed and regresses the pendulum's state on the latent one."""

    observation: str = option(
        "pixels",
        "images, (cos, sin) of the angle, or the angle",
        list(latent_regression.OBSERVATIONS),
    )
    seeds: tuple[int, ...] = option((1, 2, 3), "a model for each seed")
    state_dim: int = option(3, "size of the latent state")
    epochs: int = option(DEFAULTS.epochs, "epochs of each model, after those of its starts")
    starts: int = option(
        DEFAULTS.starts,
        f"models that train for {DEFAULTS.start_epochs} epochs first, the best of which goes on",
    )
    hidden_steps: float = option(
        DEFAULTS.hidden_steps, "share of the steps that are hidden from the posterior in training"
    )
    scale: float = option(
        DEFAULTS.scale, "noise of a pixel, a fraction of its range; for images only"
    )
    output: str = option("runs/identify", "folder to make: data, a run folder a seed, reports")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    command_line.check_distinct("seeds", args.seeds)
    if not args.seeds or min(args.epochs, args.starts) < 1:
        raise ValueError("`seeds` must not be empty, and `epochs` and `starts` be at least 1.")
    if args.state_dim < 2:
        raise ValueError(f"`state_dim` must be at least 2; got {args.state_dim}.")
    if not 0 <= args.hidden_steps < 1:
        raise ValueError(f"`hidden_steps` must lie in [0, 1); got {args.hidden_steps}.")
    if not args.scale > 0:
        raise ValueError(f"`scale` must be positive; got {args.scale}.")
    output = command_line.check_output(args.output, args.resume)
    splits = collect(args.observation, output / "data")
    from tfp_dvbf.experiments import starts, startup

    startup.start(args.seeds[0])
    rows = []
    for seed in args.seeds:
        folder = output / f"seed-{seed}"
        model = train(args, seed, splits, folder)
        scores = latent_regression.score(model, splits[0], splits[2])
        latent_regression.draw(folder / "figures", model, splits[2])
        seconds = run_folder.training_seconds(folder)
        seconds = seconds and seconds + starts.seconds(starts_of(folder))
        rows.append({"observation": args.observation, "seed": seed, **scores, "seconds": seconds})
        write_report(args, rows, output)
    print(f"\n{(output / 'report.md').read_text()}")
    print(f"report, data and run folders: {output}")


def collect(observation, folder):
    """Returns the splits of the data, which are collected into `folder` unless they are there."""
    from tfp_dvbf import data

    folder.mkdir(parents=True, exist_ok=True)
    for split in latent_regression.SIZES:
        path = folder / f"{split}.npz"
        if not path.exists():
            print(f"collecting {path}", flush=True)
            data.save(path, latent_regression.collect(observation, split))
    return run_folder.read_splits(folder)


def train(args, seed, splits, folder):
    """Trains the best of several starts into its run folder, and returns it."""
    from tfp_dvbf.experiments import recipe, starts

    changed = {name: getattr(args, name) for name in ["epochs", "starts", "hidden_steps", "scale"]}
    protocol = DEFAULTS._replace(**changed)
    settings = options.Settings(
        epochs=protocol.epochs,
        batch_size=protocol.batch_size,
        learning_rate=protocol.learning_rate,
        kl_annealing_epochs=0,
        seed=seed,
        verbose=args.verbose,
    )
    make = functools.partial(
        latent_regression.make_model, args.observation, args.state_dim, protocol=protocol
    )
    short = dataclasses.replace(settings, epochs=protocol.start_epochs)
    seeds = [seed + 1000 * start for start in range(protocol.starts)]
    model = starts.best(make, seeds, splits, short, starts_of(folder), args.resume)
    recipe.train(model, splits, folder, settings, resume=args.resume)
    return run_folder.load_model(folder)


def starts_of(folder):
    """Returns the folder beside a run folder in which its starts are."""
    return folder.with_name(f"{folder.name}-starts")


def write_report(args, rows, output):
    """Writes `report.json`, and the table of it beside the published figures as `report.md`."""
    names = ["state_dim", "hidden_steps", "epochs", "starts"]
    names += ["scale"] * (args.observation == "pixels")
    about = {name: getattr(args, name) for name in names}
    run_folder.write_json(output / "report.json", {**about, "rows": rows})
    published = {"observation": "pixels", "seed": "Karl et al. 2017", **PUBLISHED}
    (output / "report.md").write_text(f"{tables.markdown([*rows, published])}\n")


if __name__ == "__main__":
    command_line.run(main, Args)
