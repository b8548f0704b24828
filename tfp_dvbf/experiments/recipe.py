"""How a model is trained: checkpoints, resuming, history, progress, metrics and figures.

A model of one's own takes three lines:

    model = tfp_dvbf.DVBF(3, 1, 4, seed=1)
    splits = run_folder.read_splits("data/pendulum")
    metrics = recipe.train(model, splits, "runs/mine", options.Settings(epochs=100))
"""

import pathlib
import time

from tfp_dvbf import data, errors, registry
from tfp_dvbf.data import alignment, columns
from tfp_dvbf.experiments import command_line, histories, multi_worker, options, run_folder

BEST = "best.npz"  # Where a run folder keeps its best weights, if it stops early.


def run(run_options):
    """Trains the model that `RunOptions` describe into its run folder, unless that is finished.

    TensorFlow starts only when everything else is known to be right. A training set whose controls
    seem to be paired with the wrong step gives a warning (`data.alignment`).

    Returns:
      What `metrics.json` holds, or None in a worker that is not the chief.

    Raises:
      ValueError: If an option or the data are wrong, or the folder holds another run.
    """
    options.check_run(run_options)
    splits = run_folder.read_splits(run_options.data)
    options.check_splits(run_options, splits)
    config = options.run_config(run_options, run_folder.data_hash(splits))
    folder = pathlib.Path(run_options.output)
    run_folder.check_run(folder, config, run_options.resume)
    if run_folder.is_finished(folder):
        print(f"{folder} is finished")
        return run_folder.read_json(folder / run_folder.METRICS)
    alignment.check_alignment_of(splits[0])  # As it was recorded, before `--shift-controls`.
    from tfp_dvbf.experiments import startup

    strategy = startup.start(
        run_options.seed, run_options.strategy, run_options.time_limit
    ).strategy
    command_line.import_modules(run_options.import_)
    arguments_alone = {name: config[name] for name in config if name not in ("data", "data_sha256")}
    multi_worker.check_same(strategy, data=config["data_sha256"], arguments=arguments_alone)
    if run_options.shift_controls:
        splits = [data.shift_controls(split) for split in splits]
    with strategy.scope():
        model = make_model(run_options, splits[0], run_options.seed)
    return train(model, splits, folder, run_options, config=config, resume=run_options.resume)


def make_model(model_options, sequences, seed, **others):
    """Returns the `DVBF` that `ModelOptions` describe, for data like `sequences`.

    Args:
      model_options: `ModelOptions`.
      sequences: `Sequences` or `Shards`.
      seed: Seed of the model's noise.
      **others: Arguments that no option sets, as `options.model_arguments` takes them.
    """
    import tfp_dvbf

    return tfp_dvbf.DVBF(
        observation_shape=sequences.observation_shape,
        control_dim=sequences.control_dim,
        seed=seed,
        **options.model_arguments(model_options, **others),
    )


