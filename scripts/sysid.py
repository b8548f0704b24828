"""Identifies a real system by the protocol of its benchmark, and scores the free run."""

import dataclasses
import pathlib

from tfp_dvbf import registry
from tfp_dvbf.experiments import benchmarks, command_line, options, recipe, run_folder, tables
from tfp_dvbf.experiments.command_line import option

NUM_DRAWS = 200  # Of each model in the free run.
SCORES = ("rmse", "nll", "nll_mixture", "crps", "coverage_50", "coverage_90")


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
    output = pathlib.Path(args.output)
    if output.exists() and not args.resume:
        raise ValueError(f"`--output` must not exist yet without `--resume`; got {output}.")
    records = benchmarks.read(args.benchmark, args.data)
    protocol = benchmarks.PROTOCOLS[args.benchmark]
    from tfp_dvbf.experiments import startup

    startup.start(args.seeds[0])
    from tfp_dvbf import Ensemble

    logs = {name: log_of([pair], protocol) for name, pair in records.test.items()}
    tests = {name: log.sequences() for name, log in logs.items()}
    # Three parts: what the end of a training record loses is less than a window.
    train, validation, _ = log_of(records.train, protocol).split(0.85, 0.14)
    window = min(protocol.window, *(len(record) for record in validation.records))
    train = train.windows(protocol.window, protocol.stride)
    validation = validation.windows(window, protocol.stride)
    splits = [train, validation, validation]  # The test records are scored at the end, here.
    models, rows = [], []
    for seed in args.seeds:
        folder = output / f"seed-{seed}"
        models.append(train_one(args, protocol, splits, seed, folder))
        about = {"seed": seed, "seconds": run_folder.training_seconds(folder)}
        rows += score(models[-1], tests, protocol, about)
    if len(models) > 1:
        ensemble = Ensemble.of(models)
        if not (output / "ensemble").exists():
            ensemble.save(output / "ensemble")
        rows += score(ensemble, tests, protocol, {"seed": f"ensemble of {len(models)}"})
    rows += [
        {"seed": f"published: {name}", "record": record, "rmse": rmse}
        for name, figures in protocol.published.items()
        for record, rmse in figures.items()
    ]
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


def train_one(args, protocol, splits, seed, folder):
    """Trains the model of one seed into its run folder, unless that is finished; returns it."""
    if not run_folder.is_finished(folder):
        print(f"training {args.posterior}, seed {seed}, in {folder}", flush=True)
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
        scores = {name: found[name] for name in SCORES}
        intervals = {"intervals": found["intervals"], "parameters": model.count_params()}
        rows.append({**about, "record": record, **scores, **intervals})
    return rows


def write_report(args, protocol, rows, output):
    """Writes `report.json`, and the table of it as `report.md`."""
    about = {**dataclasses.asdict(args), "unit": protocol.unit, "draws": NUM_DRAWS}
    about = {name: about[name] for name in about if name not in ("data", "output", "resume")}
    run_folder.write_json(output / "report.json", {**about, "rows": rows})
    shown = ("seed", "record", *SCORES, "seconds", "parameters")
    table = tables.markdown([{key: _shown(row.get(key)) for key in shown} for row in rows])
    (output / "report.md").write_text(f"{table}\n")


def _shown(value):
    """Returns a score with three digits, as the table shows it."""
    return f"{value:.3g}" if isinstance(value, float) else value


if __name__ == "__main__":
    command_line.run(main, Args)
