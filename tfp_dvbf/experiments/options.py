"""What a run is told: its model, its training and its data, as flat options; no TensorFlow."""

import dataclasses
import importlib.util
import json
import pathlib

from tfp_dvbf import data, registry
from tfp_dvbf.data import shards
from tfp_dvbf.experiments import command_line, multi_worker
from tfp_dvbf.experiments.command_line import option

# Options that do not change what a run ends with.
PRACTICAL = (
    "output",
    "resume",
    "tensorboard",
    "verbose",
    "checkpoint_seconds",
    "hyperparameters",
    "time_limit",
    "import_",
)
# Hidden layers of each network that `hidden_units` sets.
LAYERS = {"encoder_units": 1, "decoder_units": 1, "posterior_units": 2, "transition_units": 2}
VERBOSE = "progress: 0 none, 1 a line every 10 seconds, 2 Keras' line an epoch"
DATA = "folder of generate_data.py, or one .npz file"
IMPORT = "modules, here or installed, that register parts of your own"


@dataclasses.dataclass
class ModelOptions:
    """What a model is made of."""

    posterior: str = option("gaussian", f"posterior: {', '.join(registry.POSTERIORS)}")
    num_flows: int = option(1, "flows a time step, for the posteriors made of flows")
    transition: str = option("mlp", f"transition: {', '.join(registry.TRANSITIONS)}")
    encoder: str = option(
        "filter", f"what the posterior of z[t] sees: {', '.join(registry.ENCODERS)}"
    )
    initial_frames: int = option(1, "time steps that the posterior of z[0] sees")
    state_dim: int = option(4, "size of the latent state")
    hidden_units: int | None = option(None, "width of the hidden layers except the flows'")
    objective: str = option("elbo", "bound to train", registry.OBJECTIVES)
    num_train_samples: int = option(1, "posterior draws a sequence in training")


@dataclasses.dataclass
class Settings:
    """How a model is trained and evaluated, whatever it is made of."""

    epochs: int = option(1000, "epochs")
    batch_size: int = option(16, "sequences a batch")
    learning_rate: float = option(5e-4, "initial learning rate of Adam")
    learning_rate_decay: str = option(
        "cosine", "to 0 by the last epoch, or none", ["cosine", "none"]
    )
    clipnorm: float = option(10.0, "largest norm of the gradient of a weight")
    kl_annealing_epochs: int = option(600, "epochs until the KL term has its full weight")
    num_samples: int = option(10, "generated trajectories a sequence in the evaluation")
    seed: int = option(1, "seed of weights, noise and shuffling")
    checkpoint_seconds: float = option(30.0, "least time between two checkpoints")
    tensorboard: bool = option(False, "write TensorBoard logs into the run folder")
    verbose: int = option(1, VERBOSE, [0, 1, 2])


@dataclasses.dataclass
class RunOptions(ModelOptions, Settings):
    """A run of a model that options describe: what it is, where its data are, what it leaves."""

    data: str = option("data/pendulum", DATA)
    output: str = option("runs/gaussian", "run folder to make")
    shift_controls: bool = option(False, "feed each control one step late, as the poster did")
    resume: bool = option(False, "continue the run in --output")
    strategy: str = option(
        "none", "tf.distribute; multiworker needs TF_CONFIG", multi_worker.STRATEGIES
    )
    time_limit: float = option(600.0, "seconds that workers wait for each other at the start")
    import_: tuple[str, ...] = option((), IMPORT)


def model_arguments(options, **others):
    """Returns the arguments of `DVBF` that `ModelOptions` set: all but the data's sizes and seed.

    Args:
      options: `ModelOptions`.
      **others: Arguments that no option sets, such as `decoder_units`.
    """
    names = ["posterior", "num_flows", "transition", "encoder", "initial_frames", "state_dim"]
    shared = {name: getattr(options, name) for name in [*names, "objective"]}
    width = options.hidden_units
    widths = {} if width is None else {name: (width,) * count for name, count in LAYERS.items()}
    return {**shared, "num_samples": options.num_train_samples, **widths, **others}


def run_config(options, data_sha256):
    """Returns what defines a run, for `args.json`: its options and the hash of its data."""
    config = {**dataclasses.asdict(options), "data_sha256": data_sha256}
    return {name: value for name, value in config.items() if name not in PRACTICAL}


def check_settings(settings):
    """Raises ValueError if a value of `Settings` is out of its range."""
    command_line.check_choices(settings)
    for name in ["epochs", "batch_size", "learning_rate", "clipnorm", "num_samples"]:
        if not getattr(settings, name) > 0:
            raise ValueError(f"`{name}` must be positive; got {getattr(settings, name)}.")
    annealing = settings.kl_annealing_epochs
    if annealing < 0:
        raise ValueError(f"`kl_annealing_epochs` must not be negative; got {annealing}.")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"`seed` must lie in [0, 2**32); got {settings.seed}.")
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("`--tensorboard` needs the extra: pip install tfp_dvbf[tensorboard].")


def check_run(options):
    """Raises ValueError if a value of `RunOptions` is out of its range, or cannot start here.

    The names of parts are left to `DVBF` where modules are to be imported that may register some.
    """
    check_settings(options)
    multi_worker.check_strategy(options.strategy)
    for name in ["num_train_samples", "time_limit"]:
        if not getattr(options, name) > 0:
            raise ValueError(f"`{name}` must be positive; got {getattr(options, name)}.")
    if not options.import_:
        registry.check_model(model_arguments(options))


def check_splits(options, splits):
    """Raises ValueError if a run's data cannot train, validate or test its model."""
    for split in splits:
        if options.posterior == "chain_iaf":  # Or every file would be read for nothing.
            parts = [split] if isinstance(split, data.Sequences) else split.parts()
            for part in parts:
                registry.check_mask(options.posterior, part.mask)
    steps = min(split.num_steps for split in splits)
    if options.initial_frames > steps:
        raise ValueError(
            f"`initial_frames` must not exceed the {steps} steps of a sequence; "
            f"got {options.initial_frames}."
        )
    if options.shift_controls and isinstance(splits[0], shards.Shards):
        raise ValueError("`shift_controls` must be left out for a training set in several files.")


def with_hyperparameters(options):
    """Returns `RunOptions` with the values of the file `options.hyperparameters`, if it names one.

    Raises:
      ValueError: If the file holds no such values, or an option was set to anything but its default
        or the same.
    """
    if options.hyperparameters is None:
        return options
    path = pathlib.Path(options.hyperparameters)
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
        replaced = command_line.replace(options, {**values, "hyperparameters": None})
    except ValueError as error:
        raise ValueError(f"{path} must hold what tune.py searches; {error}") from error
    for name, value in values.items():
        given, default = getattr(options, name), getattr(type(options), name)
        if given not in (default, value):
            raise ValueError(f"`{name}` must be left out, since {path} holds it; got {given}.")
    return replaced
