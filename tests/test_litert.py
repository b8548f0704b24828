"""Exported signatures convert to LiteRT, as docs/export.md says.

The interpreter in the wheels of TensorFlow 2.19 and 2.21 lacks the Flex delegate, that of 2.15 has
it: the variable in `FLEX` may name the Python of an environment with another TensorFlow.
"""

import os
import subprocess

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf.serving import saved_model

FLEX = "TFP_DVBF_FLEX_PYTHON"
POSTERIORS = ["innovation", "gaussian", "iaf", "trajectory_iaf"]


def arguments(name, signatures):
    rng = np.random.default_rng(0)
    x = rng.normal(size=[2, 5, 3]).astype(np.float32)
    u = rng.normal(size=[2, 9, 1]).astype(np.float32)
    seed = {"seed": np.int32(1)}
    if name == "forecast":
        mask = np.ones([2, 5], np.float32)
        return {"observations": x, "controls": u, "mask": mask, "num_samples": np.int32(3), **seed}
    belief = signatures["filter_init"](
        initial_observations=tf.constant(x[:, :1]),
        num_particles=tf.constant(4),
        seed=tf.constant(1),
    )
    belief = {key: value.numpy() for key, value in belief.items() if key != "log_evidence"}
    now = {"observations": x[:, 1], "controls": u[:, 0], "observed": np.ones(2, np.float32)}
    return {**belief, **now, **seed}


# Converts and interprets in a Python of its own, whose TensorFlow may be another one.
INTERPRET = """
import sys
import numpy as np
import tensorflow as tf
path, name, given, found = sys.argv[1:]
converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=[name])
sets = tf.lite.OpsSet
converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS, sets.SELECT_TF_OPS]
runner = tf.lite.Interpreter(model_content=converter.convert()).get_signature_runner(name)
np.savez(found, **runner(**np.load(given)))
"""


def interpret(path, name, given, folder):
    """Returns what the converted signature gives in the Python that `FLEX` names."""
    np.savez(folder / "given.npz", **given)
    files = [str(folder / "given.npz"), str(folder / "found.npz")]
    command = [os.environ[FLEX], "-c", INTERPRET, path, name, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(np.load(files[1]))


@pytest.mark.parametrize("posterior", models.marked(POSTERIORS[:1], POSTERIORS[1:]))
def test_conversion(posterior, tmp_path):
    path = str(tmp_path / "model")
    names = ["filter_init", "filter_step", "forecast"]
    saved_model.export(models.small_model(posterior), path, signatures=names)
    signatures = tf.saved_model.load(path).signatures
    for name in ["filter_step", "forecast"]:
        converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=[name])
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
        assert len(converter.convert()) > 1000
    if FLEX not in os.environ:
        pytest.skip(f"{FLEX} must name a Python whose TensorFlow has the Flex delegate")
    for name in ["filter_step", "forecast"]:
        given = arguments(name, signatures)
        expected = signatures[name](**{key: tf.constant(value) for key, value in given.items()})
        found = interpret(path, name, given, tmp_path)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-4)
