"""Recalibration: the noise of a trained model, scaled by what a validation set says."""

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
    have the same noise for all a and b; the simplex of Nelder and Mead searches. The model is
    changed in place, its errors hardly; its bounds on ln p(x) may get worse.

    Args:
      model: A `DVBF`, or an `Ensemble` of which all members are scaled alike.
      sequences: `Sequences` that no training has used.
      initial_steps, num_draws, seed: As for `free_run`.

    Returns:
      A dictionary: `transition` and `emission`, the factors a and b; `error_before` and `error`,
      the roots of the calibration error.

    Raises:
      ValueError: If a part has no noise that can be scaled, or as `free_run` does.
    """
    steps = forecasts.check_initial_steps(model, sequences, initial_steps)
    parts = [
        (member.state_space_model.transition, member.state_space_model.emission)
        for member in forecasts.members_of(model)
    ]
    current = np.zeros(2)

    def move(amounts):
        nonlocal current
        for pair in parts:
            for part, change in zip(pair, amounts - current):
                part.shift_noise(float(change))
        current = np.array(amounts)

    def error(amounts):
        move(np.clip(amounts, -LARGEST, LARGEST))
        scores, observed = forecasts.free_run_scores(model, sequences, steps, num_draws, seed)
        return calibration_error(scores.pit, observed)

    try:
        move(current)
    except NotImplementedError as error:
        raise ValueError(f"`model` cannot be recalibrated: {error}.") from error
    before = error(current)
    simplex = [[0.0, 0.0], [-0.3, 0.0], [0.0, 0.3]]
    options = {"initial_simplex": simplex, "maxfev": NUM_EVALUATIONS, "xatol": 0.02, "fatol": 1e-5}
    found = scipy.optimize.minimize(error, np.zeros(2), method="Nelder-Mead", options=options)
    after = error(found.x)
    transition, emission = np.exp(current).tolist()
    roots = {"error_before": before**0.5, "error": after**0.5}
    return {"transition": transition, "emission": emission, **roots}


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
