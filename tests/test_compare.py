"""compare.py and investigate_kl.py, on a data set of 12 sequences of 8 steps."""

import json

import compare
import investigate_kl
import numpy as np
import pytest
import tensorflow as tf
from conftest import SHORT

from tfp_dvbf import data
from tfp_dvbf.experiments import run_folder

INDEPENDENT = investigate_kl.AS_STATED


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, dataset):
    """Runs `compare.py` with its protocol cut to two epochs."""
    output = tmp_path_factory.mktemp("scripts") / "compare"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "PROTOCOL", SHORT)
        args = {"data": str(dataset), "output": str(output), "seeds": (1, 2), "verbose": 0}
        args["epochs"] = SHORT["epochs"]
        compare.main(compare.Args(posteriors=("gaussian", "chain_iaf"), rounds=1, **args))
        more = ("gaussian", "iaf", "iaf-0", "trajectory_iaf", "chain_iaf")
        compare.main(compare.Args(posteriors=more, rounds=0, resume=True, **args))
    return output


@pytest.mark.slow
def test_compare_tabulates_means_and_intervals(comparison):
    report = json.loads((comparison / "report.json").read_text())
    rows = {row["model"]: row for row in report["rows"]}
    assert list(rows) == ["gaussian", "iaf", "iaf-0", "trajectory_iaf", "chain_iaf"]
    metric_files = [comparison / f"gaussian-seed{seed}" / "metrics.json" for seed in (1, 2)]
    values = [json.loads(run.read_text())["mad_sampled"] for run in metric_files]
    mean, half = rows["gaussian"]["mad_sampled"]
    assert mean == pytest.approx(np.mean(values))
    # Student's t with one degree of freedom: 12.706 standard errors.
    assert half == pytest.approx(12.706 * abs(values[0] - values[1]) / 2, rel=1e-3)
    histories = [run_folder.read_history(run.parent / "history.csv") for run in metric_files]
    lowest = min(history[name].min() for history in histories for name in ["kl", "val_kl"])
    assert rows["gaussian"]["lowest_kl"] == pytest.approx(lowest)
    values = [json.loads(run.read_text())["lowest_kl"] for run in metric_files]
    assert min(values) == pytest.approx(lowest)
    assert "iwae_64" in rows["iaf"] and "iwae_64" not in rows["chain_iaf"]
    metrics = json.loads((comparison / "iaf-seed1" / "metrics.json").read_text())
    assert metrics["iwae_64"] > metrics["elbo"] and "fivo_64" in metrics
    table = (comparison / "report.md").read_text()
    assert "±" in table and "iwae 64" in table
    no_flow = json.loads((comparison / "iaf-0-seed1" / "args.json").read_text())
    assert no_flow["num_flows"] == 0


def test_compare_needs_its_folder_to_be_new(dataset, tmp_path):
    args = compare.Args(data=str(dataset), output=str(tmp_path))
    with pytest.raises(ValueError, match="`--output` must not exist yet without `--resume`"):
        compare.main(args)


@pytest.mark.slow
def test_investigate_kl(comparison, dataset, tmp_path, capsys):
    output = tmp_path / "kl"
    args = {"pendulum": str(comparison), "data": str(dataset), "epochs": 16}
    investigate_kl.main(investigate_kl.Args(output=str(output), **args))
    figures = ["closed_form", "evidence", "independent_draws", "pendulum"]
    assert sorted(path.stem for path in output.glob("*.png")) == figures
    linear = json.loads((output / "summary.json").read_text())["linear"]
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
    sample = stated._sample_posterior(batch, noise)
    for t in [0, 1, 19]:
        first = tf.tile(noise[:, t : t + 1], [1, 20, 1])
        expected = coded._sample_posterior(batch, first)
        np.testing.assert_allclose(sample.states[:, t], expected.states[:, t], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(sample.log_prob[:, t], expected.log_prob[:, t], rtol=1e-4)
    terms = stated.bound_terms(train.observations, train.controls, num_samples=200, seed=1)
    assert np.mean(np.sum(terms.kl, axis=2)) > 0
