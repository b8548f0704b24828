"""Where a flow earns its price: posteriors of a system that shows only how far its state is."""

import dataclasses
import warnings

import numpy as np

from tfp_dvbf import registry
from tfp_dvbf.experiments import command_line, options, recipe, run_folder, tables
from tfp_dvbf.experiments.command_line import option

NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 2000, 100, 300
NUM_SAMPLES = 64  # Draws or particles of the bounds.
FLOW_UNITS = {"affine": (32,), "spline": (64,)}
BATCH_SIZE = 50
ABOUT = ("system", "generative", "epochs", "initial_kl_weight", "num_train_samples", "seeds")
SCORES = ("elbo", "iwae_64", "fivo_64", "model_evidence")  # Of which a report shows the range.


@dataclasses.dataclass
class Args:
    """Trains q, with or without the generative model, and holds its bounds against the truth."""

    system: str = option("range", "range has two dimensions, abs one", ["range", "abs"])
    generative: str = option(
        "known", "known is the system itself, learned is trained with q", ["known", "learned"]
    )
    posteriors: tuple[str, ...] = option(
        ("gaussian", "innovation", "iaf", "trajectory_iaf"),
        "posteriors; iaf is a ladder of flows",
        [name for name in registry.names("posterior") if name != "chain_iaf"],
    )
    affine_flows: tuple[int, ...] = option(
        (1, 2, 4, 8), "numbers of affine flows of iaf", nargs="*"
    )
    spline_flows: tuple[int, ...] = option((1, 2), "numbers of spline flows of iaf", nargs="*")
    initial_posterior: str = option(
        "gaussian", "posterior of z[0]; iaf gives it the flows of an iaf", ["gaussian", "iaf"]
    )
    seeds: tuple[int, ...] = option((1, 2, 3, 4, 5), "a run for each seed")
    num_train_samples: int = option(1, "draws a sequence in training; of two or more the iwae")
    epochs: int = option(150, "epochs of 40 updates each")
    initial_kl_weight: float = option(
        1.0, "KL weight at the start, 1 after two thirds of training; 20 helps splines"
    )
    rounds: int = option(7, "timings of a training step of each model; 0 leaves them out")
    output: str = option("runs/range_only", "folder to make: run folders, picture, report")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    check(args)
    output = command_line.check_output(args.output, args.resume)
    from tfp_dvbf.experiments import startup

    startup.start(args.seeds[0])
    import range_system

    system = range_system.SYSTEMS[args.system]
    sizes = [NUM_TRAIN, NUM_VALIDATION, NUM_TEST]
    splits = [range_system.simulate(system, size, seed) for seed, size in enumerate(sizes)]
    rows, models = train_ladder(args, system, splits, output)
    if args.generative == "known":  # The states of a learned model have other coordinates.
        draw(system, models, splits[2], output)
    write_report(args, rows, output)
    print(f"\n{(output / 'report.md').read_text()}")
    print(f"report and run folders: {output}")


def check(args):
    """Raises ValueError if an option is out of its range."""
    command_line.check_choices(args)
    command_line.check_seeds(args.seeds)
    if not args.posteriors:
        raise ValueError("`posteriors` must not be empty.")
    for name in ["posteriors", "affine_flows", "spline_flows"]:
        command_line.check_distinct(name, getattr(args, name))
    counts = args.epochs, args.num_train_samples, *args.affine_flows, *args.spline_flows
    if min(counts) < 1 or args.rounds < 0:
        raise ValueError(
            "`epochs` and numbers of flows and samples must be positive, `rounds` not negative."
        )
    if not 0 <= args.initial_kl_weight < float("inf"):
        raise ValueError(
            f"`initial_kl_weight` must be 0 or more and finite; got {args.initial_kl_weight}."
        )
    check_flows(args)


def check_flows(args):
    """Raises ValueError if the posterior iaf has no flows, or its options no iaf."""
    if "iaf" in args.posteriors:
        if not args.affine_flows and not args.spline_flows:
            raise ValueError("`affine_flows` or `spline_flows` must not be empty for iaf.")
        return
    for name in ["affine_flows", "spline_flows", "initial_posterior"]:
        if getattr(args, name) != getattr(Args, name):
            raise ValueError(f"`{name}` is for the posterior iaf, which `posteriors` lacks.")


