"""Figures of images: sequences side by side, moving ones, and latent states by what they show."""

import matplotlib.animation
import numpy as np

from tfp_dvbf.experiments import plots

MAX_IMAGES = 15  # In a strip.


def strip(path, panels):
    """Draws sequences of images below each other, a row each, all in one range of values.

    Args:
      path: File to write.
      panels: Titles mapped to images [time, height, width, channels], NaN where one is missing.
    """
    steps = len(next(iter(panels.values())))
    shown = np.unique(np.linspace(0, steps - 1, min(steps, MAX_IMAGES)).round().astype(int))
    limits = _limits(panels)
    figure, axes = plots.plt.subplots(
        *(len(panels), len(shown)),
        figsize=(0.7 * len(shown) + 1.8, 0.72 * len(panels) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, (title, images) in zip(axes, panels.items()):
        for axis, step in zip(row, shown):
            _show(axis, images[step], limits)
        row[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    for axis, step in zip(axes[0], shown):
        axis.set_title(str(step), fontsize=8)
    plots.save(figure, path)


def film(path, panels, spec=None):
    """Animates sequences of images side by side.

    Args:
      path: `.gif` file to write.
      panels: As for `strip`.
      spec: Spec of the data set, for the time step; 0.1 s without.
    """
    limits = _limits(panels)
    figure, axes = plots.plt.subplots(
        1, len(panels), figsize=(1.9 * len(panels), 2.2), squeeze=False, layout="constrained"
    )
    pictures = []
    for axis, (title, images) in zip(axes[0], panels.items()):
        axis.set_title(title, fontsize=7)
        pictures.append(_show(axis, images[0], limits))

    def draw(step):
        for picture, images in zip(pictures, panels.values()):
            picture.set_data(_pixels(images[step], limits))
        return pictures

    steps = len(next(iter(panels.values())))
    animation = matplotlib.animation.FuncAnimation(figure, draw, frames=steps)
    rate = round(1 / (spec or {}).get("time_step", 0.1))
    animation.save(path, writer=matplotlib.animation.PillowWriter(fps=max(1, rate)), dpi=80)
    plots.plt.close(figure)


def latent_space(path, states, angles, velocities):
    """Draws latent states, the first two principal components and the third, by angle and velocity.

    Args:
      path: File to write.
      states: z, [number, dz].
      angles: Angles in rad, [number].
      velocities: Angular velocities in rad/s, [number].
    """
    centred = states - states.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    components = np.pad(centred @ directions.T, [(0, 0), (0, max(0, 3 - states.shape[1]))])
    figure, axes = plots.plt.subplots(1, 2, figsize=(10.0, 4.2), layout="constrained")
    views = [(0, 1, angles, "twilight", "θ  (rad)"), (0, 2, velocities, "coolwarm", "θ̇  (rad/s)")]
    for axis, (first, second, colors, scheme, label) in zip(axes, views):
        points = axis.scatter(
            components[:, first], components[:, second], c=colors, cmap=scheme, s=3, linewidths=0
        )
        figure.colorbar(points, ax=axis, label=label)
        axis.set(
            xlabel=f"principal component {first + 1} of z",
            ylabel=f"principal component {second + 1} of z",
        )
    plots.save(figure, path)


def _limits(panels):
    values = np.concatenate([np.ravel(images) for images in panels.values()])
    return np.nanmin(values), np.nanmax(values)


def _pixels(image, limits):
    """Returns an image as Matplotlib takes it: [height, width] or [height, width, 3] in [0, 1]."""
    low, high = limits
    scaled = (np.asarray(image, np.float32) - low) / max(high - low, np.finfo(np.float32).tiny)
    return scaled if scaled.shape[-1] == 3 else scaled.mean(axis=-1)


def _show(axis, image, limits):
    """Draws an image without ticks; grey where it has any number of channels but 3."""
    axis.set(xticks=[], yticks=[])
    return axis.imshow(_pixels(image, limits), cmap="gray", vmin=0.0, vmax=1.0)
