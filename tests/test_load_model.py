"""A model is read from its file, and nothing else in it is run."""

import json
import shutil
import zipfile

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import layers
from tfp_dvbf.experiments import run_folder


def test_load_model_refuses(tmp_path):
    with pytest.raises(ValueError, match="must be a run folder with model.keras"):
        run_folder.load_model(tmp_path)
    (tmp_path / "model.keras").write_text("nonsense")
    with pytest.raises(ValueError, match="must be a model saved by this package"):
        run_folder.load_model(tmp_path)
    tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(2,))]).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match="must be a model saved by this package; it is a Keras"):
        run_folder.load_model(tmp_path / "a.keras")
    code = tf_keras.layers.Lambda(lambda x: x + 1, input_shape=(2,))
    tf_keras.Sequential([code]).save(tmp_path / "b.keras")
    with pytest.raises(ValueError, match="it is a Keras Sequential"):
        run_folder.load_model(tmp_path / "b.keras")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of a compiled model; tests change copies of it."""
    model = models.small_model()
    model.compile(tf_keras.optimizers.Adam())
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    run_folder.save_model(path, model)
    return path


def with_config(saved, path, change):
    """Writes a copy of a saved model to `path`, its config changed by the function `change`."""
    with zipfile.ZipFile(saved) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "config.json": json.dumps(config)}.items():
            archive.writestr(name, content)


def test_load_model_runs_nothing(saved, tmp_path, monkeypatch):
    """Keras unmarshals functions of HDF5 files, under any name, and imports what configs name."""
    monkeypatch.setattr(tf_keras.models, "load_model", lambda path: pytest.fail("loaded"))
    code = tf_keras.layers.Lambda(lambda x: x + 1, input_shape=(2,))
    tf_keras.Sequential([code]).save(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="its name does not end in .keras"):
        run_folder.load_model(tmp_path / "model.h5")
    (tmp_path / "model.h5").rename(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="not a zip file"):
        run_folder.load_model(tmp_path)

    def change(config):
        optimizer = config["compile_config"]["optimizer"]
        assert optimizer["module"] == "keras.optimizers"
        optimizer["module"] = "antigravity"

    with_config(saved, tmp_path / "model.keras", change)
    with pytest.raises(ValueError, match="more than a model and its optimizer: antigravity.Adam"):
        run_folder.load_model(tmp_path)


@pytest.mark.parametrize(
    "planted",
    [
        {"class_name": "function", "config": "get_file", "module": "keras.utils"},
        {"class_name": "function", "config": "get_file", "registered_name": "get_file"},
        {"class_name": "__lambda__", "config": {"value": "code"}},
        {"class_name": "Lambda", "module": "keras.layers", "config": {}},
        {"class_name": "tf_keras.Model", "module": "tfp_dvbf.model", "registered_name": None},
        {"class_name": "TFOpLambda", "module": "keras.optimizers", "config": {}},
        {"class_name": "Adam", "module": "keras.optimizers", "registered_name": None},
        {
            **{"class_name": "Adam", "module": "keras.optimizers", "config": {}},
            "registered_name": "Custom>Other",
        },
    ],
)
@pytest.mark.parametrize("place", ["config", "posterior", "compile_config", "optimizer"])
def test_load_model_calls_no_function_of_keras(saved, tmp_path, monkeypatch, planted, place):
    """`keras.utils.get_file`, called by a layer of a config, would write any file anywhere."""
    monkeypatch.setattr(tf_keras.models, "load_model", lambda path: pytest.fail("loaded"))

    def plant(config):
        if place == "optimizer":
            whole = planted["class_name"] != "Adam"
            config["compile_config"]["optimizer"] = planted if whole else [planted]
        elif place == "posterior":
            config["config"]["posterior"] = planted
        else:
            config[place]["activation"] = [planted]

    with_config(saved, tmp_path / "model.keras", plant)
    with pytest.raises(ValueError, match="it holds more than a model and its optimizer"):
        run_folder.load_model(tmp_path)


def test_a_copy_with_the_same_config_is_loaded(saved, tmp_path):
    """What is refused above is refused for what was planted."""
    with_config(saved, tmp_path / "model.keras", lambda config: None)
    assert isinstance(run_folder.load_model(tmp_path), tfp_dvbf.DVBF)


def test_load_model_takes_optimizers_and_schedules(make_model, tmp_path):
    optimizers, schedules = tf_keras.optimizers, tf_keras.optimizers.schedules
    model = make_model()
    for optimizer in [
        optimizers.AdamW(schedules.ExponentialDecay(0.1, 1, 0.5), clipnorm=1.0),
        optimizers.SGD(schedules.PiecewiseConstantDecay([1], [0.1, 0.2])),
        optimizers.RMSprop(schedules.CosineDecay(0.1, 10)),
    ]:
        model.compile(optimizer)
        run_folder.save_model(tmp_path / "model.keras", model)
        loaded = run_folder.load_model(tmp_path).optimizer
        assert loaded.get_config() == optimizer.get_config()


def test_load_model_refuses_a_truncated_file(saved, tmp_path):
    shutil.copy(saved, tmp_path / "model.keras")
    content = saved.read_bytes()
    for size in [0, 100, len(content) // 2, len(content) - 1]:
        (tmp_path / "model.keras").write_bytes(content[:size])
        with pytest.raises(ValueError, match="must be a model saved by this package"):
            run_folder.load_model(tmp_path)


@tf_keras.utils.register_keras_serializable("tests")
class OwnTransition(layers.MLPTransition):
    """A user's own part, registered with Keras."""


