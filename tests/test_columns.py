"""Data that are evaluated have the columns, and the offsets, of those that a model has seen."""

import evaluate
import import_log
import numpy as np
import pool
import pytest

from tfp_dvbf import data
from tfp_dvbf.data import columns
from tfp_dvbf.experiments import run_folder

KNOWN = {"observation_names": ["T", "p"], "control_names": ["u"], "offsets": {"p": 101325.0}}


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"observation_names": ["p", "T"]}, r"observation names .* \['T', 'p'\]; got \['p', 'T'\]"),
        ({"control_names": ["v"]}, r"control names of the training data, \['u'\]; got \['v'\]"),
        ({"offsets": {"p": 101305.0}}, r"offsets .*; got {'p': 101305.0}; `import_log.py --like`"),
        ({"offsets": {}}, r"offsets of the training data, {'p': 101325.0}; got {}; `import"),
        ({"offsets": None}, r"offsets of the training data, {'p': 101325.0}; got {}; `import"),
    ],
)
def test_other_columns_are_refused(spec, message):
    with pytest.raises(ValueError, match=f"`--data` must have the {message}"):
        columns.check_same("--data", {**KNOWN, **spec}, KNOWN)


@pytest.mark.parametrize("spec", [None, {}, {"source": "a.csv"}, dict(KNOWN), {"time_step": 2.0}])
def test_what_a_spec_does_not_say_is_not_compared(spec):
    columns.check_same("--data", spec, KNOWN)
    columns.check_same("--data", KNOWN, spec)


def written(path, level):
    rng = np.random.default_rng(1)
    lines = ["p [Pa],u"] + [f"{level + rng.normal():.4f},{rng.normal():.4f}" for _ in range(60)]
    path.write_text("\n".join(lines))
    return import_log.Args(
        (str(path),), ("p [Pa]",), ("u",), window=4, stride=4, output=str(path.with_suffix(""))
    )


def test_a_later_log_is_imported_as_the_first_one_was(tmp_path):
    first, later = written(tmp_path / "a.csv", 2e6), written(tmp_path / "b.csv", 1.9e6)
    import_log.main(first)
    later.like = first.output
    import_log.main(later)
    splits = [run_folder.read_splits(args.output)[2] for args in (first, later)]
    assert splits[0].spec["offsets"] == splits[1].spec["offsets"]
    np.testing.assert_allclose(splits[1].observations.mean(), -1e5, rtol=1e-3)
    later.observations, later.controls = ("u",), ("p [Pa]",)
    later.output = str(tmp_path / "c")
    with pytest.raises(ValueError, match=r"`csv` must have the observation names .*'p \[Pa\]'"):
        import_log.main(later)


@pytest.mark.parametrize("script", ["evaluate", "pool"])
def test_scripts_refuse_other_columns_before_they_start(tmp_path, script):
    x = np.random.default_rng(1).normal(size=[3, 5, 2])
    for name in ["train", "validation", "test"]:
        data.save(tmp_path / f"{name}.npz", data.Sequences(x, x[:, :4, :1], spec=dict(KNOWN)))
    runs = [tmp_path / "1", tmp_path / "2"]
    for run in runs:
        run.mkdir()
        of_run = {**KNOWN, "observation_names": ["p", "T"]}
        run_folder.write_json(run / run_folder.METRICS, {"data": of_run})
    with pytest.raises(ValueError, match="`--data` must have the observation names of the train"):
        if script == "pool":
            given = {"data": str(tmp_path), "output": str(tmp_path / "out")}
            pool.main(pool.Args(models=tuple(map(str, runs)), **given))
        else:
            evaluate.main(evaluate.Args(str(runs[0]), str(tmp_path / "test.npz")))
    assert not (tmp_path / "out").exists()
