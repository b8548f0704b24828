"""The HTML report of a run: what was trained on what, how it did, and what speaks against it."""

import importlib.metadata
import json
import pathlib
import platform
import tempfile
import warnings

import numpy as np

from tfp_dvbf import data
from tfp_dvbf.data import alignment
from tfp_dvbf.evaluation import collapse
from tfp_dvbf.experiments import (
    forecast_plots,
    html_page,
    report_figures,
    run_folder,
    tables,
)

FILE = "report.html"
PACKAGES = ("tfp_dvbf", "tensorflow", "tensorflow_probability", "tf_keras", "numpy")
NUM_HORIZONS = 20  # Rows of the table of horizons at most.
NUM_DRAWN, NUM_DRAWS = 1000, 100  # Time steps and draws of the free run that is drawn.
NUM_PANELS = 6  # Dimensions of an observation that are drawn at most.
VERDICTS = {
    0: "x[t+1] depends on u[t], as it should: no other pairing explains it clearly better.",
    1: "x[t+1] is explained better by u[t+1] than by u[t]. " + alignment.REMEDIES[1],
    -1: "x[t+1] is explained better by u[t-1] than by u[t]. " + alignment.REMEDIES[-1],
    None: "No verdict: without controls, on images and on few observations there is none.",
}


def write_run(folder, model, metrics, test, train=None):
    """Writes `report.html` into a run folder.

    Nothing of `metrics` is computed again; drawn anew is one free run alone.

    Args:
      folder: The run folder, a `pathlib.Path`, with `args.json` and `history.csv`.
      model: The trained `DVBF`.
      metrics: What `evaluation.report` returns of it.
      test: The test set, `Sequences`.
      train: The training set, `Sequences` or `Shards`, or None.

    Returns:
      The path of the file.
    """
    page = html_page.Page(f"Run {folder.name}")
    aligned = None if train is None else _alignment(train)
    _summary(page, metrics)
    for note in notes(metrics, aligned):
        page.note(note)
    with tempfile.TemporaryDirectory() as drawn:
        drawn = pathlib.Path(drawn)
        _scores(page, metrics)
        _free_run(page, drawn / "free_run.svg", model, metrics, test)
        _horizons(page, drawn / "horizons.svg", metrics, test.spec)
        _calibration(page, drawn / "calibration.svg", metrics)
        _learning(page, drawn / "learning.svg", folder)
    _latent(page, metrics)
    _data(page, train, test, aligned)
    _origin(page, run_folder.read_json(folder / "args.json"), metrics)
    page.write(folder / FILE)
    return folder / FILE


def notes(metrics, aligned=None):
    """Returns what speaks against a run, a sentence or two each.

    Args:
      metrics: What `evaluation.report` returns.
      aligned: `alignment.Alignment` of the training set, or None.
    """
    found = []
    run = metrics.get("free_run")
    if run:
        low, high = run["intervals"]["coverage_90"]
        if high < 0.9:
            found.append(
                f"The 90 % intervals of the free run cover {100 * run['coverage_90']:.0f} % of the "
                f"observations, 95 % interval {100 * low:.0f} to {100 * high:.0f} %: they are too "
                "narrow. An ensemble and early stopping widen them."
            )
        better = [row for row in run.get("baselines", []) if _is_less(row, run, "rmse")]
        if better:
            best = min(better, key=lambda row: row["rmse"])
            found.append(
                f"The baseline “{best['model']}” has a lower RMSE in free run, {best['rmse']:.3g} "
                f"to {run['rmse']:.3g}."
            )
    units = metrics.get("active_units")
    if units and units["dead"]:
        found.append(collapse.warning(units["dead"], len(units["noise"])))
    if aligned is not None and aligned.shift:
        found.append(f"Control alignment: {VERDICTS[aligned.shift]}")
    return found


def _is_less(found, other, name):
    return None not in (found[name], other[name]) and found[name] < other[name]


def _alignment(train):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is said in the report, and by who trains.
        return alignment.check_alignment_of(train)


def _summary(page, metrics):
    """Says in two sentences what the run is and how its forecasts do."""
    page.paragraph(
        f"A deep variational Bayes filter with the posterior {metrics['model']} and "
        f"{metrics['parameters']:,} parameters, evaluated on {metrics['num_sequences']} test "
        f"sequences of {metrics['num_steps']} time steps."
    )
    run = metrics.get("free_run")
    if run:
        page.paragraph(
            f"In free run from {run['initial_steps']} given time steps its RMSE is "
            f"{html_page.shown(run['rmse'])} in the unit of the data, and its 90 % intervals cover "
            f"{100 * run['coverage_90']:.0f} % of what was observed."
        )


