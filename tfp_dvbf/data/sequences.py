"""Data sets of sequences: checked, stored and read."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.data import checks, missing, moments


class Batch(NamedTuple):
    """Sequences as the model takes them, missing values set to 0.

    Attributes:
      observations: x[0:T], [batch, time, *observation_shape].
      controls: u[0:T-1], [batch, time - 1, du].
      mask: Whether each step is observed, bool [batch, time]; None where all are.
    """

    observations: Any
    controls: Any
    mask: Any = None

    def repeat(self, times):
        """Returns the sequences `times` over, as tensors, all of them before any comes again."""
        import tensorflow as tf

        def tile(tensor):
            return tf.tile(tensor, [times] + [1] * (len(tensor.shape) - 1))

        return Batch(*(None if tensor is None else tile(tensor) for tensor in self))


ARRAYS = ("observations", "controls", "states", "mask")


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Checked sequences of observations and the controls applied between them.

    Attributes:
      observations: x[0:T], [sequences, time, *observation_shape]. Integers keep their type, bool
        becomes uint8 and anything else float32.
      controls: u[0:T-1], float32 [sequences, time - 1, du]; u[t] acts between x[t] and x[t+1].
        A last control u[T-1] is accepted and dropped. None, for a system without controls, is
        stored as [sequences, time - 1, 0].
      mask: bool [sequences, time], False where a step is missing, or None where none is; the mask
        of a masked array (`numpy.ma`) counts as well. Shorter sequences are padded at their end.
        What stands in missing steps has no effect; it may be NaN and is stored as 0. Controls after
        the last observed step may go on: the first NaN among them ends the sequence, and what
        follows it is stored as 0.
      states: The environment's own states, [sequences, time, ds], or None.
      spec: Where the data come from (environment, observation_scale, seed, ...), or None. Its
        `observation_names` (of vectors) and `control_names`, a name and unit a dimension, label
        plots.

    Raises:
      ValueError: If an array is not numeric or has the wrong shape, if observations or controls
        hold a NaN or infinite value, or if float32 cannot hold the changes of a float64 column.
    """

    observations: np.ndarray
    controls: np.ndarray | None = None
    states: np.ndarray | None = None
    spec: dict | None = None
    mask: np.ndarray | None = None

    def __post_init__(self):
        batch = check_sequences(self.observations, self.controls, self.mask)
        self._check_precision(batch)
        for name, array in batch._asdict().items():
            object.__setattr__(self, name, array)
        if self.states is not None:
            states = checks.numeric_array("states", self.states)
            checks.check_shape("states", states.shape, (len(self),), (self.num_steps,))
            if isinstance(states, np.ma.MaskedArray):
                states = states.astype(np.float64).filled(np.nan)
            object.__setattr__(self, "states", states)
        sizes = {"control_names": self.control_dim}
        if len(self.observation_shape) == 1:
            sizes["observation_names"] = self.observation_shape[0]
        for name, size in sizes.items():
            names = (self.spec or {}).get(name)
            if names is not None and not (isinstance(names, list) and len(names) == size):
                raise ValueError(f"`{name}` in `spec` must be a list of {size}; got {names}.")

    def _check_precision(self, batch):
        """Raises ValueError if the values that were given lose all their changes in float32."""
        observed = np.ones(batch.observations.shape[:2], bool) if batch.mask is None else batch.mask
        counted = {"observations": observed, "controls": missing.steps_follow(observed)}
        for name, steps in counted.items():
            given = getattr(self, name)
            if given is None:
                continue
            values = np.ma.getdata(checks.numeric_array(name, given))
            if values.dtype.kind == "f" and values.dtype.itemsize > 4:
                moments.check_precision(name, values[:, : steps.shape[1]][steps])

    def __len__(self):
        return len(self.observations)

    @property
    def num_steps(self):
        """Observations T of each sequence."""
        return self.observations.shape[1]

    @property
    def observation_shape(self):
        """Shape of an observation, a tuple such as (3,) or (16, 16, 1)."""
        return self.observations.shape[2:]

    @property
    def control_dim(self):
        """Size du of a control, 0 for a system without controls."""
        return self.controls.shape[2]

    @property
    def observed(self):
        """Whether each step is observed, bool [sequences, time]: `mask`, or True everywhere."""
        shape = self.observations.shape[:2]
        return np.ones(shape, bool) if self.mask is None else self.mask

    @property
    def observations_or_nan(self):
        """The observations, NaN in missing steps, float32 [sequences, time, *observation_shape]."""
        observations = self.observations.astype(np.float32)
        observations[~self.observed] = np.nan
        return observations

    def __getitem__(self, index):
        """Selects sequences by a slice or an index array; the spec stays."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        chosen = {name: array if array is None else array[index] for name, array in arrays.items()}
        return Sequences(**chosen, spec=self.spec)

    def windows(self, length, stride=None):
        """Cuts every sequence into windows: a batch of many short ones takes less time than of few.

        The last time steps of a sequence, too few for another window, are left out; so are windows
        without an observed time step.

        Args:
          length: Time steps of a window.
          stride: Time steps from the start of a window to that of the next; None for `length`, so
            that windows do not overlap.

        Returns:
          `Sequences` of `length` time steps; those of the first sequence come first. The spec
          holds the arguments as well.

        Raises:
          ValueError: If the sequences are shorter, or no window has an observed time step.
        """
        length = errors.check_integer("length", length, least=2)
        stride = errors.check_integer("stride", length if stride is None else stride, least=1)
        if length > self.num_steps:
            raise ValueError(
                f"`length` must not exceed the {self.num_steps} time steps of a sequence; "
                f"got {length}."
            )
        steps = np.arange(0, self.num_steps - length + 1, stride)[:, np.newaxis] + np.arange(length)
        rows, windows = np.nonzero(self.observed[:, steps].any(axis=-1))
        if not len(rows):
            raise ValueError("`mask` must have an observed time step in one of the windows.")
        rows, steps = rows[:, np.newaxis], steps[windows]
        arrays = {name: getattr(self, name) for name in ARRAYS}
        cut = {
            name: array[rows, steps[:, :-1] if name == "controls" else steps]
            for name, array in arrays.items()
            if array is not None
        }
        return Sequences(**cut, spec={**(self.spec or {}), "window": length, "stride": stride})


def check_sequences(
    observations, controls=None, mask=None, observation_shape=None, control_dim=None, min_steps=2
):
    """Returns checked sequences as a `Batch`; its mask is None if nothing is missing.

    Missing steps, and controls from the first NaN after the last observed step on, are 0 in it;
    `known_steps` of the controls given says where a sequence ends.

    Args:
      observations: [batch, time, *observation_shape], an array, masked array or nested list.
      controls: [batch, time - 1 or time, du], or None where there are none.
      mask: [batch, time], 0 where a step is missing, or None.
      observation_shape: Shape of an observation that is expected, a tuple or the size of a vector.
      control_dim: Size of a control that is expected.
      min_steps: Number of steps that are needed.

    Raises:
      ValueError: If they are not numeric, do not fit each other or the sizes, or hold a NaN that
        the mask does not cover.
    """
    observations = checks.numeric_array("observations", observations)
    shape = None
    if controls is not None:
        controls = checks.check_numeric("controls", controls)
        shape = controls.shape
    checks.check_shapes(observations.shape, shape, observation_shape, control_dim, min_steps)
    batch, steps = observations.shape[:2]
    if controls is None:
        controls = np.zeros([batch, steps - 1, 0], np.float32)
    controls = controls[:, : steps - 1]
    mask = missing.observed_steps(observations, mask)
    observations = np.ma.filled(observations, 0)
    observations = observations.astype(checks.stored_dtype(observations.dtype), copy=False)
    if mask is not None:
        observations = missing.zero_unless(mask, observations)
        controls = missing.zero_unless(missing.known_steps(controls, mask)[:, 1:], controls)
        mask = None if mask.all() else mask
    checks.check_finite(observations=observations, controls=controls)
    return Batch(observations, controls, mask)


def shift_controls(sequences):
    """Returns the sequences with every control one step late, as the poster's code paired them.

    The model then sees u[t-1] between x[t] and x[t+1]; before the first control it sees 0, where
    the Ornstein-Uhlenbeck policy starts.
    """
    late = np.zeros_like(sequences.controls)
    late[:, 1:] = sequences.controls[:, :-1]
    spec = {**(sequences.spec or {}), "controls": "one step late"}
    return dataclasses.replace(sequences, controls=late, spec=spec)
