"""Exported models: parity with the model in memory, streaming against exact answers."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfp_dvbf import data, registry
from tfp_dvbf.serving import saved_model, signatures

SIZES = [(1, 2), (5, 8), (12, 5)]  # Sequences and steps.


def stepped(model, sequences):
    """Returns arguments and answers of `filter_init` and `filter_step`, without the export."""
    functions = signatures.Functions(model)
    x, u = sequences.observations, sequences.controls
    seed, size = np.int32(3), np.int32(4)
    start = x[:, : model.recognition_model.initial_steps]
    first = {"initial_observations": start, "num_particles": size, "seed": seed}
    out = functions.filter_init(**{name: tf.constant(value) for name, value in first.items()})
    belief = {name: value.numpy() for name, value in out.items() if name != "log_evidence"}
    observed = np.arange(len(x), dtype=np.float32) % 2
    step = {"observations": x[:, 1], "controls": u[:, 0], "observed": observed, "seed": seed}
    step = {**belief, **step}
    moved = functions.filter_step(**{name: tf.constant(value) for name, value in step.items()})
    return {"filter_init": (first, out), "filter_step": (step, moved)}


def in_memory(model, sequences):
    """Returns what the model itself answers, by signature, for one batch."""
    x, u = sequences.observations, sequences.controls
    first = x[:, : model.recognition_model.initial_steps]
    mask = np.ones(x.shape[:2], np.float32)
    mask[:, -1] = 0
    context = max(x.shape[1] // 2, model.recognition_model.initial_steps)
    past = np.ones([len(x), context], np.float32)
    past[::2, -1] = 0
    first_mask = np.ones(first.shape[:2], np.float32)
    first_mask[::2] = 0
    seed, draws = {"seed": np.int32(3)}, {"num_samples": np.int32(4)}
    calls = {
        "sample_posterior": {"observations": x, "controls": u, "mask": mask, **seed},
        "forecast": {
            **{"observations": x[:, :context], "controls": u, "mask": past},
            **draws,
            **seed,
        },
        "generate": {
            **{"initial_observations": first, "controls": u, "mask": first_mask},
            **draws,
            **seed,
        },
    }
    drawn = model.sample_posterior(x, u, 1, 3, mask)
    answers = {
        "sample_posterior": {name: tensor[0] for name, tensor in drawn._asdict().items()},
        "generate": model.generate(u, first, num_samples=4, seed=3, mask=first_mask)._asdict(),
    }
    if u.shape[1] >= context:
        answers["forecast"] = model.forecast(x[:, :context], u, 4, 3, past)._asdict()
    if "iwae" in model.bounds:
        calls["log_prob_bound"] = {"observations": x, "controls": u, "mask": mask, **draws, **seed}
        answers["log_prob_bound"] = {"log_prob_bound": model.log_prob_bound(x, u, 4, 3, mask=mask)}
    return {name: (calls[name], answer) for name, answer in answers.items()}


LOADER = """
import builtins, pathlib, sys
real = builtins.__import__
def guarded(name, *args, **kwargs):
    if name.split(".")[0] in ("tfp_dvbf", "tensorflow_probability", "tf_keras"):
        raise ImportError(name)
    return real(name, *args, **kwargs)
builtins.__import__ = guarded
import numpy as np, tensorflow as tf
folder = pathlib.Path(sys.argv[1])
loaded = {}
for case in sorted(folder.glob("*.npz")):
    path, name, _ = case.stem.split("--")
    if path not in loaded:
        loaded = {path: tf.saved_model.load(sys.argv[2] + "/" + path)}
    signature = loaded[path].signatures[name]
    arrays = dict(np.load(case))
    result = signature(**{key: tf.constant(value) for key, value in arrays.items()})
    np.savez(folder / "out" / case.name, **{key: value.numpy() for key, value in result.items()})