def _scores(page, metrics):
    page.section("Scores")
    rows = tables.forecast_rows(metrics)
    if rows:
        page.table(rows, "Forecasts of the test set, with 95 % intervals in brackets.")
    for line in tables.left_out(metrics):
        page.paragraph(line)
    page.table(
        tables.result_rows([metrics, *metrics["baselines"]]),
        "Errors of generated observations in the unit of the data; bounds in nats a sequence.",
    )


def _free_run(page, path, model, metrics, test):
    """Draws the first test sequence and its forecast."""
    if "free_run" not in metrics or len(test.observation_shape) != 1:
        return
    given, first = metrics["free_run"]["initial_steps"], test[:1]
    truth = first.observations_or_nan[0, :NUM_DRAWN, :NUM_PANELS]
    if len(truth) <= given:
        return
    mask = None if first.mask is None else first.mask[:, :given]
    drawn = model.forecast(
        first.observations[:, :given], first.controls[:, : len(truth) - 1], NUM_DRAWS, 1, mask
    ).observations.numpy()[:, 0, :, :NUM_PANELS]
    spec = dict(test.spec or {})
    if spec.get("observation_names"):
        spec["observation_names"] = spec["observation_names"][:NUM_PANELS]
    forecast_plots.free_run(path, truth, drawn, given, spec, report_figures.WIDTH)
    page.section("Free run")
    page.figure(
        path,
        "Observed values of the first test sequence and the median, 50 and 90 % intervals of its "
        "free run, over time.",
        f"The first test sequence. The model is given the first {given} time steps and all "
        f"controls; the intervals are those of {NUM_DRAWS} draws.",
    )


def _horizons(page, path, metrics, spec):
    """Draws the scores by horizon and shows some of them."""
    if "free_run" not in metrics:
        return
    run = metrics["free_run"]
    runs = {metrics["model"]: run, **{row["model"]: row for row in run.get("baselines", [])}}
    report_figures.scores_by_horizon(path, runs, spec)
    page.section("By horizon")
    page.figure(
        path,
        "RMSE of the model and of the baselines by horizon, above the coverage of the model's 50 "
        "and 90 % intervals.",
        "Above: RMSE of the free run, all dimensions together. Below: how many observations the "
        "intervals cover; dotted lines are what a true forecast covers.",
    )
    page.table(horizon_rows(run), "Scores of the free run at some horizons, in time steps.")


def horizon_rows(run):
    """Returns the scores of a free run at 20 horizons or fewer, evenly chosen, as rows."""
    by_horizon = run["by_horizon"]
    number = len(by_horizon["rmse"])
    chosen = np.unique(np.linspace(0, number - 1, min(number, NUM_HORIZONS)).round().astype(int))
    return [
        {
            "horizon": int(index) + 1,
            **tables.scores({name: values[index] for name, values in by_horizon.items()}),
        }
        for index in chosen
    ]


def _calibration(page, path, metrics):
    names = {"free_run": "free run", "one_step": "one step ahead"}
    pits = {title: metrics[key]["pit"] for key, title in names.items() if key in metrics}
    if not pits:
        return
    report_figures.calibration(path, pits)
    page.section("Calibration")
    page.figure(
        path,
        "Histograms of the probability integral transform of " + " and of ".join(pits) + ".",
        "Where the observations fall in their forecast distributions. A true forecast fills all "
        "bins alike (dotted). A hump in the middle: intervals too wide; high ends: too narrow; a "
        "slope: biased.",
    )


def _learning(page, path, folder):
    report_figures.learning_curves(path, run_folder.read_history(folder / "history.csv"))
    page.section("Learning curves")
    page.figure(
        path,
        "Loss, reconstruction and KL by epoch, in training and validation.",
        "The loss is the negative bound, divided by the observed time steps, with the KL weighted "
        "in training while it is annealed; reconstruction and KL are sums over a sequence.",
    )


def _latent(page, metrics):
    """Shows how much of each latent dimension comes from the observations."""
    units = metrics.get("active_units")
    if not units:
        return
    page.section("Latent dimensions")
    page.paragraph(
        f"The KL is {html_page.shown(metrics['kl_per_step'])} nats a time step. A dimension is "
        f"dead if the posterior mean of its noise stays within {collapse.THRESHOLD} of that of the "
        "prior, in mean square and in units of the prior, both at the first time step and later."
    )
    rows = [
        {
            "dimension": f"z[{index}]",
            "first time step": initial,
            "later": noise,
            "state": "dead" if index in units["dead"] else "active",
        }
        for index, (initial, noise) in enumerate(zip(units["initial"], units["noise"]))
    ]
    page.table(rows, "Mean square of the posterior mean of the noise; its prior variance is 1.")


def _data(page, train, test, aligned):
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


def _origin(page, config, metrics):
    """Shows the arguments, the versions and the effort of a run."""
    page.section("How it was made")
    effort = {name: metrics[name] for name in ("updates", "seconds", "parameters")}
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    about = {**effort, "Python": platform.python_version(), **versions}
    page.table(_pairs("", about), "Effort and versions.")
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
