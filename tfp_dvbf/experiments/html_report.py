"""`report.html`: what a run trained on what, how it went, and whether to trust its forecasts."""

import importlib
import json
import platform
import warnings

import numpy as np

from tfp_dvbf import collapse
from tfp_dvbf.data import alignment
from tfp_dvbf.evaluation import recalibration
from tfp_dvbf.experiments import forecast_plots, html_page, run_folder, tables

PAGE = "report.html"
NUM_DRAWS = 200
MAX_STEPS = 1000  # Most time steps of the free run that is drawn.
MAX_HORIZONS = 20  # Most rows of the table of horizons.
PACKAGES = ("tfp_dvbf", "tensorflow", "tensorflow_probability", "tf_keras", "numpy")
CAPTIONS = {
    "loss.png": "Loss in nats an observed step, on the training and on the validation set.",
    "reconstruction_and_kl.png": "The terms of the bound in nats a sequence, in training.",
    "observations.png": "Sequences that were scored, and what the model generates for them from "
    "their first steps under their controls.",
    "angle.png": "The angle of the same sequences.",
}
UNCALIBRATED = (
    "Where observations fell in their forecasts. Bars of equal height would mean that these are "
    "calibrated; a trough in the middle shows intervals that are too narrow, a hill intervals that "
    "are too wide, a slope a bias."
)
ALIGNED = {
    None: "There is no verdict: too few steps, no controls, images or too many dimensions.",
    0: "No other pairing of the controls explains the observations clearly better.",
    1: "x[t+1] is explained best by u[t+1]: the controls seem to be one step late, or act at once.",
    -1: "x[t+1] is explained best by u[t-1]: the controls seem to be one step early.",
}
UNDECIDED = " Another pairing errs at most 10 % more: these data cannot tell which one is right."
NEAR = 1.1  # Ratio to the error of u[t] up to which data cannot tell another pairing from it.


def write_run(model, folder, test, metrics, train=None):
    """Writes the report of a run into its folder, beside what it was made from.

    Args:
      model: The trained model.
      folder: The run folder, with its figures.
      test: The test set, `Sequences`.
      metrics: What `evaluation.report` returned.
      train: The training set, `Sequences` or `Shards`, for the alignment of its controls; or None.
    """
    (about,) = tables.cells([{name: metrics[name] for name in ["model", "training_seed"]}])
    page = html_page.Page(f"{about['model']}, seed {about['seed']}")
    config = dict(run_folder.read_json(folder / run_folder.ARGS))
    found = None if train is None else _alignment_of(train)
    for note in notes(metrics, found):
        page.note(note)
    _data(page, metrics, train, found)
    _scores(page, metrics)
    if "free_run" in metrics:
        _forecasts(page, model, folder, test, metrics)
    _latent_dimensions(page, metrics)
    page.section("Training")
    for name, caption in CAPTIONS.items():
        if (folder / "figures" / name).exists():
            page.figure(folder / "figures" / name, caption)
    for name, arguments in {"Model": config.pop("model", {}), "Arguments": config}.items():
        if arguments:
            page.section(name)
            page.facts(_facts(arguments))
    page.section("Versions")
    page.facts(versions())
    page.write(folder / PAGE)


def write_table(path, title, rows, figures, arguments, train=None):
    """Writes the report of several models.

    Args:
      path: File to write.
      title: What stands at its top.
      rows: The table, dictionaries of cells.
      figures: Paths of PNG files mapped to their captions.
      arguments: What was asked for, a dictionary.
      train: The training set, `Sequences` or `Shards`, for the alignment of its controls; or None.
    """
    page = html_page.Page(title)
    page.table(rows)
    if train is not None:
        page.paragraph(_alignment(_alignment_of(train)))
    for figure, caption in figures.items():
        page.figure(figure, caption)
    page.section("Arguments")
    page.facts(_facts(arguments))
    page.section("Versions")
    page.facts(versions())
    page.write(path)


