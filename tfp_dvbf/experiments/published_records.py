"""Benchmarks of nonlinear system identification: their protocols, and figures published on them.

The records are their owners'. docs/data.md says where they come from and what a file holds.
"""

import importlib
import importlib.util
from typing import Any, NamedTuple

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.data import files

FETCHER = "nonlinear_benchmarks"


class Protocol(NamedTuple):
    """How a benchmark is used, and with which settings.

    Attributes:
      unit: Unit of the scores.
      factor: What a value of the file is multiplied by to be in it.
      initial_steps: Steps n of the test record that the free run is given.
      control_lead: 1 where the record has feed-through, as `Log` takes it.
      window, stride: Time steps of the windows and between them.
      epochs: Epochs of training.
      hidden_units: Sizes of the hidden layers of the transition.
      noise_floors: Least noise of the emission, a fraction of the scale of the data, and of the
        transition. A floor too low makes the model sure of what it has merely fitted.
      published: Names of published models mapped to their RMSE on each test record; the recomputed
        figures of Champneys et al. 2024 (arXiv:2405.10779).
      hidden_steps: Share of the time steps that the posterior is not shown in training and the
        mean length of a run of them, or None.
      activation: Activation of the hidden layers of transition and emission.
      state_bound: Bound of the states that are read, see `layers.Transition`.
      linear_path: Whether the transition has one, see `layers.MLPTransition`.
      emission_units: Sizes of the hidden layers of the emission.
      batch_size: Windows a batch.
      learning_rate: Initial learning rate of Adam.
    """

    unit: str
    factor: float
    initial_steps: int
    control_lead: int
    window: int
    stride: int
    epochs: int
    hidden_units: tuple
    noise_floors: tuple
    published: dict
    hidden_steps: tuple | None = None
    activation: str = "relu"
    state_bound: float = 10.0
    linear_path: bool = False
    emission_units: tuple = (128,)
    batch_size: int = 16
    learning_rate: float = 2e-3


class Records(NamedTuple):
    """The records of a benchmark, (y, u) arrays [steps] each, in the unit of the scores.

    Attributes:
      train: List of pairs.
      test: Names of the test records mapped to pairs.
    """

    train: list
    test: dict[str, Any]


PROTOCOLS = {
    "tanks": Protocol(
        "V", 1.0, 50, 0, 200, 10, 100, (128,), (0.02, 0.005),
        {"LSTM": {"test": 0.493}, "polynomial NARX": {"test": 0.416}, "GRU": {"test": 0.401}},
        state_bound=2.0,
    ),
    "ced": Protocol(
        "ticks/s", 1.0, 10, 0, 100, 5, 600, (128,), (0.05, 0.03),
        {
            "polynomial NARX": {"first": 0.100, "second": 0.141},
            "GP-NARX": {"first": 0.102, "second": 0.0895},
            "best of any method": {"first": 0.0849, "second": 0.0895},
        },
        hidden_steps=(0.7, 30.0),
    ),
    "silverbox": Protocol(
        "mV", 1000.0, 50, 1, 100, 50, 150, (64,), (1e-3, 1e-3),
        {"best recurrent network": {"multisine": 1.49, "arrow": 2.39, "no_extrapolation": 0.947}},
        activation="tanh", linear_path=True, emission_units=(), batch_size=32, learning_rate=0.01,
    ),
}  # fmt: skip


def read(name, path=None):
    """Returns the `Records` of a benchmark from an `.npz` file, or from its owners without one.

    Raises:
      ValueError: If there is no such benchmark, the file is no `.npz` file, or it lacks an array or
        has one of another shape.
    """
    errors.check_choice("benchmark", name, list(PROTOCOLS))
    if path is None:
        return _records(name, Arrays(FETCHER, fetch(name)))
    try:
        arrays = files.read_arrays(path)
    except Exception as error:
        holds_objects = "allow_pickle" in str(error)
        reason = "it holds objects, not numbers" if holds_objects else errors.first_line(error)
        raise ValueError(f"`--data` must be an .npz file; {path}: {reason.rstrip('.')}.") from error
    return _records(name, Arrays(path, arrays))


def fetch(name):
    """Returns the arrays of a benchmark, fetched from its owners by `nonlinear_benchmarks`.

    Raises:
      ValueError: If that package is not installed.
    """
    if importlib.util.find_spec(FETCHER) is None:
        raise ValueError(
            "`--data` must name an .npz file, or be left out with the extra: "
            "pip install tfp_dvbf[benchmarks]."
        )
    package = importlib.import_module(FETCHER)
    if name == "silverbox":
        train, tests = package.Silverbox()
        files = ["test_multisine", "test_arrow_full", "test_arrow_no_extrapolation"]
        records = {"train": train, **dict(zip(files, tests))}
        return {key: np.stack([each.u, each.y], axis=1) for key, each in records.items()}
    parts = package.Cascaded_Tanks() if name == "tanks" else package.CED()
    arrays = {}
    for part, found in zip(["train", "test"], parts):
        for signal in "uy":
            several = [getattr(each, signal) for each in found] if name == "ced" else None
            arrays[f"{signal}_{part}"] = several or getattr(found, signal)
    return {key: np.squeeze(np.asarray(array)) for key, array in arrays.items()}


def _records(name, arrays):
    """Returns the `Records` of the `Arrays` of a benchmark, in the unit of its scores."""
    reader = {"tanks": _tanks, "ced": _ced, "silverbox": _silverbox}[name]
    train, test = reader(arrays)
    factor = PROTOCOLS[name].factor
    scaled = lambda pair: (factor * pair[0], pair[1])  # noqa: E731
    return Records([scaled(pair) for pair in train], {key: scaled(test[key]) for key in test})


class Arrays:
    """The arrays of a file; one that is missing or of another shape raises a ValueError."""

    def __init__(self, path, arrays):
        self.path = path
        self.arrays = arrays

    def get(self, name, *shape):
        """Returns the array `name`, float64 of `shape`; None stands for any size."""
        if name not in self.arrays:
            raise ValueError(f"{self.path} must hold the array {name}; see docs/data.md.")
        array = self.arrays[name]
        fits = array.ndim == len(shape) and all(
            size in (None, given) for size, given in zip(shape, array.shape)
        )
        if not fits or array.dtype.kind not in "fiu":
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(
                f"`{name}` in {self.path} must be numbers of shape [{sizes}]; "
                f"got {array.dtype} {list(array.shape)}."
            )
        return array.astype(np.float64)


def _tanks(arrays):
    train, test = (
        tuple(arrays.get(f"{signal}_{part}", 1024) for signal in "yu") for part in ["train", "test"]
    )
    return [train], {"test": test}


def _ced(arrays):
    train, test = (
        list(zip(*(arrays.get(f"{signal}_{part}", 2, steps) for signal in "yu")))
        for part, steps in [("train", 400), ("test", 100)]
    )
    return train, dict(zip(["first", "second"], test))


def _silverbox(arrays):
    def pair(name):
        record = arrays.get(name, None, 2)
        return record[:, 1], record[:, 0]

    files = {
        "multisine": "test_multisine",
        "arrow": "test_arrow_full",
        "no_extrapolation": "test_arrow_no_extrapolation",
    }
    return [pair("train")], {name: pair(file) for name, file in files.items()}