"""


@pytest.mark.slow
def test_parity_in_a_process_without_the_libraries(exported, sequences, tmp_path):
    (tmp_path / "out").mkdir()
    expected = {}
    for name, (model, _, reasons) in exported.items():
        for batch, steps in SIZES:
            part = data.Sequences(
                sequences.observations[:batch, :steps], sequences.controls[:batch, : steps - 1]
            )
            answers = in_memory(model, part)
            if reasons["filter_init"] is None:
                answers.update(stepped(model, part))
            for signature, (arguments, answer) in answers.items():
                case = f"{name}--{signature}--{batch}x{steps}.npz"
                np.savez(tmp_path / case, **arguments)
                expected[case] = answer
    root = str(exported["iaf"][1].parent)
    command = [sys.executable, "-c", LOADER, str(tmp_path), root]
    subprocess.run(command, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    for case, answer in expected.items():
        actual = np.load(tmp_path / "out" / case)
        assert set(actual) == set(answer)
        for key, value in answer.items():
            # A log weight is what is left of log densities, whose size is that of the evidence.
            size = np.abs(answer["log_evidence"]).max() if key == "log_weights" else 1.0
            tolerance = {"rtol": 1e-5, "atol": 1e-5 * max(1.0, size)}
            np.testing.assert_allclose(actual[key], value, **tolerance, err_msg=case)
    assert {case.split("--")[1] for case in expected} == {*registry.SIGNATURES}
    assert len(expected) > 60


def test_what_is_left_out_and_why(exported):
    left_out = {
        name: {signature for signature, reason in reasons.items() if reason}
        for name, (_, _, reasons) in exported.items()
    }
    streams = {"filter_init", "filter_step"}
    for name in ["innovation", "gaussian", "iaf", "trajectory_iaf", "two_frames"]:
        assert not left_out[name]
    assert left_out["smoother"] == streams
    assert left_out["chain_iaf"] == {*streams, "log_prob_bound"}
    for _, (_, path, reasons) in exported.items():
        loaded = tf.saved_model.load(str(path))
        assert set(loaded.signatures) == {name for name in reasons if not reasons[name]}


def test_signatures_that_are_asked_for_alone(exported, tmp_path):
    model, _, _ = exported["chain_iaf"]
    reasons = saved_model.export(model, tmp_path / "model", signatures=iter(["generate"]))
    assert {name for name, reason in reasons.items() if not reason} == {"generate"}
    assert reasons["forecast"] == "not asked for" != reasons["filter_step"]
    assert {*saved_model.load_exported(tmp_path / "model").signatures} == {"generate"}
    for names, message in [
        (["generated"], "`signatures` must be one of .* did you mean 'generate'"),
        ("generate", "`signatures` must be a list of names, one or more; got 'generate'"),
        ([], "`signatures` must be a list of names, one or more; got "),
        (["filter_step"], "that the model can serve; got 'filter_step': .*one draw"),
    ]:
        with pytest.raises(ValueError, match=message):
            saved_model.export(model, tmp_path / "refused", signatures=names)
    assert not (tmp_path / "refused").exists()


def shapes_of(outputs):
    return {name: tensor.shape for name, tensor in outputs.items()}


def is_compiled(path):
    content = (pathlib.Path(path) / saved_model.PROGRAM).read_bytes()
    functions = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def.library
    return any(function.attr["_XlaMustCompile"].b for function in functions.function)


def test_signatures_that_xla_compiles(exported, sequences, tmp_path):
    model, path, _ = exported["innovation"]
    names = ["filter_init", "filter_step"]
    saved_model.export(model, tmp_path / "model", signatures=names, jit_compile=True)
    compiled = saved_model.load_exported(tmp_path / "model").signatures
    assert is_compiled(tmp_path / "model") and not is_compiled(path)
    for name, (arguments, answer) in stepped(model, sequences).items():
        tensors = {key: tf.constant(value) for key, value in arguments.items()}
        found, again = (compiled[name](**tensors) for _ in range(2))
        assert shapes_of(found) == shapes_of(answer)
        np.testing.assert_array_equal(found["particles"], again["particles"])
    # Assertions, which XLA leaves out, are kept.
    start = {"num_particles": tf.constant(4), "seed": tf.constant(1)}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must have shape \[any, 1, 3\]"):
        compiled["filter_init"](initial_observations=tf.zeros([2, 2, 3]), **start)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be finite"):
        compiled["filter_init"](initial_observations=tf.fill([2, 1, 3], np.nan), **start)
    with pytest.raises(ValueError, match="`jit_compile` must be True or False; got 'auto'"):
        saved_model.export(model, tmp_path / "refused", jit_compile="auto")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iaf", "trajectory_iaf", "smoother"])
def test_xla_compiles_every_signature(exported, sequences, tmp_path, name):
    model, _, reasons = exported[name]
    assert saved_model.export(model, tmp_path / "model", jit_compile=True) == reasons
    compiled = saved_model.load_exported(tmp_path / "model").signatures
    answers = in_memory(model, sequences)
    if reasons["filter_init"] is None:
        answers |= stepped(model, sequences)
    assert set(answers) == set(compiled)
    for signature, (arguments, answer) in answers.items():
        found = compiled[signature](**{key: tf.constant(arguments[key]) for key in arguments})
        assert shapes_of(found) == shapes_of(answer)
        for value in found.values():
            assert np.all(np.isfinite(value))


def test_metadata_travels_inside(exported):
    _, path, _ = exported["iaf"]
    about = json.loads((path / "assets" / saved_model.METADATA).read_text())
    assert about["model"]["posterior"]["class_name"] == "IAF"
    assert about["metrics"] == {"elbo": 1.5}
    assert about["units"]["log_evidence"] == "nats a time step"
    assert about["version"] and set(about["signatures"]) == {*registry.SIGNATURES}


def test_an_existing_path_is_kept(exported, tmp_path):
    model, _, _ = exported["gaussian"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(ValueError, match="`path` must not exist yet"):
        saved_model.export(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "kept"


def test_export_touches_nothing_else(exported, tmp_path):
    (tmp_path / "new.partial").mkdir()
    saved_model.export(exported["gaussian"][0], tmp_path / "new", signatures=["generate"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.partial"]
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "new.partial").stat().st_mode
    with pytest.raises(ZeroDivisionError):
        saved_model.export(exported["gaussian"][0], tmp_path / "b", {"metrics": Unprintable()})
    assert not list(tmp_path.glob("b*"))


class Unprintable:
    def __str__(self):
        return str(1 / 0)


@pytest.mark.slow
def test_saved_model_cli(exported, sequences, tmp_path):
    _, path, _ = exported["iaf"]
    tool = str(pathlib.Path(sys.executable).parent / "saved_model_cli")
    run = {"check": True, "capture_output": True, "text": True}
    shown = subprocess.run([tool, "show", "--dir", str(path), "--all"], **run).stdout
    assert "filter_step" in shown and "predicted_observation_mean" in shown
    np.save(tmp_path / "x.npy", sequences.observations)
    np.save(tmp_path / "u.npy", sequences.controls)
    np.save(tmp_path / "mask.npy", np.ones(sequences.observations.shape[:2], np.float32))
    arrays = {"observations": "x", "controls": "u", "mask": "mask"}
    inputs = ";".join(f"{name}={tmp_path}/{file}.npy" for name, file in arrays.items())
    expressions = "num_samples=4;seed=3"
    subprocess.run(
        [
            *[tool, "run", "--dir", str(path), "--tag_set", "serve"],
            *["--signature_def", "log_prob_bound", "--inputs", inputs],
            *["--input_exprs", expressions, "--outdir", str(tmp_path)],
        ],
        **run,
    )
    actual = np.load(tmp_path / "log_prob_bound.npy")
    expected = exported["iaf"][0].log_prob_bound(
        sequences.observations, sequences.controls, 4, seed=3
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def damaged_copies(path, folder):
    """Yields copies of an exported model, each with one thing wrong."""
    weights = "variables/variables.data-00000-of-00001"
    for name in ["saved_model.pb", weights, "variables/variables.index", "assets/metadata.json"]:
        copy = folder / name.replace("/", "-")
        shutil.copytree(path, copy)
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
        yield copy
    shutil.copytree(path, folder / "missing")
    (folder / "missing" / "variables" / "variables.index").unlink()
    yield folder / "missing"
    tf.saved_model.save(tf.Module(), str(folder / "foreign"))
    yield folder / "foreign"
    yield folder / "nowhere"


def test_load_exported(exported, tmp_path):
    _, path, reasons = exported["chain_iaf"]
    loaded = saved_model.load_exported(path)
    assert loaded.metadata["signatures"] == reasons and "generate" in loaded.signatures
    for copy in damaged_copies(path, tmp_path):
        with pytest.raises(ValueError, match=f"{copy.name} must be a whole SavedModel of this"):
            saved_model.load_exported(copy)
    about = json.loads((path / "assets" / saved_model.METADATA).read_text())
    (tmp_path / "other").mkdir()
    shutil.copytree(path, tmp_path / "other", dirs_exist_ok=True)
    about["signatures"]["filter_step"] = None
    (tmp_path / "other" / "assets" / saved_model.METADATA).write_text(json.dumps(about))
    with pytest.raises(ValueError, match="must have the signatures .*filter_step"):
        saved_model.load_exported(tmp_path / "other")
