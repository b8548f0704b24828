"""The quick protocol, as `reproduce.py` runs it by default, reaches its error."""

import json

import generate_data
import pytest
import reproduce


@pytest.mark.long
def test_the_quick_protocol_reaches_its_error(tmp_path):
    generate_data.main(generate_data.Args(output=str(tmp_path / "data")))
    args = reproduce.Args(
        posteriors=("gaussian",), data=str(tmp_path / "data"), output=str(tmp_path / "quick")
    )
    reproduce.main(args)
    metrics = json.loads((tmp_path / "quick/gaussian-seed1/metrics.json").read_text())
    assert metrics["mae_sampled"] <= 0.02
    assert metrics["kl_per_step"] >= 0.0
