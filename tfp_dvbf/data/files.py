"""Sequences in `.npz` files, checked by their hash."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
import zipfile

import numpy as np

from tfp_dvbf.data.sequences import ARRAYS, Sequences


def save(path, sequences):
    """Writes `sequences` to the `.npz` file `path`, whole or not at all."""
    arrays = {name: getattr(sequences, name) for name in ARRAYS}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    spec = {**(sequences.spec or {}), "sha256": content_hash(arrays)}
    temporary = f"{path}.partial"
    with open(temporary, "wb") as file:
        np.savez_compressed(file, spec=json.dumps(spec), **arrays)
    os.replace(temporary, path)


def read_arrays(path):
    """Returns the arrays of an `.npz` file by name; never unpickles.

    Raises:
      ValueError: If the file is no archive; for damaged ones zipfile, zlib and NumPy raise a dozen
        other kinds.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no archive as np.savez writes it, or not the whole of one")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}


def load(path):
    """Reads `Sequences` from an `.npz` file; never unpickles.

    The file holds `observations` [N, T, *observation_shape] and, optionally, `controls`
    [N, T or T - 1, du], `states` [N, T, ds], `mask` [N, T] and `spec` (JSON).

    Raises:
      ValueError: If the file is not such a file, or does not match the hash in its spec; the
        message names the file.
    """
    try:
        arrays = read_arrays(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} must be an .npz file of numeric arrays; {error}.") from error
    check_names(path, arrays)
    try:
        spec = json.loads(str(arrays.get("spec", "{}")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: `spec` must be JSON; {error}.") from error
    if not isinstance(spec, dict):
        raise ValueError(f"{path}: `spec` must be a JSON object; got {spec!r}.")
    stored = {name: arrays[name] for name in ARRAYS if name in arrays}
    if "sha256" in spec and spec["sha256"] != content_hash(stored):
        raise ValueError(f"{path} is corrupt: its content does not match its sha256.")
    with naming(path):
        return Sequences(**stored, spec=spec or None)


def check_names(path, names):
    """Raises ValueError unless `names`, those in the file `path`, are enough."""
    if "observations" not in names:
        held = ", ".join(sorted(names)) or "nothing"
        raise ValueError(f"{path} must hold `observations`; it holds {held}.")


@contextlib.contextmanager
def new_folder(path):
    """Yields a folder that becomes `path` if the block ends well; otherwise nothing is left."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        whole = pathlib.Path(folder) / path.name
        whole.mkdir()
        yield whole
        os.replace(whole, path)


@contextlib.contextmanager
def naming(path):
    """Puts the name of the file `path` before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def content_hash(arrays):
    """Returns the SHA-256 of named arrays, their dtypes and shapes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
