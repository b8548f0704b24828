"""What all programs must agree on: a model's weights, batches and noise, its loss and gradient."""

import dataclasses
import json
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-4
SCALARS = ("posterior", "hidden_units", "loss", "gradient_norm")
GROUPS = ("weights", "masks")


class Constants(NamedTuple):
    """The constants of the model's densities.

    Attributes:
      initial_scale: Standard deviation that a raw value of 0 stands for.
      scale_floor: Least standard deviation of q(z[t] | ...).
      transition_floor: Least standard deviation of p(z[t] | z[t-1], u[t-1]).
      emission_floor: Least standard deviation of p(x[t] | z[t]).
      emission_speed: What the raw noise scale of the emission is multiplied by.
      state_bound: Bound within which a recurrence reads the state.
      gate_bias: What opens the gate of a flow.
    """

    initial_scale: float
    scale_floor: float
    transition_floor: float
    emission_floor: float
    emission_speed: float
    state_bound: float
    gate_bias: float


@dataclasses.dataclass
class Reference:
    """A model that trains, by names that every program knows, and its first training step.

    Kernels are [inputs, outputs]. Layers of a network are numbered: `transition/0/kernel`.

    Attributes:
      posterior: "gaussian", "innovation" or "iaf".
      hidden_units: Width of all hidden layers; 0 for the package's own.
      observations: Standardised x, [batches, batch, time, dx].
      controls: Standardised u, [batches, batch, time - 1, du].
      noise: eps[0:T] of the first step, [batch, time, dz].
      weights: Names mapped to the initial weights.
      masks: Names of the kernels of a flow mapped to what they are multiplied by after each update.
      constants: `Constants`.
      loss: The loss of the first batch: minus the elbo, in nats an observed step.
      gradient_norm: Norm of its gradient with respect to all weights.
    """

    posterior: str
    hidden_units: int
    observations: np.ndarray
    controls: np.ndarray
    noise: np.ndarray
    weights: dict
    masks: dict
    constants: Constants
    loss: float
    gradient_norm: float


def save(path, reference):
    """Writes a `Reference` to an .npz file."""
    arrays = {
        f"{group}/{name}": array
        for group in GROUPS
        for name, array in getattr(reference, group).items()
    }
    for name in ["observations", "controls", "noise"]:
        arrays[name] = getattr(reference, name)
    scalars = {name: getattr(reference, name) for name in SCALARS}
    about = json.dumps({**scalars, "constants": reference.constants._asdict()})
    np.savez(path, about=about, **arrays)


def load(path):
    """Returns the `Reference` of an .npz file."""
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        arrays = {name: file[name] for name in file.files if name != "about"}
    groups = {
        group: {
            name.removeprefix(f"{group}/"): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(f"{group}/")
        }
        for group in GROUPS
    }
    return Reference(**{**about, "constants": Constants(**about["constants"])}, **groups, **arrays)


def check_agreement(name, found, expected):
    """Raises ValueError unless a program has the loss and gradient norm of a `Reference`.

    Args:
      name: Name of the program.
      found: A dictionary of `loss` and, where the program can tell it, `gradient_norm`.
      expected: The `Reference`.
    """
    for kind, value in found.items():
        wanted = getattr(expected, kind)
        if not abs(value - wanted) <= TOLERANCE * abs(wanted):
            raise ValueError(
                f"{name} must train the same model; its {kind.replace('_', ' ')} at the same "
                f"weights and noise is {value:.6g}, not {wanted:.6g}."
            )
