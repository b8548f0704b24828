"""Figures of forecasts: what was observed, and the intervals that were forecast for it."""

import numpy as np

from tfp_dvbf.experiments import plots


def free_run(path, truth, draws, initial_steps, spec=None, width=9.0):
    """Draws a free run with its 50 and 90 % intervals beside what was observed.

    Args:
      path: File to write.
      truth: x[0:T], [time, dx], NaN where a step is missing.
      draws: Draws of x[0:T], [sample, time, dx].
      initial_steps: The number n of time steps that the model was given.
      spec: Spec of the data set, for its `observation_names` and the time step.
      width: Width of the figure in inches.
    """
    names = (spec or {}).get("observation_names") or [f"x[{d}]" for d in range(truth.shape[1])]
    figure, axes = plots.plt.subplots(
        len(names), 1, figsize=(width, 1.2 + 2.2 * len(names)), squeeze=False, layout="constrained"
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
    figure.legend(
        handles, labels, loc="outside lower center", ncols=5 if width > 8.0 else 3, frameon=False
    )
    plots.save(figure, path)
