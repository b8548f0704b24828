"""This package as a program that generates trajectories, or filters streams from its export."""

import functools
import tempfile

import tensorflow as tf

from tfp_dvbf.experiments.benchmarking import agreement, ours
from tfp_dvbf.serving import saved_model

WAYS = ("generate", "filter_step", "compiled_filter_step")


def start(threads, device):
    """Starts TensorFlow on a device; returns its version and the device."""
    return ours.start(threads, device)


def prepare(way, path, size, num_particles=1):
    """Returns what all programs must agree on, and what does the work so many times.

    Args:
      way: "generate" draws trajectories in memory; "filter_step" is that of an exported model,
        "compiled_filter_step" of one that XLA compiles.
      path: That of an `agreement.Reference`.
      size: Number of trajectories or streams.
      num_particles: Number of particles of each stream.
    """
    rows = agreement.rows(agreement.load(path), size)
    x, u = (tf.constant(array) for array in rows)
    if way == "generate":
        return _generate(_model(path), x, u)
    return _filter_step(_signatures(path, way == "compiled_filter_step"), x, u, num_particles)


def _generate(model, x, u):
    draw = functools.partial(model.generate, u, x[:, :1], seed=1)

    def run(count):
        for _ in range(count):
            draw().observations.numpy()

    mean = draw(deterministic=True).observations[0]
    return agreement.trajectories(mean, draw().observations[0]), run


def _filter_step(signatures, x, u, num_particles):
    seed = tf.constant(1)
    inputs = {"controls": u[:, 0], "observed": tf.ones(tf.shape(x)[:1]), "seed": seed}
    belief = signatures["filter_init"](
        initial_observations=x[:, :1], num_particles=tf.constant(num_particles), seed=seed
    )
    inputs |= {name: belief[name] for name in ["particles", "log_weights", "step"]}
    step = functools.partial(signatures["filter_step"], observations=x[:, 1], **inputs)

    def run(count):
        for _ in range(count):
            step()["log_evidence"].numpy()

    return {"log_evidence": step()["log_evidence"].numpy().tolist()}, run


@functools.cache
def _model(path):
    return ours.model_of(agreement.load(path))


@functools.cache
def _signatures(path, jit_compile):
    with tempfile.TemporaryDirectory() as folder:
        names = ["filter_init", "filter_step"]
        saved_model.export(
            _model(path), f"{folder}/model", signatures=names, jit_compile=jit_compile
        )
        return saved_model.load_exported(f"{folder}/model").signatures
