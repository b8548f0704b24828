"""`report.html`: what a run trained on what, how it went, and whether to trust its forecasts."""

import json
import warnings

from tfp_dvbf.data import alignment
from tfp_dvbf.evaluation import collapse
from tfp_dvbf.experiments import forecast_plots, html_page, run_folder, tables

PAGE = "report.html"
NUM_DRAWS = 200
MAX_STEPS = 1000  # Most time steps of the free run that is drawn.
CAPTIONS = {
    "loss.png": "Loss in nats an observed step, on the training and on the validation set.",
    "reconstruction_and_kl.png": "The terms of the bound in nats a sequence, in training.",
    "observations.png": "Sequences of the test set, and what the model generates for them from "
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
    0: "Each control is paired with the step that it acts on.",
    1: "x[t+1] is explained best by u[t+1]: the controls seem to be one step late, or act at once.",
    -1: "x[t+1] is explained best by u[t-1]: the controls seem to be one step early.",
}


def write_run(model, folder, test, metrics, train=None):
    """Writes the report of a run into its folder, beside what it was made from.

    Args:
      model: The trained model.
      folder: The run folder, with its figures.
      test: The test set, `Sequences`.
      metrics: What `evaluation.report` returned.
      train: The training set, `Sequences` or `Shards`, for the alignment of its controls; or None.
    """
    page = html_page.Page(f"{metrics['model']}, seed {metrics['training_seed']}")
    config = dict(run_folder.read_json(folder / run_folder.ARGS))
    _data(page, metrics, train)
    _scores(page, metrics)
    if "free_run" in metrics:
        _forecasts(page, model, folder, test, metrics)
    page.section("Training")
    for name, caption in CAPTIONS.items():
        if (folder / "figures" / name).exists():
            page.figure(folder / "figures" / name, caption)
    for name, arguments in {"Model": config.pop("model", {}), "Arguments": config}.items():
        if arguments:
            page.section(name)
            page.facts(_facts(arguments))
    (folder / PAGE).write_text(page.render())


def write_table(path, title, rows, figures, arguments):
    """Writes the report of several models.

    Args:
      path: File to write.
      title: What stands at its top.
      rows: The table, dictionaries of cells.
      figures: Paths of PNG files mapped to their captions.
      arguments: What was asked for, a dictionary.
    """
    page = html_page.Page(title)
    page.table(rows)
    for figure, caption in figures.items():
        page.figure(figure, caption)
    page.section("Arguments")
    page.facts(_facts(arguments))
    path.write_text(page.render())


def _data(page, metrics, train):
    """What was trained on what, and whether the controls stand where they act."""
    page.section("Data")
    spec = {name: value for name, value in metrics.get("data", {}).items() if value not in ({}, [])}
    facts = {"test set": f"{metrics['num_sequences']} sequences of {metrics['num_steps']} steps"}
    if train is not None:
        facts = {"training set": f"{len(train)} sequences of {train.num_steps} steps", **facts}
    facts |= {"updates": f"{metrics['updates']:,}", "parameters": f"{metrics['parameters']:,}"}
    if metrics.get("seconds"):
        facts["training time"] = f"{metrics['seconds']:.0f} s"
    page.facts(facts | {name.replace("_", " "): _text(value) for name, value in spec.items()})
    if train is not None:
        with warnings.catch_warnings(action="ignore"):  # The page says it in its own words.
            found = alignment.check_alignment_of(train)
        shown = [f"u[t{shift:+d}] {error:.3g}" for shift, error in found.errors.items()]
        one_step = f" One-step errors of a linear model: {', '.join(shown)}." if shown else ""
        page.paragraph(ALIGNED[found.shift] + one_step.replace("u[t+0]", "u[t]"))


def _scores(page, metrics):
    """The table of the model beside the baselines, and that of its forecasts."""
    page.section("Scores on the test set")
    rows = [metrics, *metrics.get("baselines", [])]
    page.paragraph(
        "MAE is the mean absolute difference between generated and true observations; elbo, iwae "
        "and fivo are bounds on the log evidence of a sequence, in nats."
    )
    page.table(tables.cells(rows))
    forecasts = tables.forecast_rows(metrics)
    if forecasts:
        page.paragraph("Forecasts, with 95 % intervals; NLL is in nats a step.")
        page.table(forecasts)
    dead = metrics["active_units"]["dead"]
    if dead:
        page.paragraph(collapse.warning(dead, len(metrics["active_units"]["noise"])))
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
        caption = (
            f"The first test sequence in free run, given its first {given} steps and controls."
        )
        page.figure(figures / "free_run.png", caption)
    forecast_plots.by_horizon(figures / "by_horizon.png", run, metrics["model"], test.spec)
    page.figure(figures / "by_horizon.png", "Error and coverage of the free run by time step.")
    histograms = {"free run": run["pit"]}
    if metrics.get("one_step"):
        histograms["one step ahead"] = metrics["one_step"]["pit"]
    forecast_plots.calibration(figures / "calibration.png", histograms)
    page.figure(figures / "calibration.png", UNCALIBRATED)


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
