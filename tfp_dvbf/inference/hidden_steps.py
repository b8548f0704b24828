"""Time steps that the posterior is not shown in training, though the bound counts them.

Where x[t] is hidden q(z[t]) is p(z[t] | z[t-1], u[t-1]), which costs no KL, and ln p(x[t] | z[t])
still counts. Any q gives a bound, so that the objective stays one; but the transition has to
carry the state through what is hidden, as it has to in a forecast, where a posterior that sees
every step can put right what the transition gets wrong (overshooting: Hafner et al. 2019,
arXiv:1811.04551, section 4, to the same end).
"""

import numbers
from typing import NamedTuple

import tensorflow as tf

from tfp_dvbf import registry
from tfp_dvbf.layers import philox


class HiddenSteps(NamedTuple):
    """How many steps are hidden, and in how long runs.

    Attributes:
      fraction: Share of the time steps that is hidden in the long run, in [0, 1).
      mean_length: Mean number of steps of a run, 1 or more; of steps that are hidden each on its
        own it is 1 / (1 - fraction).
    """

    fraction: float
    mean_length: float


def of(value):
    """Returns `HiddenSteps` of a pair; of a fraction, for steps hidden each on its own; or None.

    Raises:
      ValueError: If a number is out of its range, or so many steps cannot be hidden in so short
        runs.
    """
    if value is None:
        return None
    pair = value if isinstance(value, (tuple, list)) else (value, None)
    fraction, mean_length = pair if len(pair) == 2 else (None, None)
    given = [number for number in [fraction, mean_length] if number is not None]
    right = given and all(isinstance(number, numbers.Real) for number in given)
    if not right or not 0 <= fraction < 1 or not (mean_length is None or mean_length >= 1):
        raise ValueError(
            "`hidden_steps` must be a fraction in [0, 1), or a pair with the mean length of a run, "
            f"1 or more; got {value!r}."
        )
    found = HiddenSteps(fraction, 1 / (1 - fraction) if mean_length is None else mean_length)
    if _rate(found) > 1:
        least = fraction / (1 - fraction)
        raise ValueError(
            f"`hidden_steps` of fraction {fraction:g} must have a mean length of {least:g} or "
            f"more; got {mean_length:g}."
        )
    return found if fraction else None


def check_posterior(hidden, posterior):
    """Raises ValueError, with the reason, if a `Posterior` has to see all steps."""
    if hidden is not None and not posterior.takes_gaps:
        name = registry.name_of("posterior", posterior)
        raise ValueError(f"`hidden_steps` is not for {name}: {posterior.takes_gaps.reason}.")


def _rate(hidden):
    """Returns the probability that a run starts after a step that is shown."""
    return hidden.fraction / (1 - hidden.fraction) / hidden.mean_length


def draw_shown(hidden, batch_size, num_steps, first_steps, seed):
    """Draws which time steps are shown: a Markov chain for each sequence, bool [batch, time].

    Args:
      hidden: `HiddenSteps`.
      batch_size, num_steps: Scalars int32.
      first_steps: So many steps at the start are always shown, those that q(z[0]) sees.
      seed: Stateless seed, int32 [2].
    """
    uniform = philox.uniform([num_steps, batch_size], seed)
    rate, end = _rate(hidden), 1 / hidden.mean_length

    def step(is_hidden, uniform):
        return tf.where(is_hidden, uniform >= end, uniform < rate)

    runs = tf.scan(step, uniform, initializer=tf.zeros([batch_size], tf.bool))
    return ~tf.transpose(runs) | (tf.range(num_steps) < first_steps)