def train(model, splits, folder, settings, *, config=None, resume=False, callbacks=()):
    """Trains and evaluates a model; leaves it, its history, metrics and figures in a run folder.

    A run that was stopped, at any moment, ends at the same weights when it is resumed.

    Args:
      model: A `DVBF`, made in the scope of its `tf.distribute` strategy if it has one, and with a
        seed if the run may be resumed. It is adapted to the training set, and compiled as
        `settings` say unless it has an optimizer. The model to go on with is that of the folder,
        `run_folder.load_model(folder)`.
      splits: Training, validation and test set, `Sequences` or `Shards`.
      folder: The run folder.
      settings: `options.Settings`.
      config: What defines the run, a dictionary that JSON can hold; None takes the model's own
        config and the settings.
      resume: Whether a run in `folder` is continued; one that is finished is only read.
      callbacks: More callbacks of `fit`. They are called anew in a run that is resumed, and what
        they keep themselves is not in its checkpoints.

    Returns:
      What `metrics.json` holds, or None in a worker that is not the chief.

    Raises:
      ValueError: If a setting is out of its range, the folder holds another run, or training
        diverges.
    """
    options.check_settings(settings)
    check(model, splits, settings)
    folder, start = pathlib.Path(folder), time.perf_counter()
    if not multi_worker.is_chief(model.distribute_strategy):
        prepare(model, splits[0], settings)
        fit(model, settings, folder, *splits[:2], callbacks=callbacks)
        return None
    if config is None:
        config = options.model_config(model, settings, run_folder.data_hash(splits))
    run_folder.open_run(folder, config, resume)
    if settings.verbose and not run_folder.is_finished(folder):
        name = registry.name_of("posterior", model.recognition_model.posterior)
        print(f"training {name}, seed {settings.seed}, in {folder}", flush=True)
        if settings.window and (rest := splits[0].num_steps % settings.window):
            print(f"windows leave out the last {rest} time steps of every sequence", flush=True)
    with run_folder.only_process(folder):
        prepare(model, splits[0], settings)
        resumed = fit(model, settings, folder, *splits[:2], callbacks=callbacks)
        if run_folder.is_finished(folder):
            return run_folder.read_json(folder / run_folder.METRICS)
        seconds = None if resumed else time.perf_counter() - start
        model = _without_strategy(model, folder)
        scaled = recalibrate(model, splits[1]) if settings.recalibrate else {}
        run_folder.save_model(folder / "model.keras", model)
        return evaluate(model, folder, splits[2], settings, seconds, splits[0], **scaled)


def recalibrate(model, validation):
    """Scales the noise of a model by a validation set; returns what its metrics say of it."""
    from tfp_dvbf import evaluation
    from tfp_dvbf.evaluation import recalibration

    print("recalibrating: 20 to 60 free runs of the validation set ...", flush=True)
    found = evaluation.recalibrate(model, validation)
    print(recalibration.sentence(found), flush=True)
    return {"recalibration": found}


def check(model, splits, settings):
    """Raises ValueError if the data, or what follows training, would be refused after hours."""
    from tfp_dvbf import feeding
    from tfp_dvbf.evaluation import forecasts, recalibration

    for name, split in zip(["validation", "test"], splits[1:]):
        columns.check_same(name, split.spec, splits[0].spec)
    feeding.check_splits(model, splits)
    options.check_window(settings.window, splits[0], model.recognition_model.initial_steps)
    if settings.recalibrate:
        recalibration.check(model)
    if settings.initial_steps:
        forecasts.check_initial_steps(model, splits[2], settings.initial_steps)


def check_columns(run, name, sequences):
    """Raises ValueError if data have other columns or offsets than those a run was trained on."""
    path = pathlib.Path(run) / run_folder.METRICS
    if path.exists():
        columns.check_same(name, sequences.spec, run_folder.read_json(path).get("data"))


def prepare(model, sequences, settings):
    """Adapts a model to its training set and compiles it, unless it has an optimizer."""
    import tf_keras

    import tfp_dvbf

    with model.distribute_strategy.scope():
        model.adapt(tfp_dvbf.as_dataset(sequences, settings.batch_size))
        if getattr(model, "optimizer", None) is not None:
            return
        rate = settings.learning_rate
        if settings.learning_rate_decay == "cosine":
            steps = settings.epochs * len(batches(sequences, settings))
            rate = tf_keras.optimizers.schedules.CosineDecay(rate, steps)
        adam = tf_keras.optimizers.Adam(rate, beta_2=settings.beta_2, clipnorm=settings.clipnorm)
        model.compile(optimizer=adam, steps_per_execution=settings.steps_per_execution)


def batches(sequences, settings, seed=None, first_epoch=0):
    """Returns the data set that a model trains on, as `as_dataset` makes it.

    A batch has the time steps of `settings.batch_size` sequences, whole or in short windows.
    """
    import tfp_dvbf

    size = settings.batch_size
    if settings.window:
        size *= sequences.num_steps // settings.window
        sequences = sequences.windows(settings.window)
    return tfp_dvbf.as_dataset(sequences, size, seed, first_epoch)


