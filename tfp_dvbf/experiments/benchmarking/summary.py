"""The timings as Markdown tables, ratios first."""

from tfp_dvbf.experiments import tables

# What the columns of each measure are called, in their order, and how they are written.
COLUMNS = {
    "training": {
        "program": ("program", "{}"),
        "ratio": ("ratio", "{:.2f}"),
        "milliseconds": ("ms / step", "{:.1f}"),
        "least": ("least", "{:.1f}"),
        "most": ("most", "{:.1f}"),
        "posterior": ("posterior", "{}"),
        "batch_size": ("batch", "{}"),
        "threads": ("cores", "{}"),
    },
    "quality": {
        "program": ("program", "{}"),
        "target": ("sampled MAE", "{}"),
        "ratio": ("ratio", "{:.2f}"),
        "seconds": ("seconds", "{:.1f}"),
        "reached": ("seeds that reached it", "{}"),
        "trained": ("seconds trained", "{:.1f}"),
        "threads": ("cores", "{}"),
    },
    "length": {
        "program": ("program", "{}"),
        "ratio": ("ratio", "{:.2f}"),
        "microseconds_a_time_step": ("µs / time step", "{:.0f}"),
        "milliseconds": ("ms / step", "{:.1f}"),
        "num_steps": ("T", "{:,}"),
        "posterior": ("posterior", "{}"),
        "threads": ("cores", "{}"),
    },
    "equal_work": {
        "posterior": ("posterior", "{}"),
        "num_steps": ("T", "{:,}"),
        "batch_size": ("batch", "{}"),
        "ratio": ("ratio to T = 50", "{:.2f}"),
        "milliseconds": ("ms / step", "{:.0f}"),
        "kibibytes": ("KiB / time step", "{:.0f}"),
        "threads": ("cores", "{}"),
    },
    "feeding": {
        "program": ("fed by", "{}"),
        "ratio": ("ratio", "{:.2f}"),
        "milliseconds": ("ms / step", "{:.1f}"),
        "posterior": ("posterior", "{}"),
        "batch_size": ("batch", "{}"),
        "threads": ("cores", "{}"),
    },
    "streaming": {
        "program": ("program", "{}"),
        "ratio": ("ratio", "{:.2f}"),
        "milliseconds": ("ms / step", "{:.2f}"),
        "99 % below": ("99 % below", "{:.2f}"),
        "posterior": ("posterior", "{}"),
        "size": ("streams", "{:,}"),
        "particles": ("particles", "{}"),
        "threads": ("cores", "{}"),
    },
    "sampling": {
        "program": ("program", "{}"),
        "ratio": ("ratio", "{:.2f}"),
        "milliseconds": ("ms / call", "{:.2f}"),
        "a second": ("trajectories / s", "{:,.0f}"),
        "size": ("trajectories", "{:,}"),
        "threads": ("cores", "{}"),
    },
    "starting": {"step": ("what", "{}"), "seconds": ("seconds", "{:.2f}")},
    "floor": {
        "batch_size": ("batch", "{}"),
        "threads": ("cores", "{}"),
        "milliseconds": ("floor, ms / step", "{:.1f}"),
        "recurrent": ("GFLOP in time", "{:.3f}"),
        "parallel": ("GFLOP at once", "{:.3f}"),
        "recurrent_rate": ("GFLOP/s in time", "{:.0f}"),
        "parallel_rate": ("GFLOP/s at once", "{:.0f}"),
        "bandwidth": ("GB/s", "{:.1f}"),
    },
}
COLUMNS["images"] = {k: column for k, column in COLUMNS["streaming"].items() if k != "posterior"}
GIGA = ("recurrent", "parallel", "recurrent_rate", "parallel_rate", "bandwidth")
NONE = "There are no figures of this yet."


ABOUT = {"posterior": "{}", "batch_size": "batch {}", "num_steps": "T {}", "size": "{} at once"}
ABOUT |= {"target": "sampled MAE {}", "threads": "{} core(s)"}


def line(rows):
    """Returns what rows that were measured together have in common, and the time of each."""
    first = rows[0]
    about = [
        form.format(first[key])
        for key, form in ABOUT.items()
        if key in first and all(row[key] == first[key] for row in rows)
    ]
    times = [
        f"{row.get('program', row.get('step', ''))} "
        + (
            f"{_cell('{:.2f}', row['seconds'])} s"
            if "seconds" in row
            else f"{row['milliseconds']:.1f} ms"
        )
        for row in rows
    ]
    return f"{first['what']}, {', '.join(about)}: {', '.join(text.strip() for text in times)}"


def table(rows, what):
    """Returns the rows of one measure as a Markdown table, a line of text if there are none."""
    chosen = [row for row in rows if row["what"] == what]
    if not chosen:
        return NONE
    return tables.markdown(
        [
            {
                head: _cell(form, row[key] / 1e9 if key in GIGA else row[key])
                for key, (head, form) in COLUMNS[what].items()
            }
            for row in chosen
        ]
    )


def _cell(form, value):
    """Returns a value as text, a dash if there is none."""
    return "-" if value is None else form.format(value)
