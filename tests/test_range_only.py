"""range_only.py, its systems, and that no bound of theirs exceeds the exact evidence."""

import json

import models
import numpy as np
import oracles
import pytest
import range_only
import range_system
import scipy.special
import tensorflow as tf

import tfp_dvbf

SYSTEM = range_system.SYSTEMS["range"]
GAUSSIAN = {"posteriors": ("gaussian",)}


def test_the_system_is_its_own_generative_model():
    """The density of simulated states is the model's, and no other: a t test of the residuals."""
    sequences = range_system.simulate(SYSTEM, 200, seed=1)
    model = range_system.make_model(SYSTEM, "gaussian", seed=1).state_space_model
    z, u = sequences.states.astype(np.float32), sequences.controls
    prior = model.transition_distribution(z[:, :-1], model.control_standardization(u))
    residuals = (z[:, 1:] - prior.mean().numpy()).reshape(-1, 2)
    oracles.within_standard_error(residuals, [0.0, 0.0])
    oracles.within_standard_error(residuals**2, [1.0, 1.0])
    density = model.emission(tf.constant(z))
    deviations = ((sequences.observations - density.mean()) / density.stddev()).numpy()
    oracles.within_standard_error(deviations.reshape(-1, 1) ** 2, [1.0])
    assert np.all(np.abs(np.sign(u).sum(axis=1)) == SYSTEM.num_steps - 1)
    assert 0.75 <= np.abs(u).min() and np.abs(u).max() <= 1.5


@pytest.mark.slow
def test_an_untrained_bound_lies_below_the_evidence():
    for name, system in range_system.SYSTEMS.items():
        sequences = range_system.simulate(system._replace(num_steps=8), 20, seed=2)
        spline = tfp_dvbf.posteriors.IAF(2, (8,), flow_kind="spline")
        model = range_system.make_model(system, spline, seed=1)
        exact = range_system.filtered(system.axis, model, sequences).log_evidence
        bounds = [
            model.log_prob_bound(sequences.observations, sequences.controls, *count).numpy().mean()
            for count in [(64, 1, "elbo"), (64, 1, "iwae"), (512, 1, "fivo")]
        ]
        assert bounds[0] < bounds[1] < exact.mean(), name
        assert bounds[0] < bounds[2] < exact.mean() + 0.1, name


def test_a_gradient_where_the_range_is_zero():
    model = range_system.make_model(SYSTEM, "innovation", seed=1).state_space_model
    states = tf.zeros([3, 2])
    with tf.GradientTape() as tape:
        tape.watch(states)
        value = model.emission(states).log_prob(tf.ones([3, 1]))
    assert np.all(np.isfinite(tape.gradient(value, states)))


def test_the_ladder():
    args = range_only.Args(affine_flows=(1, 4), spline_flows=(2,))
    names = [range_only.name_of(about) for about in range_only.ladder(args)]
    assert names == [
        "gaussian",
        "innovation",
        "iaf-1-affine",
        "iaf-4-affine",
        "iaf-2-spline",
        "trajectory_iaf",
    ]


def test_the_evidence_of_a_learned_model():
    """The mean of ancestral draws; it moves as the system does where its weights say so."""
    system = range_system.SYSTEMS["abs"]._replace(num_steps=6)
    sequences = range_system.simulate(system, 10, seed=2)
    learned, known = (
        range_system.make_model(system, "innovation", seed=1, learned=flag)
        for flag in (True, False)
    )
    learned.state_space_model.transition.decay.assign([0.5])
    learned.state_space_model.emission.raw_scale.assign([0.3])  # So wide that draws suffice.
    z, u = np.linspace(-3.0, 3.0, 7, dtype=np.float32)[:, np.newaxis], np.zeros([7, 0], np.float32)
    ours, systems = (m.state_space_model.transition_distribution(z, u) for m in (learned, known))
    np.testing.assert_allclose(ours.mean(), systems.mean(), rtol=1e-5)
    exact = range_system.filtered(range_system.LEARNED_AXIS, learned, sequences).log_evidence
    rng, noise = np.random.default_rng(3), float(ours.stddev()[0, 0])
    z = [rng.normal(size=[20_000, 1, 1])]
    for _ in range(5):
        z.append(0.5 * z[-1] + noise * rng.normal(size=z[0].shape))
    x, z = sequences.observations, np.float32(np.stack(z, axis=2))
    log_likelihood = learned.state_space_model.log_likelihood(z, x[np.newaxis]).numpy().sum(axis=2)
    expected = scipy.special.logsumexp(log_likelihood, axis=0) - np.log(len(z))
    np.testing.assert_allclose(exact, expected, atol=0.05)


