"""The demo, cut to two epochs of 12 sequences; modules of one's own in the scripts."""

import json
import pathlib

import demo
import evaluate
import export
import pytest
import train

from tfp_dvbf.experiments import protocols, tables

pytestmark = pytest.mark.usefixtures("without_graphs")


def test_the_demo_shows_its_row_the_published_ones_and_a_picture(dataset, tmp_path, capsys):
    args = demo.Args(data=str(dataset), output=str(tmp_path / "demo"), epochs=2, window=4)
    demo.main(args)
    printed = capsys.readouterr().out
    args.resume = True
    demo.main(args)
    *table, last = printed.splitlines()[-8:]
    again = capsys.readouterr().out.splitlines()
    assert again[-8:] == [*table, last]
    assert len(again) == 10  # Nothing but that it is finished, and an empty line.
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert json.loads((tmp_path / "demo" / "args.json").read_text())["window"] == 4
    assert metrics["updates"] == 2 and metrics["model"] == protocols.RECOMMENDED
    names = [line.split("|")[1].strip() for line in table[2:]]
    published = ["gaussian", "iaf", "innovation", "trajectory_iaf"]
    assert names == [f"{protocols.RECOMMENDED}, this run", *published]
    assert f" {metrics['mae_sampled']:.4f} |" in table[2]
    picture = pathlib.Path(last.removeprefix("picture: "))
    assert picture.name == "pendulum.gif" and picture.read_bytes()[:3] == b"GIF"
    progress = [line for line in printed.splitlines() if "epoch" in line]
    assert len(progress) <= 3 and max(map(len, progress)) < 80


def test_the_published_rows_are_tabulated_as_they_are():
    rows = json.loads(demo.PUBLISHED.read_text())["rows"]
    table = demo.comparison({"model": "x", "mae_sampled": 0.5})
    published = tables.format_table(
        [{name: row[name] for name in demo.COLUMNS if name in row} for row in rows]
    )
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[3:]]
    assert cells == [
        [cell.strip() for cell in line.split("|")] for line in published.splitlines()[2:]
    ]


@pytest.mark.parametrize(
    "script, options",
    [
        (train, {"output": "run", "data": "dataset"}),
        (evaluate, {"model": "none", "data": "dataset"}),
        (export, {"model": "none", "output": "run"}),
    ],
    ids=["train", "evaluate", "export"],
)
def test_a_module_is_imported_before_a_model_is_made_or_loaded(
    dataset, tmp_path, monkeypatch, script, options
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_parts.py").write_text("raise RuntimeError('these are\\nmy parts')")
    options = {name: value.replace("dataset", str(dataset)) for name, value in options.items()}
    message = "`--import` must name a module; 'my_parts' failed, RuntimeError: these are$"
    with pytest.raises(ValueError, match=message):
        script.main(script.Args(**options, import_=("my_parts",)))
    assert not (tmp_path / "run").exists()
