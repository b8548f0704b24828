"""What a latent state knows of a pendulum: regression of its true state on posterior draws.

The protocol of Karl et al. 2017 (arXiv:1605.06432, section 4.1): sin and cos of the angle and the
angular velocity are regressed on the latent state by ordinary least squares. Here the state is one
posterior draw a step; the regression is fitted on the training sequences and scored on others.
"""

from typing import NamedTuple

import numpy as np

from tfp_dvbf import data
from tfp_dvbf.experiments import tables

ENV_ID = "Pendulum-v1"
OBSERVATIONS = ("pixels", "position", "angle")
TARGETS = {"sin": "sin θ", "cos": "cos θ", "velocity": "velocity"}  # What tables call them.
SIZES = {"train": 500, "test": 500, "validation": 100}  # Sequences.
NUM_STEPS = 15
IMAGE_SIZE = (16, 16)
INITIAL_STEPS = 5  # That q(z[0]) sees.
ABLATIONS = {  # What the protocol is left with where an ingredient of it is left out.
    "rotation": {"transition": "mlp"},
    "learned_initial": {"learns_initial": False},
    "hidden_steps": {"hidden_steps": 0.0},
    "constant_scale": {"scale": None},
    "window": {"window": 1},
    "starts": {"starts": 1},
}


class Protocol(NamedTuple):
    """How a model is made and trained.

    Attributes:
      epochs: Epochs.
      starts: Number of models, from different weights, of which the best is trained on.
      start_epochs: Epochs of each, after which the elbo of the validation set decides.
      learning_rate: Initial learning rate of Adam.
      batch_size: Sequences a batch.
      hidden_steps: Share of the steps that are hidden from the posterior in training, each on its
        own.
      scale: Standard deviation of a pixel as a fraction of the range, constant; None learns it.
      transition: "rotation" or "mlp".
      learns_initial: Whether the scales of p(z[0]) are learned.
      window: Time steps that the encoder sees.
      noise_floor: Least noise of the emission of positions and angles, a fraction of the standard
        deviation of the data.
    """

    epochs: int = 150
    starts: int = 4
    start_epochs: int = 60
    learning_rate: float = 8e-3
    batch_size: int = 32
    hidden_steps: float = 0.7
    scale: float | None = 0.15
    transition: str = "rotation"
    learns_initial: bool = True
    window: int = 3
    noise_floor: float = 0.1


def collect(observation, split):
    """Returns the `Sequences` of a split of the pendulum, seen as images or as what they show.

    Args:
      observation: "pixels", uint8 [16, 16, 1]; "position", (cos, sin) of the angle; or "angle", in
        rad, in [-pi, pi].
      split: "train", "validation" or "test".
    """
    from tfp_dvbf.data import environments

    seed = 1 + list(SIZES).index(split)
    arguments = ENV_ID, SIZES[split], NUM_STEPS, seed
    if observation == "pixels":
        image = {"observation": "pixels", "size": IMAGE_SIZE, "grey": True}
        return environments.collect(*arguments, **image)
    found = environments.collect(*arguments)
    values, names = found.observations[..., :2], ["cos θ", "sin θ"]
    if observation == "angle":
        values, names = np.arctan2(values[..., 1:], values[..., :1]), ["θ  (rad)"]
    spec = {"time_step": found.spec["time_step"], "observation_names": names, "seed": seed}
    return data.Sequences(values, found.controls, found.states, spec)


def make_model(observation, state_dim, seed, protocol):
    """Returns a `DVBF` for one of `OBSERVATIONS`, all of whose parts look backward in time only."""
    from tfp_dvbf import DVBF, layers

    if observation == "pixels":
        parts = {
            "emission": layers.ImageGaussian(hidden_units=(128,), filters=(), scale=protocol.scale),
            "encoder": layers.ConvolutionalEncoder(num_steps=protocol.window),
            "initial_posterior": layers.ConvolutionalInitialPosterior(INITIAL_STEPS),
        }
        shape = (*IMAGE_SIZE, 1)
    else:
        units = () if observation == "position" else (128,)
        parts = {
            "emission": layers.GaussianEmission(units, noise_floor=protocol.noise_floor),
            "encoder": layers.FilterEncoder(num_steps=protocol.window),
            "initial_posterior": layers.GaussianInitialPosterior(INITIAL_STEPS),
        }
        shape = {"position": 2, "angle": 1}[observation]
    return DVBF(
        *(shape, 1, state_dim),
        transition=make_transition(protocol),
        hidden_steps=protocol.hidden_steps,
        seed=seed,
        **parts,
    )


