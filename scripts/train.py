"""Trains one model and evaluates it on the test set."""

import dataclasses
import importlib.util
import json
import pathlib
import time

from tfp_dvbf import data, errors, registry
from tfp_dvbf.data import shards
from tfp_dvbf.experiments import command_line, multi_worker, run_folder
from tfp_dvbf.experiments.command_line import option

# Options that do not change what a run ends with.
PRACTICAL = (
    *["output", "resume", "tensorboard", "verbose", "checkpoint_seconds", "hyperparameters"],
    *["time_limit"],
)
# Hidden layers of each network that `hidden_units` sets.
LAYERS = {"encoder_units": 1, "decoder_units": 1, "posterior_units": 2, "transition_units": 2}


@dataclasses.dataclass
class Args:
    """Trains one model with `model.fit`, evaluates it on the test set and draws its figures."""

    data: str = option("data/pendulum", "folder of generate_data.py, or one .npz file")
    output: str = option("runs/gaussian", "run folder to make")
    posterior: str = option("gaussian", "posterior", registry.POSTERIORS)
    num_flows: int = option(1, "flows a time step, for the posteriors made of flows")
    transition: str = option("mlp", "transition", registry.TRANSITIONS)
    encoder: str = option("filter", "what the posterior of z[t] sees", registry.ENCODERS)
    initial_frames: int = option(1, "frames that the posterior of z[0] sees")
    state_dim: int = option(4, "size of the latent state")
    hidden_units: int | None = option(None, "width of the hidden layers except the flows'")
    objective: str = option("elbo", "bound to train", registry.OBJECTIVES)
    num_train_samples: int = option(1, "posterior draws a sequence in training")
    epochs: int = option(1000, "epochs")
    batch_size: int = option(16, "sequences a batch")
    learning_rate: float = option(5e-4, "initial learning rate of Adam")
    learning_rate_decay: str = option(
        "cosine", "to 0 by the last epoch, or none", ["cosine", "none"]
    )
    clipnorm: float = option(10.0, "largest norm of the gradient of a weight")
    kl_annealing_epochs: int = option(600, "epochs until the KL term has its full weight")
    shift_controls: bool = option(False, "feed each control one step late, as the poster did")
    num_samples: int = option(10, "generated trajectories a sequence in the evaluation")
    seed: int = option(1, "seed of weights, noise and shuffling")
    hyperparameters: str | None = option(
        None, "best.json of tune.py, in place of the options whose values it holds"
    )
    checkpoint_seconds: float = option(30.0, "least time between two checkpoints")
    resume: bool = option(False, "continue the run in --output")
    strategy: str = option(
        "none", "tf.distribute; multiworker needs TF_CONFIG", multi_worker.STRATEGIES
    )
    time_limit: float = option(600.0, "seconds that workers wait for each other at the start")
    tensorboard: bool = option(False, "write TensorBoard logs into the run folder")
    verbose: int = option(2, "Keras' progress: 0 silent, 1 a bar, 2 a line an epoch", [0, 1, 2])


def main(args):
    args = with_hyperparameters(args)
    _check(args)
    splits = run_folder.read_splits(args.data)
    _check_splits(args, *splits)
    config = run_config(args, splits)
    folder, is_chief = pathlib.Path(args.output), multi_worker.is_chief(args.strategy)
    run_folder.check_run(folder, config, args.resume)
    if (folder / "metrics.json").exists():
        print(f"{folder} is finished")
        return

    from tfp_dvbf.experiments import startup

    strategy = startup.start(args.seed, args.strategy, args.time_limit).strategy
    arguments_alone = {name: config[name] for name in config if name not in ("data", "data_sha256")}
    multi_worker.check_same(strategy, data=config["data_sha256"], arguments=arguments_alone)
    if args.shift_controls:
        splits = [data.shift_controls(split) for split in splits]
    if is_chief:
        run(args, config, splits, strategy)
    else:
        train_run(args, splits, strategy)


