"""A data set in several files: checked by their headers, read one by one."""

import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from tfp_dvbf import data
from tfp_dvbf.data import checks

HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Header(NamedTuple):
    """What one shard holds: its number of sequences, the size of each and their type."""

    num_sequences: int
    num_steps: int
    observation_shape: tuple
    control_dim: int
    observation_dtype: np.dtype
    has_mask: bool

    @property
    def sizes(self):
        """What must be the same in all shards, in words."""
        return (
            f"{self.num_steps} steps, observation_shape {self.observation_shape}, "
            f"control_dim {self.control_dim}"
        )


class Shards:
    """A data set in several `.npz` files, larger than memory: sequences of equal size.

    Only the headers of the arrays are read here; `load` reads one file.

    Args:
      folder: Path of the folder; each of its `.npz` files is one that `load` takes.

    Attributes:
      paths: The files, in the order of their names.
      num_steps: Observations T of each sequence.
      observation_shape: Shape of an observation, a tuple.
      control_dim: Size du of a control, 0 without controls.
      observation_dtype: Type that holds the observations of all files: the integer type that they
        have, or float32.
      has_mask: Whether any of the files has a mask.

    Raises:
      ValueError: If there is no `.npz` file in the folder, one cannot be read, or one has
        other sizes than the first.
    """

    def __init__(self, folder):
        self.paths = sorted(pathlib.Path(folder).glob("*.npz"))
        if not self.paths:
            raise ValueError(f"`folder` must hold .npz files; got {folder}.")
        self._headers = [_read_header(path) for path in self.paths]
        first = self._headers[0]
        for path, header in zip(self.paths, self._headers):
            if header.sizes != first.sizes:
                raise ValueError(
                    f"{path} must have the sizes of {self.paths[0].name}, {first.sizes}; "
                    f"got {header.sizes}."
                )
        self.num_steps, self.observation_shape, self.control_dim = first[1:4]
        dtypes = [header.observation_dtype for header in self._headers]
        self.observation_dtype = checks.stored_dtype(np.result_type(*dtypes))
        self.has_mask = any(header.has_mask for header in self._headers)

    def __len__(self):
        """Returns the number of sequences in all files."""
        return sum(header.num_sequences for header in self._headers)

    @property
    def spec(self):
        """Where the first file comes from, or None."""
        return self.load(0).spec

    def load(self, index):
        """Reads one file.

        Returns:
          Its `Sequences`.

        Raises:
          ValueError: If the file is damaged or has changed since its header was read.
        """
        path, header = self.paths[index], self._headers[index]
        sequences = data.load(path)
        held = Header(
            len(sequences),
            sequences.num_steps,
            sequences.observation_shape,
            sequences.control_dim,
            sequences.observations.dtype,
            sequences.mask is not None,
        )
        if held[:5] != header[:5] or (held.has_mask and not header.has_mask):
            was, now = (
                f"{each.num_sequences} sequences, {each.sizes}, {each.observation_dtype}"
                for each in (header, held)
            )
            raise ValueError(
                f"{path} must not change while it is in use; it held {was} and holds {now}."
            )
        return sequences

    def parts(self):
        """Yields the `Sequences` of one file after the other."""
        return map(self.load, range(len(self.paths)))


def _read_header(path):
    """Returns the `Header` of an `.npz` file, no array of which is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            present = set(archive.namelist())
            arrays = {
                name: _read_array_header(archive, f"{name}.npy")
                for name in data.ARRAYS
                if f"{name}.npy" in present
            }
    except Exception as error:  # zipfile and NumPy raise a dozen kinds for damaged files.
        raise ValueError(f"{path} must be an .npz file of numeric arrays; {error}.") from error
    data.check_names(path, arrays)
    with data.naming(path):
        for name, (_, dtype) in arrays.items():
            checks.numeric_array(name, np.empty(0, dtype))
        shape, dtype = arrays["observations"]
        controls = arrays["controls"][0] if "controls" in arrays else None
        checks.check_shapes(shape, controls)
    batch, steps, *observation_shape = shape
    control_dim = 0 if controls is None else controls[2]
    dtype = checks.stored_dtype(dtype)
    return Header(batch, steps, tuple(observation_shape), control_dim, dtype, "mask" in arrays)


def _read_array_header(archive, name):
    """Returns shape and dtype of one array in an open `.npz` file."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = HEADER_READERS[version](file)
    return shape, dtype
