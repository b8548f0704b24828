"""Searches hyperparameters with Keras Tuner; the same command goes on where it was stopped."""

import dataclasses
import os
import pathlib
import time

from tfp_dvbf.experiments import command_line, histories, multi_worker, options, recipe, run_folder
from tfp_dvbf.experiments.command_line import option

CHIEF = "chief"


@dataclasses.dataclass
class Args:
    """Searches learning rate, annealing, sizes, flows and posterior; writes trials and winner."""

    tuner: str = option("random", "how trials are chosen", options.TUNERS)
    data: str = option("data/pendulum", options.DATA)
    output: str = option("runs/tune", "folder of the search; an existing one is resumed")
    objective: str = option(
        "val_neg_elbo", "metric of the last epoch to minimise", options.TUNING_OBJECTIVES
    )
    max_trials: int | None = option(None, "trials at most; 20, or all of hyperband's brackets")
    epochs: int = option(40, "epochs of a whole training")
    seed: int = option(1, "seed of the search and of every trial, at least 1")
    time_limit: float = option(
        3600.0, "seconds that chief and workers wait for news of each other, an epoch at least"
    )
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    _check(args)
    splits = run_folder.read_splits(args.data)
    config = {**dataclasses.asdict(args), "data_sha256": run_folder.data_hash(splits)}
    for name in ["output", "time_limit", "verbose", "max_trials"]:
        config.pop(name)
    output, role = pathlib.Path(args.output), _role()
    if role == "worker":
        _wait_for(output / "args.json", args.time_limit)
    run_folder.open_run(output, config, resume=True)
    if role == "worker":
        search(args, output, splits, role)
        return
    with run_folder.only_process(output):
        search(args, output, splits, role)


def search(args, output, splits, role):
    """Runs the search, or this process' part of it; writes its results unless this is a worker."""
    from tfp_dvbf.experiments import startup

    startup.start(args.seed)
    from tfp_dvbf.experiments import tuning, tuning_chief

    oracle = tuning.make_oracle(args.tuner, args.objective, args.max_trials, args.epochs, args.seed)

    def train_values(values, folder, epochs):
        return train_trial(args, splits, values, folder, epochs)

    if role == "worker":
        with tuning_chief.answering(args.time_limit):
            tuning.Tuner(oracle, output).search(train=train_values)
        return
    tuner = tuning.Tuner(oracle, output)
    if role == CHIEF:
        tuning_chief.serve(tuner, args.time_limit)
    else:
        tuner.search(train=train_values)
    write_results(args, output, tuning.table(tuner))


def train_trial(args, splits, values, folder, num_epochs):
    """Trains one trial; returns its metrics on the validation set after the last epoch.

    Args:
      args: `Args`.
      splits: Training, validation and test set, as `run_folder.read_splits` returns them.
      values: Options of `train.py` by name.
      folder: The trial's folder; a checkpoint in it is gone on from.
      num_epochs: Epochs after which the trial ends, None for all of them.
    """
    import tf_keras

    from tfp_dvbf import evaluation

    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(args.seed)
    run_options = options.RunOptions(
        **values, epochs=args.epochs, seed=args.seed, verbose=args.verbose
    )
    model = recipe.make_model(run_options, splits[0], args.seed)
    recipe.prepare(model, splits[0], run_options)
    recipe.fit(model, run_options, folder, *splits[:2], num_epochs)
    validation = splits[1]
    generated = evaluation.generated_means(model, validation, num_samples=10, seed=args.seed)
    differences = evaluation.absolute_differences(generated, validation.observations)
    mae = differences[validation.observed].mean()
    neg_elbo = histories.read(folder / "history.csv")["val_neg_elbo"][-1]
    return {"val_neg_elbo": float(neg_elbo), "val_mae_sampled": float(mae)}


def write_results(args, output, rows):
    """Writes all trials as trials.json and trials.md and the winner as best.json.

    Raises:
      ValueError: If no trial completed.
    """
    from tfp_dvbf.experiments import tables

    run_folder.write_json(output / "trials.json", rows)
    table = tables.markdown(rows)
    (output / "trials.md").write_text(table + "\n")
    print(f"\n{table}")
    if not rows or rows[0]["status"] != "completed":
        raise ValueError(f"no trial completed; {output / 'trials.json'} says why.")
    best = rows[0]
    names = [field.name for field in dataclasses.fields(options.RunOptions)]
    values = {name: best[name] for name in names if name in best and name != "epochs"}
    found = {"trial": best["trial"], "objective": args.objective, "score": best[args.objective]}
    run_folder.write_json(output / "best.json", {**found, "hyperparameters": values})
    print(f"trials and the winner: {output / 'trials.json'}, {output / 'best.json'}")


def _check(args):
    command_line.check_choices(args)
    for name in ["epochs", "seed", "time_limit", "max_trials"]:
        value = getattr(args, name)
        if value is not None and not value >= 1:
            raise ValueError(f"`{name}` must be at least 1; got {value}.")
    if args.tuner == "bayesian":
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            message = "`--tuner bayesian` needs the extra: pip install tfp_dvbf[bayesian]."
            raise ValueError(message) from error
    role = _role()
    if role != "alone":
        address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
        multi_worker.check_address(address)
        if role == CHIEF:
            multi_worker.check_port(address)


def _role():
    """Returns "chief" or "worker" by the variables of Keras Tuner, or "alone" without them."""
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return "alone"
    missing = {"KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID"} - set(os.environ)
    if missing:
        raise ValueError(f"With KERASTUNER_ORACLE_IP set, {', '.join(sorted(missing))} must be.")
    return CHIEF if CHIEF in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def _wait_for(path, time_limit):
    """Waits until the chief has made the folder of the search."""
    since = time.monotonic()
    while not path.exists():
        if time.monotonic() - since > time_limit:
            raise TimeoutError(f"the chief has not made {path} within {time_limit:g} s.")
        time.sleep(0.2)


if __name__ == "__main__":
    command_line.run(main, Args)
