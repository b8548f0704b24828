"""investigate_intervals.py on a made-up record; what it shows is in docs/intervals.md."""

import json

import investigate_intervals
import numpy as np
import pytest

from tfp_dvbf.experiments import identification


def arguments(tmp_path, **changes):
    rng = np.random.default_rng(1)
    arrays = {f"{s}_{part}": rng.normal(size=1024) for s in "uy" for part in ["train", "test"]}
    np.savez(tmp_path / "mine.npz", **arrays)
    given = {"data": str(tmp_path / "mine.npz"), "output": str(tmp_path / "out"), **changes}
    return investigate_intervals.Args(verbose=0, **given)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"settings": ()}, "`settings` must not be empty"),
        ({"seeds": ()}, "`seeds` must not be empty"),
        ({"seeds": (1, 1)}, "`seeds` must"),
        ({"settings": ("magic",)}, "`settings` must be .*as sysid.py.*; got 'magic'"),
        ({"epochs": -1}, "`epochs` must not be negative"),
        ({"benchmark": "boat"}, "`benchmark` must be one of tanks"),
    ],
)
def test_refuses(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        investigate_intervals.main(arguments(tmp_path, **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_every_block_is_scored_by_models_that_have_not_seen_it(
    tmp_path, monkeypatch, without_xla, capsys
):
    monkeypatch.setattr(identification, "NUM_FOLDS", 2)
    setting = "half of the steps hidden"
    args = arguments(tmp_path, settings=(setting,), epochs=1)
    investigate_intervals.main(args)
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["rows"]
    assert [row["seed"] for row in rows] == [
        *[f"{setting}, seed 1", f"{setting}, seed 2", f"{setting}, 2 as one"]
    ]
    assert all(row["rmse"] > 0 and 0 <= row["coverage_90"] <= 1 for row in rows)
    assert "steps hidden" in capsys.readouterr().out
