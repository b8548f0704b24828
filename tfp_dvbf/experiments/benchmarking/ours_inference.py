"""This package as a program that generates trajectories, or filters streams from its export."""

import functools
import tempfile

import numpy as np
import tensorflow as tf

from tfp_dvbf.experiments import latent_regression
from tfp_dvbf.experiments.benchmarking import agreement, ours
from tfp_dvbf.serving import saved_model

WAYS = ("generate", "filter_step", "compiled_filter_step", "image_step", "compiled_image_step")


def start(threads, device):
    """Starts TensorFlow on a device; returns its version and the device."""
    return ours.start(threads, device)


def prepare(way, size, path=None, num_particles=1):
    """Returns what all programs must agree on, and what does the work so many times.

    Args:
      way: "generate" draws trajectories in memory; "filter_step" is that of an exported model and
        "image_step" of one of images; those that begin with "compiled_" are compiled by XLA.
      size: Number of trajectories or streams.
      path: That of an `agreement.Reference`; images have none.
      num_particles: Number of particles of each stream.
    """
    if way == "generate":
        return _generate(_model(path), *_rows(path, size))
    if way in ("image_step", "compiled_image_step"):
        model, x, u = _image_model(), *_image_rows(size)
    else:
        model, x, u = _model(path), *_rows(path, size)
    signatures = _signatures(model, jit_compile=way.startswith("compiled"))
    return _filter_step(signatures, x, u, model.recognition_model.initial_steps, num_particles)


def _rows(path, size):
    """Returns observations and controls of a reference, so many sequences."""
    return [tf.constant(array) for array in agreement.rows(agreement.load(path), size)]


def _image_rows(size):
    """Returns images of noise and controls: a filter does the same work whatever it sees."""
    rng, steps = np.random.default_rng(1), latent_regression.INITIAL_STEPS + 1
    images = rng.uniform(0, 255, [size, steps, *latent_regression.IMAGE_SIZE, 1])
    controls = rng.normal(size=[size, steps - 1, 1])
    return [tf.constant(array, tf.float32) for array in (images, controls)]


def _generate(model, x, u):
    draw = functools.partial(model.generate, u, x[:, :1], seed=1)

    def run(count):
        for _ in range(count):
            draw().observations.numpy()

    mean = draw(deterministic=True).observations[0]
    return agreement.trajectories(mean, draw().observations[0]), run


def _filter_step(signatures, x, u, initial_steps, num_particles):
    """Filters the step after the first ones, which start the filter."""
    seed = tf.constant(1)
    belief = signatures["filter_init"](
        initial_observations=x[:, :initial_steps],
        num_particles=tf.constant(num_particles),
        seed=seed,
    )
    inputs = {name: belief[name] for name in belief if name != "log_evidence"}
    inputs |= {"observations": x[:, initial_steps], "controls": u[:, initial_steps - 1]}
    inputs |= {"observed": tf.ones(tf.shape(x)[:1]), "seed": seed}
    step = functools.partial(signatures["filter_step"], **inputs)

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
