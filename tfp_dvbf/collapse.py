"""Posterior collapse: which latent dimensions the observations say anything about.

`evaluation.active_units` has the definition.
"""

import warnings
from typing import NamedTuple

import numpy as np

THRESHOLD = 0.01  # Burda et al. 2016, section 5.2.
VALUES = 2**22  # States and observations that are drawn at most.
NUM_DRAWS = 100
STEPS = 2**18  # Of all draws of a sequence; each has the layers of the emission as well.
ROWS = 2**14  # States whose transition is held at a time, which may have layers of hundreds.
UPDATES = 500  # A model of fewer has not learned to use its dimensions yet.


class ActiveUnits(NamedTuple):
    """How much the observations move each latent dimension off its prior, [dz] each.

    Attributes:
      initial: Mean square of E_q[w[0] | x], over sequences.
      noise: Mean square of E_q[w[t] | x], over sequences and observed steps t > 0.
    """

    initial: np.ndarray
    noise: np.ndarray

    @property
    def dead(self):
        """Indices of the dimensions of which neither exceeds 0.01, a list."""
        return np.flatnonzero(np.maximum(self.initial, self.noise) <= THRESHOLD).tolist()


def active_units(model, observations, controls, mask=None, num_draws=NUM_DRAWS, seed=1):
    """Returns the `ActiveUnits` of the first sequences and steps, as `VALUES` and `STEPS` allow.

    The mean of K draws overestimates the square by 1/K of their variance, which is subtracted; so a
    dead dimension may have a value a little below 0.

    Args:
      model: A `DVBF`.
      observations, controls, mask: As `DVBF.sample_posterior` takes them.
      num_draws: Draws K of the posterior for each sequence, two or more.
      seed: Seed of the draws.
    """
    num_steps, *shape = observations.shape[1:]
    num_steps = min(num_steps, max(2, STEPS // num_draws))
    size = num_steps * (int(np.prod(shape)) + model.state_space_model.spec.state_dim)
    number = max(1, VALUES // (num_draws * size))
    observations = observations[:number, :num_steps]
    controls = None if controls is None else controls[:number, : num_steps - 1]
    mask = None if mask is None else mask[:number, :num_steps]
    states = model.sample_posterior(observations, controls, num_draws, seed, mask).states
    at_once = max(1, ROWS // (states.shape[1] * num_steps))
    parts = (states[first : first + at_once] for first in range(0, num_draws, at_once))
    noise = np.concatenate([_noise(model.state_space_model, part, controls) for part in parts])
    squares = np.square(noise.mean(axis=0)) - noise.var(axis=0, ddof=1) / num_draws
    if mask is not None:
        squares = np.where(np.asarray(mask, bool)[..., np.newaxis], squares, np.nan)
    return ActiveUnits(_mean(squares[:, :1]), _mean(squares[:, 1:]))


def _noise(space, states, controls):
    """Returns w[0:T] of states [sample, batch, time, dz], in float64."""
    import tensorflow as tf

    controls = space.standardise_controls(controls)
    controls = tf.repeat(controls[tf.newaxis], states.shape[0], axis=0)
    prior = space.transition_distribution(states[:, :, :-1], controls)
    parts = [(space.initial_distribution(), states[:, :, :1]), (prior, states[:, :, 1:])]
    whitened = [density.scale.solvevec(values - density.loc) for density, values in parts]
    return np.concatenate(whitened, axis=2).astype(np.float64)


def _mean(squares):
    """Returns the mean over the observed steps, [dz], 0 where there is none."""
    seen = ~np.isnan(squares[..., 0])
    return squares[seen].mean(axis=0) if seen.any() else np.zeros(squares.shape[-1])


def warning(dead, state_dim):
    """Returns one line that names dead dimensions and the remedies, None where none is dead."""
    if not dead:
        return None
    names = ", ".join(f"z[{index}]" for index in dead)
    verb = "has" if len(dead) == 1 else "have"
    return (
        f"{len(dead)} of {state_dim} latent dimensions {verb} collapsed, {names}: the observations "
        "do not move them off the prior. Anneal the KL over more epochs, lower the noise floor of "
        "the emission, or hide time steps in training (`hidden_steps`); a smaller `state_dim` does "
        "without them."
    )


def warn(model, batch):
    """Warns of the dimensions of a trained model that have collapsed.

    Args:
      model: A `DVBF`.
      batch: A dictionary of arrays that it was trained on.
    """
    found = active_units(model, *map(batch.get, ["observations", "controls", "mask"]))
    if line := warning(found.dead, len(found.noise)):
        warnings.warn(line, stacklevel=3)
