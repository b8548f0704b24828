"""Recalibration: the noise of a trained model, scaled by what a validation set says."""

import numpy as np
import scipy.optimize

from tfp_dvbf.evaluation import forecasts

LARGEST = 2.0  # The largest change of the logarithm of a scale.
NUM_EVALUATIONS = 60


def sentence(found):
    """Returns what a report says of a recalibration, a dictionary that `recalibrate` returned."""
    return (
        f"The noise was recalibrated on the validation set, that of the transition by a factor of "
        f"{found['transition']:.2f}, that of the emission by {found['emission']:.2f}: its NLL fell "
        f"from {found['nll_before']:.3f} to {found['nll']:.3f} nats a time step."
    )


def recalibrate(model, sequences, initial_steps=None, num_draws=100, seed=1):
    """Scales the learned noise of a model by two numbers that a validation set decides.

        s_z' = a s_z,  s_x' = b s_x        (what lies above the noise floors, and about so)

    Noise is learned from training windows whose first steps and last steps count alike, one step
    ahead: a free run may then be too sure of itself, or not sure enough. a and b minimise the
    Gaussian NLL of the free run with the moments of its draws (Guo et al. 2017, arXiv:1706.04599,
    scale the confidence of a classifier in the same way). The draws have the same noise for all a
    and b, so that the NLL is smooth; it is searched by the simplex of Nelder and Mead. The model is
    changed in place, its errors hardly, its bounds on ln p(x) may get worse.

    Args:
      model: A `DVBF`, or an `Ensemble` of which all members are scaled alike.
      sequences: `Sequences` that no training has used.
      initial_steps, num_draws, seed: As for `free_run`.

    Returns:
      A dictionary: `transition` and `emission`, the factors a and b; `nll_before` and `nll`, in
      nats a time step.

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

    def nll(amounts):
        move(np.clip(amounts, -LARGEST, LARGEST))
        scores, observed = forecasts.free_run_scores(model, sequences, steps, num_draws, seed)
        return float(np.mean(scores.nll[observed]))

    try:
        move(current)
    except NotImplementedError as error:
        raise ValueError(f"`model` cannot be recalibrated: {error}.") from error
    before = nll(current)
    simplex = [[0.0, 0.0], [-0.3, 0.0], [0.0, 0.3]]
    options = {"initial_simplex": simplex, "maxfev": NUM_EVALUATIONS, "xatol": 0.02, "fatol": 1e-4}
    found = scipy.optimize.minimize(nll, np.zeros(2), method="Nelder-Mead", options=options)
    after = nll(found.x)
    transition, emission = np.exp(current).tolist()
    return {"transition": transition, "emission": emission, "nll_before": before, "nll": after}
