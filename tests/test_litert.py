"""Exported signatures convert to LiteRT, as docs/export.md says."""

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf.serving import saved_model

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


@pytest.mark.slow
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_conversion(posterior, tmp_path):
    path = str(tmp_path / "model")
    saved_model.export(models.small_model(posterior), path)
    signatures = tf.saved_model.load(path).signatures
    contents = {}
    for name in ["filter_step", "forecast"]:
        converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=[name])
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
        contents[name] = converter.convert()
        assert len(contents[name]) > 1000
    for name, content in contents.items():
        given = arguments(name, signatures)
        expected = signatures[name](**{key: tf.constant(value) for key, value in given.items()})
        try:
            runner = tf.lite.Interpreter(model_content=content).get_signature_runner(name)
            found = runner(**given)
        except (RuntimeError, ValueError) as error:
            assert "Flex" in str(error)
            pytest.skip("this interpreter has no Flex delegate, which the random numbers need")
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-4)
