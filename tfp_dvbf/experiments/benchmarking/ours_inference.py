"""This package as a program that generates trajectories, or filters streams from its export."""

import functools
import tempfile

import numpy as np
import tensorflow as tf

from tfp_dvbf.experiments import latent_regression
from tfp_dvbf.experiments.benchmarking import agreement, ours
from tfp_dvbf.serving import saved_model

COMPILED = "compiled_"  # What a way begins with whose signatures XLA compiles.
WAYS = ("generate", "filter_step", "compiled_filter_step", "images", "compiled_images")


def start(threads, device):
    """Starts TensorFlow on a device; returns its version and the device."""
    return ours.start(threads, device)


def prepare(way, path, size, num_particles=1):
    """Returns what all programs must agree on, and what does the work so many times.

    Args:
      way: "generate" draws trajectories in memory; "filter_step" is that of an exported model, and
        "images" of one of images; "compiled_filter_step" and "compiled_images" of one that XLA
        compiles.
      path: That of an `agreement.Reference`, which images do not read.
      size: Number of trajectories or streams.
      num_particles: Number of particles of each stream.
    """
    compiled = way.startswith(COMPILED)
    if way.endswith("images"):
        return _image_step(compiled, size, num_particles)
    rows = agreement.rows(agreement.load(path), size)
    x, u = (tf.constant(array) for array in rows)
    if way == "generate":
        return _generate(_model(path), x, u)
    signatures = _signatures(_model(path), compiled)
    return _filter_step(signatures, x[:, :2], u[:, :1], num_particles)


def _generate(model, x, u):
    draw = functools.partial(model.generate, u, x[:, :1], seed=1)

    def run(count):
        for _ in range(count):
            draw().observations.numpy()

    mean = draw(deterministic=True).observations[0]
    return agreement.trajectories(mean, draw().observations[0]), run


def _image_step(compiled, size, num_particles):
    """Filters images of noise by the model of docs/pixels.md, which does the same for any image."""
    rng = np.random.default_rng(1)
    steps = latent_regression.INITIAL_STEPS + 1
    x = rng.uniform(0, 255, [size, steps, *latent_regression.IMAGE_SIZE, 1]).astype(np.float32)
    u = rng.normal(size=[size, steps - 1, 1]).astype(np.float32)
    signatures = _signatures(_image_model(), compiled)
    return _filter_step(signatures, tf.constant(x), tf.constant(u), num_particles)


def _filter_step(signatures, x, u, num_particles):
    seed = tf.constant(1)
    belief = signatures["filter_init"](
        initial_observations=x[:, :-1], num_particles=tf.constant(num_particles), seed=seed
    )
    inputs = {name: belief[name] for name in belief if name != "log_evidence"}
    inputs |= {"controls": u[:, -1], "observed": tf.ones(tf.shape(x)[:1]), "seed": seed}
    step = functools.partial(signatures["filter_step"], observations=x[:, -1], **inputs)

    def run(count):
        for _ in range(count):
            step()["log_evidence"].numpy()

    return {"log_evidence": step()["log_evidence"].numpy().tolist()}, run


@functools.cache
def _model(path):
    return ours.model_of(agreement.load(path))


@functools.cache
def _image_model():
    protocol = latent_regression.Protocol()
    return latent_regression.make_model("pixels", state_dim=3, seed=1, protocol=protocol)


@functools.cache
def _signatures(model, jit_compile):
    with tempfile.TemporaryDirectory() as folder:
        names = ["filter_init", "filter_step"]
        saved_model.export(model, f"{folder}/model", signatures=names, jit_compile=jit_compile)
        return saved_model.load_exported(f"{folder}/model").signatures
