"""Learns a pendulum from images, and shows what the latent state knows of angle and velocity."""

import dataclasses
import functools

from tfp_dvbf.experiments import command_line, latent_regression, options, run_folder
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
        f"if more than 1, so many models train for {DEFAULTS.start_epochs} epochs first, "
        "and the weights of the best go on",
    )
    hidden_steps: float = option(
        DEFAULTS.hidden_steps, "share of the steps that are hidden from the posterior in training"
    )
    scale: float = option(
        DEFAULTS.scale, "noise of a pixel, a fraction of its range; for images only"
    )
    without: tuple[str, ...] = option(
        (),
        "ingredients to leave out, one at a time, into reports of their own",
        list(latent_regression.ABLATIONS),
    )
    output: str = option("runs/identify", "folder to make: data, a run folder a seed, reports")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    check(args)
    output = command_line.check_output(args.output, args.resume)
    splits = collect(args.observation, output / "data")
    from tfp_dvbf.experiments import startup

    startup.start(args.seeds[0])
    rows = []
    for without in args.without or [None]:
        protocol = protocol_of(args, without)
        for seed in args.seeds:
            folder = output / (f"without-{without}-seed-{seed}" if without else f"seed-{seed}")
            model = train(args, protocol, seed, splits, folder)
            scores = latent_regression.score(model, splits[0], splits[2])
            latent_regression.draw(folder / "figures", model, splits[2])
            about = {"observation": args.observation, "without": without}
            about |= {"state_dim": args.state_dim, "seed": seed}
            rows.append({**about, **scores, "seconds": seconds_of(folder)})
            write_report(args, rows, output)
    print(f"\n{(output / name_of(args)).with_suffix('.md').read_text()}")
    print(f"report, data and run folders: {output}")


def check(args):
    """Raises ValueError if an option is out of its range."""
    command_line.check_choices(args)
    command_line.check_seeds(args.seeds)
    command_line.check_distinct("without", args.without)
    if min(args.epochs, args.starts) < 1:
        raise ValueError("`epochs` and `starts` must be at least 1.")
    if args.state_dim < 2:
        raise ValueError(f"`state_dim` must be at least 2; got {args.state_dim}.")
    if not 0 <= args.hidden_steps < 1:
        raise ValueError(f"`hidden_steps` must lie in [0, 1); got {args.hidden_steps}.")
    if not 0 < args.scale < 1:
        raise ValueError(f"`scale` must lie in (0, 1), a fraction of the range; got {args.scale}.")
    if args.observation != "pixels" and args.scale != DEFAULTS.scale:
        raise ValueError(f"`scale` is for the observation pixels alone; got {args.observation}.")
    whole = protocol_of(args)
    for without in args.without:
        if protocol_of(args, without) == whole:
            raise ValueError(f"`without` must leave something out; {without} is out already.")
    if args.observation != "pixels" and "constant_scale" in args.without:
        raise ValueError(f"constant_scale is of the observation pixels; got {args.observation}.")


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


def protocol_of(args, without=None):
    """Returns the `Protocol` of the options, less an ingredient of it if one is named."""
    changed = {name: getattr(args, name) for name in ["epochs", "starts", "hidden_steps", "scale"]}
    ablation = {} if without is None else latent_regression.ABLATIONS[without]
    return DEFAULTS._replace(**{**changed, **ablation})


def train(args, protocol, seed, splits, folder):
    """Trains one model into its run folder, unless that is finished; returns it."""
    from tfp_dvbf.experiments import recipe

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
    model = make(seed)
    config = options.model_config(model, settings, run_folder.data_hash(splits))
    config["starts"] = protocol.starts
    if protocol.starts > 1 and not run_folder.is_finished(folder):
        model = best_start(args.resume, protocol, make, splits, settings, folder)
    recipe.train(model, splits, folder, settings, config=config, resume=args.resume)
    return run_folder.load_model(folder)


def best_start(resume, protocol, make, splits, settings, folder):
    """Returns the model of a few epochs that is to be trained on."""
    from tfp_dvbf.experiments import starts

    short = dataclasses.replace(settings, epochs=protocol.start_epochs)
    seeds = starts.seeds_of(settings.seed, protocol.starts)
    return starts.best(make, seeds, splits, short, starts_of(folder), resume)


def starts_of(folder):
    """Returns the folder beside a run folder in which its starts are."""
    return folder.with_name(f"{folder.name}-starts")


def seconds_of(folder):
    """Returns how long a run and its starts took, or None where that is not known."""
    from tfp_dvbf.experiments import starts

    seconds = run_folder.training_seconds(folder)
    if seconds is None or not starts_of(folder).exists():
        return seconds
    return seconds + sum(row["seconds"] for row in starts.rows_of(starts_of(folder)))


def name_of(args):
    """Returns the name of the report, one of ablations has its own."""
    return "without.json" if args.without else "report.json"


def write_report(args, rows, output):
    """Writes the report and, ending in .md, the table of it beside the published figures."""
    names = ["hidden_steps", "epochs", "starts"]
    if args.observation == "pixels":
        names.append("scale")
    path = output / name_of(args)
    run_folder.write_json(path, {**{name: getattr(args, name) for name in names}, "rows": rows})
    published = {"observation": "pixels", "seed": "Karl et al. 2017", **PUBLISHED}
    path.with_suffix(".md").write_text(f"{latent_regression.table([*rows, published])}\n")


if __name__ == "__main__":
    command_line.run(main, Args)
