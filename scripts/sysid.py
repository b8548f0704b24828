"""Identifies a real system by the protocol of its benchmark, and scores the free run."""

import dataclasses

from tfp_dvbf import registry
from tfp_dvbf.experiments import benchmarks, command_line, options, recipe, run_folder, tables
from tfp_dvbf.experiments.command_line import option

NUM_DRAWS = 200  # Of each model in the free run.


@dataclasses.dataclass
class Args:
    """Trains a model for each seed and their ensemble; writes report.json and report.md."""

    benchmark: str = option("tanks", "which benchmark", list(benchmarks.PROTOCOLS))
    data: str = option("tanks.npz", ".npz file with the arrays that docs/data.md names")
    seeds: tuple[int, ...] = option((1, 2, 3, 4, 5), "a model for each seed; two or more ensemble")
    posterior: str = option("innovation", "posterior of the models", registry.names("posterior"))
    epochs: int = option(0, "epochs of each model; 0 for those of the benchmark")
    state_dim: int = option(4, "size of the latent state")
    output: str = option("runs/sysid", "folder to make: a run folder a seed, the ensemble, reports")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    command_line.check_distinct("seeds", args.seeds)
    if not args.seeds or args.epochs < 0:
        raise ValueError("`seeds` must not be empty, and `epochs` not be negative.")
    output = command_line.check_output(args.output, args.resume)
    records = benchmarks.read(args.benchmark, args.data)
    protocol = benchmarks.PROTOCOLS[args.benchmark]
    from tfp_dvbf.experiments import startup

    startup.start(args.seeds[0])
    tests = {name: log_of([pair], protocol).sequences() for name, pair in records.test.items()}
    splits = splits_of(records.train, protocol)
    models, rows = [], []
    for seed in args.seeds:
        folder = output / f"seed-{seed}"
        models.append(train_one(args, protocol, splits, seed, folder))
        about = {"seed": seed, "seconds": run_folder.training_seconds(folder)}
        rows += score(models[-1], tests, protocol, about)
    if len(models) > 1:
        rows += score(
            ensemble_of(models, output / "ensemble"),
            tests,
            protocol,
            {"seed": f"ensemble of {len(models)}"},
        )
    write_report(args, protocol, rows, output)
    print(f"\n{(output / 'report.md').read_text()}")
    print(f"report, run folders and ensemble: {output}")


def log_of(pairs, protocol):
    """Returns the `Log` of records (y, u)."""
    from tfp_dvbf import Log

    return Log(
        [y[:, None] for y, _ in pairs],
        [u[:, None] for _, u in pairs],
        observation_names=[f"y [{protocol.unit}]"],
        control_names=["u [V]"],
        control_lead=protocol.control_lead,
    )


def splits_of(pairs, protocol):
    """Returns windows of the training records, of their ends, and those again as the test part.

    The test records are scored once, when all models are trained, and decide nothing.
    """
    # Three parts: what the end of a training record loses is less than a window.
    train, validation, _ = log_of(pairs, protocol).split(0.85, 0.14)
    window = min(protocol.window, *(len(record) for record in validation.records))
    validation = validation.windows(window, protocol.stride)
    return train.windows(protocol.window, protocol.stride), validation, validation


def ensemble_of(models, folder):
    """Returns the ensemble of models, saved in `folder`."""
    from tfp_dvbf import Ensemble

    ensemble = Ensemble.of(models)
    if not folder.exists():
        ensemble.save(folder)
    return ensemble


def train_one(args, protocol, splits, seed, folder):
    """Trains the model of one seed into its run folder, unless that is finished; returns it."""
    settings = options.Settings(
        epochs=args.epochs or protocol.epochs,
        learning_rate=2e-3,
        kl_annealing_epochs=20,
        seed=seed,
        verbose=args.verbose,
    )
    model = make_model(args, protocol, seed)
    recipe.train(model, splits, folder, settings, resume=args.resume)
    return run_folder.load_model(folder)


def make_model(args, protocol, seed):
    """Returns a new `DVBF`, the settings of its parts those of the benchmark."""
    from tfp_dvbf import DVBF, layers

    emission_floor, transition_floor = protocol.noise_floors
    return DVBF(
        *(1, 1, args.state_dim),
        posterior=args.posterior,
        transition=layers.MLPTransition((128,), noise_floor=transition_floor),
        emission=layers.GaussianEmission(noise_floor=emission_floor),
        seed=seed,
    )


def score(model, tests, protocol, about):
    """Returns a row for each test record: the scores of the free run of a model or an ensemble."""
    from tfp_dvbf import evaluation

    rows = []
    for record, sequences in tests.items():
        found = evaluation.free_run(model, sequences, protocol.initial_steps, NUM_DRAWS, seed=1)
        scores = {name: found[name] for name in (*tables.SCORES, "intervals")}
        rows.append({**about, "record": record, **scores, "parameters": model.count_params()})
    return rows


def published_rows(protocol):
    """Returns a row for each figure that was published on the benchmark."""
    return [
        {"seed": f"published: {name}", "record": record, "rmse": rmse}
        for name, figures in protocol.published.items()
        for record, rmse in figures.items()
    ]


def write_report(args, protocol, rows, output):
    """Writes `report.json`, and the table of it as `report.md`."""
    rows = [*rows, *published_rows(protocol)]
    about = {"benchmark": args.benchmark, "unit": protocol.unit, "draws": NUM_DRAWS}
    about |= {"posterior": args.posterior, "state_dim": args.state_dim, "seeds": args.seeds}
    about["epochs"] = args.epochs or protocol.epochs
    run_folder.write_json(output / "report.json", {**about, "rows": rows})
    shown = [
        {"model": row["seed"], "record": row["record"], **tables.scores(row)}
        | {"seconds": row.get("seconds") and f"{row['seconds']:.0f}"}
        for row in rows
    ]
    (output / "report.md").write_text(f"{tables.markdown(shown)}\n")


if __name__ == "__main__":
    command_line.run(main, Args)