def run(args, config, splits, strategy):
    """Trains, evaluates and writes the run folder, which no other process may do meanwhile."""
    from tfp_dvbf import callbacks

    folder = pathlib.Path(args.output)
    run_folder.open_run(folder, config, args.resume)
    with run_folder.only_process(folder):
        if (folder / "metrics.json").exists():  # By a process that has just ended.
            raise ValueError(f"{folder} was finished by another process.")
        model, seconds = train_run(args, splits, strategy)
        if args.strategy != "none":  # A model that can do without the other replicas.
            model = make_model(args, splits[0])
            callbacks.restore_checkpoint(model, folder / "checkpoint")
        run_folder.save_model(folder / "model.keras", model)
        finish(model, folder, splits[2], args, seconds)


def train_run(args, splits, strategy):
    """Returns a trained model and the seconds that took, None if it went on from a checkpoint."""
    print(f"training {args.posterior}, seed {args.seed}, in {args.output}", flush=True)
    start = time.perf_counter()
    with strategy.scope():
        model = make_model(args, splits[0])
    resumed = fit(model, args, pathlib.Path(args.output), *splits[:2])
    return model, None if resumed else time.perf_counter() - start


def with_hyperparameters(args):
    """Returns `args` with the values of the file `hyperparameters`, if one is given.

    Raises:
      ValueError: If the file holds no such values, or an option was set to anything but its default
        or the same.
    """
    if args.hyperparameters is None:
        return args
    path = pathlib.Path(args.hyperparameters)
    try:
        values = dict(json.loads(path.read_text())["hyperparameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`hyperparameters` must be a best.json of tune.py; got {path}."
        ) from error
    try:
        foreign = sorted(set(values) - set(registry.TUNED))
        if foreign:
            raise ValueError(f"it holds {', '.join(foreign)}.")
        replaced = command_line.replace(args, {**values, "hyperparameters": None})
    except ValueError as error:
        raise ValueError(f"{path} must hold what tune.py searches; {error}") from error
    for name, value in values.items():
        given, default = getattr(args, name), getattr(Args, name)
        if given not in (default, value):
            raise ValueError(f"`{name}` must be left out, since {path} holds it; got {given}.")
    return replaced


def run_config(args, splits):
    """Returns what defines a run: what it is told and the hash of its data."""
    config = {**dataclasses.asdict(args), "data_sha256": run_folder.data_hash(splits)}
    for name in PRACTICAL:
        config.pop(name)
    return config


def _check(args):
    command_line.check_choices(args)
    multi_worker.check_strategy(args.strategy)
    positive = ["epochs", "batch_size", "learning_rate", "clipnorm", "num_samples", "time_limit"]
    for name in [*positive, "num_train_samples"]:
        if not getattr(args, name) > 0:
            raise ValueError(f"`{name}` must be positive; got {getattr(args, name)}.")
    registry.check_model(_model_arguments(args))
    annealing = args.kl_annealing_epochs
    if annealing < 0:
        raise ValueError(f"`kl_annealing_epochs` must not be negative; got {annealing}.")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"`seed` must lie in [0, 2**32); got {args.seed}.")
    if args.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("`--tensorboard` needs the extra: pip install tfp_dvbf[tensorboard].")


def _check_splits(args, train, validation, test):
    for split in [train, validation, test]:
        if args.posterior == "chain_iaf":  # Or every file would be read for nothing.
            parts = [split] if isinstance(split, data.Sequences) else split.parts()
            for part in parts:
                registry.check_mask(args.posterior, part.mask)
    steps = min(split.num_steps for split in [train, validation, test])
    if args.initial_frames > steps:
        raise ValueError(
            f"`initial_frames` must not exceed the {steps} steps of a sequence; "
            f"got {args.initial_frames}."
        )
    if args.shift_controls and isinstance(train, shards.Shards):
        raise ValueError("`shift_controls` must be left out for a training set in several files.")


def _model_arguments(args):
    """Returns the arguments of `DVBF` that the command line sets."""
    names = ["posterior", "num_flows", "transition", "encoder", "initial_frames", "state_dim"]
    shared = {name: getattr(args, name) for name in [*names, "objective"]}
    width = args.hidden_units
    layers = {} if width is None else {name: (width,) * count for name, count in LAYERS.items()}
    return {**shared, **layers, "num_samples": args.num_train_samples}


