"""sysid.py on made-up records of the shapes of the benchmarks, and what its files must hold."""

import importlib.machinery
import json
import sys
import types

import numpy as np
import pytest
import sysid

from tfp_dvbf import evaluation
from tfp_dvbf.evaluation import measures
from tfp_dvbf.experiments import identification, published_records, run_folder


def tanks(**changes):
    """Returns arrays as those of the Cascaded Tanks: a tank of first order that a pump fills."""
    rng = np.random.default_rng(1)
    arrays = {}
    for part in ["train", "test"]:
        u = np.repeat(rng.uniform(1.0, 5.0, 64), 16)
        y = np.zeros(1024)
        for t in range(1023):
            y[t + 1] = 0.95 * y[t] + 0.1 * u[t] + 0.05 * rng.normal()
        arrays |= {f"u_{part}": u, f"y_{part}": y}
    arrays |= changes
    return {name: array for name, array in arrays.items() if array is not None}


def ced():
    sizes = {"train": (2, 400), "test": (2, 100)}
    return {f"{s}_{part}": np.ones(sizes[part]) * (s == "y") for s in "uy" for part in sizes}


def silverbox():
    rng = np.random.default_rng(1)
    names = ["train", "test_multisine", "test_arrow_full", "test_arrow_no_extrapolation"]
    return {name: rng.normal(size=(300, 2)) for name in names}


