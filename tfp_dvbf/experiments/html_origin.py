"""Where a run comes from: the sections of a report on its data, arguments and versions."""

import importlib
import json
import platform
import warnings

import numpy as np

from tfp_dvbf import data
from tfp_dvbf.data import alignment
from tfp_dvbf.experiments import html_page

PACKAGES = ("tfp_dvbf", "tensorflow", "tensorflow_probability", "tf_keras", "numpy")
VERDICTS = {
    0: "x[t+1] depends on u[t], as it should: no other pairing explains it clearly better.",
    1: "x[t+1] is explained better by u[t+1] than by u[t]. " + alignment.REMEDIES[1],
    -1: "x[t+1] is explained better by u[t-1] than by u[t]. " + alignment.REMEDIES[-1],
    None: "No verdict: without controls, on images and on few observations there is none.",
}


def alignment_of(train):
    """Returns the `Alignment` of `Sequences` or `Shards`, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return alignment.check_alignment_of(train)


def add_data(page, train, test, aligned):
    """Shows what the data are and how their controls are paired."""
    page.section("Data")
    splits = {"training": train, "test": test}
    rows = [_about_split(name, split) for name, split in splits.items() if split is not None]
    page.table(rows, "What the model was trained and tested on.")
    if test.spec:
        page.table(_pairs("spec", test.spec), "Where the data come from.", long=True)
    if aligned is not None:
        page.paragraph(f"Control alignment: {VERDICTS[aligned.shift]}")
        names = alignment.DEPENDS_ON
        errors = [
            {"x[t+1] from": names[shift], "one-step error": error}
            for shift, error in aligned.errors.items()
        ]
        if errors:
            page.table(errors, "Held-out errors of linear models, in the unit of the data.")


def _about_split(name, split):
    about = {
        "part": name,
        "sequences": len(split),
        "time steps": split.num_steps,
        "observation": list(split.observation_shape),
        "controls": split.control_dim,
    }
    if isinstance(split, data.Sequences):
        about["missing"] = f"{100 * np.mean(~split.observed):.3g} %"
    return about


def add_origin(page, config, effort=()):
    """Shows the effort, the versions and the arguments of a run.

    Args:
      page: `html_page.Page`.
      config: Arguments, a dictionary that JSON can hold.
      effort: What the run took, a dictionary; None is left out.
    """
    page.section("How it was made")
    versions = {name: importlib.import_module(name).__version__ for name in PACKAGES}
    about = {**dict(effort), "Python": platform.python_version(), **versions}
    about = {name: value for name, value in about.items() if value is not None}
    page.table(_pairs("what", about), "Effort and versions.")
    plain = {name: value for name, value in config.items() if not isinstance(value, dict)}
    page.table(_pairs("argument", plain), "Arguments of the run.", long=True)
    if plain != config:
        page.details("All arguments as JSON", json.dumps(config, indent=1))


def _pairs(head, values):
    """Returns a row for each value of a dictionary."""
    return [{head: name, "value": _text(value)} for name, value in values.items()]


def _text(value):
    """Returns a value that JSON holds as text."""
    return json.dumps(value) if value is None or isinstance(value, dict) else html_page.shown(value)
