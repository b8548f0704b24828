"""The history of a run, of training on whole sequences and on windows."""

import json

import numpy as np
import pytest

from tfp_dvbf.experiments import histories, plots


@pytest.fixture(params=[0, 3])
def run(request, tmp_path):
    """Returns a run folder of training on windows of so many time steps, and their number."""
    (tmp_path / "args.json").write_text(json.dumps({"window": request.param}))
    lines = [
        "epoch,loss,nll,kl,val_nll,val_kl",
        "0,1.0,8.0,3.0,80.0,30.0",
        "1,0.5,6.0,2.0,60.0,31.0",
    ]
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    return tmp_path, request.param


def test_terms_of_windows_are_not_set_beside_those_of_sequences(run):
    folder, window = run
    history = histories.of_run(folder)
    assert set(history) == {"epoch", "loss", "val_nll", "val_kl"} | (
        set() if window else {"nll", "kl"}
    )
    np.testing.assert_array_equal(history["loss"], [1.0, 0.5])
    assert histories.lowest_kl(folder) == (30.0 if window else 2.0)


def test_curves_show_the_terms_that_there_are(run, tmp_path, monkeypatch):
    folder, window = run
    shown = []
    monkeypatch.setattr(plots, "save", lambda figure, path: shown.append(figure))
    plots.bound_curves(tmp_path / "bound.png", {"innovation": histories.of_run(folder)})
    reconstruction = shown[0].axes[0].get_lines()[:-1]  # The last one marks zero.
    curves = [line.get_ydata().tolist() for line in reconstruction]
    assert curves == ([[80.0, 60.0]] if window else [[8.0, 6.0], [80.0, 60.0]])
    assert reconstruction[0].get_label() == "innovation"
