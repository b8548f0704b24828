"""Figures of trajectories, training curves and errors."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.animation  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

TRUTH = {"color": "black", "linewidth": 1.2, "label": "ground truth"}
NUM_DRAWS = 5


def observations(path, panels, spec=None):
    """Draws generated observations against the ground truth, one column a panel.

    Args:
      path: File to write.
      panels: Titles mapped to (truth [time, dx], generated [sample, time, dx]).
      spec: Spec of the data set, for its `observation_names`, their offsets and the times.
    """
    truth = next(iter(panels.values()))[0]
    labels = observation_labels(truth.shape[1], spec)
    rows = {label: _dimension(d) for d, label in enumerate(labels)}
    _trajectories(path, panels, rows, spec)


def angles(path, panels, spec=None):
    """Draws the pendulum's angle arctan2(sin, cos), generated against the ground truth."""
    _trajectories(path, panels, {"θ  (rad)": _angle}, spec, band=False)


def _trajectories(path, panels, rows, spec, band=True):
    """One row for each label -> function of observations, one column a panel.

    Without `band` there are draws only: an angle that wraps has no quantiles.
    """
    figure, axes = plt.subplots(
        len(rows),
        len(panels),
        figsize=(3.6 * len(panels) + 0.6, 1.9 * len(rows) + 1.0),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, (title, (truth, generated)) in zip(axes.T, panels.items()):
        time = times(len(truth), spec)
        column[0].set_title(title)
        for axis, function in zip(column, rows.values()):
            draws = np.stack([function(draw) for draw in generated])
            if band:
                low, high = np.quantile(draws, [0.05, 0.95], axis=0)
                axis.fill_between(time, low, high, color="C0", alpha=0.2, label="90 % of draws")
            for index, draw in enumerate(draws[:NUM_DRAWS]):
                name = "draws" if index == 0 else None
                axis.plot(time, draw, color="C0", linewidth=0.7, alpha=0.8, label=name)
            axis.plot(time, function(truth), linestyle="--", **TRUTH)
        column[-1].set_xlabel(time_label(spec))
    for axis, label in zip(axes[:, 0], rows):
        axis.set_ylabel(label)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def loss_curves(path, histories):
    """Draws the total loss (nats a step) of each run; solid in training, dashed in validation.

    Args:
      path: File to write.
      histories: Names mapped to histories, dictionaries of one array a metric.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for color, (name, history) in zip(_colors(), histories.items()):
        _curve(axis, history, "loss", color, name)
    axis.set(xlabel="epoch", ylabel="loss  (nats a step)")
    axis.set_yscale("symlog")
    axis.legend(frameon=False, title="dashed: validation")
    save(figure, path)


def bound_curves(path, histories):
    """Draws reconstruction (-ln p(x|z)) and KL of each run, nats a sequence, zero marked."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    titles = {"nll": "reconstruction, E[-ln p(x | z)]", "kl": "“KL”, E[ln q - ln p]"}
    for axis, (key, title) in zip(axes, titles.items()):
        for color, (name, history) in zip(_colors(), histories.items()):
            _curve(axis, history, key, color, name)
        axis.axhline(0.0, color="black", linewidth=0.8)
        axis.set(xlabel="epoch", ylabel="nats a sequence", title=title)
        axis.set_yscale("symlog", linthresh=10.0)
    axes[1].legend(frameon=False, title="dashed: validation")
    save(figure, path)


def bounds_and_evidence(path, curves):
    """Draws each objective against the exact evidence of the model's own parameters, by epoch.

    Args:
      path: File to write.
      curves: Names mapped to dictionaries of `objective` and `evidence`, a number an epoch, and
        `generating`, the evidence of the model the data come from; nats a sequence.
    """
    figure, axes = plt.subplots(
        1, len(curves), figsize=(3.0 * len(curves), 3.2), sharey=True, layout="constrained"
    )
    for axis, (name, values) in zip(axes, curves.items()):
        epochs = np.arange(1, len(values["objective"]) + 1)
        axis.plot(epochs, values["objective"], color="C3", label="objective")
        axis.plot(epochs, values["evidence"], color="black", label="exact ln p(x), same parameters")
        axis.axhline(
            values["generating"], color="C0", linestyle=":", label="ln p(x), data-generating"
        )
        axis.set(title=name, xlabel="epoch")
    axes[0].set_ylabel("nats a sequence")
    axes[0].set_yscale("symlog", linthresh=10.0)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def filtering_density(path, axis, density, draws):
    """Draws the exact density of a state of one or two dimensions beside posterior draws.

    Args:
      path: File to write.
      axis: Points of the grid in each dimension, [n].
      density: p(z[t] | x[0:t]) on the grid, [n] or [n, n].
      draws: Names mapped to draws of z[t], [draws, 1 or 2].
    """
    names = [None, *draws] if density.ndim == 2 else list(draws)
    rows = -(-len(names) // 4)
    figure, axes = plt.subplots(
        rows, min(4, len(names)), figsize=(10.0, 2.6 * rows), layout="constrained", squeeze=False
    )
    for panel, name in zip(axes.flat, names):
        if density.ndim == 1:
            panel.hist(draws[name][:, 0], bins=80, density=True, color="C0", alpha=0.5)
            panel.plot(axis, density, color="black", linewidth=1.0)
            panel.set(title=name, xlabel="z", yticks=[])
        else:
            panel.contourf(axis, axis, density.T, levels=12, cmap="Greys")
            if name is not None:
                panel.plot(*draws[name].T, ".", color="C0", markersize=1.0)
            panel.set(title=name or "exact density", xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    for panel in list(axes.flat)[len(names) :]:
        panel.axis("off")
    limit = 1.5 * max(np.quantile(np.abs(values), 0.99) for values in draws.values())
    for panel in list(axes.flat)[: len(names)]:
        panel.set_xlim(-limit, limit)
        if density.ndim == 2:
            panel.set_ylim(-limit, limit)
    save(figure, path)


def kl_curves(path, curves):
    """Draws the KL term of each run by epoch, zero marked.

    Args:
      path: File to write.
      curves: Names mapped to KLs, a number an epoch, nats a sequence.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, values in curves.items():
        axis.plot(np.arange(1, len(values) + 1), values, label=name)
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set(xlabel="epoch", ylabel="“KL”  (nats a sequence)")
    axis.set_yscale("symlog", linthresh=10.0)
    axis.legend(frameon=False)
    save(figure, path)


def gaussian_chain(path, curves):
    """Draws the poster's t-th term in one dimension against the variance of the prior.

    Args:
      path: File to write.
      curves: Variances, and names mapped to terms in nats.
    """
    variance, terms = curves
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, values in terms.items():
        axis.plot(variance, values, label=name)
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set(xlabel="variance v of the prior / v0", ylabel="t-th term  (nats)", xscale="log")
    axis.legend(frameon=False)
    save(figure, path)


def mae_by_horizon(path, curves, spec=None):
    """Draws the generation error by time step.

    Args:
      path: File to write.
      curves: Names mapped to MAEs [time].
      spec: Spec of the data set, for the time step.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for name, curve in curves.items():
        axis.plot(times(len(curve), spec), np.array(curve, float), label=name)
    axis.set(xlabel=time_label(spec), ylabel="MAE of generated observations", ylim=(0, None))
    axis.legend(frameon=False)
    save(figure, path)


def pendulum_gif(path, panels, spec):
    """Animates pendulums side by side.

    Args:
      path: `.gif` file to write.
      panels: Titles mapped to observations [time, 3], (cos θ, sin θ, θ̇ / 8).
      spec: Spec of the data set, for the time step.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.2 * len(panels), 2.6), squeeze=False, layout="constrained"
    )
    rods = []
    for axis, title in zip(axes[0], panels):
        axis.set(
            title=title, xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", xticks=[], yticks=[]
        )
        axis.plot(0, 0, "o", color="black", markersize=4)
        rods.append(axis.plot([], [], "-o", linewidth=4, markersize=9, color="C3")[0])

    def draw(step):
        for rod, x in zip(rods, panels.values()):
            angle = np.arctan2(x[step, 1], x[step, 0])
            rod.set_data([0, -np.sin(angle)], [0, np.cos(angle)])
        return rods

    steps = len(next(iter(panels.values())))
    animation = matplotlib.animation.FuncAnimation(figure, draw, frames=steps)
    writer = matplotlib.animation.PillowWriter(fps=round(1 / spec["time_step"]))
    animation.save(path, writer=writer, dpi=80)
    plt.close(figure)


def _curve(axis, history, key, color, name):
    epochs = history["epoch"] + 1
    if key in history:
        axis.plot(epochs, history[key], color=color, label=name)
        name = None
    if f"val_{key}" in history:
        axis.plot(epochs, history[f"val_{key}"], "--", color=color, linewidth=0.8, label=name)


def _colors():
    return plt.rcParams["axes.prop_cycle"].by_key()["color"]


def _dimension(index):
    return lambda x: x[:, index]


def _angle(x):
    """Returns arctan2(sin, cos) [time], broken where it wraps so that no line crosses the plot."""
    angle = np.arctan2(x[:, 1], x[:, 0])
    wraps = np.abs(np.diff(angle, prepend=angle[:1])) > np.pi
    return np.where(wraps, np.nan, angle)


def is_pendulum(spec):
    """Returns whether a data set's spec says that it is the state of Pendulum-v1, with its step."""
    found = spec or {}
    is_state = found.get("env_id") == "Pendulum-v1" and "image" not in found
    return is_state and "time_step" in found


def times(steps, spec):
    """Returns the times of `steps` time steps, in the unit of the spec's `time_step` or in 1."""
    return np.arange(steps) * (spec or {}).get("time_step", 1)


def time_label(spec):
    """Returns the label of an axis of `times`: the spec's `time_name` if it has one."""
    default = "time  (s)" if "time_step" in (spec or {}) else "step"
    return (spec or {}).get("time_name", default)


def observation_labels(dim, spec):
    """Returns the label of each dimension of observations, less the offset that the spec names."""
    names = (spec or {}).get("observation_names") or [f"x[{d}]" for d in range(dim)]
    offsets = (spec or {}).get("offsets") or {}
    signs = {name: "\N{MINUS SIGN}" if offset > 0 else "+" for name, offset in offsets.items()}
    return [
        f"{name} {signs[name]} {abs(offsets[name]):.12g}" if name in offsets else name
        for name in names
    ]


def save(figure, path):
    """Writes a figure to the file `path` and closes it."""
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
