"""What a run is told: its model, its training and its data, as flat options; no TensorFlow."""

import dataclasses
import importlib.util
import inspect
import json

from tfp_dvbf import errors, registry
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
# What each part calls the options that are its settings; it is given those that it takes.
SETTINGS = {
    "posterior": {
        "num_flows": "num_flows",
        "flow_units": "flow_units",
        "receptive_field": "receptive_field",
        "posterior_units": "hidden_units",
        "activation": "activation",
    },
    "transition": {
        "num_bases": "num_bases",
        "transition_units": "hidden_units",
        "transition_noise_floor": "noise_floor",
        "state_bound": "state_bound",
        "activation": "activation",
    },
    "emission": {
        "decoder_units": "hidden_units",
        "noise_floor": "noise_floor",
        "activation": "activation",
    },
    "encoder": {
        "encoder_units": "units",
        "encoder_steps": "num_steps",
        "activation": "activation",
    },
    "initial_posterior": {
        "num_flows": "num_flows",
        "flow_units": "flow_units",
        "initial_frames": "num_steps",
        "encoder_units": "hidden_units",
        "activation": "activation",
    },
}
OPTIONAL = ("transition_noise_floor", "state_bound")  # Where they are None a part has its own.
TUNERS = ("random", "hyperband", "bayesian")
TUNING_OBJECTIVES = ("val_neg_elbo", "val_mae_sampled")
MONITORS = ("val_neg_elbo", "val_loss", "val_nll", "val_kl")  # What an epoch's logs have.
VERBOSE = "progress: 0 none, 1 a line every 10 seconds, 2 Keras' line an epoch"
DATA = "folder of generate_data.py, or one .npz file"
IMPORT = "modules, here or installed, that register parts of your own"


@dataclasses.dataclass
class ModelOptions:
    """What a model is made of."""

    posterior: str = option("innovation", f"posterior: {', '.join(registry.names('posterior'))}")
    num_flows: int = option(1, "flows a time step, for the posteriors made of flows")
    transition: str = option("mlp", f"transition: {', '.join(registry.names('transition'))}")
    emission: str = option("gaussian", f"emission: {', '.join(registry.names('emission'))}")
    transition_noise_floor: float | None = option(None, "least noise of the transition, or its own")
    state_bound: float | None = option(None, "bound of the states that are read, or its own")
    noise_floor: float = option(5e-3, "least noise of the emission, a fraction of the data's scale")
    encoder: str = option(
        "filter", f"what the posterior of z[t] sees: {', '.join(registry.names('encoder'))}"
    )
    initial_posterior: str = option(
        "gaussian", f"posterior of z[0]: {', '.join(registry.names('initial_posterior'))}"
    )
    initial_frames: int = option(1, "time steps that the posterior of z[0] sees")
    state_dim: int = option(4, "size of the latent state")
    hidden_units: int | None = option(None, "width of the hidden layers except the flows'")
    objective: str = option("elbo", "bound to train", registry.OBJECTIVES)
    num_train_samples: int = option(1, "posterior draws a sequence in training")
    hidden_steps: float = option(0.0, "share of the steps that the posterior is not shown")
    hidden_length: float | None = option(
        None, "mean number of steps of a run of these; without, each is hidden on its own"
    )


@dataclasses.dataclass
class Settings:
    """How a model is trained and evaluated, whatever it is made of."""

    epochs: int = option(200, "epochs")
    batch_size: int = option(16, "sequences a batch")
    window: int = option(
        0, "time steps into which the sequences of a batch are cut in training; 0 for whole ones"
    )
    learning_rate: float = option(4e-3, "initial learning rate of Adam")
    learning_rate_decay: str = option(
        "cosine", "to 0 by the last epoch, or none", ["cosine", "none"]
    )
    beta_2: float = option(0.999, "decay of Adam's mean of squared gradients; less learns sooner")
    clipnorm: float = option(10.0, "largest norm of the gradient of a weight")
    steps_per_execution: int = option(
        1, "training steps a call of the compiled function; more save time, and callbacks wait"
    )
    kl_annealing_epochs: int = option(10, "epochs until the KL term has its full weight")
    initial_kl_weight: float = option(
        0.0, "weight of the KL term at the start; above 1 it keeps modes that a flow may lose"
    )
    early_stopping: int = option(
        0, "epochs without a better --monitor until training stops, at the best weights; 0 never"
    )
    monitor: str = option("val_neg_elbo", "validation figure of --early-stopping")
    recalibrate: bool = option(
        False, "scale the learned noise by two numbers that the validation set decides"
    )
    num_samples: int = option(10, "generated trajectories a sequence in the evaluation")
    initial_steps: int = option(0, "time steps that its free run is given; 0 for the model's own")
    seed: int = option(1, "seed of weights, noise and shuffling")
    checkpoint_seconds: float = option(30.0, "least time between two checkpoints")
    tensorboard: bool = option(False, "write TensorBoard logs into the run folder")
    verbose: int = option(1, VERBOSE, [0, 1, 2])


