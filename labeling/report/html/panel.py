"""The section on a panel's judges."""

from __future__ import annotations

from preftree.labeling.report.html import plots
from preftree.labeling.report.html.section import Figures, Plot, Section, percent, with_interval
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.table import Table, decimal

_SHOWN = 30


def panel(figures: Figures, survey: Survey) -> Section:
    """Judges against gold, and each against each."""
    judges, both = figures.get("judges"), figures.get("between_judges")
    if not judges or both is None:
        return Section("Judges")
    tables = []
    if known := [one for one in judges if one["gold_pairs"]]:
        rows = tuple(
            (
                one["name"],
                f"{one['gold_pairs']:,}",
                with_interval(one["agreement"], one["agreement_interval"]),
                decimal(one["calibration"]["expected_calibration_error"]),
            )
            for one in known
        )
        tables.append(Table(rows, ("judge", "pairs with gold", "agree (95% interval)", "expected calibration error")))
    pairs = tuple(
        (" and ".join(one["judges"]), f"{one['pairs']:,}", percent(one["agreement"]), decimal(one["kappa"]))
        for one in both[:_SHOWN]
    )
    tables.append(Table(pairs, ("judges", "pairs", "the same verdict", "Cohen's kappa")))
    names = [one["name"] for one in judges][:_SHOWN]
    values = {tuple(one["judges"]): one["kappa"] for one in both}
    matrix = [[1.0 if a == b else values.get((a, b), values.get((b, a))) for b in names] for a in names]
    caption = "Cohen's kappa of the verdicts of each two judges: 0 is what chance would give."
    drawn = Plot(plots.heat_map("judges", names, matrix, "Cohen's kappa of each two judges"), caption)
    mean = figures.get("mean_disagreement")
    text = "Disagreement is 0 bits where all judges say the same, and up to 1: the column disagreement has it by row."
    mean = figures.get("mean_disagreement")
    return Section("Judges", () if mean is None else (f"{text} Its mean is {mean:.3f}.",), tuple(tables), (drawn,))
