"""What all programs must agree on: a model's weights, batches and noise, its loss and gradient."""

import dataclasses
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-4
BETA_2 = 0.999  # Decay of the mean of squared gradients of Adam, unless a schedule has another.
SCALARS = ("posterior", "hidden_units", "seed", "loss", "gradient_norm")
GROUPS = ("weights", "masks")


class Training(NamedTuple):
    """A program that has taken its first training step.

    Attributes:
      known: What it knows of that step: `loss` and `gradient_norm`, or less.
      run: Takes so many more of them, and returns when they are done.
      weights: Returns the weights by their names in a `Reference`.
    """

    known: dict
    run: Callable[[int], None]
    weights: Callable[[], dict]


class Schedule(NamedTuple):
    """How a whole training goes, where more is asked for than the time of a step.

    Attributes:
      learning_rate: Initial rate of Adam, which falls to 0 by half a cosine.
      num_updates: Training steps until then.
      num_annealing: Training steps until the KL has its full weight, to which it rises linearly.
      beta_2: Decay of Adam's mean of squared gradients.
    """

    learning_rate: float
    num_updates: int
    num_annealing: int
    beta_2: float = BETA_2

    def kl_weight(self, step):
        """Returns the weight of the KL at a step."""
        return min(1.0, step / self.num_annealing)


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
      seed: Seed of the data, the weights and the noise.
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
    seed: int
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


def batches(reference, shuffle):
    """Yields batches of observations and controls without end, each epoch shuffled or not."""
    arrays = reference.observations, reference.controls
    rng = np.random.default_rng(reference.seed)
    while True:
        if shuffle:
            order = rng.permutation(arrays[0].shape[0] * arrays[0].shape[1])
            arrays = [
                array.reshape(-1, *array.shape[2:])[order].reshape(array.shape) for array in arrays
            ]
        yield from zip(*arrays)


def rows(reference, size):
    """Returns so many sequences of observations and controls, those of a `Reference` in turn."""
    return [
        np.resize(array.reshape(-1, *array.shape[2:]), (size, *array.shape[2:]))
        for array in (reference.observations, reference.controls)
    ]


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


def trajectories(means, draws):
    """Returns what programs that generate must agree on.

    Args:
      means: Trajectories with every distribution at its mean, [batch, time, dx].
      draws: Trajectories with noise, [batch, time, dx].
    """
    means, draws = np.asarray(means), np.asarray(draws)
    return {"means": means[:8].tolist(), "deviation": float(np.std(draws - means))}


def check_inference(name, found, expected):
    """Raises ValueError unless a program generates or filters as another one does.

    Trajectories at their means must agree, and their deviations from these and the log evidence of
    streams within Monte Carlo error. Fewer than 64 trajectories or streams tell nothing of it.

    Args:
      name: Name of the program.
      found: What `trajectories` returned, or the `log_evidence` of each stream.
      expected: The same of the other program.
    """
    if "means" in found:
        agrees = np.allclose(found["means"], expected["means"], rtol=TOLERANCE, atol=TOLERANCE)
        if not agrees:
            raise ValueError(f"{name} must generate the same trajectories at their means.")
        ratio = found["deviation"] / expected["deviation"]
        if not abs(np.log(ratio)) < 0.3:  # Few trajectories are correlated in time.
            raise ValueError(
                f"{name} must have the same noise; its deviation is {ratio:.2f} times."
            )
        return
    differences = np.subtract(found["log_evidence"], expected["log_evidence"])
    error = np.std(differences) / len(differences) ** 0.5
    mean = np.mean(differences)
    if len(differences) >= 64 and not abs(mean) <= 5.0 * error:
        raise ValueError(f"{name} must filter alike; its log evidence differs by {mean:.4g} nats.")
