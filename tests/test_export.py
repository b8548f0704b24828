"""Exported models: parity with the model in memory, streaming against exact answers."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import choices, data, datasets, export, linear_gaussian

STEPPED = ["gaussian", "iaf", "trajectory_iaf"]
SIZES = [(1, 2), (5, 8), (12, 5)]  # Sequences and steps.


@pytest.fixture(scope="module")
def exported(tmp_path_factory, sequences):
    """Exports one model of each posterior; returns names mapped to (model, path, reasons)."""
    import conftest

    folder = tmp_path_factory.mktemp("export")
    models = {name: conftest.small_model(name) for name in choices.POSTERIORS}
    models["smoother"] = conftest.small_model("gaussian", encoder="smoother", initial_frames=2)
    results = {}
    for name, model in models.items():
        model.adapt(datasets.as_dataset(sequences))
        reasons = export.export(model, folder / name, {"metrics": {"elbo": 1.5}})
        results[name] = model, folder / name, reasons
    return results


def in_memory(model, sequences):
    """Returns what the model itself answers, by signature, for one batch."""
    x, u = sequences.observations, sequences.controls
    frames = x[:, : model.config["initial_frames"]]
    mask = np.ones(x.shape[:2], np.float32)
    mask[:, -1] = 0
    context = max(x.shape[1] // 2, model.config["initial_frames"])
    seed, size = np.int32(3), np.int32(4)
    calls = {
        "filter": {"observations": x, "controls": u, "mask": mask, "seed": seed},
        "forecast": {
            **{"observations": x[:, :context], "controls": u},
            **{"num_samples": size, "seed": seed},
        },
        "generate": {
            **{"initial_observations": frames, "controls": u},
            **{"num_samples": size, "seed": seed},
        },
    }
    drawn = model.filter(x, u, 1, 3, mask)
    answers = {
        "filter": {name: tensor[0] for name, tensor in drawn._asdict().items()},
        "generate": model.generate(u, frames, num_samples=4, seed=3)._asdict(),
    }
    if u.shape[1] >= context:
        answers["forecast"] = model.forecast(x[:, :context], u, 4, 3)._asdict()
    if "iwae" in model.bounds:
        calls["log_prob_bound"] = {
            **{"observations": x, "controls": u},
            **{"num_samples": size, "seed": seed},
        }
        answers["log_prob_bound"] = {"log_prob_bound": model.log_prob_bound(x, u, 4, 3)}
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
    for name, (model, _, _) in exported.items():
        for batch, steps in SIZES:
            part = data.Sequences(
                sequences.observations[:batch, :steps], sequences.controls[:batch, : steps - 1]
            )
            for signature, (arguments, answer) in in_memory(model, part).items():
                case = f"{name}--{signature}--{batch}x{steps}.npz"
                np.savez(tmp_path / case, **arguments)
                expected[case] = answer
    root = str(next(iter(exported.values()))[1].parent)
    command = [sys.executable, "-c", LOADER, str(tmp_path), root]
    subprocess.run(command, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    for case, answer in expected.items():
        actual = np.load(tmp_path / "out" / case)
        assert set(actual) == set(answer)
        for key, value in answer.items():
            np.testing.assert_allclose(actual[key], value, rtol=1e-5, atol=1e-5, err_msg=case)
    assert len(expected) > 40


def test_what_is_left_out_and_why(exported):
    left_out = {
        name: {signature for signature, reason in reasons.items() if reason}
        for name, (_, _, reasons) in exported.items()
    }
    streams = {"init", "filter_step"}
    assert not any(left_out[name] for name in STEPPED)
    assert left_out["smoother"] == streams
    assert left_out["chain_iaf"] == {*streams, "log_prob_bound"}
    for _, path, reasons in exported.values():
        loaded = tf.saved_model.load(str(path))
        assert set(loaded.signatures) == {name for name in reasons if not reasons[name]}


def test_metadata_travels_inside(exported):
    _, path, _ = exported["iaf"]
    about = json.loads((path / "assets" / export.METADATA).read_text())
    assert about["model"]["posterior"] == "iaf" and about["metrics"] == {"elbo": 1.5}
    assert about["version"] and set(about["signatures"]) == set(export.SIGNATURES)


def belief(out):
    """Returns what a step hands on to the next."""
    names = ["particles", "log_weights", "step", "past", "previous"]
    return {name: out[name] for name in names if name in out}


def stream(path, sequences, num_particles, seed, mask=None):
    """Steps an exported model through sequences; returns beliefs, predictions and scores by t."""
    signatures = tf.saved_model.load(str(path)).signatures
    x, u = sequences.observations, sequences.controls
    scalars = {"seed": tf.constant(seed)}
    out = signatures["init"](
        initial_observations=tf.constant(x[:, :1]),
        num_particles=tf.constant(num_particles),
        **scalars,
    )
    outputs = [out]
    for t in range(1, x.shape[1]):
        present = np.ones(len(x)) if mask is None else mask[:, t]
        out = signatures["filter_step"](
            **belief(out),
            observations=tf.constant(x[:, t]),
            controls=tf.constant(u[:, t - 1]),
            present=tf.constant(present, tf.float32),
            **scalars,
        )
        outputs.append(out)
    return outputs


@pytest.mark.parametrize("posterior", STEPPED)
def test_streaming_is_the_running_evidence_of_fivo(exported, sequences, posterior):
    model, path, _ = exported[posterior]
    outputs = stream(path, sequences, num_particles=16, seed=5)
    scores = np.sum([out["log_score"] for out in outputs], axis=0)
    fivo = model.log_prob_bound(
        sequences.observations, sequences.controls, 16, seed=5, objective="fivo"
    )
    np.testing.assert_allclose(scores, fivo, rtol=1e-4)


@pytest.mark.parametrize("posterior", ["iaf", "trajectory_iaf"])
def test_streaming_against_the_kalman_filter(tmp_path, sequences, posterior):
    """Predicted mean and scale, filtered mean and scale, and the log score of every frame."""
    import conftest

    model = conftest.small_model(
        posterior, num_flows=0, transition="locally_linear", num_bases=1, decoder_units=()
    )
    part = sequences[:3]
    model.adapt(datasets.as_dataset(sequences))
    model.emission.raw_scale.assign([0.3] * 3)
    model.transition.raw_noise.assign([[[2.0, 0.0], [0.5, 2.0]]])
    # q(z[0] | x[0]) = N(0, 0.9^2): a proposal close to p(z[0]).
    for weight in model.initial_posterior.network.weights:
        weight.assign(tf.zeros_like(weight))
    model.initial_posterior.network.layers[-1].bias.assign([0.0, 0.0, 2.6, 2.6])
    if posterior == "trajectory_iaf":  # Wide enough to propose what p draws.
        kernel, bias = model.posterior.dense_part.layers[-1].weights
        kernel.assign(tf.zeros_like(kernel))
        bias.assign([0.0, 0.0, 3.7, 3.7])
    export.export(model, tmp_path / "linear")
    outputs = stream(tmp_path / "linear", part, num_particles=20000, seed=1)
    kalman = linear_gaussian.state_space_model(model, part.controls)
    result = kalman.forward_filter(tf.constant(part.observations))
    scores, means, covariances, _, _, predicted, predicted_covariances = result
    for t, out in enumerate(outputs):
        np.testing.assert_allclose(out["log_score"], scores[:, t], atol=0.1)
        weights = np.exp(out["log_weights"])[..., np.newaxis]
        mean = np.sum(weights * out["particles"], axis=1)
        variance = np.sum(weights * out["particles"] ** 2, axis=1) - mean**2
        exact = np.diagonal(covariances[:, t], axis1=1, axis2=2)
        np.testing.assert_allclose(mean, means[:, t], atol=0.1)
        np.testing.assert_allclose(variance, exact, rtol=0.15)
        if t > 0:
            np.testing.assert_allclose(out["predicted_observation_mean"], predicted[:, t], atol=0.1)
            exact = np.diagonal(predicted_covariances[:, t], axis1=1, axis2=2)
            np.testing.assert_allclose(
                out["predicted_observation_scale"], np.sqrt(exact), rtol=0.06
            )


@pytest.mark.parametrize("posterior", STEPPED)
def test_streams_go_over_missing_frames(exported, sequences, posterior):
    model, path, _ = exported[posterior]
    mask = np.ones([12, 8], bool)
    mask[2, 3:5] = mask[7, 1] = False
    broken = data.Sequences(sequences.observations, sequences.controls)
    broken.observations[~mask] = np.nan
    outputs = stream(path, broken, 16, 5, mask)
    scores = np.array([out["log_score"] for out in outputs]).T
    if posterior != "trajectory_iaf":  # Where it is not p, its weights estimate ln 1.
        np.testing.assert_array_equal(scores[~mask], 0.0)
    assert np.all(np.isfinite(scores))
    fivo = model.log_prob_bound(
        sequences.observations, sequences.controls, 16, 5, "fivo", mask=mask
    )
    np.testing.assert_allclose(scores.sum(axis=1), fivo, rtol=1e-4)


def test_the_same_seed_gives_the_same_output(exported, sequences):
    _, path, _ = exported["iaf"]
    generate = tf.saved_model.load(str(path)).signatures["generate"]
    frames = tf.constant(sequences.observations[:, :1])
    draws = [
        generate(
            initial_observations=frames,
            controls=tf.constant(sequences.controls),
            num_samples=tf.constant(2),
            seed=tf.constant(seed),
        )["states"].numpy()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.all(draws[0][:, :, 1] != draws[2][:, :, 1])


def test_bad_input_at_a_signature(exported, sequences):
    _, path, _ = exported["iaf"]
    signatures = tf.saved_model.load(str(path)).signatures
    x, u = tf.constant(sequences.observations), tf.constant(sequences.controls)
    scalars = {"num_samples": tf.constant(1), "seed": tf.constant(1)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="must reach past the frames"):
        signatures["forecast"](observations=x, controls=u[:, :3], **scalars)
    with pytest.raises(Exception, match="observations"):
        signatures["forecast"](observations=x[..., :2], controls=u, **scalars)
    with pytest.raises(Exception, match="float"):
        signatures["forecast"](observations=tf.cast(x, tf.float64), controls=u, **scalars)


def test_an_existing_path_is_kept(exported, tmp_path):
    model, _, _ = exported["gaussian"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(ValueError, match="`path` must not exist yet"):
        export.export(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "kept"


@pytest.mark.slow
def test_saved_model_cli(exported, sequences, tmp_path):
    _, path, _ = exported["iaf"]
    tool = str(pathlib.Path(sys.executable).parent / "saved_model_cli")
    run = {"check": True, "capture_output": True, "text": True}
    shown = subprocess.run([tool, "show", "--dir", str(path), "--all"], **run).stdout
    assert "filter_step" in shown and "predicted_observation_mean" in shown
    np.save(tmp_path / "x.npy", sequences.observations)
    np.save(tmp_path / "u.npy", sequences.controls)
    inputs = f"observations={tmp_path}/x.npy;controls={tmp_path}/u.npy"
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


def test_resampling_for_shapes_at_run_time_is_that_of_tfp():
    from tfp_dvbf import objectives

    log_weights = tf.math.log_softmax(tf.random.stateless_normal([7, 500], [0, 2]) * 3, axis=0)
    expected = objectives.tfp_systematic(log_weights, [0, 3])
    actual = objectives.systematic(log_weights, [0, 3])
    assert np.mean(np.asarray(actual) != expected) < 1e-3  # But for rounding at a boundary.
