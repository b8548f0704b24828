"""Recalibration: the noise of a trained model, scaled by what a validation set says."""

import warnings

import numpy as np
import scipy.optimize

from tfp_dvbf.evaluation import forecasts

LARGEST = 2.0  # The largest change of the logarithm of a scale.
NUM_EVALUATIONS = 60
SHARES = np.arange(0.05, 1.0, 0.05)
GROUP_SIZE = 30  # Sequences that are wanted for each group of horizons.


def sentence(found):
    """Returns what a report says of a recalibration, a dictionary that `recalibrate` returned."""
    return (
        f"The noise was recalibrated on the validation set, that of the transition by a factor of "
        f"{found['transition']:.2f}, that of the emission by {found['emission']:.2f}: what central "
        f"intervals cover there was wrong by {100 * found['error_before']:.1f} % (root mean "
        f"square), and is by {100 * found['error']:.1f} %."
    )


def recalibrate(model, sequences, initial_steps=None, num_draws=100, seed=1):
    """Scales the learned noise of a model by two numbers that a validation set decides.

        s_z' = a s_z,  s_x' = b s_x        (what lies above the noise floors, and about so)

    Noise is learned one step ahead, on training windows: a free run may then be too sure of itself,
    or not sure enough. a and b minimise the calibration error of the free run (Kuleshov et al.
    2018, arXiv:1807.00263, equation 9), the mean square of

        share of the values inside the central interval of probability q  -  q

    over q = 0.05 to 0.95 and over groups of horizons, as many as the sequences allow. The draws
    have the same noise for all a and b; the simplex of Nelder and Mead searches, which takes 20 to
    60 free runs of the sequences: a part of a large validation set will do.

    The model is changed in place, and with it its posterior where that measures an innovation by
    the noise, as `innovation` does: filter and bounds are those of a model that was not trained so.
    An exception leaves the model as it was.

    Args:
      model: A `DVBF`, or an `Ensemble` of which all members are scaled alike.
      sequences: `Sequences` or `Shards` that no training has used.
      initial_steps, num_draws, seed: As for `free_run`.

    Returns:
      A dictionary: `transition` and `emission`, the factors a and b of scales that are far below 1
      (the softplus behind a scale makes them less for larger ones); `error_before` and `error`, the
      roots of the calibration error.

    A factor that reaches its bound, exp(2), gives a warning.

    Raises:
      ValueError: If a part has no noise that can be scaled, or as `free_run` does.
    """
    check(model)
    steps, pairs = forecasts.check_initial_steps(model, sequences, initial_steps), _parts(model)
    kept = [(part, part.get_weights()) for pair in pairs for part in pair]
    current = np.zeros(2)

    def measure(amounts):
        amounts = np.clip(amounts, -LARGEST, LARGEST)
        for pair in pairs:
            for part, change in zip(pair, amounts - current):
                part.shift_noise(float(change))
        current[:] = amounts
        scores, observed = forecasts.free_run_scores(model, sequences, steps, num_draws, seed)
        return calibration_error(scores.pit, observed)

    try:
        before = measure(current.copy())
        after = measure(_least(measure))
    except BaseException:
        for part, weights in kept:
            part.set_weights(weights)
        raise
    if np.max(np.abs(current)) >= LARGEST:
        warnings.warn(
            f"Recalibration would scale the noise by more than {np.exp(LARGEST):.1f} and stops "
            "there: the forecasts are wrong by more than noise explains; train longer.",
            stacklevel=2,
        )
    transition, emission = np.exp(current).tolist()
    roots = {"error_before": before**0.5, "error": after**0.5}
    return {"transition": transition, "emission": emission, **roots}


def check(model):
    """Raises ValueError unless the noise of every part of a model can be scaled."""
    from tfp_dvbf.layers import Part

    for pair in _parts(model):
        for part in pair:
            if type(part).shift_noise is Part.shift_noise:
                raise ValueError(
                    "`model` cannot be recalibrated, since the noise of "
                    f"{type(part).__name__} cannot be scaled: it has no `shift_noise`."
                )


def _parts(model):
    """Returns the transition and the emission of each member of a model."""
    spaces = [member.state_space_model for member in forecasts.members_of(model)]
    return [(space.transition, space.emission) for space in spaces]


def _least(function):
    """Returns where a function of two numbers is least, as Nelder and Mead find it from (0, 0)."""
    simplex = [[0.0, 0.0], [-0.3, 0.0], [0.0, 0.3]]
    options = {"initial_simplex": simplex, "maxfev": NUM_EVALUATIONS, "xatol": 0.02, "fatol": 1e-5}
    return scipy.optimize.minimize(function, [0.0, 0.0], method="Nelder-Mead", options=options).x


def calibration_error(pit, observed):
    """Returns the mean squared calibration error of central intervals; see `recalibrate`.

    Args:
      pit: Fraction of the draws below each value, [batch, time, dx].
      observed: What counts, bool [batch, time].
    """
    centred = np.abs(2.0 * np.asarray(pit) - 1.0)
    num_groups = min(max(1, len(centred) // GROUP_SIZE), centred.shape[1])
    errors = []
    for group in np.array_split(np.arange(centred.shape[1]), num_groups):
        values = centred[:, group][observed[:, group]].ravel()
        if len(values):
            inside = np.mean(values[:, np.newaxis] < SHARES, axis=0)
            errors.append(np.mean((inside - SHARES) ** 2))
    return float(np.mean(errors))
