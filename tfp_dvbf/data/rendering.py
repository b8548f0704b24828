"""Environments whose observations are rendered images, by Gymnasium's own wrappers."""

import functools
import os
import sys
from typing import NamedTuple

import gymnasium
import numpy as np

from tfp_dvbf import errors

OBSERVATIONS = ("state", "pixels")
ALIASES = {"rgb_array": "pixels"}  # Gymnasium's name of what is rendered.


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
    if isinstance(observation, str):
        observation = ALIASES.get(observation, observation)
    errors.check_choice("observation", observation, OBSERVATIONS)
    grey = errors.check_flag("grey", grey)
    if observation == "state":
        if size is not None or grey:
            raise ValueError("`size` and `grey` are for the observation `pixels` alone.")
        return None
    if size is not None:
        pixels = size.tolist() if isinstance(size, np.ndarray) else size
        if not isinstance(pixels, (list, tuple)) or len(pixels) != 2:
            raise ValueError(f"`size` must be a height and a width in pixels; got {size!r}.")
        size = [errors.check_integer("size", each) for each in pixels]
    return Image(size, grey)


def options_of(image, env_options):
    """Returns the options of `gymnasium.make_vec` that show an environment.

    Args:
      image: The fields of an `Image`, a dict.
      env_options: Further options of the environment, a dict.

    Raises:
      ValueError: If one of those is set here.
    """
    options = {"render_mode": "rgb_array", "wrappers": [functools.partial(show, **image)]}
    if given := sorted(set(options) & set(env_options)):
        raise ValueError(f"`{given[0]}` must be left out for `observation` pixels, which sets it.")
    return options


def show(env, size=None, grey=False):
    """Returns an environment whose observations are images, uint8 [height, width, channels].

    Args:
      env: A Gymnasium environment with the render mode "rgb_array".
      size, grey: As in `Image`.

    Raises:
      ValueError: If the environment does not render such images, or smaller ones than `size`.
    """
    without_display()
    if env.render_mode != "rgb_array":
        raise ValueError(f"{refusal(id_of(env))}: its `render_mode` is {env.render_mode!r}.")
    env = gymnasium.wrappers.AddRenderObservation(CheckedImages(WithoutControls(env)))
    if size is not None:
        env = AreaAverage(env, size)
    if grey:
        env = gymnasium.wrappers.GrayscaleObservation(env, keep_dim=True)
    return env


def without_display():
    """Lets pygame draw in memory where there is no display, unless a driver was chosen."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def id_of(env):
    """Returns the name of an environment, that of its class if it is not registered."""
    inner = env.unwrapped
    return type(inner).__name__ if inner.spec is None else inner.spec.id


def refusal(env_id):
    """Returns the beginning of the message that an environment renders nothing."""
    return f"`observation` pixels needs an environment that renders; {env_id} does not"


class CheckedImages(gymnasium.Wrapper):
    """Raises ValueError unless what is rendered is an image, uint8 [height, width, 3]."""

    def render(self):
        try:
            image = super().render()
        except Exception as error:  # An environment may raise anything.
            raise ValueError(f"{refusal(id_of(self))}: {errors.first_line(error)}") from error
        what = f"a {type(image).__name__}"
        if isinstance(image, np.ndarray):
            if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
                return image
            what = f"{image.dtype} of shape {image.shape}"
        raise ValueError(
            "`observation` pixels needs an environment that renders images, uint8 "
            f"[height, width, 3]; {id_of(self)} renders {what}."
        )


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
                f"`size` must be at most the {space.shape[:2]} pixels that {id_of(env)} renders; "
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
