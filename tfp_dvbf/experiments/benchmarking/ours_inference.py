"""An exported model that filters streams: a unit of work is one `filter_step`."""

import functools
import tempfile

import numpy as np
import tensorflow as tf

from tfp_dvbf.experiments.benchmarking import ours
from tfp_dvbf.serving import saved_model

WAYS = ("innovation", "iaf")  # The posteriors; one that needs no flow comes first.
NUM_PARTICLES = 32


def start(threads, device):
    """Starts TensorFlow on a device; returns its version and the device."""
    return ours.start(threads, device)


@functools.cache
def signatures_of(posterior, hidden_units):
    """Returns the signatures of an exported model."""
    with tempfile.TemporaryDirectory() as folder:
        model = ours.make_model(posterior, hidden_units, observation_dim=3, control_dim=1)
        names = ["filter_init", "filter_step"]
        saved_model.export(model, f"{folder}/model", signatures=names)
        return saved_model.load_exported(f"{folder}/model").signatures


def prepare(way, streams, hidden_units=0):
    """Starts streams; returns the number of particles of each, and what moves them on a step.

    Args:
      way: Name of the posterior.
      streams: Number of streams that are stepped together.
      hidden_units: Width of all hidden layers; 0 for the package's own.
    """
    signatures = signatures_of(way, hidden_units)
    rng, seed = np.random.default_rng(1), tf.constant(1)
    observations = tf.constant(rng.normal(size=[streams, 3]), tf.float32)
    inputs = {
        "observations": observations,
        "controls": tf.constant(rng.normal(size=[streams, 1]), tf.float32),
        "observed": tf.ones([streams]),
        "seed": seed,
    }
    belief = signatures["filter_init"](
        initial_observations=observations[:, tf.newaxis],
        num_particles=tf.constant(NUM_PARTICLES),
        seed=seed,
    )
    belief = {name: belief[name] for name in ["particles", "log_weights", "step"]}

    def run(count):
        for _ in range(count):
            signatures["filter_step"](**belief, **inputs)["log_evidence"].numpy()

    return {"particles": NUM_PARTICLES}, run