def train_ladder(args, system, splits, output):
    """Trains and scores every model of the ladder, a run folder for each seed.

    Returns:
      The rows of the report, and the models of the first seed by their names.
    """
    exact = evidence(system, splits[1:], output / "exact.json")
    rows, models = [], {}
    for about in ladder(args):
        for seed in args.seeds:
            folder = output / f"{name_of(about)}-seed{seed}"
            model = train_one(args, system, splits, exact[0], about, seed, folder)
            models.setdefault(name_of(about), model)
            first = {"initial_posterior": first_of(args, about)}
            row = {**about, **first, "seed": seed, **score(model, splits[2], exact[1], folder)}
            if args.generative == "learned":
                row["model_evidence"] = evidence_of(model, splits[2], folder / "evidence.json")
            rows.append(row)
    milliseconds = time_training(args, system, splits[0]) if args.rounds else {}
    rows = [{**row, "milliseconds": milliseconds.get(name_of(row))} for row in rows]
    return rows, models


def evidence(system, splits, path):
    """Returns ln p(x[0:T] | u[0:T-1]) of the sequences of each split; they are kept at `path`."""
    import range_system

    if not path.exists():
        print("exact evidence by a grid filter ...", flush=True)
        judge = range_system.make_model(system, "gaussian", seed=1)
        found = {
            name: range_system.filtered(system.axis, judge, split).log_evidence.tolist()
            for name, split in zip(["validation", "test"], splits)
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        run_folder.write_json(path, found)
    found = run_folder.read_json(path)
    return [np.asarray(found[name]) for name in ["validation", "test"]]


def evidence_of(model, test, path):
    """Returns the mean exact evidence of sequences under a learned model; it is kept at `path`.

    A warning says if a grid of half as many points gives another one.
    """
    import range_system

    if not path.exists():
        print("exact evidence of the model by a grid filter ...", flush=True)
        fine, coarse = (
            float(np.mean(range_system.filtered(axis, model, test).log_evidence))
            for axis in [range_system.LEARNED_AXIS, range_system.LEARNED_AXIS[::2]]
        )
        if not abs(fine - coarse) < 0.05:
            warnings.warn(
                f"{path}: {coarse:.2f} nats on half the grid, not {fine:.2f}.", stacklevel=2
            )
        run_folder.write_json(path, {"test": fine})
    return run_folder.read_json(path)["test"]


def ladder(args):
    """Returns what tells the models apart: posterior, kind and number of flows."""
    found = []
    for name in args.posteriors:
        if name == "iaf":
            found += [("iaf", "affine", count) for count in args.affine_flows]
            found += [("iaf", "spline", count) for count in args.spline_flows]
        else:
            found.append((name, "affine", 1) if name == "trajectory_iaf" else (name, None, 0))
    return [dict(zip(["posterior", "flow", "num_flows"], values)) for values in found]


def name_of(about):
    """Returns a short name of a model."""
    flows = f"-{about['num_flows']}-{about['flow']}" if about["posterior"] == "iaf" else ""
    return f"{about['posterior']}{flows}"


def first_of(args, about):
    """Returns the name of the posterior of z[0]; it has flows beside those of an iaf alone."""
    return args.initial_posterior if about["posterior"] == "iaf" else "gaussian"


def make_model(args, system, about, seed):
    """Returns the model of a row, not trained."""
    import range_system

    from tfp_dvbf import layers, posteriors

    posterior, first = about["posterior"], "gaussian"
    if posterior == "iaf":
        settings = {"num_flows": about["num_flows"], "flow_kind": about["flow"]}
        settings["flow_units"] = FLOW_UNITS[about["flow"]]
        posterior = posteriors.IAF(**settings)
        if first_of(args, about) == "iaf":
            first = layers.IAFInitialPosterior(**settings)
    learned = args.generative == "learned"
    return range_system.make_model(system, posterior, seed, args.num_train_samples, learned, first)


def train_one(args, system, splits, exact, about, seed, folder):
    """Trains one model into its run folder, unless that is finished; returns it."""
    import range_system

    settings = options.Settings(
        epochs=args.epochs,
        batch_size=BATCH_SIZE,
        learning_rate=3e-3,
        kl_annealing_epochs=2 * args.epochs // 3,
        initial_kl_weight=args.initial_kl_weight,
        seed=seed,
        verbose=args.verbose,
    )
    model = make_model(args, system, about, seed)
    path, epochs = folder / "excess.jsonl", range_system.checkpoint_epochs(args.epochs)
    watch = range_system.BoundAgainstEvidence(splits[1], exact, path, epochs)
    recipe.train(model, splits, folder, settings, resume=args.resume, callbacks=[watch])
    return run_folder.load_model(folder)


def score(model, test, exact, folder):
    """Returns the bounds of a model, nats a sequence, beside the exact evidence."""
    import range_system

    x, u = test.observations, test.controls
    bounds = {
        name: float(np.mean(model.log_prob_bound(x, u, NUM_SAMPLES, seed=1, objective=objective)))
        for name, objective in [("elbo", "elbo"), ("iwae_64", "iwae"), ("fivo_64", "fivo")]
    }
    lines = range_system.checkpoints(folder / "excess.jsonl")
    above = [line for line in lines if line["excess"] > 3.0 * line["standard_error"]]
    return {
        **bounds,
        "exact": float(np.mean(exact)),
        "checkpoints": len(lines),
        "checkpoints_above_exact": len(above),
        "parameters": model.count_params(),
        "seconds": run_folder.training_seconds(folder),
    }


def time_training(args, system, train):
    """Returns names of models mapped to the median milliseconds of a training step of a batch."""
    from tfp_dvbf.experiments import timing

    models = {name_of(about): make_model(args, system, about, seed=1) for about in ladder(args)}
    steps = {name: timing.training(model, train, BATCH_SIZE) for name, model in models.items()}
    return timing.in_turns(steps, args.rounds)


def draw(system, models, test, output):
    """Draws the exact filtering density of a time step beside draws from each posterior."""
    import range_system

    from tfp_dvbf.experiments import plots

    one, step = test[:1], system.num_steps // 2
    judge = range_system.make_model(system, "gaussian", seed=1)
    density = range_system.filtered(system.axis, judge, one, keep_density=True).density[0, step]
    draws = {}
    for name, model in models.items():
        context = one.observations[:, : step + 1], None
        if system.control_dim:
            context = context[0], one.controls[:, :step]
        drawn = model.sample_posterior(*context, num_samples=2000, seed=1)
        draws[name] = drawn.states[:, 0, step].numpy()
    plots.filtering_density(output / "filtering_density.png", system.axis, density, draws)


def write_report(args, rows, output):
    """Writes `report.json`, and means over seeds as `report.md`."""
    about = {name: getattr(args, name) for name in ABOUT}
    run_folder.write_json(output / "report.json", {**about, "rows": rows})
    shown = []
    for each in ladder(args):
        group = [row for row in rows if name_of(row) == name_of(each)]
        row = {"posterior": each["posterior"]}
        row["flows"] = f"{each['num_flows']} {each['flow']}" if each["flow"] else ""
        for key in [name for name in SCORES if name in group[0]]:
            values = [found[key] for found in group]
            row[key] = f"{np.mean(values):.2f}"
            if len(values) > 1:
                row[key] += f" ({min(values):.2f} to {max(values):.2f})"
        row["exact"] = f"{group[0]['exact']:.2f}"
        row["parameters"] = group[0]["parameters"]
        ms = group[0]["milliseconds"]
        row["ms / update"] = "" if ms is None else f"{ms:.1f}"
        shown.append(row)
    (output / "report.md").write_text(f"{tables.markdown(shown)}\n")


if __name__ == "__main__":
    command_line.run(main, Args)
