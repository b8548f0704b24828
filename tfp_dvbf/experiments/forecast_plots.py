"""Figures of forecasts: what was observed, and the intervals that were forecast for it."""

import numpy as np

from tfp_dvbf.experiments import plots

MAX_PARTS = 20  # Of the horizon, over each of which coverage is averaged.


def free_run(path, truth, draws, initial_steps, spec=None):
    """Draws a free run with its 50 and 90 % intervals beside what was observed.

    Args:
      path: File to write.
      truth: x[0:T], [time, dx], NaN where a step is missing.
      draws: Draws of x[0:T], [sample, time, dx].
      initial_steps: The number n of time steps that the model was given.
      spec: Spec of the data set, for its `observation_names`, their offsets and the times.
    """
    names = plots.observation_labels(truth.shape[1], spec)
    figure, axes = plots.plt.subplots(
        len(names), 1, figsize=(9.0, 1.2 + 2.2 * len(names)), squeeze=False, layout="constrained"
    )
    time = plots.times(len(truth), spec)
    run = slice(initial_steps, None)
    for d, (axis, name) in enumerate(zip(axes[:, 0], names)):
        levels = [0.05, 0.25, 0.5, 0.75, 0.95]
        low, quarter, median, three_quarters, high = np.quantile(draws[:, run, d], levels, axis=0)
        axis.fill_between(time[run], low, high, color="C0", alpha=0.2, label="90 % interval")
        axis.fill_between(
            time[run], quarter, three_quarters, color="C0", alpha=0.4, label="50 % interval"
        )
        axis.plot(time[run], median, color="C0", linewidth=0.8, label="median")
        axis.plot(time, truth[:, d], color="black", linewidth=0.8, label="observed")
        axis.axvline(time[initial_steps], color="grey", linestyle=":", label="free run starts")
        axis.set(ylabel=name, xlim=(time[0], time[-1]))
    axes[-1, 0].set_xlabel(plots.time_label(spec))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    plots.save(figure, path)


def by_horizon(path, run, name, spec=None):
    """Draws the error of a free run and the coverage of its intervals by time step.

    The axis of the error is that of all but ARX, which may be unstable.

    Args:
      path: File to write.
      run: What `evaluation.free_run` returns, with the rows of `baselines` if there are any.
      name: What the model is called.
      spec: Spec of the data set, for the time step.
    """
    figure, axes = plots.plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    curve = np.array(run["by_horizon"]["rmse"], float)
    time = plots.times(run["initial_steps"] + len(curve), spec)[run["initial_steps"] :]
    axes[0].plot(time, curve, color="black", linewidth=1.4, label=name)
    highest = np.nanmax(curve)
    for row in run.get("baselines", []):
        errors = np.array(row["by_horizon"]["rmse"], float)
        axes[0].plot(time, errors, linewidth=0.8, label=row["model"])
        if not row["model"].startswith("ARX"):
            highest = max(highest, np.nanmax(errors))
    axes[0].set(ylabel="RMSE", ylim=(0, 1.1 * highest if highest > 0 else None))
    parts = np.array_split(np.arange(len(curve)), min(len(curve), MAX_PARTS))
    middles = [time[part].mean() for part in parts]
    for level, color in [(90, "C0"), (50, "C1")]:
        covered = 100 * np.array(run["by_horizon"][f"coverage_{level}"], float)
        means = [np.mean(covered[part]) for part in parts]
        label = f"{level} % intervals"
        axes[1].plot(middles, means, color=color, marker=".", linewidth=0.9, label=label)
        axes[1].axhline(level, color=color, linestyle=":")
    axes[1].set(ylabel="observations covered  (%)", ylim=(0, 103))
    for axis in axes:
        axis.set_xlabel(plots.time_label(spec))
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    plots.save(figure, path)


def calibration(path, histograms):
    """Draws where observations fell in their forecasts: histograms of the PIT.

    Args:
      path: File to write.
      histograms: Names mapped to the shares of observations in equal parts of [0, 1].
    """
    figure, axes = plots.plt.subplots(
        1, len(histograms), figsize=(4.5 * len(histograms), 2.8), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, (name, shares) in zip(axes[0], histograms.items()):
        shares = 100 * np.asarray(shares)
        edges = np.linspace(0, 1, len(shares) + 1)
        axis.bar(edges[:-1], shares, width=1 / len(shares), align="edge", color="C0", alpha=0.6)
        axis.axhline(100 / len(shares), color="black", linestyle=":", linewidth=0.8)
        axis.set(title=name, xlabel="probability integral transform", xlim=(0, 1))
    axes[0, 0].set_ylabel("observations  (%)")
    plots.save(figure, path)
