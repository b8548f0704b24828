"""The HTML report of a run: what was trained on what, how it did, and what speaks against it."""

import pathlib
import tempfile

import numpy as np

from tfp_dvbf.evaluation import collapse
from tfp_dvbf.experiments import (
    forecast_plots,
    html_origin,
    html_page,
    report_figures,
    run_folder,
    tables,
)

NUM_HORIZONS = 20  # Rows of the table of horizons at most.
NUM_DRAWN, NUM_DRAWS = 1000, 100  # Time steps and draws of the free run that is drawn.
ERRORS = (  # Columns of the table of errors and bounds.
    *("model", "mae_sampled", "mae_mean", "reconstruction_mae"),
    *("elbo", "iwae_64", "fivo_64", "kl_per_step", "lowest_kl"),
)
NUM_PANELS = 6  # Dimensions of an observation that are drawn at most.


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
    aligned = None if train is None else html_origin.alignment_of(train)
    _summary(page, metrics, train)
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
    html_origin.add_data(page, train, test, aligned)
    effort = {name: metrics[name] for name in ("updates", "seconds", "parameters")}
    html_origin.add_origin(page, run_folder.read_json(folder / "args.json"), effort)
    page.write(folder / run_folder.REPORT)
    return folder / run_folder.REPORT


def write_comparison(folder, title, rows, caption, figures, config):
    """Writes `report.html` into a folder of several run folders, whose reports it links to.

    Args:
      folder: The folder, a `pathlib.Path`.
      title: Title of the page.
      rows: Rows of the table, dictionaries of heads and values.
      caption: What the table shows.
      figures: Captions of pictures in the folder mapped to their files, paths.
      config: Arguments of the comparison, a dictionary that JSON can hold.

    Returns:
      The path of the file.
    """
    page = html_page.Page(title)
    page.section("Results")
    page.table(rows, caption)
    for text, path in figures.items():
        page.figure(path, text, text)
    runs = sorted(path.parent.name for path in folder.glob(f"*/{run_folder.REPORT}"))
    if runs:
        page.section("Runs")
    for name in runs:
        page.link(f"{name}/{run_folder.REPORT}", name)
    html_origin.add_origin(page, config)
    page.write(folder / run_folder.REPORT)
    return folder / run_folder.REPORT


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
        found.append(f"Control alignment: {html_origin.VERDICTS[aligned.shift]}")
    return found


def _is_less(found, other, name):
    return None not in (found[name], other[name]) and found[name] < other[name]


def _summary(page, metrics, train):
    """Says in two sentences what the run is and how its forecasts do."""
    trained = "" if train is None else f", trained on {_count(len(train), 'sequence')}"
    page.paragraph(
        f"A deep variational Bayes filter with the posterior {metrics['model']} and "
        f"{metrics['parameters']:,} parameters{trained} and evaluated on "
        f"{_count(metrics['num_sequences'], 'test sequence')} of "
        f"{_count(metrics['num_steps'], 'time step')}."
    )
    run = metrics.get("free_run")
    if run:
        found = tables.scores({**run, "intervals": {}})
        page.paragraph(
            f"In free run from {_count(run['initial_steps'], 'given time step')} its RMSE is "
            f"{found.get('RMSE', 'not finite')} in the unit of the data, and its 90 % intervals "
            f"cover {found['90 % covers']} % of what was observed."
        )


def _count(number, noun):
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _scores(page, metrics):
    page.section("Scores")
    rows = [
        {head: cell.replace(" [", "\n[") for head, cell in row.items()}
        for row in tables.forecast_rows(metrics)
    ]
    if rows:
        page.table(
            rows,
            "Forecasts of the test set, each score above its 95 % interval. RMSE and CRPS are in "
            "the unit of the data, NLL in nats, coverage in per cent.",
        )
    for line in tables.left_out(metrics):
        page.paragraph(line)
    page.table(
        tables.result_rows(tables.select([metrics, *metrics["baselines"]], ERRORS)),
        "Mean absolute errors of generated observations in the unit of the data, sampled (every "
        "transition is drawn) and mean (every transition at its mean); bounds in nats a sequence.",
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
        f"The first test sequence. The model is given its first {_count(given, 'time step')} and "
        f"all controls; the intervals are those of {NUM_DRAWS} draws.",
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
