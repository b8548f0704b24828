"""known_physics.py, and that its parts are those that docs/extending.md shows."""

import inspect
import json

import known_physics
import models
import numpy as np
import pendulum_physics
import pytest

from tfp_dvbf.experiments import run_folder

pytestmark = pytest.mark.usefixtures("without_graphs")


def test_the_physics_is_that_of_the_docs():
    page = (models.ROOT / "docs" / "extending.md").read_text()
    for name in ["learned_scale", "PendulumPhysics", "PendulumSensors"]:
        assert inspect.getsource(getattr(pendulum_physics, name)) in page


def test_few_sequences_are_repeated(sequences):
    few = known_physics.few(sequences, 4)
    assert len(few) == 12
    for start in [0, 4, 8]:
        np.testing.assert_array_equal(
            few.observations[start : start + 4], sequences.observations[:4]
        )


@pytest.mark.slow
def test_every_variant_is_trained_and_compared(dataset, tmp_path, without_xla):
    options = {"data": str(dataset), "output": str(tmp_path / "out"), "verbose": 0}
    args = known_physics.Args(sizes=(6,), seeds=(1,), epochs=1, **options)
    known_physics.main(args)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = [f"{name}, 6 sequences" for name in known_physics.VARIANTS]
    assert [row["model"] for row in report["rows"]] == names
    for name, row in zip(known_physics.VARIANTS, report["rows"]):
        metrics = run_folder.read_json(tmp_path / "out" / f"{name}-6-1" / "metrics.json")
        assert row["mae_sampled"] == [pytest.approx(metrics["mae_sampled"]), None]
        assert row["updates"] == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sizes": (5,)}, "`sizes` must divide the 12 sequences; got 5"),
        ({"seeds": ()}, "`seeds` must not be empty"),
        ({"variants": ("exact",)}, "`variants` must be .*equations, learned; got 'exact'"),
    ],
)
def test_one_line_for_bad_input(dataset, tmp_path, changes, message):
    args = {"data": str(dataset), "output": str(tmp_path / "out"), **changes}
    with pytest.raises(ValueError, match=message):
        known_physics.main(known_physics.Args(**args))
    assert not (tmp_path / "out").exists()