@dataclasses.dataclass
class RunOptions(ModelOptions, Settings):
    """A run of a model that options describe: what it is, where its data are, what it leaves."""

    data: str = option("data/pendulum", DATA)
    output: str = option("runs/innovation", "run folder to make")
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
      **others: Settings of parts that no option sets, such as `decoder_units`, and the names of
        parts that none sets, such as `emission`.
    """
    flat = {**dataclasses.asdict(options), **others}
    width = options.hidden_units
    if width is not None:
        flat = {**{name: (width,) * count for name, count in LAYERS.items()}, **flat}
    return {
        "state_dim": options.state_dim,
        "objective": options.objective,
        "num_samples": options.num_train_samples,
        "hidden_steps": (options.hidden_steps, options.hidden_length),
        **part_configs(flat),
    }


def part_configs(flat):
    """Returns the Keras configs of the parts that flat options describe, by the kind of part.

    Args:
      flat: Names of parts by their kinds, and the settings in `SETTINGS`; what is left out has its
        default, and a part is given those that its constructor takes.
    """
    import tf_keras

    flat = {name: each for name, each in flat.items() if name not in OPTIONAL or each is not None}
    configs = {}
    for kind, settings in SETTINGS.items():
        part_class = registry.class_of(kind, flat.get(kind, registry.names(kind)[0]))
        taken = arguments_of(part_class)
        for name in set(OPTIONAL) & set(settings) & set(flat):
            if settings[name] not in taken:
                raise ValueError(f"`{name}` is not for {part_class.__name__}.")
        values = {own: flat[name] for name, own in settings.items() if name in flat}
        values = {own: value for own, value in values.items() if own in taken}
        configs[kind] = tf_keras.saving.serialize_keras_object(part_class(name=kind, **values))
    return configs


def arguments_of(part_class):
    """Returns the names that a part's constructor takes, itself or for that of a base."""
    taken = set()
    for each in part_class.__mro__:
        own = inspect.signature(each.__init__).parameters.values()
        taken |= {parameter.name for parameter in own}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return taken


def run_config(options, data_sha256):
    """Returns what defines a run, for `args.json`: its options and the hash of its data."""
    config = {**dataclasses.asdict(options), "data_sha256": data_sha256}
    return {name: value for name, value in config.items() if name not in PRACTICAL}


def model_config(model, settings, data_sha256):
    """Returns what defines the run of a model that no options describe."""
    about = run_config(settings, data_sha256)
    return json.loads(json.dumps({"model": _without_names(model.get_config()), **about}))


def _without_names(config):
    """Returns a Keras config without the names of layers, which count what a process has made."""
    if isinstance(config, (list, tuple)):
        return [_without_names(value) for value in config]
    if not isinstance(config, dict):
        return config
    return {name: _without_names(value) for name, value in config.items() if name != "name"}


def check_settings(settings):
    """Raises ValueError if a value of `Settings` is out of its range."""
    command_line.check_choices(settings)
    positive = ["epochs", "batch_size", "learning_rate", "clipnorm", "num_samples"]
    for name in [*positive, "steps_per_execution"]:
        if not getattr(settings, name) > 0:
            raise ValueError(f"`{name}` must be positive; got {getattr(settings, name)}.")
    for name in ["kl_annealing_epochs", "early_stopping", "initial_kl_weight", "initial_steps"]:
        if not getattr(settings, name) >= 0:
            raise ValueError(f"`{name}` must not be negative; got {getattr(settings, name)}.")
    if not 0 <= settings.beta_2 < 1:
        raise ValueError(f"`beta_2` must lie in [0, 1); got {settings.beta_2}.")
    if errors.check_integer("window", settings.window, least=0) == 1:
        raise ValueError("`window` must be at least 2, or 0 for whole sequences; got 1.")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"`seed` must lie in [0, 2**32); got {settings.seed}.")
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("`--tensorboard` needs the extra: pip install tfp_dvbf[tensorboard].")


def check_run(options):
    """Raises ValueError if a value of `RunOptions` is out of its range, or cannot start here.

    The names of parts are left to `DVBF` where modules are to be imported that may register some.
    """
    check_settings(options)
    if options.early_stopping:
        errors.check_choice("monitor", options.monitor, MONITORS)
        if options.strategy == "multiworker":
            raise ValueError("`early_stopping` must be 0 with the strategy multiworker.")
    multi_worker.check_strategy(options.strategy)
    for name in ["num_train_samples", "time_limit"]:
        if not getattr(options, name) > 0:
            raise ValueError(f"`{name}` must be positive; got {getattr(options, name)}.")
    for name in ["state_dim", "initial_frames", "num_flows"]:
        errors.check_integer(name, getattr(options, name), least=0 if name == "num_flows" else 1)
    for kind in ["posterior", "transition", "emission", "encoder"] if not options.import_ else []:
        errors.check_choice(kind, getattr(options, kind), registry.names(kind))


def check_splits(options, splits):
    """Raises ValueError if a run's data cannot train, validate or test its model."""
    steps = min(split.num_steps for split in splits)
    if options.initial_frames > steps:
        raise ValueError(
            f"`initial_frames` must not exceed the {steps} steps of a sequence; "
            f"got {options.initial_frames}."
        )
    check_window(options.window, splits[0], options.initial_frames)
    if options.shift_controls and isinstance(splits[0], shards.Shards):
        raise ValueError("`shift_controls` must be left out for a training set in several files.")


def check_window(window, sequences, initial_steps):
    """Raises ValueError if a training set cannot be cut into windows of so many time steps.

    Args:
      window: Time steps of a window, 0 for whole sequences.
      sequences: The training set, `Sequences` or `Shards`.
      initial_steps: Number of time steps that q(z[0]) sees.
    """
    if not window:
        return
    if isinstance(sequences, shards.Shards):
        raise ValueError("`window` must be 0 for a training set in several files.")
    if not initial_steps <= window <= sequences.num_steps:
        raise ValueError(
            f"`window` must lie between the {initial_steps} time steps that q(z[0]) sees and the "
            f"{sequences.num_steps} of a sequence; got {window}."
        )
