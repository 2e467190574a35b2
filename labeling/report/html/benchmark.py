"""The section on the score of a benchmark of judges."""

from __future__ import annotations

from preftree.labeling.report.benchmarks.benchmark import measures_of
from preftree.labeling.report.html.section import Figures, Section, percent
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.table import Table


def benchmark(figures: Figures, survey: Survey) -> Section:
    """Its headline figures, and each of its parts."""
    found = figures.get("benchmark")
    if not found:
        return Section("Benchmark")
    scores = Table(tuple((name, percent(value)) for name, value in found["scores"].items()))
    parts = tuple(
        (part["name"], f"{part['rows']:,}", *(percent(value) for _, value in measures_of(part)))
        for part in found["parts"]
    )
    head = ("", "rows", *(name for name, _ in measures_of(found["parts"][0])))
    missing = found["missing"]
    text = (f"Not in these labels, and left out of the averages: {', '.join(missing)}.",) if missing else ()
    return Section(found["name"], text, (scores, Table(parts, head)))
