"""Data sets of sequences: checked, stored and read."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tfp_dvbf.data import checks, missing


class Batch(NamedTuple):
    """Sequences as the model takes them, missing values set to 0.

    Attributes:
      observations: x[0:T], [batch, time, dx].
      controls: u[0:T-1], [batch, time - 1, du].
      mask: Whether each frame is there, bool [batch, time]; None where all are.
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
      observations: x[0:T], float32 [sequences, time, dx].
      controls: u[0:T-1], float32 [sequences, time - 1, du]; u[t] acts between x[t] and x[t+1].
        A last control u[T-1] is accepted and dropped.
      mask: bool [sequences, time], False where a frame is missing, or None where none is. Shorter
        sequences are padded at their end. What stands in missing frames, and in controls after
        the last frame of a sequence, has no effect; it may be NaN and is stored as 0.
      states: The environment's own states, [sequences, time, ds], or None.
      spec: Where the data come from (environment, observation_scale, seed, ...), or None. Its
        `observation_names` and `control_names`, a name and unit a dimension, label plots.

    Raises:
      ValueError: If an array is not numeric or has the wrong shape, or if observations or controls
        hold a NaN or infinite value.
    """

    observations: np.ndarray
    controls: np.ndarray
    states: np.ndarray | None = None
    spec: dict | None = None
    mask: np.ndarray | None = None

    def __post_init__(self):
        batch = check_sequences(self.observations, self.controls, self.mask)
        for name, array in batch._asdict().items():
            object.__setattr__(self, name, array)
        if self.states is not None:
            checks.check_numeric("states", self.states)
            object.__setattr__(self, "states", np.asarray(self.states))
            checks.check_shape("states", self.states.shape, (len(self),), (self.num_steps,))
        sizes = {"observation_names": self.observation_dim, "control_names": self.control_dim}
        for name, size in sizes.items():
            names = (self.spec or {}).get(name)
            if names is not None and not (isinstance(names, list) and len(names) == size):
                raise ValueError(f"`{name}` in `spec` must be a list of {size}; got {names}.")

    def __len__(self):
        return len(self.observations)

    @property
    def num_steps(self):
        """Observations T of each sequence."""
        return self.observations.shape[1]

    @property
    def observation_dim(self):
        """Size dx of an observation."""
        return self.observations.shape[2]

    @property
    def control_dim(self):
        """Size du of a control."""
        return self.controls.shape[2]

    @property
    def present(self):
        """Whether each frame is there, bool [sequences, time]: `mask`, or True everywhere."""
        shape = self.observations.shape[:2]
        return np.ones(shape, bool) if self.mask is None else self.mask

    @property
    def observations_or_nan(self):
        """The observations, NaN in missing frames, [sequences, time, dx]."""
        return np.where(self.present[..., np.newaxis], self.observations, np.float32(np.nan))

    def __getitem__(self, index):
        """Selects sequences by a slice or an index array; the spec stays."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        chosen = {name: array if array is None else array[index] for name, array in arrays.items()}
        return Sequences(**chosen, spec=self.spec)


def check_sequences(
    observations, controls, mask=None, observation_dim=None, control_dim=None, min_steps=2
):
    """Returns float32 sequences as a `Batch`; its mask is None if nothing is missing.

    Raises:
      ValueError: If they are not numeric, do not fit each other or the dimensions, or hold a NaN
        that the mask does not cover.
    """
    observations = checks.check_numeric("observations", observations)
    controls = checks.check_numeric("controls", controls)
    checks.check_shapes(observations.shape, controls.shape, observation_dim, control_dim, min_steps)
    controls = controls[:, : observations.shape[1] - 1]
    if mask is not None:
        mask = checks.check_mask(mask, observations.shape[:2])
        observations = np.where(mask[..., np.newaxis], observations, np.float32(0))
        controls = np.where(missing.frames_follow(mask)[..., np.newaxis], controls, np.float32(0))
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
