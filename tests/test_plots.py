import matplotlib.figure
import matplotlib.image
import numpy as np
import PIL.Image
import pytest

from tfp_dvbf.experiments import forecast_plots, plots

PENDULUM = {"env_id": "Pendulum-v1", "time_step": 0.05}
TRUTH = np.random.default_rng(0).uniform(-1, 1, (10, 3))
PANELS = {"a": (TRUTH, np.stack([TRUTH, TRUTH + 0.1])), "b": (TRUTH, TRUTH[np.newaxis])}
HISTORY = {"epoch": np.arange(3), "loss": np.ones(3), "nll": np.ones(3), "kl": -np.ones(3)}


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plots.observations(path, PANELS, PENDULUM),
        lambda path: plots.observations(path, PANELS),
        lambda path: plots.angles(path, PANELS, PENDULUM),
        lambda path: plots.loss_curves(path, {"a": HISTORY}),
        lambda path: plots.bound_curves(
            path, {"a": HISTORY, "b": {**HISTORY, "val_kl": [1, 2, 3]}}
        ),
        lambda path: plots.mae_by_horizon(path, {"a": [0.1, 0.2]}, PENDULUM),
    ],
)
def test_figures_are_drawn(tmp_path, draw, monkeypatch):
    figures, save = [], matplotlib.figure.Figure.savefig

    def savefig(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    draw(tmp_path / "figure.png")
    assert matplotlib.image.imread(tmp_path / "figure.png").ndim == 3
    assert all(len(axes.lines) > 0 for figure in figures for axes in figure.axes)
    drawn = [line.get_ydata() for axes in figures[0].axes for line in axes.lines]
    assert all(np.any(np.isfinite(np.asarray(values, float))) for values in drawn)


def test_gif_has_a_frame_a_step(tmp_path):
    plots.pendulum_gif(tmp_path / "pendulum.gif", {"a": TRUTH, "b": TRUTH}, PENDULUM)
    with PIL.Image.open(tmp_path / "pendulum.gif") as image:
        assert image.n_frames == 10
        assert image.info["duration"] == 50


def test_angles_break_where_they_wrap():
    angle = np.linspace(3.0, 3.3, 4)
    observations = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    assert np.isnan(plots._angle(observations)).sum() == 1


@pytest.mark.parametrize(
    "spec, label",
    [
        (None, "step"),
        ({"observation_names": ["a"]}, "step"),
        (PENDULUM, "time  (s)"),
        ({"time_step": 0.5, "time_name": "t [h]"}, "t [h]"),
    ],
)
def test_the_axis_of_times_bears_their_name(spec, label):
    assert plots.time_label(spec) == label


@pytest.mark.parametrize("name", ["observations", "free_run"])
def test_an_offset_that_was_taken_off_stands_in_the_label(tmp_path, monkeypatch, name):
    offsets = {"level [V]": 1234567.875, "T [°C]": -5.5, "pump [V]": 3.0}
    spec = {"observation_names": ["level [V]", "T [°C]", "c"], "offsets": offsets}
    figures, draws = [], np.stack([TRUTH, TRUTH])
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    if name == "observations":
        plots.observations(tmp_path / "a.png", {"a": (TRUTH, draws)}, spec)
    else:
        forecast_plots.free_run(tmp_path / "a.png", TRUTH, draws, 2, spec)
    labels = [axes.get_ylabel() for axes in figures[0].axes]
    assert labels == ["level [V] \N{MINUS SIGN} 1234567.875", "T [°C] + 5.5", "c"]
