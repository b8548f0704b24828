"""report.html: one well-formed file, all of whose figures are inside and whose text is escaped."""

import re
import xml.etree.ElementTree

import models
import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf.data import alignment
from tfp_dvbf.experiments import forecast_plots, html_page, html_report, plots, recipe
from tfp_dvbf.experiments.options import Settings

pytestmark = pytest.mark.usefixtures("without_graphs")

Z = [f"z[{index}]" for index in range(2)]
XHTML = "{http://www.w3.org/1999/xhtml}"


def parsed(text):
    """Returns the root of a page; fails unless every tag is closed and every character escaped."""
    doctype, page = text.split("\n", 1)
    assert doctype == "<!DOCTYPE html>"
    return xml.etree.ElementTree.fromstring(page)


def check_alone(root):
    """Nothing is fetched from elsewhere: no script, no link, and figures that are data."""
    for element in root.iter():
        assert element.tag.removeprefix(XHTML) not in ("script", "link", "iframe", "object")
        for name, value in element.attrib.items():
            if name in ("src", "href"):
                assert value.startswith("data:image/png;base64,")
    assert "@import" not in html_page.STYLE and "url(" not in html_page.STYLE


def test_a_page_escapes_what_it_is_given(tmp_path):
    figure, axis = plots.plt.subplots()
    axis.plot([1, 2])
    plots.save(figure, tmp_path / "figure.png")
    ugly = "<b>&\"'</b> θ \u2028 </style>"
    page = html_page.Page(ugly)
    page.section(ugly)
    page.paragraph(ugly)
    page.note(ugly)
    page.facts({ugly: ugly})
    page.table([{"a": ugly}, {"b": 1}])
    page.figure(tmp_path / "figure.png", ugly)
    root = parsed(page.render())
    check_alone(root)
    texts = [text for text in root.itertext() if text.strip()]
    assert texts.count(ugly) == 9  # Title, head, section, 2 paragraphs, 2 facts, a cell, a caption.
    assert next(root.iter(f"{XHTML}img")).attrib["alt"] == ugly
    rows = [[cell.text or "" for cell in row] for row in root.iter(f"{XHTML}tr")]
    assert rows == [[ugly, ugly], ["a", "b"], [ugly, ""], ["", "1"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the page of a run on sequences of which steps are missing, its folder and metrics."""
    sequences = models.pendulum()
    mask = np.ones([12, 8], bool)
    mask[0, 3:5] = False
    sequences = type(sequences)(
        sequences.observations, sequences.controls, spec=sequences.spec, mask=mask
    )
    folder = tmp_path_factory.mktemp("run") / "run & <figures>"
    settings = Settings(epochs=2, batch_size=6, kl_annealing_epochs=1, num_samples=2, verbose=0)
    model = models.small_model("innovation")
    metrics = recipe.train(model, (sequences, sequences, sequences), folder, settings)
    return (folder / html_report.PAGE).read_text(), folder, metrics


def test_a_run_leaves_a_report(run):
    text, folder, metrics = run
    root = parsed(text)
    check_alone(root)
    heads = [element.text for element in root.iter(f"{XHTML}h2")]
    assert heads == [
        *["Data", "Scores on the test set", "Forecasts", "Latent dimensions", "Training"],
        *["Model", "Arguments", "Versions"],
    ]
    drawn = {path.name for path in (folder / "figures").glob("*.png")}
    assert {"free_run.png", "by_horizon.png", "calibration.png", "loss.png"} <= drawn
    assert len(list(root.iter(f"{XHTML}img"))) == len(drawn - {"mae_by_horizon.png"})
    assert f"{metrics['free_run']['rmse']:.3g}" in text
    for name in [
        "hold",
        "mean",
        "posterior.hidden_units",
        "epochs",
        "learning_rate",
        "12 sequences",
        tfp_dvbf.__version__,
    ]:
        assert name in text
    assert not list(folder.glob("*.partial"))
    rows = [[cell.text or "" for cell in row] for row in root.iter(f"{XHTML}tr")]
    noise = metrics["active_units"]["noise"]
    assert [f"{value:.3f}" for value in noise] == [row[2] for row in rows if row[0] in Z]
    scored = [row[0] for row in rows if row[0].isdigit()]
    assert scored == [str(horizon) for horizon in range(1, 8)]


def test_numbers_are_short(run):
    visible = re.sub(r"base64,[^\"]+|[0-9a-f]{64}", "", run[0])
    assert not re.findall(r"\d\.\d{6,}", visible)


def test_a_comparison_is_a_table_with_its_figures(run, tmp_path):
    figure = run[1] / "figures" / "loss.png"
    rows = [{"model": "1", "RMSE": "0.3"}, {"model": "published: GRU"}]
    arguments = {"seeds": (1, 2), "data": "a & b.npz", "rate": 0.123456789}
    html_report.write_table(tmp_path / "r.html", "tanks", rows, {figure: "Loss."}, arguments)
    text = (tmp_path / "r.html").read_text()
    check_alone(parsed(text))
    assert all(
        part in text for part in ["published: GRU", "a &amp; b.npz", "1, 2", "0.1235", "Loss."]
    )


def test_a_model_without_a_free_run_spec_or_optimizer_has_a_report(run, tmp_path):
    folder, metrics = run[1:]
    for name in ["args.json", "history.csv"]:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    left_out = {"free_run": "1 < 2 & 3"}
    metrics = {**metrics, "data": None, "updates": None, "left_out": left_out}
    del metrics["free_run"], metrics["one_step"]
    html_report.write_run(None, tmp_path, models.pendulum(), metrics)
    text = (tmp_path / "report.html").read_text()
    assert not list(parsed(text).iter(f"{XHTML}img")) and "1 &lt; 2 &amp; 3" in text


def test_many_horizons_are_thinned():
    run = {"by_horizon": {"rmse": list(range(974)), "coverage_90": [None] * 974}}
    rows = html_report.horizon_rows(run)
    assert len(rows) == 20 and rows[0] == {"horizon": 1, "RMSE": "0"}
    assert rows[-1] == {"horizon": 974, "RMSE": "973"}
    run = {"by_horizon": {"rmse": [0.5, None, 0.25]}}
    assert [row["horizon"] for row in html_report.horizon_rows(run)] == [1, 2, 3]


def metrics_of(coverage=(0.88, 0.92), rmse=1.0, dead=()):
    run = {"rmse": rmse, "coverage_90": np.mean(coverage), "intervals": {"coverage_90": coverage}}
    run["baselines"] = [{"model": "hold", "rmse": 0.7}, {"model": "ARX, order 2", "rmse": 0.6}]
    return {"free_run": run, "active_units": {"noise": [0.0, 0.0], "dead": list(dead)}}


def test_notes_say_what_speaks_against_a_run():
    assert html_report.notes(metrics_of(rmse=0.5), alignment.Alignment(0, {})) == []
    assert html_report.notes({}) == [] == html_report.notes(metrics_of(rmse=None))
    narrow, worse = html_report.notes(metrics_of((0.5, 0.6)))
    assert "too narrow: they cover 55 % of the observations, 95 % interval 50 to 60 %" in narrow
    assert worse.startswith("ARX, order 2, which") and worse.endswith("0.6 against 1.")
    dead, late = html_report.notes(metrics_of(rmse=0.5, dead=[0]), alignment.Alignment(1, {}))
    assert "z[0]" in dead and late == html_report.ALIGNED[1]


@pytest.mark.parametrize(
    "found, undecided",
    [
        (alignment.Alignment(0, {-1: 1.05, 0: 1.0, 1: 1.09}), True),
        (alignment.Alignment(0, {-1: 1.2, 0: 1.0, 1: 1.01}), True),
        (alignment.Alignment(0, {-1: 1.2, 0: 1.0, 1: 1.11}), False),
        (alignment.Alignment(1, {-1: 1.0, 0: 1.0, 1: 1.0}), False),
        (alignment.Alignment(None, {}), False),
    ],
)
def test_near_errors_are_no_verdict(found, undecided):
    said = html_report.verdict(found)
    assert said.startswith(html_report.ALIGNED[found.shift])
    assert said.endswith("these data cannot tell which one is right.") == undecided


def test_the_axis_of_the_error_bears_an_unstable_baseline(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    by_horizon = {name: np.ones(5) for name in ["rmse", "coverage_50", "coverage_90"]}
    rows = {"hold": 2.0, "ARX, order 1": 1e6}
    baselines = [
        {"model": name, "by_horizon": {"rmse": [None, *[value] * 4]}}
        for name, value in rows.items()
    ]
    run = {"initial_steps": 1, "by_horizon": by_horizon, "baselines": baselines}
    forecast_plots.by_horizon(tmp_path / "a.png", run, "iaf")
    assert figures[0].axes[0].get_ylim() == pytest.approx((0.0, 2.2))


def test_coverage_is_averaged_over_parts_of_a_long_horizon(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    steps = 1000
    by_horizon = {"rmse": np.ones(steps), "coverage_50": np.zeros(steps)}
    by_horizon["coverage_90"] = np.arange(steps) % 2
    run = {"initial_steps": 5, "by_horizon": by_horizon, "baselines": []}
    forecast_plots.by_horizon(tmp_path / "a.png", run, "iaf", {"time_step": 0.5})
    line = figures[0].axes[1].lines[0]
    np.testing.assert_allclose(line.get_ydata(), 50.0)
    assert len(line.get_xdata()) == forecast_plots.MAX_PARTS
    assert line.get_xdata()[0] == pytest.approx(0.5 * (5 + 24.5))