def versions():
    """Returns the versions of Python and of the packages behind a run, by name."""
    found = {name: importlib.import_module(name).__version__ for name in PACKAGES}
    return {"Python": platform.python_version(), **found}


def notes(metrics, found=None):
    """Returns what a reader should know of a run before its scores, a sentence or two each.

    Args:
      metrics: What `evaluation.report` returned.
      found: The `Alignment` of the training set, or None.
    """
    speaking, run = [], metrics.get("free_run", {})
    low, high = run.get("intervals", {}).get("coverage_90", (None, None))
    if high is not None and high < 0.9:
        speaking.append(
            f"The 90 % intervals of the free run are too narrow: they cover "
            f"{100 * run['coverage_90']:.0f} % of the observations, 95 % interval "
            f"{100 * low:.0f} to {100 * high:.0f} %. An ensemble widens them."
        )
    rows = [row for row in run.get("baselines", []) if row["rmse"] is not None]
    best = min(rows, key=lambda row: row["rmse"], default=None)
    if best and run["rmse"] is not None and best["rmse"] < run["rmse"]:
        speaking.append(
            f"{best['model']}, which needs no network, has the lower RMSE in free run: "
            f"{best['rmse']:.3g} against {run['rmse']:.3g}."
        )
    units = metrics.get("active_units")
    if units and units["dead"]:
        speaking.append(collapse.warning(units["dead"], len(units["noise"])))
    if "recalibration" in metrics:
        speaking.append(recalibration.sentence(metrics["recalibration"]))
    if found is not None and found.shift:
        speaking.append(ALIGNED[found.shift])
    return speaking


def _alignment_of(train):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The page says it in its own words.
        return alignment.check_alignment_of(train)


def _data(page, metrics, train, found):
    """What was trained on what, and whether the controls stand where they act."""
    page.section("Data")
    spec = metrics.get("data") or {}
    sizes = {_part(metrics): (metrics["num_sequences"], metrics["num_steps"])}
    if train is not None:
        sizes = {"training set": (len(train), train.num_steps), **sizes}
    facts = {
        name: f"{count:,} sequence{'s' * (count != 1)} of {steps:,} steps"
        for name, (count, steps) in sizes.items()
    }
    if metrics.get("updates") is not None:
        facts["updates"] = f"{metrics['updates']:,}"
    facts["parameters"] = f"{metrics['parameters']:,}"
    if metrics.get("seconds"):
        facts["training time"] = f"{metrics['seconds']:.0f} s"
    facts |= {
        name.replace("_", " "): _text(value)
        for name, value in spec.items()
        if value not in ({}, [])
    }
    page.facts(facts)
    if found is not None:
        page.paragraph(_alignment(found))


def _part(metrics):
    """Returns what the data that were scored are called: the test set, if they do not say."""
    return (metrics.get("data") or {}).get("part", "test set")


def verdict(found):
    """Returns what an `Alignment` says of the controls, and whether the data can tell."""
    others = [error for shift, error in found.errors.items() if shift]
    undecided = found.shift == 0 and others and min(others) <= NEAR * found.errors[0]
    return ALIGNED[found.shift] + (UNDECIDED if undecided else "")


def _alignment(found):
    """Returns what an `Alignment` says of the controls, with its errors."""
    shown = [f"u[t{shift:+d}] {error:.3g}" for shift, error in found.errors.items()]
    one_step = f" One-step errors of a linear model: {', '.join(shown)}." if shown else ""
    return verdict(found) + one_step.replace("u[t+0]", "u[t]")