def make_model(args, train):
    """Returns the compiled model, standardised to the training set."""
    import tf_keras

    import tfp_dvbf

    model = tfp_dvbf.DVBF(
        observation_dim=train.observation_dim,
        control_dim=train.control_dim,
        seed=args.seed,
        **_model_arguments(args),
    )
    dataset = tfp_dvbf.as_dataset(train, args.batch_size)
    model.adapt(dataset)
    rate = args.learning_rate
    if args.learning_rate_decay == "cosine":
        rate = tf_keras.optimizers.schedules.CosineDecay(rate, args.epochs * len(dataset))
    model.compile(optimizer=tf_keras.optimizers.Adam(rate, clipnorm=args.clipnorm))
    return model


def fit(model, args, folder, train, validation, num_epochs=None):
    """Trains the model; returns whether it went on from a checkpoint in `folder`.

    It ends after `args.epochs`, or earlier after `num_epochs` if those are given.
    """
    import tensorflow as tf

    import tfp_dvbf
    from tfp_dvbf import callbacks

    step = callbacks.restore_checkpoint(model, folder / "checkpoint")
    epoch = step // len(tfp_dvbf.as_dataset(train, args.batch_size))
    dataset = tfp_dvbf.as_dataset(train, args.batch_size, seed=args.seed, first_epoch=epoch)
    if args.verbose:
        print("The first epoch takes longer: XLA compiles the training step.", flush=True)
    try:
        model.fit(
            dataset,
            validation_data=tfp_dvbf.as_dataset(validation, batch_size=128),
            initial_epoch=epoch,
            epochs=num_epochs or args.epochs,
            verbose=args.verbose,
            callbacks=make_callbacks(args, folder),
        )
    except tf.errors.OpError as error:
        reason = errors.first_line(error)
        if isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
            reason = "a worker is gone; start all of them again with `--resume`."
        raise ValueError(f"Training stopped: {reason}") from error
    return epoch > 0


def make_callbacks(args, folder):
    """Returns the callbacks of `fit`; those of the chief write into `folder`."""
    import tf_keras

    import tfp_dvbf
    from tfp_dvbf import callbacks

    is_chief = multi_worker.is_chief(args.strategy)
    made = [tfp_dvbf.KLAnnealing(args.kl_annealing_epochs), callbacks.TerminateOnNonFinite()]
    if is_chief:
        made.append(callbacks.HistoryLogger(folder / "history.csv"))
    path = folder / "checkpoint" if is_chief else None
    made.append(callbacks.Checkpoint(path, args.checkpoint_seconds))
    if is_chief and args.tensorboard:
        made.append(tf_keras.callbacks.TensorBoard(folder / "tensorboard"))
    if not args.verbose:
        made.append(callbacks.ProgressLine())
    return made


def finish(model, folder, test, args, seconds):
    """Writes metrics.json and the figures of a trained model."""
    from tfp_dvbf import evaluation
    from tfp_dvbf.experiments import tables

    metrics = evaluation.report(model, test, seconds, num_samples=args.num_samples)
    metrics["lowest_kl"] = run_folder.lowest_kl(folder)
    draw_figures(model, folder, test, metrics)
    run_folder.write_json(folder / "metrics.json", metrics)
    print(tables.format_table([metrics]))
    print(f"model, metrics and figures: {folder}")


def draw_figures(model, folder, test, metrics, num_sequences=3, num_draws=50):
    """Draws generated trajectories, curves and errors into `folder`/figures."""
    from tfp_dvbf import evaluation
    from tfp_dvbf.experiments import plots

    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    some = test[:num_sequences]
    draws = evaluation.generated_means(model, some, num_draws)
    panels = {
        f"test sequence {index}": (truth, draws[:, index])
        for index, truth in enumerate(some.observations_or_nan)
    }
    plots.observations(figures / "observations.png", panels, test.spec)
    if plots.is_pendulum(test.spec):
        plots.angles(figures / "angle.png", panels, test.spec)
    history = {metrics["model"]: run_folder.read_history(folder / "history.csv")}
    plots.loss_curves(figures / "loss.png", history)
    plots.bound_curves(figures / "reconstruction_and_kl.png", history)
    curves = {"sampled": metrics["mad_by_horizon"], "mean": metrics["mad_mean_by_horizon"]}
    plots.mad_by_horizon(figures / "mad_by_horizon.png", curves, test.spec)


if __name__ == "__main__":
    command_line.run(main, Args)
