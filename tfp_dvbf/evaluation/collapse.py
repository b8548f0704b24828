"""Posterior collapse: which latent dimensions the observations say anything about."""

from typing import NamedTuple

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.evaluation import batches

THRESHOLD = 0.01  # Burda et al. 2016, section 5.2.
VALUES = 2**22  # States and observations that are drawn at most.


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


def active_units(model, sequences, num_draws=100, seed=1):
    """Measures how much of each latent dimension the posterior takes from the observations.

    Under the prior every trajectory is a function of independent noise w[t] ~ N(0, I),

        z[0] = m + S w[0],    z[t] = m(z[t-1], u[t-1]) + S(z[t-1], u[t-1]) w[t],

    with the mean and the scale of p(z[0]) and of the transition. A dimension of which the posterior
    mean of the noise stays at 0, that of the prior, has collapsed: the observations tell nothing
    about it. Burda et al. (2016, arXiv:1509.00519, section 5.2) call a unit active if the variance
    over the data of its posterior mean exceeds 0.01, of a prior variance of 1. Here the mean square
    takes the place of that variance, so that a single sequence has one too. A dimension counts as
    active if its initial state or its noise is: a state may be inferred at once and follow the
    transition from there.

    The mean of K draws overestimates the square by 1/K of their variance, which is subtracted; so a
    dead dimension may have a value a little below 0.

    Args:
      model: A `DVBF`.
      sequences: `Sequences` or `Shards`, of which as many of the first are used as 4 million values
        of states and observations hold.
      num_draws: Draws K of the posterior for each sequence, two or more.
      seed: Seed of the draws.

    Returns:
      `ActiveUnits`.

    Raises:
      ValueError: If `sequences` are neither, or there are fewer than two draws.
    """
    batches.check_sequences("sequences", sequences)
    errors.check_integer("num_draws", num_draws, least=2)
    size = sequences.num_steps * (
        int(np.prod(sequences.observation_shape)) + model.state_space_model.spec.state_dim
    )
    number = max(1, VALUES // (num_draws * size))
    _, batch = next(batches.batches(sequences, number))
    noise = _noise(model, batch, num_draws, seed)
    squares = np.square(noise.mean(axis=0)) - noise.var(axis=0, ddof=1) / num_draws
    squares = np.where(batch.observed[..., np.newaxis], squares, np.nan)
    return ActiveUnits(_mean(squares[:, :1]), _mean(squares[:, 1:]))


def _noise(model, batch, num_draws, seed):
    """Returns w[0:T] of posterior draws, float64 [sample, batch, time, dz]."""
    import tensorflow as tf

    space = model.state_space_model
    states = model.sample_posterior(
        batch.observations, batch.controls, num_draws, seed, batch.mask
    ).states
    controls = space.standardise_controls(batch.controls)
    controls = tf.repeat(controls[tf.newaxis], num_draws, axis=0)
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
