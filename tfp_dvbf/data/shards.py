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
    """What one shard holds: its number of sequences and the size of each."""

    num_sequences: int
    num_steps: int
    observation_dim: int
    control_dim: int
    has_mask: bool


class Shards:
    """A data set in several `.npz` files, larger than memory: sequences of equal size.

    Only the headers of the arrays are read here; `load` reads one file.

    Args:
      folder: Path of the folder; each of its `.npz` files is one that `load` takes.

    Attributes:
      paths: The files, in the order of their names.
      num_steps: Observations T of each sequence.
      observation_dim: Size dx of an observation.
      control_dim: Size du of a control.
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
        sizes = self._headers[0][1:4]
        for path, header in zip(self.paths, self._headers):
            if header[1:4] != sizes:
                raise ValueError(
                    f"{path} must have the sizes [time, dx, du] of {self.paths[0].name}, "
                    f"{list(sizes)}; got {list(header[1:4])}."
                )
        self.num_steps, self.observation_dim, self.control_dim = sizes
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
        sizes = (len(sequences), *(getattr(sequences, name) for name in Header._fields[1:4]))
        if sizes != header[:4] or (sequences.mask is not None and not header.has_mask):
            raise ValueError(
                f"{path} must not change while it is in use; it held {list(header[:4])} "
                f"[sequences, time, dx, du] and holds {list(sizes)}."
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
            checks.check_numeric(name, np.empty(0, dtype))
        observations, controls = arrays["observations"][0], arrays["controls"][0]
        checks.check_shapes(observations, controls)
    return Header(*observations, controls[2], "mask" in arrays)


def _read_array_header(archive, name):
    """Returns shape and dtype of one array in an open `.npz` file."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = HEADER_READERS[version](file)
    return shape, dtype
