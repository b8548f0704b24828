"""What a run and a comparison of runs show: their figures, drawn with `plots`."""

from tfp_dvbf import evaluation
from tfp_dvbf.experiments import histories, image_plots, plots, run_folder


def draw_run(model, folder, test, metrics, num_sequences=3, num_draws=50):
    """Draws generated trajectories, curves and errors of one run into `folder`/figures."""
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    some = test[:num_sequences]
    draws = evaluation.generated_means(model, some, num_draws)
    panels = {
        f"test sequence {index}": (truth, draws[:, index])
        for index, truth in enumerate(some.observations_or_nan)
    }
    _draw_trajectories(figures, panels, test.spec)
    history = {metrics["model"]: histories.of_run(folder)}
    _draw_curves(figures, history)
    curves = {"sampled": metrics["mae_by_horizon"], "mean": metrics["mae_mean_by_horizon"]}
    plots.mae_by_horizon(figures / "mae_by_horizon.png", curves, test.spec)


def draw_comparison(folder, runs, test, num_draws=50):
    """Draws runs side by side into `folder`/figures: the first test sequence, curves and errors.

    Args:
      folder: Folder of the comparison, a `pathlib.Path`.
      runs: Titles mapped to run folders.
      test: The test set, `Sequences`.
      num_draws: Generated trajectories of each model.
    """
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    first = test[:1]
    truth = first.observations_or_nan[0]
    draws = {
        title: evaluation.generated_means(run_folder.load_model(run), first, num_draws)[:, 0]
        for title, run in runs.items()
    }
    panels = {title: (truth, values) for title, values in draws.items()}
    _draw_trajectories(figures, panels, test.spec)
    _draw_curves(
        figures,
        {title: histories.of_run(run) for title, run in runs.items()},
    )
    curves = {
        title: run_folder.read_json(run / run_folder.METRICS)["mae_by_horizon"]
        for title, run in runs.items()
    }
    plots.mae_by_horizon(figures / "mae_by_horizon.png", curves, test.spec)
    if plots.is_pendulum(test.spec):
        moving = {"ground truth": truth, **{title: values[0] for title, values in draws.items()}}
        plots.pendulum_gif(figures / "pendulum.gif", moving, test.spec)


def animate(path, model, test):
    """Animates the first test sequence of a pendulum beside what a model generates for it."""
    first = test[:1]
    generated = evaluation.generated_means(model, first)[0, 0]
    panels = {"ground truth": first.observations_or_nan[0], "generated": generated}
    plots.pendulum_gif(path, panels, test.spec)


def _draw_trajectories(figures, panels, spec):
    if next(iter(panels.values()))[0].ndim == 4:
        shown = {}
        for title, (truth, generated) in panels.items():
            shown |= {f"{title}": truth, f"{title}, generated": generated[0]}
        image_plots.strip(figures / "observations.png", shown)
        image_plots.film(figures / "observations.gif", shown, spec)
        return
    plots.observations(figures / "observations.png", panels, spec)
    if plots.is_pendulum(spec):
        plots.angles(figures / "angle.png", panels, spec)


def _draw_curves(figures, histories):
    plots.loss_curves(figures / "loss.png", histories)
    plots.bound_curves(figures / "reconstruction_and_kl.png", histories)
