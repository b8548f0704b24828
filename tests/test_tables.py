from tfp_dvbf.experiments import tables


def test_medians_over_seeds():
    rows = [
        {"model": "a", "training_seed": seed, "mae_sampled": value}
        for seed, value in enumerate([0.3, 0.1, 0.2])
    ]
    rows[0]["seconds"], rows[1]["seconds"], rows[2]["seconds"] = 5.0, None, 7.0  # None: resumed.
    assert tables.medians([*rows, {"model": "b", "mae_sampled": 1.0}]) == [
        {"model": "a, median", "mae_sampled": 0.2}
    ]


def test_table():
    rows = [
        {"model": "gaussian", "mae_sampled": 0.01234567, "elbo": 512.345, "updates": 32000},
        {"model": "zeros", "mae_sampled": 0.5},
    ]
    assert tables.format_table(rows).splitlines() == [
        "| model    | sampled MAE |  elbo | updates |",
        "|----------|------------:|------:|--------:|",
        "| gaussian |      0.0123 | 512.3 |  32,000 |",
        "| zeros    |      0.5000 |       |         |",
    ]


def test_seeds_of_an_ensemble_are_no_interval():
    (row,) = tables.cells([{"model": "2 of iaf", "training_seed": [1, 2], "elbo": [5.0, 0.5]}])
    assert row == {"model": "2 of iaf", "seed": "1, 2", "elbo": "5.0 ± 0.5"}


def test_forecasts():
    scores = {"rmse": 0.4012345678, "nll": -1.234567, "coverage_90": 0.8765, "crps": 0.25}
    intervals = {name: [value - 0.1, value + 0.1] for name, value in scores.items()}
    none = {"nll_mixture": None, "coverage_50": None}
    found = {**scores, **none, "intervals": {**intervals, **dict.fromkeys(none, [None, None])}}
    run = {**found, "initial_steps": 50, "baselines": [{"model": "hold", **found}]}
    metrics = {"model": "iaf", "free_run": run, "left_out": {"one_step": "it has no density"}}
    cells = "0.401 [0.301, 0.501] | 0.25 [0.15, 0.35] | -1.23 [-1.33, -1.13] | 88 [78, 98] |"
    assert tables.forecast_table(metrics).splitlines()[2:] == [
        f"| free run from 50, iaf  | {cells}",
        f"| free run from 50, hold | {cells}",
        "one_step is left out: it has no density",
    ]
    assert "RMSE" in tables.forecast_table(metrics) and "mixture" not in tables.forecast_table(
        metrics
    )
    assert tables.forecast_table({"model": "iaf"}) == ""  # Of an earlier version.


def test_the_table_of_a_benchmark():
    rows = [
        {"seed": 1, "record": "test", "rmse": 0.3456, "coverage_90": 0.876, "seconds": 61.7}
        | {"intervals": {"rmse": [0.3, 0.4]}},
        {"seed": "published: GRU", "record": "test", "rmse": 0.401},
    ]
    lines = tables.identification_table(rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["model", "record", "RMSE", "90 % covers", "seconds"]
    assert cells[2] == ["1", "test", "0.346 [0.3, 0.4]", "88", "62"]
    assert cells[3] == ["published: GRU", "test", "0.401", "", ""]
