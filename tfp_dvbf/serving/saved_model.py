"""Export of a model as a SavedModel that needs nothing but TensorFlow."""

import json
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import tfp_dvbf
from tfp_dvbf import ensemble, errors, registry
from tfp_dvbf.serving import ensemble_signatures, frozen
from tfp_dvbf.serving import signatures as model_signatures

METADATA = "metadata.json"
PROGRAM = "saved_model.pb"
UNITS = {
    "controls, observations and what is named after them": "those of the training data",
    "observed, mask": "1 where a step is observed, 0 where it is missing",
    "states, particles, past, previous": "none",
    "log_weights": "logarithms of weights that sum to 1",
    "step": "time steps since filter_init",
    "log_evidence": "nats a time step",
    "log_prob_bound": "nats a sequence",
}
NOT_ASKED_FOR = "not asked for"


def export(model, path, metadata=None, signatures=None, jit_compile=False):
    """Writes `model` as a SavedModel with the signatures of `signatures.signatures_of`.

    An `Ensemble` becomes one SavedModel with those of `ensemble_signatures.signatures_of`.

    The signatures take batches and sequences of any size; `seed`, `num_samples` and
    `num_particles` are scalar int32, and the same seed gives the same output. Left out are
    `filter_init` and `filter_step` where the model cannot be stepped, `log_prob_bound` where its
    posterior has no density, and what `signatures` does not name. `assets/metadata.json` holds the
    version, the model's arguments, the signatures, what units their tensors have, and `metadata`.

    Args:
      model: A `DVBF` or an `Ensemble`.
      path: Folder to make; it is written whole or not at all.
      metadata: Dictionary for `metadata.json`, such as training arguments, metrics and the spec
        of the data, which names their dimensions; or None.
      signatures: Names of the signatures to write, such as ("filter_init", "filter_step") for a
        stream; a SavedModel of fewer is smaller and is written sooner. None writes all that the
        model has.
      jit_compile: Whether XLA compiles the signatures where they are called, for each combination
        of sizes: its first call takes seconds, and a step of one stream on one core three quarters
        of the time after it. The same seed gives other draws than without XLA. The TensorFlow that
        serves them must have XLA, as its Python packages do, and XLA all operations of the parts:
        one that it lacks ends the first call, and assertions inside of a part are lost.

    Returns:
      Names of the signatures mapped to None, or to why they were left out.

    Raises:
      ValueError: If `path` exists, a weight of the model is not finite, `jit_compile` is not True
        or False, or `signatures` is empty or names one that the model does not have.
    """
    path = pathlib.Path(path)
    if path.exists():
        raise ValueError(f"`path` must not exist yet; got {path}.")
    errors.check_flag("jit_compile", jit_compile)
    model.check_finite_weights()
    made = _signatures_of(model, signatures, jit_compile)
    reasons = {name: signature.reason for name, signature in made.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside `path`, so that a rename puts the whole model there at once.
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        asset = pathlib.Path(folder) / METADATA
        about = {"version": tfp_dvbf.__version__, "model": model.get_config(), "units": UNITS}
        about = {**(metadata or {}), **about, "signatures": reasons}
        asset.write_text(json.dumps(about, indent=1, default=str))
        module = tf.Module()
        module.metadata = tf.saved_model.Asset(str(asset))
        functions = {
            name: frozen.with_constant_weights(signature.function, signature.specs)
            for name, signature in made.items()
            if signature.reason is None
        }
        whole = pathlib.Path(folder) / "saved_model"
        # TFP's custom gradients may capture tensors that cannot be saved; those of the operations
        # serve a tape around a loaded signature.
        save_options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(whole), signatures=functions, options=save_options)
        os.replace(whole, path)
    return reasons


def _signatures_of(model, names, jit_compile):
    """Returns the signatures of a model by name; those that `names` lacks have a reason."""
    kind = ensemble_signatures if isinstance(model, ensemble.Ensemble) else model_signatures
    if names is None:
        return kind.signatures_of(model, jit_compile)
    if isinstance(names, str) or not (names := list(names)):
        raise ValueError(f"`signatures` must be a list of names, one or more; got {names!r}.")
    for name in names:
        errors.check_choice("signatures", name, registry.SIGNATURES)
    made = kind.signatures_of(model, jit_compile)
    for name in names:
        if reason := made[name].reason:
            raise ValueError(
                f"`signatures` must be those that the model can serve; got {name!r}: {reason}."
            )
    others = {
        name: signature._replace(reason=signature.reason or NOT_ASKED_FOR)
        for name, signature in made.items()
        if name not in names
    }
    return {**made, **others}


class Exported(NamedTuple):
    """An exported model.

    Attributes:
      signatures: Names mapped to functions of tensors, given by name, to dictionaries of tensors.
      metadata: What `metadata.json` holds.
    """

    signatures: Any
    metadata: dict


def load_exported(path):
    """Reads what `export` wrote. Where this package is not installed `tf.saved_model.load` does it.

    A SavedModel is a program of TensorFlow's operations: call one only if you trust its origin.

    Args:
      path: The folder of the SavedModel.

    Returns:
      An `Exported`.

    Raises:
      ValueError: If `path` is no SavedModel, damaged or another program's.
    """
    try:
        metadata = json.loads((pathlib.Path(path) / "assets" / METADATA).read_text())
        expected = {name for name, reason in metadata["signatures"].items() if reason is None}
        found = _signature_names(path)
        if found != expected:  # Before it is loaded, which runs its initialisers.
            raise ValueError(f"it must have the signatures {expected}; it has {found}.")
        loaded = tf.saved_model.load(str(path)).signatures
    except Exception as error:  # TensorFlow and protobuf raise a dozen kinds for damaged files.
        reason = errors.first_line(error)
        raise ValueError(f"{path} must be a whole SavedModel of this package; {reason}") from error
    return Exported(loaded, metadata)


def _signature_names(path):
    """Returns the names of the signatures of a SavedModel; nothing of it is run."""
    model = saved_model_pb2.SavedModel.FromString((pathlib.Path(path) / PROGRAM).read_bytes())
    return set(model.meta_graphs[0].signature_def) - {"__saved_model_init_op"}
