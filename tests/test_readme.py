"""The examples of the README and the docs run as written; the tables are the committed results."""

import importlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tfp_dvbf.experiments import command_line, latent_regression, tables
from tfp_dvbf.experiments.benchmarking import measures

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_examples(page, tmp_path, monkeypatch, request):
    """The examples of a page, in order, in one folder; only those of the README wait for XLA."""
    if page.stem != "README":
        request.getfixturevalue("without_xla")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(block, names)


def write_log(path):
    """Writes the log of the README: a tank that leaks, filled by a pump, 600 rows 1 s apart."""
    rng, level, rows = np.random.default_rng(1), 1.0, ["t,level [V],pump [V]"]
    for t in range(600):
        pump = 2.0 + np.sin(0.1 * t) + rng.uniform()
        rows.append(f"{t},{level + 0.01 * rng.normal():.4f},{pump:.4f}")
        level += 0.1 * (pump - 1.5 * np.sqrt(level))
    path.write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_script_lines(tmp_path):
    lines = re.findall(r"^python (scripts/.*)$", README, re.MULTILINE)
    assert len(lines) == 3
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    write_log(tmp_path / "pump.csv")
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True}
    run["env"] = {k: value for k, value in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    for line in [*lines, "scripts/export.py --model runs/mine --output runs/exported"]:
        command = [sys.executable, *shlex.split(line)]
        done = subprocess.run(command, **run)
        assert done.stderr == ""  # None of TensorFlow's noise.
    assert (tmp_path / "runs" / "mine.json").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_of_documented_commands_exist(page):
    pattern = r"python scripts/(\w+)\.py((?: \"[^\n\"`$]*\"|[^\n\"`$])*)"
    for script, words in re.findall(pattern, page.read_text()):
        command_line.parse(importlib.import_module(script).Args, shlex.split(words))


def test_tables_are_those_of_the_committed_results():
    """Behind its file a table may name columns and, behind a bar, models, and shows no other."""
    pattern = re.compile(r"<!-- (docs/results/\S+)(.*?) -->\n(.*?)\n<!-- end -->", re.DOTALL)
    found = [match for page in PAGES for match in pattern.findall(page.read_text())]
    assert len(found) >= 4
    for path, columns, table in found:
        rows = json.loads((ROOT / path).read_text())["rows"]
        if "r2_sin" in rows[0]:
            assert table == latent_regression.table(rows)
        elif "record" in rows[0]:
            assert table == tables.identification_table(rows)
        else:
            chosen = tables.select(rows, *(names.split() for names in columns.split("|")))
            assert table == tables.format_table(chosen)


def test_the_api_page_is_made_from_the_docstrings(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    make_api = importlib.import_module("make_api")
    assert make_api.PAGE.read_text() == make_api.page(), "run `python docs/make_api.py`"


def test_the_tables_of_the_performance_page_are_those_of_the_timings(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    make_performance = importlib.import_module("make_performance")
    text = make_performance.PAGE.read_text()
    named = [block[1] for block in make_performance.BLOCK.findall(text)]
    assert sorted(named) == sorted(measures.MEASURES)
    assert text == make_performance.page(), "run `python docs/make_performance.py`"


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([\w./-]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
