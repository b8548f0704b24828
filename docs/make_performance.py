"""Writes the tables of docs/performance.md from the timings: `python docs/make_performance.py`."""

import json
import pathlib
import re

from tfp_dvbf.experiments.benchmarking import summary

PAGE = pathlib.Path(__file__).parent / "performance.md"
TIMINGS = PAGE.parent / "results" / "benchmark.json"
BLOCK = re.compile(r"(<!-- benchmark (\w+) -->\n).*?(<!-- end benchmark -->)", re.DOTALL)


def page():
    """Returns the text of the page with the tables of the timings."""
    rows = json.loads(TIMINGS.read_text()).get("rows", [])

    def filled(match):
        return f"{match[1]}{summary.table(rows, match[2])}\n{match[3]}"

    return BLOCK.sub(filled, PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
