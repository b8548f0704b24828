"""pool.py: models of several seeds as one forecast."""

import json

import models
import numpy as np
import pool
import pytest

import tfp_dvbf
from tfp_dvbf.data import batching
from tfp_dvbf.experiments import run_folder

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture
def runs(dataset, tmp_path):
    """Two run folders with models of two seeds, as far as pool.py reads them."""
    train, _, _ = run_folder.read_splits(dataset)
    for seed in [1, 2]:
        model = models.small_model("innovation", seed=seed)
        model.adapt(batching.as_dataset(train))
        (tmp_path / f"seed-{seed}").mkdir()
        run_folder.save_model(tmp_path / f"seed-{seed}" / "model.keras", model)
    return tuple(str(tmp_path / f"seed-{seed}") for seed in [1, 2])


def test_the_ensemble_and_its_report(runs, dataset, tmp_path, capsys):
    output = tmp_path / "both"
    pool.main(pool.Args(models=runs, data=str(dataset), output=str(output), initial_steps=3))
    ensemble = run_folder.load_model(output)
    assert [member.seed for member in ensemble.members] == [1, 2]
    metrics = json.loads((output / "metrics.json").read_text())
    _, _, test = run_folder.read_splits(dataset)
    expected = tfp_dvbf.evaluate(ensemble, test, seed=1, initial_steps=3)["free_run"]
    np.testing.assert_allclose(metrics["free_run"]["rmse"], expected["rmse"], rtol=1e-6)
    assert len(metrics["free_run"]["baselines"]) == 3
    page = (output / "report.html").read_text()
    assert "2 of innovation" in page and page.count("<img") == 3
    printed = capsys.readouterr().out
    assert "free run from 3" in printed and f"report: {output / 'report.html'}" in printed


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": ()}, "`models` must name two run folders or more; got 0"),
        ({"models": ("a",)}, "`models` must name two run folders or more; got 1"),
        ({"models": ("a", "a")}, "`models` must differ; got a, a"),
        ({"models": ("a", "b")}, "`model` must be a run folder with model.keras; a does not"),
        ({"output": "."}, "`--output` must not exist yet"),
        ({"data": "none"}, "`data` must be a folder or an .npz file; none does not exist"),
    ],
)
def test_refuses(runs, dataset, tmp_path, change, message):
    given = {"models": runs, "data": str(dataset), "output": str(tmp_path / "new"), **change}
    with pytest.raises(ValueError, match=message):
        pool.main(pool.Args(**given))
    assert not (tmp_path / "new").exists()