@pytest.mark.parametrize(
    "generative, seeds", models.marked([("known", (1, 2))], [("learned", (1,))])
)
@pytest.mark.usefixtures("eagerly", "evaluation_without_graphs")
def test_a_report_has_a_row_for_each_model_and_seed(tmp_path, monkeypatch, generative, seeds):
    monkeypatch.setattr(range_only, "NUM_TRAIN", 100)
    monkeypatch.setattr(range_only, "NUM_VALIDATION", 20)
    monkeypatch.setattr(range_only, "NUM_TEST", 20)
    short = range_system.SYSTEMS["abs"]._replace(num_steps=8)
    monkeypatch.setitem(range_system.SYSTEMS, "abs", short)
    output = tmp_path / "out"
    args = range_only.Args(
        system="abs",
        generative=generative,
        posteriors=("innovation", "iaf"),
        affine_flows=(),
        spline_flows=(1,),
        initial_posterior="iaf",
        seeds=seeds,
        epochs=2,
        rounds=0,
        output=str(output),
        verbose=0,
    )
    range_only.main(args)
    rows = json.loads((output / "report.json").read_text())["rows"]
    ladder = [("innovation", None, 0), ("iaf", "spline", 1)]
    found = [(row["posterior"], row["flow"], row["num_flows"], row["seed"]) for row in rows]
    assert found == [(*about, seed) for about in ladder for seed in seeds]
    for row in rows:
        exact = row["model_evidence" if generative == "learned" else "exact"]
        assert row["elbo"] < row["iwae_64"] < exact + 1.0
        assert row["checkpoints"] == 2 and row["checkpoints_above_exact"] == 0
        assert row["milliseconds"] is None and row["seconds"] > 0
    assert (output / "filtering_density.png").exists() == (generative == "known")
    before = (output / "report.json").read_text()
    range_only.main(range_only.dataclasses.replace(args, resume=True))
    again = json.loads((output / "report.json").read_text())["rows"]
    assert [row["elbo"] for row in again] == [row["elbo"] for row in json.loads(before)["rows"]]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seeds": ()}, "`seeds` must not be empty"),
        ({"posteriors": ("chain_iaf",)}, "`posteriors` must be .*; got 'chain_iaf'"),
        ({"system": "angle"}, "`system` must be .*range, abs; got 'angle'"),
        ({"epochs": 0}, "`epochs` and numbers of flows and samples must be positive"),
        ({"num_train_samples": 0}, "`epochs` and numbers of flows and samples must be positive"),
        ({"spline_flows": (0,)}, "`epochs` and numbers of flows and samples must be positive"),
        ({"spline_flows": (2, 2)}, "`spline_flows` must differ; got 2, 2"),
        ({"affine_flows": (1, 4, 1)}, "`affine_flows` must differ; got 1, 4, 1"),
        ({"affine_flows": (), "spline_flows": ()}, "`affine_flows` or `spline_flows` must not be"),
        ({**GAUSSIAN, "affine_flows": (3,)}, "`affine_flows` is for the posterior iaf, which"),
        ({**GAUSSIAN, "initial_posterior": "iaf"}, "`initial_posterior` is for the posterior iaf"),
        ({"initial_kl_weight": -1.0}, "`initial_kl_weight` must be 0 or more and finite; got -1.0"),
        (
            {"initial_kl_weight": np.nan},
            "`initial_kl_weight` must be 0 or more and finite; got nan",
        ),
        ({"seeds": (1, -1)}, r"`seeds` must lie in \[0, 2\*\*32\); got -1"),
        ({"seeds": (2**32,)}, r"`seeds` must lie in \[0, 2\*\*32\); got 4294967296"),
    ],
)
def test_one_line_for_bad_input(tmp_path, changes, message):
    args = {"output": str(tmp_path / "out"), **changes}
    with pytest.raises(ValueError, match=message):
        range_only.main(range_only.Args(**args))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "epochs, expected",
    [
        (150, [15, 30, 45, 60, 75, 90, 105, 120, 135, 150]),
        (25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]),
        (11, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (5, [1, 2, 3, 4, 5]),
        (1, [1]),
    ],
)
def test_ten_epochs_are_checkpoints_or_fewer(epochs, expected):
    assert range_system.checkpoint_epochs(epochs) == expected


class Constant:
    """A model whose bound is its number for each of three sequences."""

    def __init__(self, bound):
        self.bound = np.float32(bound)

    def log_prob_bound(self, *args, **kwargs):
        return self.bound + np.float32([0.0, 0.1, 0.2])


def test_a_checkpoint_that_is_trained_again_has_one_line(tmp_path):
    path, sequences = tmp_path / "excess.jsonl", range_system.simulate(SYSTEM, 3, seed=1)
    for bound, first in [(1.0, 1), (2.0, 3)]:  # The second training resumes behind epoch 2.
        watch = range_system.BoundAgainstEvidence(sequences, np.zeros(3), path, [2, 4, 6])
        watch.set_model(Constant(bound))
        for epoch in range(first, 6 if bound == 1.0 else 7):
            watch.on_epoch_end(epoch - 1)
    found = [(line["epoch"], line["excess"]) for line in range_system.checkpoints(path)]
    np.testing.assert_allclose(found, [(2, 1.1), (4, 2.1), (6, 2.1)], rtol=1e-6)


@pytest.mark.parametrize("interval", [0.0, -1.0, np.inf, np.nan])
def test_a_spline_needs_an_interval(interval):
    with pytest.raises(ValueError, match=f"`interval` .* positive and finite, .* got {interval}"):
        tfp_dvbf.posteriors.IAF(interval=interval)


@pytest.mark.parametrize("change", [{"flow_kind": "cubic"}, {"num_bins": 1}])
def test_settings_of_the_flows(change):
    message = "`flow_kind` must be one of affine, spline|`num_bins` must be at least 2"
    with pytest.raises(ValueError, match=message):
        tfp_dvbf.posteriors.IAF(**change)
