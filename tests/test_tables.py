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
