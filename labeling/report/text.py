"""What a run amounts to: rows, tokens, rates, rejections; and the summary for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from preftree.labeling.terminal import count, one_line

if TYPE_CHECKING:
    from preftree.labeling.report.figures import Figures

_KINDS_KEPT, _KINDS_SHOWN = 50, 8
_ROWS_SHOWN = 5
_OTHER = "other"


@dataclass
class Rejections:
    """How many rows got no label, by kind of reason, and the first few word by word."""

    count: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    first: list[tuple[str, str]] = field(default_factory=list)

    def add(self, place: str, reason: str) -> None:
        self.count += 1
        kind = reason_kind(reason)
        if kind not in self.kinds and len(self.kinds) >= _KINDS_KEPT:
            kind = _OTHER
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.first) < _ROWS_SHOWN:
            self.first.append((place, reason))

    def by_kind(self) -> str:
        """ "blank text (280); broken JSON (4)", the most frequent first."""
        kinds = sorted(self.kinds.items(), key=lambda kind: (kind[0] == _OTHER, -kind[1]))[:_KINDS_SHOWN]
        shown = [f"{one_line(kind)} ({number:,})" for kind, number in kinds]
        hidden = self.count - sum(number for _, number in kinds)
        return "; ".join(shown + ([f"other reasons ({hidden:,})"] if hidden else []))

    def lines(self, elsewhere: str = "") -> list[tuple[str, str]]:
        """Kinds and the first rows, for `aligned`. elsewhere: where the reasons of the other rows are."""
        texts = [self.by_kind()] if self.count > 1 else []
        texts += [f"{one_line(place)}: {one_line(reason)}" for place, reason in self.first]
        if hidden := self.count - len(self.first):
            texts.append(f"and {count(hidden, 'more row')}{elsewhere}")
        return [("rejected", text) for text in texts]


def judge_text(described: Mapping[str, Any]) -> str:
    """Model, device, type, and what a CPU multiplies with: "embedded, cpu, bfloat16 (amx)"; and plain prompts."""
    device = described.get("device_name") or described.get("device")
    if several := described.get("devices"):
        device = f"{len(several)} x {device}"
    dtype, instructions = described.get("dtype"), described.get("instructions")
    typed = f"{dtype} ({instructions})" if dtype and instructions else dtype
    plain = "plain prompts" if described.get("rendering") == "plain" else None
    return ", ".join(str(part) for part in (described["model"], device, typed, plain) if part)


def reason_kind(reason: str) -> str:
    """What reasons of one sort share: the part before the colon, with every number as N."""
    return re.sub(r"\d[\d,.]*", "N", reason.split(":", 1)[0])


@dataclass(frozen=True)
class RunSummary:
    """A finished run. Seconds are the engine's; a rate over them leaves out loading and reading.

    judge: model, device and number format, for people. noun: what a row is. ok: rows with a label. generated_tokens,
    rationales, cut_rationales: what the judge wrote, and how often up to the most tokens. quality: figures of the
    labels, once they are written. events: what happened to workers, for people. odd_golds: rows of the input with a
    gold that cannot be read.
    """

    labels: Path | str
    run: Path | str
    judge: str
    noun: str
    ok: int
    quality: Figures | None
    rejections: Rejections
    prompt_tokens: int
    unique_tokens: int
    seconds: float
    generated_tokens: int = 0
    rationales: int = 0
    cut_rationales: int = 0
    answers_seconds: float = 0.0
    events: Sequence[tuple[str, str]] = ()
    odd_golds: int = 0

    @property
    def sharing(self) -> float | None:
        return self.prompt_tokens / self.unique_tokens if self.unique_tokens else None

    def totals(self) -> dict[str, object]:
        """For run.json."""
        return {
            "rows": self.ok + self.rejections.count,
            "ok": self.ok,
            "rejected": self.rejections.count,
            "rejected_by_reason": self.rejections.kinds,
            "unreadable_gold": self.odd_golds,
            "prompt_tokens": self.prompt_tokens,
            "unique_tokens": self.unique_tokens,
            "sharing": self.sharing,
            "seconds": self.seconds,
            "answers_seconds": self.answers_seconds,
            "prompt_tokens_per_second": self.rate(self.prompt_tokens),
            "unique_tokens_per_second": self.rate(self.unique_tokens),
            "rationales": self.rationales,
            "cut_rationales": self.cut_rationales,
            "generated_tokens": self.generated_tokens,
            "generated_tokens_per_second": self.rate(self.generated_tokens),
        }

    def rate(self, tokens: int) -> float | None:
        return tokens / self.seconds if self.seconds > 0 else None


class _Words(NamedTuple):
    """What a summary calls things."""

    model: str = "judge"
    made: str = "labels"
    done: str = "labelled"
    written: str = "rationales"
    reasons: str = "; every reason is in the labels"


_OF_PROMPTS = _Words("policy", "sampled", "with responses", "responses", "")


def render_summary(summary: RunSummary) -> str:
    """Lines for a terminal; figures that have no pairs to stand on are left out."""
    rejections, words = summary.rejections, _OF_PROMPTS if summary.noun == "prompt" else _Words()
    labelled = f"{count(summary.ok, summary.noun)} {words.done}"
    if rejections.count:
        labelled += f", {count(rejections.count, 'row')} rejected"
    lines = [(words.model, one_line(summary.judge)), (words.made, labelled)]
    if summary.odd_golds:
        lines.append(("gold", f"{count(summary.odd_golds, 'row')} with a gold that is not read (a, b, tie, 0, 1)"))
    lines += summary.quality.lines() if summary.quality else []
    if summary.sharing:
        tokens = f"{summary.prompt_tokens:,} in prompts, {summary.unique_tokens:,} unique"
        lines.append(("tokens", f"{tokens}: sharing {summary.sharing:.2f}x"))
    if summary.rationales:
        mean = summary.generated_tokens / summary.rationales
        written = f"{summary.rationales:,} of {mean:,.0f} tokens in the mean, {summary.generated_tokens:,} in all"
        cut = (
            f"{summary.cut_rationales:,} cut off where they may be no longer" if summary.cut_rationales else "all whole"
        )
        lines.append((words.written, f"{written}; {cut}"))
    prompt_rate, unique_rate = summary.rate(summary.prompt_tokens), summary.rate(summary.unique_tokens)
    if prompt_rate and unique_rate:
        rates = f"{prompt_rate:,.0f} prompt tokens/s, {unique_rate:,.0f} unique tokens/s"
        if generated_rate := summary.rate(summary.generated_tokens):
            rates += f", {generated_rate:,.0f} generated tokens/s"
        lines.append(("speed", f"{rates} over {summary.seconds:,.1f} s in the engine"))
    lines += [*summary.events, *rejections.lines(words.reasons)]
    lines += [("files", one_line(str(path))) for path in (summary.labels, summary.run)]
    return aligned(lines)


def aligned(lines: list[tuple[str, str]]) -> str:
    """Names in a column, what they name in the next; a repeated name is written once."""
    width = max(len(name) for name, _ in lines)
    names = [name if i == 0 or lines[i - 1][0] != name else "" for i, (name, _) in enumerate(lines)]
    return "\n".join(f"{name:<{width}}  {text}" for name, (_, text) in zip(names, lines, strict=True))
