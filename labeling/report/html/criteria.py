"""The section on the criteria of rubrics."""

from __future__ import annotations

from typing import Any

from preftree.labeling.report.html.section import Figures, Section, percent
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.table import Table, decimal
from preftree.labeling.terminal import count

_HEAD = ("criterion", "weight", "responses", "mean P(yes)", "yes", "label mass", "with gold")


def criteria(figures: Figures, survey: Survey) -> Section:
    """Each criterion, and all together."""
    if not figures.get("all_criteria"):
        return Section("Criteria")
    named = [(one["name"], one) for one in figures["criteria"]]
    said = [
        "Yes: P(yes) above 0.5. With gold: pairs whose better response meets the criterion more, or has the fault less."
    ]
    if rows := figures["unweighted"]:
        said.append(f"The rubrics of {count(rows, 'row')} have no weights: each criterion counts 1.")
    table = Table(tuple(_row(name, one) for name, one in (*named, ("all", figures["all_criteria"]))), _HEAD)
    return Section("Criteria", tuple(said), (table,))


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    weight = "–" if one["weight"] is None else f"{one['weight']:g}"
    mean, mass = decimal(one["mean_p_yes"]), decimal(one["mean_label_mass"])
    return name, weight, f"{one['responses']:,}", mean, percent(one["met"]), mass, percent(one["agreement"])
