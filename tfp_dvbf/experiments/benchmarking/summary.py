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
    "length": {
        "program": ("program", "{}"),
        "ratio": ("ratio", "{:.2f}"),
        "microseconds_a_time_step": ("µs / time step", "{:.0f}"),
        "milliseconds": ("ms / step", "{:.1f}"),
        "num_steps": ("T", "{:,}"),
        "posterior": ("posterior", "{}"),
        "threads": ("cores", "{}"),
    },
    "streaming": {
        "streams": ("streams", "{:,}"),
        "milliseconds": ("ms / step", "{:.2f}"),
        "99 % below": ("99 % below", "{:.2f}"),
        "particles": ("particles", "{}"),
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
GIGA = ("recurrent", "parallel", "recurrent_rate", "parallel_rate", "bandwidth")
NONE = "There are no figures of this yet."


def table(rows, what):
    """Returns the rows of one measure as a Markdown table, a line of text if there are none."""
    chosen = [row for row in rows if row["what"] == what]
    if not chosen:
        return NONE
    return tables.markdown(
        [
            {
                head: form.format(row[key] / 1e9 if key in GIGA else row[key])
                for key, (head, form) in COLUMNS[what].items()
            }
            for row in chosen
        ]
    )
