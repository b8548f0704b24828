import matplotlib.image
import numpy as np
import PIL.Image
import pytest

from tfp_dvbf.experiments import image_plots

IMAGES = np.random.default_rng(1).integers(0, 256, [4, 6, 5, 1]).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_strip_and_a_film(tmp_path, channels):
    images = np.repeat(IMAGES, channels, axis=-1)
    missing = np.where(np.arange(4)[:, None, None, None] == 2, np.nan, images)
    panels = {"observed": missing, "generated": images + 0.5}
    image_plots.strip(tmp_path / "strip.png", panels)
    picture = matplotlib.image.imread(tmp_path / "strip.png")
    assert picture.ndim == 3 and picture.min() < 0.5
    image_plots.film(tmp_path / "film.gif", panels, {"time_step": 0.05})
    with PIL.Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 4 and film.info["duration"] == 50


@pytest.mark.parametrize("state_dim", [1, 2, 3, 5])
def test_latent_states_of_any_size(tmp_path, state_dim):
    states = np.random.default_rng(1).normal(size=[30, state_dim])
    angles = np.linspace(-np.pi, np.pi, 30)
    image_plots.latent_space(tmp_path / "latent.png", states, angles, np.cos(angles))
    assert matplotlib.image.imread(tmp_path / "latent.png").ndim == 3
