"""Parts of a user's own, as docs/extending.md writes them, do all that the packaged ones do."""

import json
import pathlib
import re
import subprocess
import sys
import textwrap
import zipfile

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import data, evaluation, posteriors, registry
from tfp_dvbf.data import batching, environments
from tfp_dvbf.experiments import options, recipe, run_folder
from tfp_dvbf.inference import random, streaming

pytestmark = pytest.mark.usefixtures("without_graphs")

PAGE = models.ROOT / "docs" / "extending.md"
*BLOCKS, _, METRIC = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
CASES = {
    "physics": {"transition": "PendulumPhysics", "emission": "PendulumSensors"},
    "residual": {"transition": "PendulumWithResidual"},
    "student_t": {"emission": "StudentTEmission"},
    "encoder": {"encoder": "SquaresEncoder"},
    "posterior": {"posterior": "MeanField"},
}


@pytest.fixture(scope="module")
def classes():
    """The classes of the page, run in one module."""
    names = {"__name__": "my_parts"}
    for block in BLOCKS:
        exec(block, names)
    return names


def make(classes, case):
    parts = {kind: classes[name]() for kind, name in CASES[case].items()}
    return tfp_dvbf.DVBF(3, 1, 3, seed=1, **parts)


@pytest.fixture(scope="module", params=CASES)
def trained(request, classes):
    """A model with one part of the user's own, after two steps of training."""
    model = make(classes, request.param)
    dataset = batching.as_dataset(models.pendulum(), 6, seed=1)
    model.adapt(dataset)
    model.compile("adam", jit_compile=False)
    model.fit(dataset, epochs=1, verbose=0)
    return model


def arrays():
    sequences = models.pendulum()
    return sequences.observations, sequences.controls


def test_physics_is_the_simulator(classes):
    """The means of the transition are one step of Gymnasium's pendulum, to float32."""
    sequences = environments.collect("Pendulum-v1", num_sequences=50, num_steps=20, seed=3)
    states = sequences.observations * np.float32([1.0, 1.0, 8.0])
    transition = classes["PendulumPhysics"]()
    transition.build(tfp_dvbf.layers.Spec((3,), 1, 3))
    predicted = transition(states[:, :-1], sequences.controls).mean()
    np.testing.assert_allclose(predicted, states[:, 1:], atol=2e-5)


def test_every_bound(trained):
    x, u = arrays()
    for objective in ["elbo", "iwae", "fivo"]:
        bound = trained.log_prob_bound(x, u, num_samples=8, seed=1, objective=objective)
        assert bound.shape == (12,) and np.all(np.isfinite(bound))


def test_evaluation(trained):
    metrics = tfp_dvbf.evaluate(trained, models.pendulum(), num_samples=2)
    assert np.isfinite([metrics["mae_sampled"], metrics["elbo"], metrics["iwae_64"]]).all()


def test_a_saved_model_is_the_same(trained, tmp_path):
    x, u = arrays()
    run_folder.save_model(tmp_path / "model.keras", trained)
    loaded = run_folder.load_model(tmp_path / "model.keras")
    expected = trained.sample_posterior(x, u, 2, seed=1)
    for a, b in zip(loaded.sample_posterior(x, u, 2, seed=1), expected):
        np.testing.assert_array_equal(a, b)


