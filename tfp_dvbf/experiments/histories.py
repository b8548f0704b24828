"""What a run folder tells of its training, epoch by epoch."""

import pathlib

import numpy as np

from tfp_dvbf.experiments import run_folder

FILE = "history.csv"
TERMS = ("neg_elbo", "nll", "kl")  # In nats a sequence, and `loss` in nats a step.


def read(path):
    """Returns `history.csv` as a dictionary of one array a column."""
    table = np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))
    return {name: table[name] for name in table.dtype.names}


def of_run(run):
    """Returns the history of a run folder, all of whose terms are in nats a sequence.

    Those of training on windows are in nats a window: they are left out, those of the validation
    set remain.
    """
    run = pathlib.Path(run)
    history = read(run / FILE)
    if run_folder.read_json(run / run_folder.ARGS).get("window"):
        history = {name: column for name, column in history.items() if name not in TERMS}
    return history


def lowest_kl(run):
    """Returns the lowest KL of any epoch of a run folder, of what `of_run` returns."""
    history = of_run(run)
    return min(float(history[name].min()) for name in ["kl", "val_kl"] if name in history)
