"""The section on scores of single responses."""

from __future__ import annotations

from collections.abc import Iterator

from preftree.labeling.report.html import plots
from preftree.labeling.report.html.section import Figures, Plot, Section, with_interval
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.table import Table, decimal


def scores(figures: Figures, survey: Survey) -> Section:
    """Of single responses, by a judge on a scale or by a reward model."""
    if "mean_reward" in figures:
        return _of_reward_model(figures)
    if not survey.reward.total:
        return Section("Scores")
    rows = [
        ("mean score", decimal(figures.get("mean_score"))),
        ("standard deviation", decimal(figures.get("std_score"))),
        ("mean entropy, nats", decimal(figures.get("mean_entropy"))),
        *_reward_rows(figures),
    ]
    drawn = plots.histogram("reward", survey.reward, "reward: the score from -1 to 1", "responses", 0.0)
    return Section("Scores", (), (Table(tuple(rows)),), (Plot(drawn, "1 is the preferred end of the scale."),))


def _of_reward_model(figures: Figures) -> Section:
    """Its rewards have neither a scale nor a zero, so there is nothing to draw them on."""
    rows = (
        ("responses", f"{figures['responses']:,}"),
        ("mean reward", decimal(figures["mean_reward"], "+")),
        ("standard deviation", decimal(figures["std_reward"])),
        ("correlation of reward and characters", decimal(figures["length_correlation"], "+")),
    )
    return Section("Rewards", (), (Table(rows),))


def _reward_rows(figures: Figures) -> Iterator[tuple[str, str]]:
    """Names and values for a table, of single responses, or of both of a pair."""
    for end, which in (("", ""), ("_a", " of A"), ("_b", " of B")):
        if one := figures.get(f"reward_above_0{end}"):
            yield f"rewards{which} above 0 (harmless rate)", with_interval(one["share"], one["interval"])