def test_call_is_the_scan_of_step(trained):
    """What a model draws for whole sequences is what it draws step by step."""
    x, u = arrays()
    space, recognition = trained.state_space_model, trained.recognition_model
    batch = data.Batch(tf.constant(x), tf.constant(u))
    noise = tf.random.stateless_normal([12, 8, 3], random.stateless_seed(1))
    sample = recognition.sample(space, batch, noise)
    _, inputs = recognition.encode(space, batch)
    prepared = recognition.posterior.prepare(inputs)
    carry = recognition.posterior.start(sample.states[:, 0], noise[:, 0])
    for t in range(1, 8):
        now = tf.nest.map_structure(lambda tensor, t=t: tensor[:, t - 1], prepared)
        step = recognition.posterior.step(space, carry, now, noise[:, t])
        carry = step.carry
        np.testing.assert_allclose(carry["states"], sample.states[:, t], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(step.log_prob, sample.log_prob[:, t], rtol=1e-5, atol=1e-4)


STREAM = """
import sys
sys.modules["tfp_dvbf"] = sys.modules["tf_keras"] = sys.modules["tensorflow_probability"] = None
import numpy as np
import tensorflow as tf
arrays = np.load(sys.argv[2])
x, u, seed = tf.constant(arrays["x"]), tf.constant(arrays["u"]), tf.constant(1)
signatures = tf.saved_model.load(sys.argv[1]).signatures
belief = signatures["filter_init"](
    initial_observations=x[:, :1], num_particles=tf.constant(8), seed=seed
)
belief.pop("log_evidence")
for t in range(1, 4):
    out = signatures["filter_step"](
        observations=x[:, t], controls=u[:, t - 1], observed=tf.ones([12]), seed=seed, **belief
    )
    belief = {name: out[name] for name in belief}
np.save(sys.argv[3], out["predicted_observation_mean"])
"""


@pytest.mark.slow
def test_export_streams_without_the_package(trained, tmp_path):
    x, u = arrays()
    tfp_dvbf.export(trained, tmp_path / "model", signatures=["filter_init", "filter_step"])
    np.savez(tmp_path / "arrays.npz", x=x, u=u)
    files = [str(tmp_path / name) for name in ["model", "arrays.npz", "mean.npy"]]
    subprocess.run([sys.executable, "-c", STREAM, *files], check=True, capture_output=True)
    belief = trained.filter_init(x[:, :1], 8, seed=1)
    for t in range(1, 4):
        belief = trained.filter_step(belief, x[:, t], u[:, t - 1], seed=1)
    actual = np.load(tmp_path / "mean.npy")
    np.testing.assert_allclose(actual, belief["predicted_observation_mean"], rtol=1e-4, atol=1e-5)


def test_a_run_resumes(classes, tmp_path):
    """Two epochs at once and one after the other end at the same weights."""
    sequences = models.pendulum()
    splits = [sequences, sequences[:4], sequences[:4]]
    settings = options.Settings(epochs=2, kl_annealing_epochs=1, verbose=0)
    weights = []
    for name, first_epochs in [("straight", 2), ("stopped", 1)]:
        (tmp_path / name).mkdir()
        for epochs in [first_epochs, 2]:
            tf_keras.utils.set_random_seed(1)  # Objects keep their own initializers.
            model = make(classes, "residual")
            recipe.prepare(model, sequences, settings)
            recipe.fit(model, settings, tmp_path / name, *splits[:2], num_epochs=epochs)
        weights.append([weight.numpy() for weight in model.trainable_weights])
    for expected, actual in zip(*weights):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_an_unregistered_class_is_refused_and_runs_nothing(trained, tmp_path):
    path = tmp_path / "model.keras"
    run_folder.save_model(path, trained)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    foreign = {
        "module": "nowhere",
        "class_name": "Part",
        "config": {},
        "registered_name": "no>Part",
    }
    config["config"]["transition"] = foreign
    files["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "foreign.keras", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="more than a model and its optimizer: nowhere.Part"):
        run_folder.load_model(tmp_path / "foreign.keras")


def test_the_scripts_import_parts_by_their_registered_names(classes, tmp_path, monkeypatch):
    """The line of the page: a module in the working directory, and its class as an option."""
    import train

    module = "".join(BLOCKS)
    (tmp_path / "my_own_parts.py").write_text(textwrap.dedent(module.replace("examples", "mine")))
    monkeypatch.chdir(tmp_path)
    tfp_dvbf.save("all.npz", models.pendulum())
    args = {"import_": ("my_own_parts",), "transition": "mine>PendulumPhysics", "state_dim": 3}
    train.main(
        train.Args(
            **args, posterior="innovation", data="all.npz", output="run", epochs=1, verbose=0
        )
    )
    config = json.loads(zipfile.ZipFile(pathlib.Path("run/model.keras")).read("config.json"))
    assert config["config"]["transition"]["registered_name"] == "mine>PendulumPhysics"


def test_a_part_belongs_to_one_model(classes):
    part = classes["PendulumPhysics"]()
    tfp_dvbf.DVBF(3, 1, 3, transition=part)
    with pytest.raises(ValueError, match="`transition` must belong to no other model"):
        tfp_dvbf.DVBF(3, 1, 3, transition=part)


def test_weights_of_all_parts_are_saved_and_trained(trained):
    for part in ["transition", "emission"]:
        assert getattr(trained.state_space_model, part).trainable_weights
    names = {id(weight) for weight in trained.trainable_weights}
    posterior = trained.recognition_model.posterior
    assert {id(weight) for weight in posterior.trainable_weights} <= names
    assert isinstance(trained, tf_keras.Model)


def test_a_packaged_part_is_a_class_and_a_line(tmp_path, monkeypatch):
    """The lines of the page, with its classes in a module of their own."""
    (tmp_path / "in_files.py").write_text("\n".join(BLOCKS))
    monkeypatch.syspath_prepend(tmp_path)
    lines = re.findall(
        r'^PARTS\["(\w+)"\]\["(\w+)"\] = ".*:(\w+)"$', PAGE.read_text(), re.MULTILINE
    )
    assert [kind for kind, _, _ in lines] == ["transition", "emission", "encoder", "posterior"]
    for kind, name, class_name in lines:
        monkeypatch.setitem(registry.PARTS[kind], name, f"in_files:{class_name}")
    chosen = {kind: name for kind, name, _ in lines}
    run = options.ModelOptions(state_dim=3, **chosen)
    model = tfp_dvbf.DVBF(3, 1, **options.model_arguments(run))
    owners = model.state_space_model, model.recognition_model
    for kind, name in chosen.items():
        part = next(getattr(owner, kind) for owner in owners if hasattr(owner, kind))
        assert registry.name_of(kind, part) == name


def test_a_metric_is_a_function_and_a_line(tmp_path, monkeypatch):
    (tmp_path / "my_metrics.py").write_text(METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.METRICS, "spread", "my_metrics:spread")
    draws = np.random.default_rng(0).normal(size=[5, 2, 3, 4])
    scores = evaluation.score_draws(draws, draws[0])
    expected = draws.std(axis=0, ddof=1).mean(axis=-1)
    np.testing.assert_allclose(scores.others["spread"], expected, rtol=1e-12)
    model = models.cached_model(adapt=True)
    found = evaluation.free_run(model, models.pendulum(), num_draws=20)
    low, high = found["intervals"]["spread"]
    assert low < found["spread"] < high and len(found["by_horizon"]["spread"]) == 7
    one_step = evaluation.one_step(model, models.pendulum(), num_particles=4)
    assert "spread" not in one_step  # It forecasts moments, not draws.


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("mine", "draws[0]", r"`mine` must return shape \[batch, time\] = \[2, 3\]; got \(2, 3, 4"),
        ("rmse", "truth[..., 0]", "METRICS` must not hold `rmse`, a score of the package"),
    ],
)
def test_metrics_are_refused(tmp_path, monkeypatch, name, text, message):
    module = f"metric_{name}"
    (tmp_path / f"{module}.py").write_text(f"def score(draws, truth):\n    return {text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.METRICS, name, f"{module}:score")
    draws = np.random.default_rng(0).normal(size=[5, 2, 3, 4])
    with pytest.raises(ValueError, match=message):
        evaluation.score_draws(draws, draws[0])


def test_a_posterior_of_ones_own_is_filtered(sequences):
    """One that carries a tensor of its own, which particles take along when they are resampled."""
    model = models.small_model(Count(hidden_units=(16,)))
    x, u = sequences.observations, sequences.controls
    out = model.filter_init(x[:, :1], num_particles=8, seed=1)
    for t in range(1, 4):
        observed = np.arange(12) > 0
        out = model.filter_step(streaming.belief_of(out), x[:, t], u[:, t - 1], observed, seed=1)
    counts = out["count"][..., 0].numpy()
    np.testing.assert_array_equal(counts[0], 0.0)  # Started anew at every missing step.
    np.testing.assert_array_equal(counts[1:], 3.0)


class Count(posteriors.Innovation):
    """`Innovation` that counts its steps."""

    def start(self, states, noise):
        return {"states": states, "count": tf.zeros_like(states[:, :1])}

    def step(self, model, carry, inputs, noise):
        step = super().step(model, carry, inputs, noise)
        return step._replace(carry={**step.carry, "count": carry["count"] + 1.0})
