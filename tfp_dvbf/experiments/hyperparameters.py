"""What a search has found, as the options of a run; no TensorFlow."""

import json
import pathlib

from tfp_dvbf.experiments import command_line

TUNED = (  # Options that a search may set.
    "posterior",
    "num_flows",
    "state_dim",
    "hidden_units",
    "learning_rate",
    "kl_annealing_epochs",
    "batch_size",
)


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
        foreign = sorted(set(values) - set(TUNED))
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
