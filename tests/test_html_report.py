"""The HTML report: well formed, whole in one file, escaped, rounded, and true to the metrics."""

import base64
import html.parser
import re

import models
import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf import evaluation
from tfp_dvbf.data import alignment
from tfp_dvbf.experiments import html_page, html_report, run_folder

VOID = {"img", "meta"}
HOSTILE = "runs/<script>alert('&')</script>"
HISTORY = "epoch,kl,loss,nll,val_kl,val_loss,val_nll\n" + "".join(
    f"{epoch},{3.0 + epoch},{2.0 - epoch},{1.0},{3.0},{2.5 - epoch},{1.5}\n" for epoch in range(3)
)


class Reader(html.parser.HTMLParser):
    """Reads a page: its tags must balance; keeps the attributes of each and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"{self.open} are left open"

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, words):
        if self.open and self.open[-1] != "style":
            self.words.append(words)

    def all(self, name):
        """Returns the attributes of each element of that name."""
        return [attributes for tag, attributes in self.found if tag == name]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def check_whole(reader):
    """Asserts that the page fetches nothing, and that each picture has text beside it."""
    tags = {tag for tag, _ in reader.found}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base"}
    for _, attributes in reader.found:
        for name in {"src", "href", "srcset", "data", "style", "action"} & set(attributes):
            value = attributes[name]
            assert value.startswith("data:image/") or re.fullmatch(r"[\w-]+/report\.html", value)
    for picture in reader.all("img"):
        assert len(picture["alt"]) > 10
        content = base64.b64decode(picture["src"].split(",")[1], validate=True)
        assert b"<svg" in content or content[:4] in (b"\x89PNG", b"GIF8")
    assert tags >= {"title", "h1"} and reader.all("html")[0]["lang"] == "en"
    captions = sum(tag == "figcaption" for tag, _ in reader.found)
    assert captions == len(reader.all("img"))


def test_a_page_escapes_what_it_is_given(tmp_path):
    page = html_page.Page(HOSTILE)
    page.section("<h1>")
    page.note("a < b & c")
    page.table([{"<head>": "<td>", "x": 0.123456}, {"<head>": None, "x": [1, 2.0]}], "</table>")
    page.details("<pre>", "</pre>\n  as it is")
    page.link("run&1/report.html", "</a>")
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    reader = Reader(text)
    assert not reader.all("script") and "<script>" not in text
    for words in [HOSTILE, "<h1>", "a < b & c", "</table>", "<head> x", "<td> 0.1235", "1, 2"]:
        assert words in reader.text
    assert "</pre>\n  as it is" in reader.words
    assert reader.all("a") == [{"href": "run&1/report.html"}]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_columns_without_a_value_are_left_out():
    page = html_page.Page("title")
    page.table([{"a": 1, "empty": ""}, {"a": 2, "b": 3}], "caption")
    assert "empty" not in page.to_html()
    assert "a b 1 2 3" in Reader(page.to_html()).text


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.000123456, "0.0001235"),
        (np.float32(2.0), "2"),
        (123456, "123456"),
        (True, "yes"),
        (None, ""),
        ((1, 2.34567), "1, 2.346"),
        ("text", "text"),
    ],
)
def test_values_are_shown_with_four_digits(value, expected):
    assert html_page.shown(value) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder with a report of an untrained model, whose arguments are hostile."""
    folder = tmp_path_factory.mktemp("runs") / "a run & <another>"
    folder.mkdir()
    (folder / "history.csv").write_text(HISTORY)
    config = {"data": HOSTILE, "epochs": 3, "learning_rate": 0.0041234567, "model": {"<a>": 1}}
    run_folder.write_json(folder / "args.json", config)
    model, sequences = models.cached_model(adapt=True), models.pendulum()
    metrics = evaluation.report(model, sequences, num_samples=2, train=sequences)
    metrics["active_units"]["dead"] = [1]
    run_folder.write_json(folder / "metrics.json", metrics)
    html_report.write_run(folder, model, metrics, sequences, sequences)
    return folder


@pytest.fixture(scope="module")
def reader(folder):
    return Reader((folder / "report.html").read_text())


def test_the_report_is_one_file(reader):
    check_whole(reader)
    assert len(reader.all("img")) == 4 and reader.all("meta")[1]["name"] == "viewport"


