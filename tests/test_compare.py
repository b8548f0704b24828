"""compare.py, with training left out, and investigate_kl.py."""

import dataclasses
import json
import pathlib

import compare
import investigate_kl
import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf import data, registry
from tfp_dvbf.experiments import options, recipe, run_folder

INDEPENDENT = investigate_kl.AS_STATED
NAMES = ("gaussian", "iaf", "innovation", "trajectory_iaf", "trajectory_iaf-0", "chain_iaf")


def metrics_of(args):
    """Returns made-up metrics of a run, those of its posterior and seed."""
    bounds = {} if args.posterior == "chain_iaf" else {"iwae_64": 5.0 + args.seed**2}
    return {
        **{"model": args.posterior, "mae_sampled": 0.1 * args.seed + 0.01 * args.num_flows},
        **{"mae_mean": 0.2, "elbo": 3.0, "kl_per_step": 0.5, **bounds},
        **{"parameters": 10, "updates": 20, "seconds": 4.0},
    }


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    """Runs `compare.py` twice with training left out; returns its folder and the `RunOptions`."""
    output, runs = tmp_path / "compare", []

    def finish(args):
        runs.append(args)
        folder = pathlib.Path(args.output)
        folder.mkdir(parents=True, exist_ok=True)
        run_folder.write_json(folder / "metrics.json", metrics_of(args))
        run_folder.write_json(folder / "args.json", dataclasses.asdict(args))
        (folder / "history.csv").write_text(f"epoch,kl,val_kl\n0,3,{-args.seed}\n1,2,7\n")

    monkeypatch.setattr(recipe, "run", finish)
    args = {"data": "mine", "output": str(output), "seeds": (1, 2), "verbose": 0, "rounds": 0}
    compare.main(compare.Args(posteriors=("gaussian", "chain_iaf"), epochs=7, **args))
    args["resume"] = True
    compare.main(compare.Args(posteriors=NAMES, epochs=7, **args))
    return output, runs


def test_compare_trains_each_posterior_with_each_seed(comparison):
    output, runs = comparison
    assert len(runs) == 16
    protocol = {**compare.PROTOCOL, "epochs": 7}
    assert runs[4:] == [
        options.RunOptions(
            **{"posterior": name.removesuffix("-0"), "num_flows": 0 if name[-1] == "0" else 1},
            **{"seed": seed, "data": "mine", "output": str(output / f"{name}-seed{seed}")},
            **{"resume": True, "verbose": 0, **protocol},
        )
        for seed in [1, 2]
        for name in NAMES
    ]


def test_compare_tabulates_means_and_intervals(comparison):
    output, _ = comparison
    report = json.loads((output / "report.json").read_text())
    rows = {row["model"]: row for row in report["rows"]}
    assert list(rows) == list(NAMES)
    mean, half = rows["gaussian"]["mae_sampled"]
    assert mean == pytest.approx(0.16)
    # Student's t with one degree of freedom: 12.706 standard errors.
    assert half == pytest.approx(12.706 * 0.1 / 2, rel=1e-3)
    assert rows["trajectory_iaf-0"]["mae_sampled"][0] == pytest.approx(0.15)
    assert rows["gaussian"]["lowest_kl"] == -2.0
    assert rows["iaf"]["iwae_64"][0] == 7.5 and "iwae_64" not in rows["chain_iaf"]
    table = (output / "report.md").read_text()
    assert "±" in table and "iwae 64" in table


def test_compare_needs_its_folder_to_be_new(dataset, tmp_path):
    args = compare.Args(data=str(dataset), output=str(tmp_path))
    with pytest.raises(ValueError, match="`--output` must not exist yet without `--resume`"):
        compare.main(args)


@pytest.mark.long
def test_investigate_kl(dataset, tmp_path, capsys, monkeypatch, without_xla):
    for posterior in registry.names("posterior"):  # What it reads of compare.py's runs.
        run = tmp_path / "compare" / f"{posterior}-seed1"
        run.mkdir(parents=True)
        (run / "history.csv").write_text("epoch,kl\n0,3\n1,-2\n2,-1\n")
    output = tmp_path / "kl"
    monkeypatch.setattr(investigate_kl, "NUM_STEPS", 10)
    monkeypatch.setattr(investigate_kl, "NUM_TEST", 64)
    args = {"pendulum": str(tmp_path / "compare"), "data": str(dataset), "epochs": 16}
    investigate_kl.main(investigate_kl.Args(output=str(output), **args))
    figures = ["closed_form", "evidence", "independent_draws", "pendulum"]
    assert sorted(path.stem for path in output.glob("*.png")) == figures
    summary = json.loads((output / "summary.json").read_text())
    expected = {"lowest_kl": -2.0, "last_kl": -1.0, "first_negative_kl": 2}
    assert summary["pendulum"] == dict.fromkeys(registry.names("posterior"), expected)
    linear = summary["linear"]
    for name in ["gaussian", "iaf", "trajectory_iaf", INDEPENDENT]:
        assert linear[name]["smallest_gap"] > 0 and linear[name]["lowest_kl"] > 0
        assert linear[name]["first_above_own"] is None
    assert linear["chain_iaf"]["smallest_gap"] < 0 and linear["chain_iaf"]["lowest_kl"] < 0
    assert linear["chain_iaf"]["first_above_own"] <= 10
    assert "smallest_gap" in capsys.readouterr().out


def test_independent_draws_have_the_marginals_of_chain_iaf():
    stated, coded = (investigate_kl.make_model(name) for name in [INDEPENDENT, "chain_iaf"])
    stated.set_weights(coded.get_weights())
    train = investigate_kl.draw_sequences(investigate_kl.generating_model(), 6, seed=1)
    batch = data.Batch(train.observations, train.controls)
    noise = tf.random.stateless_normal([6, 20, 2], [0, 1])
    sample = models.sample_posterior(stated, batch, noise)
    for t in [0, 1, 19]:
        first = tf.tile(noise[:, t : t + 1], [1, 20, 1])
        expected = models.sample_posterior(coded, batch, first)
        np.testing.assert_allclose(sample.states[:, t], expected.states[:, t], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(sample.log_prob[:, t], expected.log_prob[:, t], rtol=1e-4)
    terms = stated.bound_terms(train.observations, train.controls, num_samples=200, seed=1)
    assert np.mean(np.sum(terms.kl, axis=2)) > 0
