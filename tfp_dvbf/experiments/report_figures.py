"""Figures of a report: learning curves, scores by horizon, calibration; narrow, for any screen."""

import numpy as np

from tfp_dvbf.experiments import plots

WIDTH = 5.4  # Inches.
LEVELS = {"coverage_90": "C0", "coverage_50": "C1"}
CURVES = {
    "loss": "loss  (nats a step)",
    "nll": "E[-ln p(x | z)]  (nats)",
    "kl": "KL  (nats)",
}


def learning_curves(path, history):
    """Draws the loss, the reconstruction and the KL by epoch, in training and validation.

    Args:
      path: File to write.
      history: Dictionary of one array a metric, as `run_folder.read_history` returns it.
    """
    figure, axes = _panels(len(CURVES))
    for axis, (key, label) in zip(axes, CURVES.items()):
        axis.plot(history["epoch"] + 1, history[key], color="C0", label="training")
        if f"val_{key}" in history:
            axis.plot(
                history["epoch"] + 1, history[f"val_{key}"], "--", color="C1", label="validation"
            )
        axis.set_ylabel(label)
        axis.set_yscale("symlog", linthresh=10.0 if key != "loss" else 1.0)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, axes[0])
    plots.save(figure, path)


def scores_by_horizon(path, runs, spec=None):
    """Draws the RMSE of forecasts by horizon, and the coverage of the first one's intervals.

    The axis of the RMSE is that of all but a linear model, which may be unstable.

    Args:
      path: File to write.
      runs: Names mapped to what `evaluation.summarise` returns, the model's first.
      spec: Spec of the data set, for the time step.
    """
    figure, (errors, coverage) = _panels(2)
    limit = 0.0
    for index, (name, found) in enumerate(runs.items()):
        values = np.array(found["by_horizon"]["rmse"], float)
        times = plots.times(len(values) + 1, spec)[1:]
        errors.plot(times, values, label=name, linewidth=1.8 if index == 0 else 1.0)
        if not name.startswith("ARX"):
            limit = max(limit, np.nanmax(values))
    errors.set(ylabel="RMSE", ylim=(0.0, 1.35 * limit or None))  # Room for the legend.
    errors.legend(frameon=False, fontsize="small", ncols=2)
    first = next(iter(runs.values()))
    for name, color in LEVELS.items():
        level = int(name.removeprefix("coverage_"))
        covered = 100.0 * np.array(first["by_horizon"][name], float)
        coverage.plot(times, covered, color=color, label=f"{level} % intervals")
        coverage.axhline(level, color=color, linestyle=":", linewidth=1.0)
    unit = "s" if "time_step" in (spec or {}) else "time steps"
    coverage.set(ylabel="covered  (%)", ylim=(-3, 103), xlabel=f"horizon  ({unit})")
    coverage.legend(frameon=False, fontsize="small", ncols=2, loc="lower right")
    plots.save(figure, path)


def calibration(path, pits):
    """Draws the histograms of the probability integral transforms of forecasts.

    Args:
      path: File to write.
      pits: Names of forecasts mapped to the fractions in bins of equal width.
    """
    figure, axes = plots.plt.subplots(
        1, len(pits), figsize=(WIDTH, 2.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (name, fractions) in zip(axes[0], pits.items()):
        number = len(fractions)
        edges = np.linspace(0.0, 1.0, number + 1)
        axis.bar(
            edges[:-1], fractions, 1.0 / number, align="edge", color="C0", alpha=0.5, edgecolor="C0"
        )
        axis.axhline(1.0 / number, color="black", linestyle=":")
        axis.set(title=name, xlabel="PIT", xlim=(0, 1))
    axes[0, 0].set_ylabel("fraction of the values")
    plots.save(figure, path)


def _panels(number):
    """Returns a figure and its panels, one above the other on one axis of time."""
    figure, axes = plots.plt.subplots(
        number, 1, figsize=(WIDTH, 2.1 * number + 0.6), sharex=True, layout="constrained"
    )
    return figure, axes


def _legend(figure, axis):
    """Sets the legend of all panels above them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
