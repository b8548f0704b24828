"""The scripts, through `main(args)`, on a data set of 12 sequences of 8 steps."""

import dataclasses
import json
import pathlib
import shutil

import evaluate
import export
import generate_data
import numpy as np
import pytest
import reproduce
import train
from conftest import SHORT, replaced_compile

import tfp_dvbf
from tfp_dvbf import data
from tfp_dvbf.experiments import options, protocols, recipe

pytestmark = pytest.mark.usefixtures("without_graphs")

SHORT_PROTOCOLS = dict.fromkeys(
    ["quick", "poster"], dict.fromkeys(["gaussian", "chain_iaf"], SHORT)
)
KEYS = {
    *["mae_sampled", "mae_mean", "reconstruction_mae", "elbo", "kl_per_step", "mae_by_horizon"],
    *["num_sequences", "num_steps", "seed"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scripts")


def write_again(run, seed):
    """Copies a run folder as that of another seed."""
    other = run.with_name(f"{run.name.removesuffix('-seed1')}-seed{seed}")
    shutil.copytree(run, other)
    for name, key in {"args.json": "seed", "metrics.json": "training_seed"}.items():
        values = json.loads((other / name).read_text())
        assert values[key] == 1
        (other / name).write_text(json.dumps({**values, key: seed}))


@pytest.fixture(scope="module")
def report(folder, dataset):
    """Runs `reproduce.py` with protocols cut to two epochs; the runs of seed 2 are copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "PROTOCOLS", SHORT_PROTOCOLS)
        patch.setattr(tfp_dvbf.DVBF, "compile", replaced_compile({"run_eagerly": True}))
        args = reproduce.Args(data=str(dataset), output=str(folder / "report"), verbose=0)
        reproduce.main(args)
        for name in ["gaussian", "chain_iaf"]:
            write_again(folder / "report" / f"{name}-seed1", 2)
        reproduce.main(dataclasses.replace(args, seeds=(1, 2), resume=True))
    return folder / "report"


def test_reproduce_trains_each_model_with_each_seed(tmp_path, monkeypatch):
    """By its protocol, into a folder of its own."""
    runs = []

    def finish(args):
        runs.append(args)
        pathlib.Path(args.output).mkdir(parents=True)
        (pathlib.Path(args.output) / "metrics.json").write_text("{}")

    def write_report(args, output, paths):
        (output / "report.md").write_text(f"{len(paths)} runs")

    monkeypatch.setattr(recipe, "run", finish)
    monkeypatch.setattr(reproduce, "write_report", write_report)
    reproduce.main(reproduce.Args(data="mine", output=str(tmp_path / "new"), seeds=(1, 2)))
    assert (tmp_path / "new" / "report.md").read_text() == "4 runs"
    quick = protocols.PROTOCOLS["quick"]
    assert runs == [
        options.RunOptions(
            **{"posterior": name, "seed": seed, "data": "mine", "noise_floor": 1e-4},
            **{"output": str(tmp_path / "new" / f"{name}-seed{seed}"), **quick[name]},
        )
        for name in ["gaussian", "chain_iaf"]
        for seed in [1, 2]
    ]


def test_generate_data(dataset):
    splits = [data.load(dataset / f"{name}.npz") for name in ["train", "validation", "test"]]
    assert [len(split) for split in splits] == [12, 4, 4]
    first = np.concatenate([split.states[:, 0] for split in splits])
    assert len(np.unique(first, axis=0)) == 20
    with pytest.raises(ValueError, match="`--output` must not exist yet"):
        generate_data.main(generate_data.Args(output=str(dataset)))
    with pytest.raises(ValueError, match="`--num-test` must be at least 1; got 0"):
        generate_data.main(generate_data.Args(output=str(dataset / "new"), num_test=0))


def test_generate_data_of_images(tmp_path):
    sizes = {"num_train": 2, "num_validation": 1, "num_test": 1, "num_steps": 3}
    images = {"observation": "pixels", "size": (8, 6), "grey": True}
    generate_data.main(generate_data.Args(output=str(tmp_path / "data"), **sizes, **images))
    images = data.load(tmp_path / "data" / "train.npz")
    assert images.observations.shape == (2, 3, 8, 6, 1) and images.observations.dtype == np.uint8
    assert images.spec["image"] == {"size": [8, 6], "grey": True}
    with pytest.raises(ValueError, match="`size` and `grey` are for the observation `pixels`"):
        generate_data.main(generate_data.Args(output=str(tmp_path / "other"), size=(8, 6)))


def test_reproduce_writes_a_complete_run_folder_a_model_and_seed(report):
    figures = {"angle", "loss", "mae_by_horizon", "observations", "reconstruction_and_kl"}
    forecasts = {"free_run", "by_horizon", "calibration"}
    for name in ["gaussian-seed1", "gaussian-seed2", "chain_iaf-seed1", "chain_iaf-seed2"]:
        run = report / name
        for file in ["args.json", "model.keras", "history.csv", "metrics.json", "report.html"]:
            assert (run / file).stat().st_size > 0
        assert {path.stem for path in (run / "figures").iterdir()} == figures | forecasts
        assert KEYS <= set(json.loads((run / "metrics.json").read_text()))
    assert {path.stem for path in (report / "figures").glob("*.png")} == figures
    assert (report / "report.html").stat().st_size > 0
    assert (report / "figures" / "pendulum.gif").exists()


def test_the_report_has_the_models_and_the_baselines(report):
    table = (report / "report.md").read_text()
    for name in [
        *["gaussian  ", "gaussian, median", "chain_iaf, median", "zeros", "constant mean"],
        *["hold first observation", "true simulator"],
    ]:
        assert name in table
    assert len(json.loads((report / "report.json").read_text())["rows"]) == 10


def test_the_posters_figures_stand_in_its_report_alone(report, dataset, monkeypatch):
    monkeypatch.setattr(protocols, "PROTOCOLS", SHORT_PROTOCOLS)
    args = reproduce.Args(data=str(dataset), output=str(report), seeds=(1, 2), resume=True)
    table = (report / "report.md").read_text()
    assert "poster" not in table
    (report / "report.md").unlink()
    reproduce.main(dataclasses.replace(args, protocol="poster"))
    posters = (report / "report.md").read_text()
    assert "| poster, gaussian       |" in posters
    assert "0.1536" in posters and "0.1915" in posters
    (report / "report.md").unlink()
    reproduce.main(args)
    assert (report / "report.md").read_text() == table


def test_reproduce_shows_a_finished_report_again(report, dataset, capsys, monkeypatch):
    monkeypatch.setattr(protocols, "PROTOCOLS", SHORT_PROTOCOLS)
    args = reproduce.Args(data=str(dataset), output=str(report), seeds=(1, 2), verbose=0)
    with pytest.raises(ValueError, match="`--output` must not exist yet without `--resume`"):
        reproduce.main(args)
    args.resume = True
    with pytest.raises(ValueError, match=r"started with other arguments: \['shift_controls'\]"):
        reproduce.main(dataclasses.replace(args, shift_controls=True))
    reproduce.main(args)
    assert (report / "report.md").read_text() in capsys.readouterr().out


def test_evaluate_agrees_with_the_run(report, dataset, capsys):
    file = report.parent / "metrics.json"
    args = evaluate.Args(
        model=str(report / "gaussian-seed1"),
        data=str(dataset / "test.npz"),
        json=str(file),
        train=str(dataset / "train.npz"),
    )
    evaluate.main(args)
    printed = capsys.readouterr().out
    assert "gaussian" in printed and "true simulator" in printed
    assert "| free run from 1, gaussian " in printed and "ARX" in printed
    metrics = json.loads(file.read_text())
    stored = json.loads((report / "gaussian-seed1" / "metrics.json").read_text())
    assert KEYS <= set(metrics) == set(stored) - {"lowest_kl"}
    for name in ["mae_sampled", "mae_mean", "elbo"]:
        assert metrics[name] == pytest.approx(stored[name], rel=1e-4)
    for name in ["rmse", "nll", "coverage_90"]:
        assert metrics["free_run"][name] == pytest.approx(stored["free_run"][name], rel=1e-4)
        assert metrics["one_step"][name] == pytest.approx(stored["one_step"][name], rel=1e-4)
    rows = [found["free_run"]["baselines"] for found in (metrics, stored)]
    assert [row["model"] for row in rows[0]] == [row["model"] for row in rows[1]]
    with pytest.raises(ValueError, match="`initial_steps` must be less than the 8 steps"):
        evaluate.main(dataclasses.replace(args, initial_steps=8, json=None))
    with pytest.raises(ValueError, match="`--train` must be an .npz file or a folder; none does"):
        evaluate.main(dataclasses.replace(args, train="none", json=None))
    with pytest.raises(ValueError, match="`--json` must not exist yet"):
        evaluate.main(args)
    for name, message in {
        "none/a.json": "in a folder that exists",
        "a.md": "not end in .md",
    }.items():
        with pytest.raises(ValueError, match=f"`--json` must .*{message}"):
            evaluate.main(dataclasses.replace(args, json=str(report.parent / name)))
    file.unlink()  # Its table is still there.
    with pytest.raises(ValueError, match="`--json` must not exist yet; got .*md"):
        evaluate.main(args)


def test_export_of_a_run_folder(report, tmp_path, capsys):
    output = tmp_path / "exported"
    run = str(report / "chain_iaf-seed1")
    args = export.Args(model=run, output=str(output), signatures=("generate",))
    export.main(args)
    printed = capsys.readouterr().out
    assert "generate\n" in printed and "forecast        left out: not asked for\n" in printed
    assert (
        "filter_step     left out: chain_iaf: its states are one draw carried through time"
        in printed
    )
    about = json.loads((output / "assets" / "metadata.json").read_text())
    assert about["training"]["posterior"] == "chain_iaf" and about["metrics"]["mae_sampled"] > 0
    assert about["data"]["control_names"] == ["torque  (N m)"]
    with pytest.raises(ValueError, match="`--output` must not exist yet"):
        export.main(args)


@pytest.mark.slow
def test_train_and_evaluate_on_missing_frames(dataset, tmp_path):
    """One file; some sequences are shorter, one has a gap, one lacks its first frame.

    Its controls are shifted in all parts, that of the test set among them.
    """
    sequences = data.load(dataset / "train.npz")
    mask = np.ones([12, 8], bool)
    mask[::2, 6:] = mask[9, 3] = mask[11, 0] = False
    masked = data.Sequences(sequences.observations, sequences.controls, mask=mask)
    file = str(tmp_path / "masked.npz")
    data.save(file, masked)
    args = train.Args(data=file, output=str(tmp_path / "run"), posterior="iaf", verbose=0, **SHORT)
    with pytest.raises(ValueError, match="`mask` must have no gaps for chain_iaf: its states all"):
        train.main(dataclasses.replace(args, posterior="chain_iaf"))
    train.main(dataclasses.replace(args, shift_controls=True))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["num_sequences"] == 2
    assert metrics["data"]["controls"] == "one step late"
    assert all(np.isfinite(metrics[name]) for name in ["mae_sampled", "iwae_64", "fivo_64"])
