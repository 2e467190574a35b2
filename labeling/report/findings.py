"""What figures mean for whoever uses the labels: warnings with their consequence, for summary, report and export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from preftree.labeling.terminal import count, one_line

LOW_MASS = 0.5
WARNING, NOTE = "warning", "note"
_COIN = 0.5
_MOST, _MANY = 0.5, 0.2  # of judgements that keep their position
_TOY = "embedded"

Values = Mapping[str, Any]


class Finding(NamedTuple):
    """Attributes:
    kind: "warning" for what keeps labels from being trusted, else "note".
    about: what it is about, such as position_bias.
    text: for people, with the consequence and the way out.
    """

    kind: str
    about: str
    text: str

    def record(self) -> dict[str, str]:
        """For JSON."""
        return self._asdict()


def findings(figures: Values, record: Values) -> list[Finding]:
    """Notes, then warnings.

    Args:
        figures: of labels, as run.json has them; {} where there are none.
        record: the run.json; {} for labels from elsewhere.
    """
    found = [one for part in _PARTS for one in part(figures, record)]
    found += _of_sets(figures.get("sets") or (), record)
    return sorted(found, key=lambda one: one.kind == WARNING)


def finding_lines(found: Sequence[Finding]) -> list[tuple[str, str]]:
    """For a terminal."""
    return [(one.kind, one.text) for one in found]


def _inverted(figures: Values, record: Values) -> Iterator[Finding]:
    for template in _templates(record.get("method", {})):
        if template.get("invert") and template.get("labels"):
            label, name = template["labels"][0], one_line(str(template.get("name", "")))
            text = (
                f"template {name} asks for the worse response (invert: true): a judge that answers {label!r} prefers "
                "the response shown second, and figures of positions are about the response that it prefers"
            )
            yield Finding(NOTE, "invert", text)


def _toy_judge(figures: Values, record: Values) -> Iterator[Finding]:
    scorer = record.get("scorer", {})
    if _TOY in (scorer.get("model"), *scorer.get("judges", ())):
        text = (
            "the embedded model is a toy of 135 million parameters, there to try preftree out: do not train on what "
            "it says; name a judge with --model (docs/choosing-a-judge.md)"
        )
        yield Finding(WARNING, "judge", text)


def _mass(figures: Values, record: Values) -> Iterator[Finding]:
    mean = figures.get("mean_label_mass")
    if mean is None or mean >= LOW_MASS:
        return
    rendering = record.get("scorer", {}).get("rendering")
    others = {"chat": "--plain", "plain": "--chat"}.get(rendering, "--chat or --plain")
    text = (
        f"the labels have only {mean:.0%} of the probability: the model would rather answer something else, so what "
        f"it says of them counts for little; try {others}, another --template or another --model"
    )
    yield Finding(WARNING, "label_mass", text)


def _position(figures: Values, record: Values) -> Iterator[Finding]:
    bias, first = figures.get("position_bias"), figures.get("prefers_first")
    if bias is None or bias <= _MANY or first is None:
        return
    where = "first" if first >= 0.5 else "second"
    share = max(first, 1 - first) * bias
    judged = figures["pairs"] * max(1, len(figures.get("principles", ())))
    noun = "judgement" if figures.get("principles") else "pair"
    shown = f"{share * judged:,.0f} of {count(judged, noun)} prefer the {where} response in both orders"
    if bias > _MOST:
        text = f"{shown}: labels say little about the responses; use a larger judge"
    else:
        text = f"{shown}: these labels are about the order, not the responses"
    if not figures.get("principles"):
        text += ", or leave such pairs out with `preftree export --drop-inconsistent`"
    yield Finding(WARNING, "position_bias", text)


def _agreement(figures: Values, record: Values) -> Iterator[Finding]:
    interval = figures.get("agreement_interval")
    if not interval or interval[0] > _COIN:
        return
    share, pairs = figures["agreement"], count(figures["gold_pairs"], "pair")
    if interval[1] < _COIN:
        text = (
            f"agreement with gold is worse than chance ({share:.0%} of {pairs}): is gold the worse response, or does "
            "the template ask for it without invert: true?"
        )
    else:
        text = (
            f"agreement with gold may be chance: {share:.0%} of {pairs}, and its 95% interval contains 50%; judge more "
            "rows that have gold, or use a stronger judge, before you train on these labels"
        )
    yield Finding(WARNING, "agreement", text)


_PARTS: tuple[Callable[[Values, Values], Iterator[Finding]], ...] = (
    _inverted,
    _toy_judge,
    _agreement,
    _mass,
    _position,
)


def _of_sets(sets: Sequence[Values], record: Values) -> Iterator[Finding]:
    """Those of figures under sets of principles: each kind once, with the first set and the number of the others."""
    for part in (_agreement, _mass, _position):
        found = []
        for one in sets:
            parts = (figures for kind in ("pairs", "responses") if (figures := one.get(kind)))
            found += [(one["name"], finding) for figures in parts for finding in part(figures, record)]
        if found:
            (name, first), more = found[0], len({one for one, _ in found}) - 1
            others = f" (and {count(more, 'other set')})" if more else ""
            yield first._replace(text=f"under {one_line(name)}{others}, {first.text}")


def _templates(method: Values) -> Iterator[Values]:
    """Those that a method's record has: its own, and those of the methods it is made of."""
    for owner in (method, method.get("pair") or {}, method.get("single") or {}):
        if isinstance(template := owner.get("template"), Mapping):
            yield template