def test_the_report_shows_the_metrics(reader, folder):
    metrics = run_folder.read_json(folder / "metrics.json")
    for section in [
        *["Scores", "Free run", "By horizon", "Calibration", "Learning curves"],
        *["Latent dimensions", "Data", "How it was made"],
    ]:
        assert section in reader.text
    for row in [metrics["free_run"], *metrics["free_run"]["baselines"], metrics["one_step"]]:
        assert f"{row['rmse']:.3g}" in reader.words or any(
            words.startswith(f"{row['rmse']:.3g}\n[") for words in reader.words
        )
    for name in ["hold", "mean", "ARX, order 1", "true simulator", "zeros"]:
        assert name in reader.text
    assert "No verdict: without controls" in reader.text  # 12 x 8 steps are too few.
    assert "1 of 2 latent dimensions have collapsed, z[1]" in reader.text
    assert (
        tfp_dvbf.__version__ in reader.text and "12 test sequences of 8 time steps" in reader.text
    )


def test_arguments_are_escaped_and_numbers_rounded(reader, folder):
    assert f"data {HOSTILE}" in reader.text and "a run & <another>" in reader.text
    assert "learning_rate 0.004123" in reader.text
    about = reader.text.split("How it was made")[0]
    long = [number for number in re.findall(r"\d*\.\d+", about) if len(number.strip("0.")) > 6]
    assert not long


def test_many_horizons_are_thinned():
    run = {"by_horizon": {"rmse": list(range(974)), "coverage_90": [None] * 974}}
    rows = html_report.horizon_rows(run)
    assert (
        len(rows) == 20
        and rows[0]["horizon"] == 1
        and rows[-1]
        == {
            "horizon": 974,
            "RMSE": "973",
        }
    )
    run["by_horizon"] = {"rmse": [0.5, None, 0.25]}
    assert [row["horizon"] for row in html_report.horizon_rows(run)] == [1, 2, 3]


def metrics_of(coverage=(0.88, 0.92), rmse=1.0, dead=()):
    run = {"rmse": rmse, "coverage_90": np.mean(coverage), "intervals": {"coverage_90": coverage}}
    run["baselines"] = [{"model": "hold", "rmse": 0.7}, {"model": "ARX, order 2", "rmse": 0.6}]
    return {"free_run": run, "active_units": {"noise": [0.0, 0.0], "dead": list(dead)}}


def test_notes_say_what_speaks_against_a_run():
    assert html_report.notes(metrics_of(rmse=0.5), alignment.Alignment(0, {})) == []
    assert html_report.notes({}) == []
    narrow, worse = html_report.notes(metrics_of((0.5, 0.6)))
    assert "cover 55 %" in narrow and "too narrow" in narrow
    assert "“ARX, order 2” has a lower RMSE in free run, 0.6 to 1." in worse
    dead, late = html_report.notes(metrics_of(rmse=0.5, dead=[0]), alignment.Alignment(1, {}))
    assert "z[0]" in dead and "`control_lead=1`" in late
    assert html_report.notes(metrics_of(rmse=None)) == []


def test_a_report_without_a_free_run_and_without_training_data(tmp_path):
    model, sequences = models.cached_model(adapt=True), models.pendulum()
    (tmp_path / "history.csv").write_text(HISTORY)
    run_folder.write_json(tmp_path / "args.json", {})
    metrics = {"left_out": {"free_run": "a reason & more"}, "baselines": [], "model": "gaussian"}
    metrics |= dict.fromkeys(["updates", "seconds"])
    metrics |= {"parameters": 10, "num_sequences": 1, "num_steps": 8, "mae_sampled": 0.123456}
    reader = Reader(html_report.write_run(tmp_path, model, metrics, sequences).read_text())
    check_whole(reader)
    assert "free_run is left out: a reason & more" in reader.text and len(reader.all("img")) == 1
    assert "Control alignment" not in reader.text and "1 test sequence of" in reader.text


def test_a_comparison_links_its_runs(tmp_path, folder):
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "report.html").write_text("")
    figure = tmp_path / "free_run.svg"
    figure.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    rows, config = [{"model": "<a>", "RMSE": 0.25}], {"seeds": (1,)}
    arguments = "A & B", rows, "caption", {"a figure of it": figure}, config
    reader = Reader(html_report.write_comparison(tmp_path, *arguments).read_text())
    check_whole(reader)
    assert reader.all("a") == [{"href": "seed-1/report.html"}]
    assert "<a> 0.25" in reader.text and "seeds 1" in reader.text
