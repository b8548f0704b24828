"""The recipe with a model of one's own: what it leaves, resumes, refuses."""

import dataclasses
import json

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import data, evaluation, layers, registry
from tfp_dvbf.data import shards
from tfp_dvbf.experiments import options, recipe, run_folder

pytestmark = pytest.mark.usefixtures("without_graphs")

SETTINGS = options.Settings(
    epochs=2, batch_size=6, learning_rate=1e-3, kl_annealing_epochs=1, num_samples=3, verbose=0
)


def _weights(model):
    """Returns the weights of the two models, the standardisation among them, without metrics."""
    return [*model.state_space_model.get_weights(), *model.recognition_model.get_weights()]


@pytest.mark.slow
def test_a_model_of_ones_own_trains_resumes_and_is_only_read_when_finished(
    dataset, tmp_path, monkeypatch
):
    splits, runs, evaluate = run_folder.read_splits(dataset), {}, recipe.evaluate

    def killed(*args):
        raise KeyboardInterrupt

    def train(name, resume=False):
        model = models.small_model()
        metrics = recipe.train(model, splits, tmp_path / name, SETTINGS, resume=resume)
        return model, metrics

    runs["straight"] = train("straight")
    monkeypatch.setattr(recipe, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        train("stopped")
    assert not run_folder.is_finished(tmp_path / "stopped")
    monkeypatch.setattr(recipe, "evaluate", evaluate)
    runs["stopped"] = train("stopped", resume=True)
    monkeypatch.setattr(recipe, "evaluate", killed)
    runs["read"] = train("stopped", resume=True)

    model, metrics = runs["straight"]
    stored = json.loads((tmp_path / "straight" / "metrics.json").read_text())
    assert stored == metrics and metrics["updates"] == 4 and metrics["num_samples"] == 3
    expected = evaluation.evaluate(model, splits[2], num_samples=3)
    assert metrics["mae_sampled"] == pytest.approx(expected["mae_sampled"], rel=1e-6)
    for name in ["stopped", "read"]:
        assert runs[name][1]["elbo"] == pytest.approx(metrics["elbo"], rel=1e-6)
        for value, weight in zip(_weights(runs[name][0]), _weights(model)):
            np.testing.assert_allclose(value, weight, atol=1e-6)
    assert runs["stopped"][1]["seconds"] is None and metrics["seconds"] > 0
    figures = {path.stem for path in (tmp_path / "straight" / "figures").iterdir()}
    assert figures == {
        *["angle", "loss", "mae_by_horizon", "observations", "reconstruction_and_kl"],
        *["free_run", "by_horizon", "calibration"],
    }
    assert (tmp_path / "straight" / "report.html").exists()


@pytest.mark.slow
def test_tensorboard_shows_each_epoch(dataset, tmp_path, evaluation_without_graphs):
    settings = dataclasses.replace(SETTINGS, tensorboard=True)
    model = models.small_model()
    model.compile("adam", run_eagerly=True)
    recipe.train(model, run_folder.read_splits(dataset), tmp_path / "run", settings)
    for part, loss in {"train": "epoch_loss", "validation": "epoch_neg_elbo"}.items():
        (path,) = (tmp_path / "run" / "tensorboard" / part).glob("events.out.tfevents.*")
        events = [event for event in tf.compat.v1.train.summary_iterator(str(path))]
        steps = [each.step for each in events for value in each.summary.value if value.tag == loss]
        assert steps == [0, 1]


def test_a_tensorboard_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the extra: pip install tfp_dvbf\[tensorboard\]"):
        options.check_settings(options.Settings(tensorboard=True))


def test_a_folder_holds_one_run(dataset, tmp_path):
    splits, model = run_folder.read_splits(dataset), models.small_model()
    folder = tmp_path / "run"
    config = options.model_config(model, SETTINGS, run_folder.data_hash(splits))
    run_folder.open_run(folder, config, resume=False)
    with pytest.raises(ValueError, match="must not exist yet without `--resume`"):
        recipe.train(model, splits, folder, SETTINGS)
    other = options.Settings(epochs=3, verbose=0)
    with pytest.raises(ValueError, match="other arguments: epochs, batch_size, learning_rate, kl_"):
        recipe.train(model, splits, folder, other, resume=True)
    path = folder / "args.json"
    path.write_text(json.dumps({key: config[key] for key in config if key != "clipnorm"}))
    with pytest.raises(
        ValueError, match="is of another version of tfp_dvbf: args.json lacks clipnorm"
    ):
        recipe.train(model, splits, folder, SETTINGS, resume=True)
    path.write_text(json.dumps(config))
    other = models.small_model("iaf")
    with pytest.raises(ValueError, match="was started with other arguments: model"):
        recipe.train(other, splits, folder, SETTINGS, resume=True)


def test_options_reach_the_settings_of_a_transition_and_of_its_base(monkeypatch):
    flat = {"transition_noise_floor": 0.03, "state_bound": 2.0, "noise_floor": 0.05}
    for name in registry.names("transition"):
        parts = models.make(transition=name, state_dim=2, **flat).state_space_model
        assert (parts.transition.noise_floor, parts.transition.state_bound) == (0.03, 2.0)
        assert parts.emission.noise_floor == 0.05

    class Narrow(layers.MLPTransition):
        def __init__(self, hidden_units=(4,)):
            super().__init__(hidden_units, state_bound=3.0)

    class_of = registry.class_of
    monkeypatch.setattr(
        registry, "class_of", lambda *about: Narrow if "narrow" in about else class_of(*about)
    )
    with pytest.raises(ValueError, match="`state_bound` is not for Narrow"):
        options.part_configs({"transition": "narrow", "state_bound": 2.0})
    assert options.arguments_of(Narrow) == {"self", "hidden_units"}
    assert {"num_bases", "state_bound"} < options.arguments_of(layers.LocallyLinearTransition)


def test_prepare_adapts_and_leaves_an_optimizer_alone(sequences):
    model = models.small_model()
    recipe.prepare(
        model, sequences, dataclasses.replace(SETTINGS, steps_per_execution=2, beta_2=0.9)
    )
    assert model.get_compile_config()["steps_per_execution"] == 2
    assert model.optimizer.beta_2 == 0.9
    rate = model.optimizer.learning_rate
    assert float(model.optimizer.clipnorm) == 10.0 and float(rate) == pytest.approx(1e-3)
    schedule = model.optimizer.get_config()["learning_rate"]["config"]
    assert schedule["decay_steps"] == 4  # Two epochs of 12 sequences in batches of 6.
    mean = model.state_space_model.observation_standardization.mean
    np.testing.assert_allclose(mean, sequences.observations.mean((0, 1)), atol=1e-5)

    own = models.small_model()
    own.compile(optimizer=tf_keras.optimizers.SGD(0.5))
    recipe.prepare(own, sequences, SETTINGS)
    assert own.optimizer.name == "SGD" and float(own.optimizer.learning_rate) == 0.5


@pytest.mark.parametrize(
    "change, message",
    [
        ({"epochs": 0}, "`epochs` must be positive; got 0"),
        ({"beta_2": 1.0}, r"`beta_2` must lie in \[0, 1\); got 1.0"),
        ({"kl_annealing_epochs": -1}, "`kl_annealing_epochs` must not be negative; got -1"),
        ({"verbose": 3}, "`verbose` must be one of 0, 1, 2; got 3"),
    ],
)
def test_train_refuses_settings(dataset, tmp_path, change, message):
    splits = run_folder.read_splits(dataset)
    with pytest.raises(ValueError, match=message):
        recipe.train(None, splits, tmp_path / "run", options.Settings(**change))
    assert not (tmp_path / "run").exists()


def test_a_batch_of_windows_has_the_time_steps_of_its_sequences(sequences, tmp_path, monkeypatch):
    settings = dataclasses.replace(SETTINGS, window=3, batch_size=4)
    dataset = recipe.batches(sequences, settings)
    assert len(dataset) == 3 and sequences.observations.shape == (12, 8, 3)
    shown = np.concatenate([batch["observations"] for batch in dataset])
    np.testing.assert_array_equal(shown, sequences.windows(3).observations)

    model, given = models.small_model(), []
    recipe.prepare(model, sequences, settings)
    mean = model.state_space_model.observation_standardization.mean
    np.testing.assert_allclose(mean, sequences.observations.mean((0, 1)), atol=1e-5)
    monkeypatch.setattr(model, "fit", lambda *args, **others: given.append((*args, others)))
    recipe.fit(model, settings, tmp_path, sequences, sequences)
    (train, others), steps = given[0], "observations"
    assert train.element_spec[steps].shape[1] == 3
    assert others["validation_data"].element_spec[steps].shape[1] == 8


def test_a_model_must_see_a_window(sequences, tmp_path):
    model = models.small_model(initial_frames=4)
    settings = dataclasses.replace(SETTINGS, window=3)
    message = r"`window` must lie between the 4 time steps that q\(z\[0\]\) sees and the 8"
    with pytest.raises(ValueError, match=message):
        recipe.train(model, [sequences] * 3, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_files_is_not_cut(sequences, tmp_path):
    data.save(tmp_path / "a.npz", sequences)
    data.save(tmp_path / "b.npz", sequences)
    with pytest.raises(ValueError, match="`window` must be 0 for a training set in several files"):
        options.check_window(3, shards.Shards(tmp_path), 1)


def test_flat_options_become_arguments_of_a_model():
    flat = options.ModelOptions(posterior="iaf", num_flows=2, hidden_units=8, num_train_samples=3)
    arguments = options.model_arguments(flat, num_bases=5, transition="locally_linear")
    config = tfp_dvbf.DVBF(3, 1, seed=1, **arguments).get_config()
    assert config["state_dim"] == 4 and config["num_samples"] == 3
    assert config["posterior"]["class_name"] == "IAF"
    settings = {
        "posterior": {"num_flows": 2, "hidden_units": (8, 8)},
        "transition": {"num_bases": 5, "hidden_units": (8, 8)},
        "emission": {"hidden_units": (8,)},
        "encoder": {"units": (8,)},
        "initial_posterior": {"num_steps": 1, "hidden_units": (8,)},
    }
    for kind, expected in settings.items():
        found = config[kind]["config"]
        assert {name: found[name] for name in expected} == expected
