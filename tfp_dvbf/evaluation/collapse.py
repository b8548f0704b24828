"""Posterior collapse on a data set."""

from tfp_dvbf import collapse, errors
from tfp_dvbf.evaluation import batches


def active_units(model, sequences, num_draws=collapse.NUM_DRAWS, seed=1):
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
      sequences: `Sequences` or `Shards`. As many of the first sequences, of `Shards` of the first
        file, are used as 4 million values of states and observations hold, and of long ones 2,621
        steps with 100 draws, from the first that is observed on.
      num_draws: Draws K of the posterior for each sequence, two or more.
      seed: Seed of the draws.

    Returns:
      `ActiveUnits`.

    Raises:
      ValueError: If `sequences` are neither, or there are fewer than two draws.
    """
    batches.check_sequences("sequences", sequences)
    errors.check_integer("num_draws", num_draws, least=2)
    _, batch = next(batches.batches(sequences, collapse.VALUES))  # No more than that are used.
    return collapse.measure(model, batch, num_draws, seed)
