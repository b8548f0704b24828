"""Posterior collapse: which latent dimensions the observations say anything about.

`evaluation.active_units` has the definition.
"""

import warnings
from typing import NamedTuple

import numpy as np

THRESHOLD = 0.01  # Burda et al. 2016, section 5.2.
UPDATES = 500  # A model of fewer has not learned to use its dimensions yet.
NUM_DRAWS = 100  # Of each sequence, and of all of them at least:
ALL_DRAWS = 1600
VALUES = 2**22  # States and observations that are drawn at most.
STEPS = 2**18  # Steps of a sequence times its draws, all of which hold the layers of an emission.
ROWS = 2**14  # States whose transition is held at a time.


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


def measure(model, sequences, num_draws=NUM_DRAWS, seed=1):
    """Returns the `ActiveUnits` of a part of `Sequences`, as much as `VALUES` and `STEPS` allow.

    The mean of K draws overestimates the square by 1/K of their variance, which is subtracted; so a
    dead dimension may have a value a little below 0.

    Args:
      model: A `DVBF`.
      sequences: `Sequences`.
      num_draws: Draws K of the posterior for each sequence, two or more.
      seed: Seed of the draws.
    """
    observations, controls, observed = _part(model, sequences, num_draws)
    mask = None if observed.all() else observed
    states = model.sample_posterior(observations, controls, num_draws, seed, mask).states
    at_once = max(1, ROWS // observed.size)
    parts = (states[first : first + at_once] for first in range(0, num_draws, at_once))
    noise = np.concatenate([_noise(model.state_space_model, part, controls) for part in parts])
    squares = np.square(noise.mean(axis=0)) - noise.var(axis=0, ddof=1) / num_draws
    squares = np.where(observed[..., np.newaxis], squares, np.nan)
    return ActiveUnits(_mean(squares[:, :1]), _mean(squares[:, 1:]))


def _part(model, sequences, num_draws):
    """Returns observations, controls and observed steps, from the first that is observed on."""
    observed, num_steps = sequences.observed, sequences.num_steps
    least = max(2, model.recognition_model.initial_steps)
    start = min(int(observed.any(axis=0).argmax()), num_steps - least)
    stop = min(num_steps, start + max(least, STEPS // num_draws))
    rows = np.flatnonzero(observed[:, start:stop].any(axis=1))
    size = model.state_space_model.spec.state_dim + int(np.prod(sequences.observation_shape))
    rows = rows[: max(1, VALUES // (num_draws * (stop - start) * size))]
    controls = sequences.controls[rows, start : stop - 1]
    return sequences.observations[rows, start:stop], controls, observed[rows, start:stop]


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


def warn(model, sequences):
    """Warns of the dimensions of a trained `DVBF` that have collapsed, as `Sequences` show it."""
    found = measure(model, sequences, max(NUM_DRAWS, ALL_DRAWS // len(sequences)))
    if line := warning(found.dead, len(found.noise)):
        warnings.warn(line, stacklevel=3)