@tf_keras.utils.register_keras_serializable("tests")
class OwnLayer(tf_keras.layers.Layer):
    """A registered layer that is no part of a model."""


def test_load_model_takes_registered_parts_in_their_places_alone(saved, tmp_path, sequences):
    model = models.small_model(transition=OwnTransition((8,)))
    run_folder.save_model(tmp_path / "model.keras", model)
    loaded = run_folder.load_model(tmp_path)
    assert type(loaded.state_space_model.transition) is OwnTransition
    np.testing.assert_array_equal(
        loaded.generate(sequences.controls, seed=1).states,
        model.generate(sequences.controls, seed=1).states,
    )
    own = tf_keras.saving.serialize_keras_object(OwnTransition((8,)))
    unknown = {**own, "registered_name": "tests>Unknown"}
    layer = tf_keras.saving.serialize_keras_object(OwnLayer())
    for place, part in [
        (("config", "transition"), unknown),
        (("config", "transition"), layer),
        (("config", "transition", "config", "activation"), own),
        (("compile_config", "optimizer"), own),
    ]:

        def plant(config, place=place, part=part):
            for name in place[:-1]:
                config = config[name]
            config[place[-1]] = part

        with_config(saved, tmp_path / "model.keras", plant)
        with pytest.raises(ValueError, match="it holds more than a model and its optimizer: .*Own"):
            run_folder.load_model(tmp_path)


def test_load_model_refuses_a_file_of_an_older_version(saved, tmp_path):
    with_config(
        saved, tmp_path / "model.keras", lambda config: config["config"].update(observation_dim=3)
    )
    with pytest.raises(ValueError, match="it was saved by tfp_dvbf 0.2; train it again"):
        run_folder.load_model(tmp_path)


def test_load_model_refuses_weights_that_are_not_finite(make_model, tmp_path):
    model = make_model()
    bias = model.state_space_model.transition.network.layers[0].bias
    bias.assign(tf.fill(bias.shape, np.inf))
    tf_keras.Model.save(model, tmp_path / "model.keras")
    with pytest.raises(ValueError, match="model.keras must be .*weights of the model must be fini"):
        run_folder.load_model(tmp_path)
