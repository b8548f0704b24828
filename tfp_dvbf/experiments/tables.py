"""Tables of results: columns, medians and intervals over seeds, Markdown."""

import statistics

import numpy as np

COLUMNS = {
    "model": "model",
    "training_seed": "seed",
    "seeds": "seeds",
    "mae_sampled": "sampled MAE",
    "mae_mean": "mean MAE",
    "reconstruction_mae": "reconstr. MAE",
    "elbo": "elbo",
    "iwae_64": "iwae 64",
    "fivo_64": "fivo 64",
    "kl_per_step": "KL / step",
    "lowest_kl": "lowest KL",
    "parameters": "parameters",
    "updates": "updates",
    "seconds": "seconds",
    "training_ms": "ms / update",
    "sampling_ms": "ms / 128 draws",
}
FORMATS = {
    "elbo": "{:.1f}",
    "iwae_64": "{:.1f}",
    "fivo_64": "{:.1f}",
    "kl_per_step": "{:.2f}",
    "lowest_kl": "{:.1f}",
    "parameters": "{:,.0f}",
    "updates": "{:,.0f}",
    "seconds": "{:.0f}",
    "training_ms": "{:.1f}",
    "sampling_ms": "{:.1f}",
}
SCORES = {  # Head, format and what 1 is in its unit.
    "rmse": ("RMSE", "{:.3g}", 1),
    "crps": ("CRPS", "{:.3g}", 1),
    "nll": ("NLL / step", "{:.2f}", 1),
    "nll_mixture": ("mixture NLL", "{:.2f}", 1),
    "coverage_50": ("50 % covers", "{:.0f}", 100),
    "coverage_90": ("90 % covers", "{:.0f}", 100),
}


def medians(rows):
    """Returns a row with the median over seeds for each model that has several."""
    names = dict.fromkeys(row["model"] for row in rows)
    groups = {name: [row for row in rows if row["model"] == name] for name in names}
    return [
        {
            "model": f"{name}, median",
            **{
                key: statistics.median(row[key] for row in group)
                for key in COLUMNS
                if key not in ("model", "training_seed")
                and all(row.get(key) is not None for row in group)
            },
        }
        for name, group in groups.items()
        if len(group) > 1
    ]


def summary(name, rows, confidence=0.95):
    """Returns one row for the runs of one model with several seeds.

    What varies between them becomes a pair: the mean and half the width of Student's interval
    for it.
    """
    import scipy.stats  # Here, since it takes a second, and `--help` imports this module.

    measured = ["mae_sampled", "mae_mean", "elbo", "iwae_64", "kl_per_step"]
    common = {key: rows[0][key] for key in ["parameters", "updates"]}
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    quantile = scipy.stats.t.ppf(0.5 + confidence / 2, len(rows) - 1)
    intervals = {}
    for key in [key for key in measured if key in rows[0]]:
        values = [row[key] for row in rows]
        half = quantile * np.std(values, ddof=1) / np.sqrt(len(values)) if len(rows) > 1 else None
        intervals[key] = [float(np.mean(values)), half if half is None else float(half)]
    seconds = float(np.median(seconds)) if seconds else None
    return {"model": name, "seeds": len(rows), **intervals, **common, "seconds": seconds}


def format_table(rows):
    """Returns rows as an aligned Markdown table of the `COLUMNS` that any of them has."""
    found = cells(rows)
    return _align([list(found[0]), *(list(row.values()) for row in found)])


def cells(rows):
    """Returns rows as cells by the heads of the `COLUMNS` that any of them has."""
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    return [{COLUMNS[key]: _format(key, row.get(key)) for key in keys} for row in rows]


def forecast_table(metrics):
    """Returns the rows of `forecast_rows` as a table; what was left out follows with the reason."""
    rows = forecast_rows(metrics)
    reasons = [f"{name} is left out: {why}" for name, why in metrics.get("left_out", {}).items()]
    return "\n".join([markdown(rows), *reasons] if rows else reasons)


def forecast_rows(metrics):
    """Returns cells of the free run, its baselines and one step ahead, `metrics` of `evaluate`.

    Each figure stands before its 95 % interval.
    """
    run, one_step = metrics.get("free_run"), metrics.get("one_step")
    rows = []
    if run:
        given = f"free run from {run['initial_steps']}"
        rows.append({"forecast": f"{given}, {metrics['model']}", **scores(run)})
        for row in run.get("baselines", []):
            rows.append({"forecast": f"{given}, {row['model']}", **scores(row)})
    if one_step:
        rows.append({"forecast": f"one step ahead, {metrics['model']}", **scores(one_step)})
    return rows


def identification_table(rows):
    """Returns the rows of `sysid.py` as a table: a model and a record each, and its scores."""
    return markdown(identification_rows(rows))


def identification_rows(rows):
    """Returns the rows of `sysid.py` as cells by the heads of columns."""
    return [
        {"model": row["seed"], "record": row["record"], **scores(row)}
        | {"seconds": f"{row['seconds']:.0f}" if row.get("seconds") else ""}
        for row in rows
    ]


def scores(found):
    """Returns the scores of a forecast that there are, as cells by the heads of columns.

    Each stands before its 95 % interval, if `found` has `intervals`.
    """
    cells = {}
    for key, (head, pattern, unit) in SCORES.items():
        if found.get(key) is None:
            continue
        cells[head] = pattern.format(unit * found[key])
        low, high = found.get("intervals", {}).get(key, (None, None))
        if low is not None:
            cells[head] += f" [{pattern.format(unit * low)}, {pattern.format(unit * high)}]"
    return cells


def select(rows, columns=(), names=()):
    """Returns the rows of the models in `names` with some of their columns; of all if empty."""
    rows = [row for row in rows if not names or row["model"] in names]
    return [{key: row[key] for key in row if not columns or key in columns} for row in rows]


def markdown(rows):
    """Returns rows of any keys as an aligned Markdown table, less the columns that are empty."""
    keys = dict.fromkeys(
        key for row in rows for key, value in row.items() if value not in ("", None)
    )
    cells = [[_plain(row.get(key)) for key in keys] for row in rows]
    return _align([list(keys), *cells])


def _plain(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _align(cells):
    """Returns rows of strings, the header first, as an aligned Markdown table."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in cells
    ]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _format(key, value):
    if value is None:
        return ""
    if key == "training_seed" and isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))  # Of the members of an ensemble.
    if isinstance(value, (list, tuple)):
        return " ± ".join(_format(key, part) for part in value if part is not None)
    if isinstance(value, float):
        return FORMATS.get(key, "{:.4f}").format(value)
    return FORMATS.get(key, "{}").format(value)
