"""The sections of a report with numbers and plots. One whose columns are missing is empty, and is left out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from preftree.labeling.report.findings import LOW_MASS
from preftree.labeling.report.html import plots
from preftree.labeling.report.html.benchmark import benchmark
from preftree.labeling.report.html.criteria import criteria
from preftree.labeling.report.html.panel import panel
from preftree.labeling.report.html.probes import probes
from preftree.labeling.report.html.scores import scores
from preftree.labeling.report.html.section import Figures, Plot, Section, percent, with_interval
from preftree.labeling.report.html.survey import LONGER_BY, Survey
from preftree.labeling.report.html.tallies import Directions, Share
from preftree.labeling.report.html.win_rates import win_rate
from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.report.table import Table, decimal
from preftree.labeling.terminal import count

_BARS = 30
_COIN = "The dashed line is a coin."
_SHORT = {"all pairs with gold": "all", "both orders prefer the same response": "same response"}


def sections(figures: Figures, survey: Survey) -> list[Section]:
    """Those that have something to show. figures: of `preftree.labeling.report`, by name."""
    of_judge = (agreement, calibration, probabilities, position, mass, lengths)
    parts = (benchmark, *of_judge, panel, probes, win_rate, principles, scores, criteria, ranking, subsets)
    return [section for part in parts if not (section := part(figures, survey)).is_empty]


def agreement(figures: Figures, survey: Survey) -> Section:
    """With gold, and of those pairs alone whose orders agree."""
    named = (("all pairs with gold", survey.agreement), ("both orders prefer the same response", survey.agreement_same))
    known = [(name, one.trials, one.successes / one.trials, _interval(one)) for name, one in named if one.trials]
    if not known:
        return Section("Agreement with gold")
    rows = tuple((name, f"{pairs:,}", with_interval(share, span)) for name, pairs, share, span in known)
    ties = figures.get("gold_ties")
    drawn = plots.shares(
        "agreement", [(_SHORT[name], share, span) for name, _, share, span in known], "agreement with gold"
    )
    return Section(
        "Agreement with gold",
        (f"{count(ties, 'tie')} counted half.",) if ties else (),
        (Table(rows, ("", "pairs", "agree (95% interval)")),),
        (Plot(drawn, _COIN),),
    )


def calibration(figures: Figures, survey: Survey) -> Section:
    """Folded: confidence against correctness; of the labels, or under each set."""
    tables, drawn = [], []
    found = [("", figures.get("calibration")), ("before calibration", figures.get("uncalibrated"))]
    found += [(one["name"], (one.get("pairs") or {}).get("calibration")) for one in figures.get("sets", ())]
    for number, (name, one) in enumerate(found):
        if not one or "correct" not in one["bins"][0]:
            continue
        values = (f"{one['pairs']:,}", decimal(one["expected_calibration_error"]), decimal(one["brier"]))
        tables.append((name or "all", *values))
        caption = "Points on the dashed line are as often right as they are confident; lines are 95% intervals."
        drawn.append(
            Plot(plots.reliability(f"reliability-{number}", one["bins"]), f"{name}: {caption}" if name else caption)
        )
    if not tables:
        return Section("Calibration")
    text = "Confidence is the larger of p and 1 - p; a verdict is correct where gold says the same."
    head = ("", "pairs", "expected calibration error", "Brier score")
    return Section("Calibration", (text,), (Table(tuple(tables), head),), tuple(drawn))


def probabilities(figures: Figures, survey: Survey) -> Section:
    """Histograms of p and of the position gap."""
    drawn = []
    if survey.p.total:
        svg = plots.histogram("p", survey.p, "p: probability that A is better", _unit(survey.p.total, survey), 0.5)
        drawn.append(Plot(svg, "Both orders together, before they are made a verdict."))
    if survey.gap.total:
        svg = plots.histogram("gap", survey.gap, "position gap", _unit(survey.gap.total, survey), 0.0)
        drawn.append(Plot(svg, "p with A shown first less p with B shown first: above 0 leans to the first."))
    return Section("Probabilities", plots=tuple(drawn))


def position(figures: Figures, survey: Survey) -> Section:
    """Bias by direction."""
    if not survey.gap.total:
        return Section("Position bias")
    named = list(survey.directions.items())[: _BARS + 1]
    rows = tuple((name or "all", *_of_directions(counts)) for name, counts in named)
    head = ("", "judgements", "first", "same response", "second")
    kept = percent(_kept(survey.directions[""]))
    text = [f"In {kept} of judgements the preferred position is the same in both orders."]
    if (mean := figures.get("mean_gap")) is not None:
        text.append(f"Position gap: mean {mean:+.3f}, mean size {decimal(figures.get('mean_absolute_gap'))}.")
    caption = "What both orders prefer: the response shown first, the same one, or that shown second."
    drawn = Plot(plots.directions("directions", named), caption)
    return Section("Position bias", tuple(text), (Table(rows, head),), (drawn,))


def mass(figures: Figures, survey: Survey) -> Section:
    """How much probability the labels had at all."""
    if not survey.mass.total:
        return Section("Label mass")
    text = ["Probability of any label at all; where it is small, the model wanted to say something else."]
    if (mean := figures.get("mean_label_mass")) is not None:
        low = figures.get("low_mass", 0)
        text.append(f"Mean {mean:.3f}; {low:,} under {LOW_MASS} in a prompt.")
    drawn = plots.histogram("mass", survey.mass, "smallest label mass of a row", "rows", LOW_MASS)
    return Section(
        "Label mass",
        tuple(text),
        plots=(Plot(drawn, "The dashed line is where the labels have half of the probability."),),
    )


def lengths(figures: Figures, survey: Survey) -> Section:
    """Whether longer responses win."""
    found = figures.get("length_bias")
    rows = []
    if found:
        rows = [
            ("verdicts for the longer response", with_interval(found["chose_longer"], found["chose_longer_interval"])),
            ("gold for the longer response", percent(found.get("gold_chose_longer"))),
            ("chosen minus other, mean", f"{found['mean_chosen_minus_other']:+,.0f} characters"),
            ("correlation of length and p", decimal(found.get("correlation"), "+")),
        ]
    ends = [f"up to {high:.0%}" if not low else f"{low:.0%} to {high:.0%}" for low, high in pairwise(LONGER_BY)]
    ends.append(f"over {LONGER_BY[-1]:.0%}")
    known = [
        (f"{end} longer", one.successes / one.trials, _interval(one))
        for end, one in zip(ends, survey.longer, strict=True)
        if one.trials
    ]
    drawn: tuple[Plot, ...] = ()
    if known:
        caption = "Verdicts for the longer response, by how much longer it is. " + _COIN
        drawn = (Plot(plots.shares("longer", known, "choose the longer response"), caption),)
    return Section("Length bias", (), (Table(tuple(rows)),) if rows else (), drawn)


def principles(figures: Figures, survey: Survey) -> Section:
    """Each principle or set, and how their scores go together."""
    tables = [*_principle_table(figures), *_set_tables(figures)]
    correlations, names = figures.get("correlations"), [one["name"] for one in figures.get("principles", ())]
    drawn: tuple[Plot, ...] = ()
    if correlations and len(names) > 1:
        label = "correlations of the scores of each two principles"
        caption = "Correlation of scores between principles: those near 1 say the same."
        drawn = (
            Plot(
                plots.heat_map("correlations", names[:_BARS], [row[:_BARS] for row in correlations[:_BARS]], label),
                caption,
            ),
        )
    return Section("Principles", (), tuple(tables), drawn)


def ranking(figures: Figures, survey: Survey) -> Section:
    """Strengths, and triads without an order."""
    if not survey.strengths.count.any():
        return Section("Ranking")
    text: tuple[str, ...] = ()
    if (circular := figures.get("circular_share")) is not None:
        triads = f"{figures['circular_triads']:,} of {count(figures['triads'], 'triad')}"
        text = (f"{circular:.1%}: {triads} have no order among themselves (tossed coins: 25.0%).",)
    caption = "Bradley-Terry strengths of the responses of a row: mean and standard deviation."
    return Section("Ranking", text, plots=(Plot(plots.strengths("strengths", survey.strengths), caption),))


def subsets(figures: Figures, survey: Survey) -> Section:
    """Agreement by the values of a column."""
    found = figures.get("subsets")
    if not found:
        return Section("Subsets")
    values = [(str(one["value"]), one) for one in found["values"]]
    values += [("all other values", found["others"])] if found.get("others") else []
    values = [(name, one) for name, one in values if one.get("pairs")]
    if not values:
        return Section("Subsets")
    rows = tuple(
        (name, f"{one['pairs']:,}", with_interval(one["agreement"], one["agreement_interval"])) for name, one in values
    )
    shown = [(name, one["agreement"], one["agreement_interval"]) for name, one in values[:_BARS]]
    drawn = plots.shares("subsets", shown, "agreement with gold")
    table = Table(rows, (str(found["column"]), "pairs with gold", "agree (95% interval)"))
    return Section(f"By {found['column']}", (), (table,), (Plot(drawn, _COIN),))


def _principle_table(figures: Figures) -> Iterator[Table]:
    found = figures.get("principles")
    if not found:
        return
    head = ("principle", "consistent", "with gold", "mean score, nats", "gap, nats", "label mass", "decided")
    rows = tuple(
        (
            one["name"],
            percent(one["consistent"]),
            percent(one["agreement"]),
            decimal(one["mean_score"], "+"),
            decimal(one["mean_gap"], "+"),
            decimal(one["mean_label_mass"]),
            f"{one['decided']:,}",
        )
        for one in found
    )
    yield Table(rows, head)


def _set_tables(figures: Figures) -> Iterator[Table]:
    """Pairs and single responses have different figures."""
    found = figures.get("sets", ())
    if pairs := [(one["name"], one["pairs"]) for one in found if one.get("pairs")]:
        head = ("set", "pairs", "with gold", "position bias", "position gap", "label mass")
        names = (
            ("agreement", percent),
            ("position_bias", percent),
            ("mean_gap", decimal),
            ("mean_label_mass", decimal),
        )
        yield Table(
            tuple((name, f"{of['pairs']:,}", *(show(of[one]) for one, show in names)) for name, of in pairs), head
        )
    if singles := [(one["name"], one["responses"]) for one in found if one.get("responses")]:
        head = ("set", "responses", "mean score", "standard deviation", "entropy, nats", "label mass")
        fields = ("mean_score", "std_score", "mean_entropy", "mean_label_mass")
        rows = tuple((name, f"{of['responses']:,}", *(decimal(of[one]) for one in fields)) for name, of in singles)
        yield Table(rows, head)


def _of_directions(counts: Directions) -> tuple[str, ...]:
    parts = (counts.first, counts.same, counts.second)
    return (f"{counts.total:,}", *(percent(part / counts.total) if counts.total else "–" for part in parts))


def _kept(counts: Directions) -> float | None:
    return (counts.first + counts.second) / counts.total if counts.total else None


def _interval(share: Share) -> tuple[float, float]:
    return wilson_interval(share.successes, share.trials)


def _unit(total: int, survey: Survey) -> str:
    return "rows" if total == survey.rows else "judgements"