def _scores(page, metrics):
    """The table of the model beside the baselines, and that of its forecasts."""
    page.section(f"Scores on the {_part(metrics)}")
    told = "parameters", "updates", "seconds"  # By the data section.
    about = {name: value for name, value in metrics.items() if name not in told}
    rows = [about, *metrics.get("baselines", [])]
    page.paragraph(
        "MAE is the mean absolute difference between generated and true observations; elbo, iwae "
        "and fivo are bounds on the log evidence of a sequence, in nats."
    )
    page.table(tables.cells(rows))
    scored = metrics.get("free_run", {}).get("num_scored", metrics["num_sequences"])
    if scored < metrics["num_sequences"]:
        page.paragraph(
            f"The forecasts score {scored} of {metrics['num_sequences']} sequences; the others "
            "have no observed step after those that are given."
        )
    forecasts = tables.forecast_rows(metrics)
    if forecasts:
        page.paragraph("Forecasts, with 95 % intervals; NLL is in nats a step.")
        page.table(forecasts)
    for name, reason in metrics.get("left_out", {}).items():
        page.paragraph(f"{name} is left out: {reason}")


def _forecasts(page, model, folder, test, metrics):
    """The free run, its errors and its calibration."""
    page.section("Forecasts")
    run, figures = metrics["free_run"], folder / "figures"
    first, given = test[:1], run["initial_steps"]
    if len(first.observation_shape) == 1:
        steps = min(first.num_steps, MAX_STEPS)
        x, u, mask = first.observations[:, :steps], first.controls[:, : steps - 1], first.mask
        mask = None if mask is None else mask[:, :given]
        drawn = model.forecast(x[:, :given], u, NUM_DRAWS, seed=1, mask=mask)
        truth = first.observations_or_nan[0, :steps]
        draws = drawn.observations.numpy()[:, 0]
        forecast_plots.free_run(figures / "free_run.png", truth, draws, given, test.spec)
        steps = "its first step" if given == 1 else f"its first {given} steps"
        caption = f"The first sequence of the {_part(metrics)} in free run, given {steps} and its"
        caption += " controls."
        page.figure(figures / "free_run.png", caption)
    forecast_plots.by_horizon(figures / "by_horizon.png", run, metrics["model"], test.spec)
    page.figure(figures / "by_horizon.png", "Error and coverage of the free run by time step.")
    page.table(horizon_rows(run))
    histograms = {"free run": run["pit"]}
    if metrics.get("one_step"):
        histograms["one step ahead"] = metrics["one_step"]["pit"]
    forecast_plots.calibration(figures / "calibration.png", histograms)
    page.figure(figures / "calibration.png", UNCALIBRATED)


def horizon_rows(run):
    """Returns the scores of a free run at 20 horizons or fewer, evenly chosen, as rows."""
    scores = run["by_horizon"]
    number = len(scores["rmse"])
    chosen = np.linspace(0, number - 1, min(number, MAX_HORIZONS)).round().astype(int)
    return [
        {"horizon": index + 1, **tables.scores({name: scores[name][index] for name in scores})}
        for index in chosen.tolist()
    ]


def _latent_dimensions(page, metrics):
    """How much of each latent dimension comes from the observations."""
    units = metrics.get("active_units")
    if not units:
        return
    page.section("Latent dimensions")
    page.paragraph(
        f"The KL is {metrics['kl_per_step']:.3g} nats a step. Under the prior a state is made of "
        "noise of mean 0 and variance 1; the table has the mean square of its posterior mean. A "
        f"dimension in which neither figure exceeds {collapse.THRESHOLD} has collapsed: the "
        "observations say nothing about it."
    )
    page.table(
        [
            {
                "dimension": f"z[{index}]",
                "first step": f"{initial:.3f}",
                "later": f"{noise:.3f}",
                "": "collapsed" if index in units["dead"] else "active",
            }
            for index, (initial, noise) in enumerate(zip(units["initial"], units["noise"]))
        ]
    )


def _facts(arguments):
    """Returns arguments as lines by name, those of a part as `part.argument`."""
    facts = {}
    for name, value in arguments.items():
        if isinstance(value, dict) and "class_name" in value:
            facts[name] = value["class_name"]
            facts |= {f"{name}.{key}": _text(own) for key, own in value.get("config", {}).items()}
        else:
            facts[name] = _text(value)
    return {
        name: text for name, text in facts.items() if not name.endswith((".trainable", ".dtype"))
    }


def _text(value):
    """Returns a value as one line; numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)
