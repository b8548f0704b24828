"""identify.py at a small size: what it writes, that it resumes, and what it refuses."""

import identify
import models
import numpy as np
import pytest

from tfp_dvbf import layers
from tfp_dvbf.experiments import latent_regression, run_folder


@pytest.mark.parametrize("observation", models.marked(["pixels"], ["position", "angle"]))
@pytest.mark.usefixtures("eagerly", "evaluation_without_graphs")
def test_what_a_run_leaves_and_how_it_resumes(tmp_path, monkeypatch, observation):
    monkeypatch.setattr(latent_regression, "SIZES", {"train": 8, "validation": 4, "test": 6})
    monkeypatch.setattr(latent_regression, "NUM_STEPS", 7)
    args = identify.Args(
        observation, seeds=(2,), epochs=1, starts=2, output=str(tmp_path / "run"), verbose=0
    )
    monkeypatch.setattr(identify, "DEFAULTS", identify.DEFAULTS._replace(start_epochs=1))
    identify.main(args)
    report = run_folder.read_json(tmp_path / "run" / "report.json")
    assert [(row["observation"], row["seed"]) for row in report["rows"]] == [(observation, 2)]
    assert report["starts"] == 2 and ("scale" in report) == (observation == "pixels")
    for row in report["rows"]:
        assert row["seconds"] > 0
        for name in latent_regression.TARGETS:
            assert np.isfinite([row[f"r2_{name}"], row[f"r2_{name}_later"]]).all()
    figures = {path.name for path in (tmp_path / "run" / "seed-2" / "figures").iterdir()}
    assert "latent_space.png" in figures
    assert ("generated.gif" in figures) == (observation == "pixels")
    with pytest.raises(ValueError, match="`--output` must not exist yet without `--resume`"):
        identify.main(args)
    args.resume = True
    identify.main(args)
    assert run_folder.read_json(tmp_path / "run" / "report.json") == report
    assert "Karl et al. 2017" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    "without, left",
    [
        ("rotation", {"transition": "mlp"}),
        ("learned_initial", {"learns_initial": False}),
        ("hidden_steps", {"hidden_steps": 0.0}),
        ("constant_scale", {"scale": None}),
        ("window", {"window": 1}),
        ("starts", {"starts": 1}),
    ],
)
def test_an_ablation_differs_from_the_protocol_in_one_thing(without, left):
    assert without in latent_regression.ABLATIONS
    protocol = identify.protocol_of(identify.Args(without=(without,)), without)
    whole = identify.protocol_of(identify.Args())
    changed = {k: v for k, v in protocol._asdict().items() if v != getattr(whole, k)}
    assert changed == left
    model = latent_regression.make_model("pixels", 3, 1, protocol)
    transition = model.state_space_model.transition
    kind = layers.MLPTransition if without == "rotation" else layers.RotationTransition
    assert type(transition) is kind
    assert transition.learns_initial == (without != "learned_initial")
    assert model.state_space_model.emission.scale == protocol.scale
    assert model.recognition_model.encoder.num_steps == protocol.window
    fraction = 0.0 if model.hidden_steps is None else model.hidden_steps.fraction
    assert fraction == protocol.hidden_steps


@pytest.mark.usefixtures("eagerly", "evaluation_without_graphs")
def test_a_report_of_ablations_leaves_that_of_the_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(latent_regression, "SIZES", {"train": 4, "validation": 4, "test": 4})
    monkeypatch.setattr(latent_regression, "NUM_STEPS", 6)
    run = tmp_path / "run"
    given = {"seeds": (3,), "epochs": 1, "starts": 1, "output": str(run), "verbose": 0}
    identify.main(identify.Args(**given))
    report = run_folder.read_json(run / "report.json")
    identify.main(identify.Args(**given, without=("window", "hidden_steps"), resume=True))
    assert run_folder.read_json(run / "report.json") == report
    rows = run_folder.read_json(run / "without.json")["rows"]
    assert [row["without"] for row in rows] == ["window", "hidden_steps"]
    assert "| hidden_steps |" in capsys.readouterr().out
    model = run_folder.load_model(run / "without-window-seed-3")
    assert model.recognition_model.encoder.num_steps == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"observation": "state"}, "`observation` must be one of pixels, position, angle"),
        ({"seeds": ()}, "`seeds` must not be empty"),
        ({"seeds": (1, 1)}, "`seeds` must differ"),
        ({"seeds": (-1,)}, r"`seeds` must lie in \[0, 2\*\*32\); got -1"),
        ({"without": ("window", "window")}, "`without` must differ; got window, window"),
        ({"without": ("starts",), "starts": 1}, "`without` must leave something out; starts is"),
        ({"without": ("rest",)}, "`without` must be one of rotation, learned_initial"),
        (
            {"without": ("constant_scale",), "observation": "position"},
            "constant_scale is of the observation pixels; got position",
        ),
        ({"epochs": 0}, "`epochs` and `starts` must be at least 1"),
        ({"starts": 0}, "`epochs` and `starts` must be at least 1"),
        ({"state_dim": 1}, "`state_dim` must be at least 2; got 1"),
        ({"hidden_steps": 1.0}, r"`hidden_steps` must lie in \[0, 1\); got 1.0"),
        ({"scale": 0.0}, r"`scale` must lie in \(0, 1\), a fraction of the range; got 0.0"),
        ({"scale": 255.0}, r"`scale` must lie in \(0, 1\), a fraction of the range; got 255.0"),
        (
            {"scale": 0.2, "observation": "angle"},
            "`scale` is for the observation pixels alone; got angle",
        ),
    ],
)
def test_bad_options_are_refused_before_work_starts(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        identify.main(identify.Args(output=str(tmp_path / "run"), **changes))
    assert not (tmp_path / "run").exists()
