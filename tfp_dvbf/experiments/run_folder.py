"""Run folders: the data a run uses, what it leaves behind, and how it is read again."""

import contextlib
import json
import os
import pathlib
import zipfile

import numpy as np

from tfp_dvbf import data, errors
from tfp_dvbf.data import shards
from tfp_dvbf.experiments import tables

HELD_OUT = 0.2
ARGS = "args.json"  # What defines the run.
METRICS = "metrics.json"  # Written last: a run folder that has it is finished.
OWN_NAME = "tfp_dvbf>DVBF"
# The objects that a saved model may hold, by their place in its config: Keras looks names up by
# rules of its own, and would call what it finds.
TRUSTED = {
    (): ("tfp_dvbf.dvbf", "DVBF"),
    ("compile_config", "optimizer"): (
        "keras.optimizers",
        *["Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam"],
        *["RMSprop", "SGD"],
    ),
    ("compile_config", "optimizer", "config", "learning_rate"): (
        "keras.optimizers.schedules",
        *["CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay"],
        *["PiecewiseConstantDecay", "PolynomialDecay"],
    ),
}


def read_splits(path):
    """Returns training, validation and test `Sequences`.

    `path` is a folder with `train.npz`, `validation.npz` and `test.npz`, or one `.npz` file whose
    last 20 % are held out and serve as both validation and test set. A folder may hold `train/`,
    a folder of such files, in place of `train.npz`; the training set is then `Shards`.

    Raises:
      ValueError: If a file is missing, damaged or too small, or its dimensions differ.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise ValueError(f"`data` must be a folder or an .npz file; {path} does not exist.")
    sequences = data.load(path)
    held_out = int(HELD_OUT * len(sequences))
    if held_out == 0:
        raise ValueError(f"{path} must have 5 sequences or more to hold some out.")
    rest, held_out = sequences[:-held_out], sequences[-held_out:]
    return [rest, held_out, held_out]


def _read_folder(path):
    folder = path / "train"
    names = ["validation", "test"] if folder.is_dir() else ["train", "validation", "test"]
    files = [path / f"{name}.npz" for name in names]
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise ValueError(f"The folder `data` must hold {', '.join(missing)}.")
    if folder.is_dir() and (path / "train.npz").exists():
        raise ValueError(f"The folder `data` must hold train.npz or train/; {path} holds both.")
    splits = [shards.Shards(folder)] if folder.is_dir() else []
    splits += [data.load(file) for file in files]
    dims = {(split.observation_shape, split.control_dim) for split in splits}
    if len(dims) > 1:
        raise ValueError(f"The files in {path} must have the same dimensions; got {dims}.")
    return splits


def data_hash(splits):
    """Returns one hash of all splits, so that a resumed run meets the data it was started with.

    Shards are read whole, one by one, so that a damaged one is found before the run begins.
    """
    arrays = {}
    for index, split in enumerate(splits):
        if isinstance(split, shards.Shards):
            parts = [data.content_hash(_defining_arrays(part)) for part in split.parts()]
            arrays[f"parts{index}"] = np.array(parts)
        else:
            arrays.update(_defining_arrays(split, index))
    return data.content_hash(arrays)


def _defining_arrays(sequences, index=0):
    """Returns what a model is trained on, each array under its name and `index`."""
    names = ["observations", "controls"] + ["mask"] * (sequences.mask is not None)
    return {f"{name}{index}": getattr(sequences, name) for name in names}


def open_run(output, config, resume):
    """Makes the run folder, or checks that it holds the same run; see `check_run`.

    Returns:
      The folder as a `pathlib.Path`.
    """
    output = pathlib.Path(output)
    check_run(output, config, resume)
    if not (output / ARGS).exists():
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / ARGS, config)
    return output


@contextlib.contextmanager
def only_process(folder):
    """Keeps other processes that ask for the same out of a folder, for as long as this one lives.

    Raises:
      ValueError: If another process is in the folder.
    """
    try:
        import fcntl
    except ImportError:  # Windows.
        yield
        return
    with open(pathlib.Path(folder) / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"Another process is at work in {folder}.") from error
        except OSError:  # A file system without locks.
            pass
        yield


def check_run(output, config, resume):
    """Checks that a run may use a folder.

    Args:
      output: The folder, a `pathlib.Path`.
      config: What defines the run, to be written as `args.json`.
      resume: Whether an existing folder is continued.

    Raises:
      ValueError: If the folder exists and is not to be continued, or holds another run. An empty
        folder counts as none.
    """
    if not output.exists() or not any(output.iterdir()):
        return
    if not resume:
        raise ValueError(f"`--output` must not exist yet without `--resume`; got {output}.")
    if not (output / ARGS).exists():
        raise ValueError(f"`--output` must be a run folder with args.json; got {output}.")
    before = read_json(output / ARGS)
    if missing := [name for name in config if name not in before]:
        raise ValueError(f"{output} is of another version of tfp_dvbf: {ARGS} lacks {missing[0]}.")
    # The same data may lie elsewhere; their hash is one of the arguments.
    changed = [name for name in config if name != "data" and before.get(name) != config[name]]
    if changed:
        raise ValueError(f"{output} was started with other arguments: {', '.join(changed)}.")


def is_finished(run):
    """Returns whether the run of a run folder has ended."""
    return (pathlib.Path(run) / METRICS).exists()


def save_model(path, model):
    """Writes `model` to the `.keras` file `path`, whole or not at all."""
    partial = path.with_name("partial.keras")
    model.save(partial)
    os.replace(partial, path)


def load_model(run):
    """Returns the model of a run folder, of a `.keras` file, or of the folder of an `Ensemble`.

    Raises:
      ValueError: If there is no readable model.
    """
    import tf_keras

    from tfp_dvbf import dvbf, ensemble  # noqa: F401  The first registers the class.

    path = pathlib.Path(run)
    if (path / ensemble.INDEX).exists():
        count = errors.check_integer("members", read_json(path / ensemble.INDEX).get("members"))
        members = [load_model(path / ensemble.member_file(index)) for index in range(count)]
        return ensemble.Ensemble.of(members)
    path = path / "model.keras" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"`model` must be a run folder with model.keras; {path} does not exist.")
    try:
        _check_archive(path)
        model = tf_keras.models.load_model(path)
        model.check_finite_weights()
        return model
    except Exception as error:  # zipfile, h5py, Keras and JSON raise a dozen kinds.
        reason = errors.first_line(error)
        raise ValueError(f"{path} must be a model saved by this package; {reason}") from error


def _check_archive(path):
    """Raises ValueError unless `path` is a `.keras` file of a `DVBF` and its optimizer alone.

    Keras would unmarshal the functions in an HDF5 file, import whatever a config names, and call
    functions of its own, with arguments of the config's.
    """
    if path.suffix != ".keras":
        raise ValueError("its name does not end in .keras.")
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    if config["registered_name"] != OWN_NAME:
        raise ValueError(f"it is a Keras {config['class_name']}.")
    if "observation_dim" in config["config"]:
        raise ValueError("it was saved by tfp_dvbf 0.2; train it again with this version.")
    foreign = sorted(set(_foreign_objects(config)))
    if foreign:
        raise ValueError(
            f"it holds more than a model and its optimizer: {', '.join(foreign)}. Parts of your "
            "own must be registered before, by importing their module (`--import`)."
        )


def _foreign_objects(config, place=()):
    """Yields the names of the objects in a Keras config that are not `TRUSTED` at their place."""
    items = enumerate(config) if isinstance(config, list) else ()
    if isinstance(config, dict):
        items = config.items()
        if {"class_name", "module", "registered_name"} & set(config):
            names, own = (
                (config.get("module"), config.get("class_name")),
                config.get("registered_name"),
            )
            module, *classes = TRUSTED.get(place, (None,))
            trusted = names[0] == module and names[1] in classes and own in (None, OWN_NAME)
            if not trusted and not _is_registered_part(own, place):
                yield own if names[0] is None and own else ".".join(map(str, names))
    for name, value in items:
        yield from _foreign_objects(value, (*place, name))


def _is_registered_part(name, place):
    """Returns whether a config at `place` is that of a part whose class this process registered."""
    import tf_keras

    from tfp_dvbf.layers import part

    registered = tf_keras.saving.get_registered_object(name) if name else None
    is_part = isinstance(registered, type) and issubclass(registered, part.Part)
    return is_part and len(place) == 2 and place[0] == "config"


def training_seconds(run):
    """Returns the seconds that training a run folder took, None where that is not known."""
    path = pathlib.Path(run) / METRICS
    return read_json(path).get("seconds") if path.is_file() else None


def read_json(path):
    """Returns the object in the JSON file `path`.

    Raises:
      ValueError: If there is none; the message names the file.
    """
    try:
        value = json.loads(pathlib.Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON file; {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(value).__name__}.")
    return value


def write_json(path, value):
    """Writes `value` as readable JSON, whole or not at all."""
    partial = pathlib.Path(f"{path}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, path)


def write_report(folder, rows, **about):
    """Writes the rows of a report and what it is about as `report.json` and, last, `report.md`."""
    keys = list(tables.COLUMNS)
    rows = [{key: row[key] for key in keys if key in row} for row in rows]
    write_json(folder / "report.json", {**about, "rows": rows})
    (folder / "report.md").write_text(tables.format_table(rows) + "\n")