def saved(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def test_records_are_pairs_in_the_unit_of_the_scores(tmp_path):
    arrays = silverbox()
    found = published_records.read("silverbox", saved(tmp_path / "mine.npz", arrays))
    assert list(found.test) == ["multisine", "arrow", "no_extrapolation"]
    y, u = found.test["arrow"]
    np.testing.assert_array_equal(y, 1000.0 * arrays["test_arrow_full"][:, 1])  # V to mV.
    np.testing.assert_array_equal(u, arrays["test_arrow_full"][:, 0])
    assert len(published_records.read("ced", saved(tmp_path / "ced.npz", ced())).train) == 2


def test_feed_through_pairs_each_control_with_its_own_step(tmp_path):
    arrays = silverbox()
    found = published_records.read("silverbox", saved(tmp_path / "mine.npz", arrays))
    log = identification.log_of(found.train, published_records.PROTOCOLS["silverbox"])
    sequences = log.sequences()
    assert sequences.num_steps == 300
    expected = arrays["train"][1:, :1].astype(np.float32)
    np.testing.assert_array_equal(sequences.controls[0], expected)


@pytest.mark.parametrize(
    "name, arrays, message",
    [
        ("boat", {}, "`benchmark` must be one of tanks, ced, silverbox; got 'boat'"),
        ("tanks", tanks(y_test=None), "must hold the array y_test"),
        ("tanks", tanks(u_train=np.ones(5)), r"`u_train` .* of shape \[1024\]; got float64 \[5\]"),
        ("tanks", tanks(u_train=np.array(["a"] * 1024)), "`u_train` .* must be numbers"),
        ("ced", tanks(), r"`y_train` .* of shape \[2, 400\]"),
        ("silverbox", tanks(), "must hold the array train"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, name, arrays, message):
    path, output = saved(tmp_path / "mine.npz", arrays), tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        published_records.read(name, path)
    with pytest.raises(
        ValueError, match="`benchmark` must be one of" if name == "boat" else message
    ):
        sysid.main(sysid.Args(benchmark=name, data=path, output=str(output)))
    assert not output.exists()


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "mine.npz").write_text("level, pump")
    for name in ["mine.npz", "no.npz"]:
        with pytest.raises(ValueError, match=f"must be an .npz file; .*{name}"):
            published_records.read("tanks", tmp_path / name)


@pytest.mark.parametrize("name", published_records.PROTOCOLS)
def test_a_model_has_the_settings_of_its_protocol(name):
    protocol = published_records.PROTOCOLS[name]
    model = identification.make_model(protocol)
    found = model.hidden_steps and tuple(model.hidden_steps)
    assert found == protocol.hidden_steps
    parts = model.state_space_model.emission, model.state_space_model.transition
    assert tuple(part.noise_floor for part in parts) == protocol.noise_floors
    assert [part.hidden_units for part in parts] == [protocol.emission_units, protocol.hidden_units]
    assert [part.activation for part in parts] == 2 * [protocol.activation]
    for name in ["linear_path", "state_bound"]:
        assert getattr(parts[1], name) == getattr(protocol, name)
    settings = identification.settings_of(protocol, seed=1)
    for name in ["epochs", "batch_size", "learning_rate"]:
        assert getattr(settings, name) == getattr(protocol, name)


def test_no_steps_are_hidden_from_a_posterior_that_has_to_see_all():
    model = identification.make_model(published_records.PROTOCOLS["ced"], "chain_iaf")
    assert model.hidden_steps is None


def check_rows(rows):
    """Of each record: the models, what needs no network, and figures that were published."""
    by_record = {"training": [], "test": []}
    for row in rows:
        by_record[row["record"]].append(row["seed"])
    *ours, left_out, hold, mean, arx = by_record["training"]
    assert ours == [1, 2, "ensemble of 2"] and left_out == "ensemble of 2, on blocks left out"
    assert (hold, mean) == ("hold", "mean") and arx.startswith("ARX, order ")
    published = [f"published: {name}" for name in ["LSTM", "polynomial NARX", "GRU"]]
    assert by_record["test"] == [*ours, hold, mean, arx, *published]


def check_pages(output):
    """The report has all pictures, and those of the runs say which part of the data was scored."""
    for name in ["training", "test"]:
        for kind in sysid.FIGURES:
            assert (output / f"{kind}_{name}.png").exists()
    page = (output / "report.html").read_text()
    assert page.count("<img") == 8 and "One-step errors of a linear model" in page
    page = (output / "seed-1" / "report.html").read_text()
    assert "Scores on the training record" in page and "test set" not in page
    page = (output / "without-0-seed-1" / "report.html").read_text()
    assert "Scores on the block left out" in page


def check_forecast(ensemble, data, expected):
    """The row of an ensemble is what its folder gives on the test record, from step 50 on."""
    protocol = published_records.PROTOCOLS["tanks"]
    record = published_records.read("tanks", data).test["test"]
    sequences = identification.log_of([record], protocol).sequences()
    loaded = run_folder.load_model(ensemble)
    found = evaluation.free_run(loaded, sequences, 50, identification.NUM_DRAWS, seed=1)
    assert found["rmse"] == pytest.approx(expected, rel=1e-5)
    # As the benchmark package calls a model: the mean of the same free run.
    y, u = record
    forecast = identification.FreeRun(loaded, protocol)(u, y[:50])
    rmse = np.sqrt(np.mean((forecast[50:] - y[50:]) ** 2))
    assert forecast.shape == (1024,) and rmse == pytest.approx(found["rmse"], rel=0.05)
    np.testing.assert_array_equal(forecast[:50], y[:50])


@pytest.mark.slow
def test_a_run_scores_every_seed_and_the_ensemble(tmp_path, monkeypatch, without_xla, capsys):
    monkeypatch.setattr(identification, "NUM_FOLDS", 2)
    output = tmp_path / "out"
    options = {"data": saved(tmp_path / "mine.npz", tanks()), "output": str(output)}
    args = sysid.Args(seeds=(1, 2), epochs=1, posterior="gaussian", verbose=0, **options)
    sysid.main(args)
    assert "ensemble of 2" in capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    check_rows(report["rows"])
    check_pages(output)
    rows = {row["seed"]: row for row in report["rows"] if row["record"] == "test"}
    assert rows["ensemble of 2"]["parameters"] == 2 * rows[1]["parameters"]
    assert rows[1]["seconds"] > 0 and report["unit"] == "V"
    check_forecast(output / "ensemble", options["data"], rows["ensemble of 2"]["rmse"])
    with pytest.raises(ValueError, match="must not exist yet without `--resume`"):
        sysid.main(args)
    sysid.main(sysid.Args(**{**vars(args), "resume": True}))
    assert json.loads((output / "report.json").read_text()) == report
    others = {"seeds": (2, 1), "cross_validate": 0, "resume": True}
    sysid.main(sysid.Args(**{**vars(args), **others}))
    members = run_folder.load_model(output / "ensemble").members
    assert [member.seed for member in members] == [2, 1]  # It is the one of the report.


class Fetched:
    """What `nonlinear_benchmarks` returns for a record."""

    def __init__(self, u, y):
        self.u, self.y = u, y


@pytest.mark.parametrize("name", ["tanks", "ced", "silverbox"])
def test_records_of_the_package_are_those_of_the_file(tmp_path, monkeypatch, name):
    arrays = {"tanks": tanks, "ced": ced, "silverbox": silverbox}[name]()

    def record(part, row=...):
        return Fetched(*(arrays[f"{signal}_{part}"][row] for signal in "uy"))

    package = types.ModuleType("nonlinear_benchmarks")
    package.__spec__ = importlib.machinery.ModuleSpec("nonlinear_benchmarks", None)
    package.Cascaded_Tanks = lambda: (record("train"), record("test"))
    package.CED = lambda: [[record(part, row) for row in [0, 1]] for part in ["train", "test"]]
    package.Silverbox = lambda: (
        Fetched(*arrays["train"].T),
        [Fetched(*arrays[key].T) for key in arrays if key != "train"],
    )
    monkeypatch.setitem(sys.modules, "nonlinear_benchmarks", package)
    found = published_records.read(name)
    expected = published_records.read(name, saved(tmp_path / "mine.npz", arrays))
    for one, other in zip(found.train, expected.train):
        np.testing.assert_array_equal(one, other)
    assert list(found.test) == list(expected.test)
    for key in found.test:
        np.testing.assert_array_equal(found.test[key], expected.test[key])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(published_records, "FETCHER", "no_such_package")
    with pytest.raises(ValueError, match=r"`--data` must name .* tfp_dvbf\[benchmarks\]"):
        published_records.read("tanks")


def test_blocks_are_pooled_step_by_step():
    """Models that are each right about their own block: an error of 1 and of 3 in all."""
    scores = [
        measures.StepScores(*np.full([6, 1, steps], value), np.full([1, steps, 1], 0.5), {})
        for value, steps in [(1.0, 5), (3.0, 6)]
    ]
    found = iter([(each, np.ones(each.nll.shape, bool)) for each in scores])
    blocks = [types.SimpleNamespace(num_steps=steps) for steps in [7, 8]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identification.forecasts, "free_run_scores", lambda *args, **kw: next(found))
        assert identification.pooled([None, None], blocks, 2)["nll"] == 2.0
