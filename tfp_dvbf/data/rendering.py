"""Environments whose observations are rendered images, by Gymnasium's own wrappers."""

import os
import sys
from typing import NamedTuple

import gymnasium
import numpy as np

from tfp_dvbf import errors

OBSERVATIONS = ("state", "pixels")


class Image(NamedTuple):
    """How an environment is shown.

    Attributes:
      size: Height and width in pixels; None keeps those of the environment.
      grey: Whether there is one channel, luminance, in place of red, green and blue.
    """

    size: list | None = None
    grey: bool = False


def check_image(observation, size=None, grey=False):
    """Returns the `Image` that the arguments of `collect` describe; None for "state".

    Raises:
      ValueError: If an argument is out of its range or has no effect.
    """
    errors.check_choice("observation", observation, OBSERVATIONS)
    if observation == "state":
        if size is not None or grey:
            raise ValueError("`size` and `grey` are for the observation `pixels` alone.")
        return None
    if size is not None:
        if not isinstance(size, (list, tuple)) or len(size) != 2:
            raise ValueError(f"`size` must be a height and a width in pixels; got {size!r}.")
        size = [errors.check_integer("size", pixels) for pixels in size]
    return Image(size, bool(grey))


def show(env, size=None, grey=False):
    """Returns an environment whose observations are images, uint8 [height, width, channels].

    Args:
      env: A Gymnasium environment with the render mode "rgb_array".
      size, grey: As in `Image`.

    Raises:
      ValueError: If `size` is larger than what the environment renders.
    """
    without_display()
    env = gymnasium.wrappers.AddRenderObservation(WithoutControls(env))
    if size is not None:
        env = AreaAverage(env, size)
    if grey:
        env = gymnasium.wrappers.GrayscaleObservation(env, keep_dim=True)
    return env


def without_display():
    """Lets pygame draw in memory where there is no display, unless a driver was chosen."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


class WithoutControls(gymnasium.Wrapper):
    """Leaves the last control out of the image: the arrow that shows the torque of Pendulum-v1.

    An observation that shows the control before it would hold more than the state.
    """

    def render(self):
        if getattr(self.unwrapped, "last_u", None) is not None:
            self.unwrapped.last_u = None
        return super().render()


class AreaAverage(gymnasium.wrappers.TransformObservation):
    """Shrinks images by the mean over the area of each new pixel, without OpenCV.

    Args:
      env: An environment of images [height, width, channels].
      size: New height and width, at most those of the images.
    """

    def __init__(self, env, size):
        space = env.observation_space
        if any(new > old for new, old in zip(size, space.shape)):
            raise ValueError(
                f"`size` must be at most the {space.shape[:2]} pixels that {env.spec.id} renders; "
                f"got {tuple(size)}."
            )
        rows, columns = map(area_weights, space.shape, size)
        shrunk = gymnasium.spaces.Box(0, 255, (*size, space.shape[2]), np.uint8)
        super().__init__(env, lambda image: shrink(image, rows, columns), shrunk)


def area_weights(old, new):
    """Returns the share of each old pixel in the mean of each new one, float32 [new, old]."""
    edges = np.linspace(0.0, old, new + 1)[:, np.newaxis]
    covered = np.clip(edges[1:] - np.arange(old), 0, 1) - np.clip(edges[:-1] - np.arange(old), 0, 1)
    return (covered * new / old).astype(np.float32)


def shrink(image, rows, columns):
    """Returns an image uint8 [height, width, channels], shrunk by the weights of `area_weights`."""
    tall, channels = image.shape[0], image.shape[2]
    wide = rows @ image.astype(np.float32).reshape(tall, -1)
    mean = columns @ wide.reshape(len(rows), -1, channels)
    return np.rint(mean).astype(np.uint8)
