"""The scripts on a training set in several files."""

import dataclasses

import conftest
import generate_data
import numpy as np
import pytest
import train

from tfp_dvbf import data
from tfp_dvbf.experiments import options, recipe, run_folder, timing


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """12 training sequences in files of 5."""
    return conftest.write_dataset(tmp_path_factory.mktemp("scripts") / "sharded", shard_size=5)


def test_generate_data_in_files(sharded, tmp_path):
    names = [f"{index:05}.npz" for index in range(3)]
    assert sorted(path.name for path in (sharded / "train").iterdir()) == names
    assert sorted(path.name for path in sharded.iterdir()) == [
        "test.npz",
        "train",
        "validation.npz",
    ]
    parts = [data.load(sharded / "train" / name) for name in names]
    assert [len(part) for part in parts] == [5, 5, 2]
    others = [data.load(sharded / f"{name}.npz") for name in ["validation", "test"]]
    first = np.concatenate([part.states[:, 0] for part in [*parts, *others]])
    assert len(np.unique(first, axis=0)) == 20
    args = generate_data.Args(output=str(tmp_path / "none"), shard_size=-1)
    with pytest.raises(ValueError, match="`--shard-size` must be at least 0; got -1"):
        generate_data.main(args)


@pytest.mark.slow
def test_training_on_files_resumes_to_the_same_weights(
    sharded, tmp_path, monkeypatch, without_xla, evaluation_without_graphs
):
    short = {"epochs": 4, "kl_annealing_epochs": 2, "batch_size": 5, "checkpoint_seconds": 0.0}
    fit, models = recipe.fit, []

    def stopped_after_two_epochs(model, settings, *rest, **options):
        fit(model, dataclasses.replace(settings, epochs=2), *rest, **options)
        raise KeyboardInterrupt

    for name in ["straight", "stopped"]:
        args = {"data": str(sharded), "output": str(tmp_path / name), "verbose": 0, **short}
        if name == "stopped":
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(recipe, "fit", stopped_after_two_epochs)
                train.main(train.Args(**args))
        train.main(train.Args(resume=name == "stopped", **args))
        models.append(run_folder.load_model(tmp_path / name))
    for expected, actual in zip(*(model.get_weights() for model in models)):
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert int(models[0].optimizer.iterations) == 12


def test_files_cannot_be_shifted(sharded, tmp_path):
    args = train.Args(data=str(sharded), output=str(tmp_path / "run"), shift_controls=True)
    with pytest.raises(ValueError, match="`shift_controls` must be left out for a training set in"):
        train.main(args)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_timing_takes_files(sharded):
    splits = run_folder.read_splits(sharded)
    costs = timing.time_cost({"gaussian": options.ModelOptions()}, splits, 1, 2)
    assert costs["gaussian"]["training_ms"] > 0