def make_transition(protocol):
    """Returns the transition of a `Protocol`."""
    from tfp_dvbf import layers

    if protocol.transition == "rotation":
        return layers.RotationTransition(learns_initial=protocol.learns_initial)
    return layers.MLPTransition((64,), "tanh", learns_initial=protocol.learns_initial)


def true_state(sequences):
    """Returns (sin, cos, velocity in rad/s) of a pendulum's `states`, [sequences, time, 3]."""
    angle, velocity = np.moveaxis(sequences.states, -1, 0)
    return np.stack([np.sin(angle), np.cos(angle), velocity], axis=-1)


def posterior_states(model, sequences, seed=1):
    """Returns one posterior draw of z[0:T], [sequences, time, dz]."""
    drawn = model.sample_posterior(sequences.observations, sequences.controls, seed=seed)
    return drawn.states.numpy()[0]


def score(model, train, test):
    """Returns R2 of each target by name, for all steps and without those that q(z[0]) sees.

    Args:
      model: A `DVBF`.
      train: `Sequences` that the regression is fitted on.
      test: `Sequences` that it is scored on.
    """
    states = [posterior_states(model, sequences) for sequences in (train, test)]
    truths = [true_state(sequences) for sequences in (train, test)]
    row = {}
    for first, suffix in [(0, ""), (model.recognition_model.initial_steps, "_later")]:
        parts = [_rows(values[:, first:]) for values in (*states, *truths)]
        for name, value in zip(TARGETS, r_squared(*parts)):
            row[f"r2_{name}{suffix}"] = float(value)
    return row


def r_squared(train_inputs, test_inputs, train_targets, test_targets):
    """Returns R2 of ordinary least squares with an intercept, of each target.

    Fitted on one set and scored on another, so that it may be negative; the variance is that of the
    test targets.

    Args:
      train_inputs, test_inputs: [number, inputs].
      train_targets, test_targets: [number, targets].
    """
    inputs = [np.c_[values, np.ones(len(values))] for values in (train_inputs, test_inputs)]
    weights = np.linalg.lstsq(inputs[0], train_targets, rcond=None)[0]
    errors = np.square(test_targets - inputs[1] @ weights).sum(axis=0)
    return 1.0 - errors / np.square(test_targets - test_targets.mean(axis=0)).sum(axis=0)


def _rows(values):
    return values.reshape(-1, values.shape[-1]).astype(np.float64)


def table(rows):
    """Returns the rows of `identify.py` as a Markdown table, R2 of the later steps apart."""
    heads = {f"r2_{name}": label for name, label in TARGETS.items()}
    heads |= {f"{name}_later": f"{label} later" for name, label in heads.items()}
    return tables.markdown(
        [
            {heads.get(key, key.replace("_", " ")): _cell(key, value) for key, value in row.items()}
            for row in rows
        ]
    )


def _cell(key, value):
    """Returns a value of a row of `identify.py` as text."""
    if value is None or isinstance(value, str):
        return value
    return f"{value:.3f}" if key.startswith("r2_") else f"{value:.0f}"


def draw(folder, model, test, num_sequences=3):
    """Draws the latent space and, of images, generated sequences beside real ones."""
    from tfp_dvbf.experiments import image_plots

    states, truth = posterior_states(model, test), true_state(test)
    angles = np.arctan2(truth[..., 0], truth[..., 1])
    image_plots.latent_space(
        folder / "latent_space.png", _rows(states), angles.ravel(), truth[..., 2].ravel()
    )
    if len(test.observation_shape) < 3:
        return
    some = test[:num_sequences]
    first = some.observations[:, :INITIAL_STEPS]
    generated = model.generate(some.controls, first, seed=1).observation_mean.numpy()[0]
    panels = {}
    for index, (real, made) in enumerate(zip(some.observations, generated)):
        panels |= {f"sequence {index}": real, f"generated {index}": made}
    image_plots.strip(folder / "generated.png", panels)
    image_plots.film(folder / "generated.gif", panels, test.spec)