def fit(model, settings, folder, train, validation, num_epochs=None, callbacks=()):
    """Trains a compiled model; returns whether it went on from a checkpoint in `folder`.

    It ends after `settings.epochs`, or earlier after `num_epochs` if those are given.
    """
    import tensorflow as tf

    import tfp_dvbf
    from tfp_dvbf import best_weights
    from tfp_dvbf.callbacks import restore_checkpoint

    step = restore_checkpoint(model, folder / "checkpoint")
    epoch = step // len(batches(train, settings))
    dataset = batches(train, settings, settings.seed, first_epoch=epoch)
    last = num_epochs or settings.epochs
    stopped = int(best_weights.read(folder / BEST)["stopped"])
    last = last if stopped < 0 else min(last, stopped)
    if settings.verbose and epoch < last:
        print("The first epoch takes longer: the training step is compiled.", flush=True)
    try:
        model.fit(
            dataset,
            validation_data=tfp_dvbf.as_dataset(validation, batch_size=128),
            initial_epoch=epoch,
            epochs=last,
            verbose=2 if settings.verbose == 2 else 0,
            callbacks=make_callbacks(
                settings, folder, multi_worker.is_chief(model.distribute_strategy), callbacks
            ),
        )
    except tf.errors.OpError as error:
        reason = errors.first_line(error)
        if isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
            reason = "a worker is gone; start all of them again with `--resume`."
        raise ValueError(f"Training stopped: {reason}") from error
    if settings.early_stopping and settings.verbose:
        print(best_weights.sentence(folder / BEST, settings.monitor), flush=True)
    return epoch > 0


def make_callbacks(settings, folder, is_chief=True, others=()):
    """Returns the callbacks of `fit`; those of the chief write into `folder`.

    Others come before the history, so that it has what they add to the logs.
    """
    import tf_keras

    import tfp_dvbf
    from tfp_dvbf import callbacks

    annealing = settings.kl_annealing_epochs, settings.initial_kl_weight
    made = [tfp_dvbf.KLAnnealing(*annealing), tfp_dvbf.TerminateOnNonFinite()]
    made += others
    if settings.early_stopping:
        made.append(
            tfp_dvbf.BestWeights(
                folder / BEST,
                settings.monitor,
                patience=settings.early_stopping,
                start_from_epoch=settings.kl_annealing_epochs,
            )
        )
    if is_chief:
        made.append(callbacks.HistoryLogger(folder / "history.csv"))
    path = folder / "checkpoint" if is_chief else None
    made.append(callbacks.Checkpoint(path, settings.checkpoint_seconds))
    if is_chief and settings.tensorboard:
        made.append(tf_keras.callbacks.TensorBoard(folder / "tensorboard"))
    if settings.verbose == 1:
        made.append(callbacks.ProgressLine())
    return made


def _without_strategy(model, folder):
    """Returns a model that can do without the other replicas, if it had any."""
    import tensorflow as tf

    from tfp_dvbf import callbacks

    if model.distribute_strategy is tf.distribute.get_strategy():
        return model
    alone = type(model).from_config(model.get_config())
    alone.compile_from_config(model.get_compile_config())
    callbacks.restore_checkpoint(alone, folder / "checkpoint")
    return alone


def evaluate(model, folder, test, settings, seconds=None, train=None, **others):
    """Writes metrics.json, figures and report.html of a trained model; returns the metrics.

    The baselines of the free run are fitted on `train`, if that is given. Others are more metrics.
    """
    from tfp_dvbf import evaluation
    from tfp_dvbf.experiments import html_report, report

    given = {"num_samples": settings.num_samples, "initial_steps": settings.initial_steps or None}
    metrics = evaluation.report(model, test, seconds, train=train, **given)
    metrics |= others
    metrics["lowest_kl"] = histories.lowest_kl(folder)
    report.draw_run(model, folder, test, metrics)
    html_report.write_run(model, folder, test, metrics, train)
    run_folder.write_json(folder / run_folder.METRICS, metrics)
    return metrics
