"""What a run amounts to: rows, tokens, rates, rejections; and the summary for a person."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from preftree.labeling.report.findings import NOTE, WARNING, Finding, finding_lines
from preftree.labeling.terminal import WIDTH, count, one_line

if TYPE_CHECKING:
    from preftree.labeling.report.figures import Figures

_KINDS_KEPT, _KINDS_SHOWN = 50, 8
_ROWS_SHOWN = 5
_OTHER = "other"
_NAMES = 23
_OF_COMMANDS = ("next", "to resume")
_COLUMNS = "  "


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
    rationales, cut_rationales: what the judge wrote, and how often up to the token limit. quality: figures of the
    labels, once they are written. events: what happened to workers, for people. odd_golds: rows of the input with a
    gold that cannot be read. findings: what the figures mean. next_method: that labels what was sampled.
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
    findings: Sequence[Finding] = ()
    next_method: str = "rlaif"

    @property
    def sharing(self) -> float | None:
        return self.prompt_tokens / self.unique_tokens if self.unique_tokens else None

    @property
    def next_command(self) -> str:
        """What to do with the files."""
        if self.noun == "prompt":
            made = str(self.labels)
            return shlex.join(["preftree", "label", made, "--method", self.next_method, "--out", f"{made}.labels"])
        directory = str(self.run).removesuffix("run.json").rstrip("/")
        return shlex.join(["preftree", "report", directory, "--html", f"{directory.rpartition('/')[2]}.html"])

    def record(self) -> dict[str, Any]:
        """For JSON: the totals, the files, the figures and what they mean."""
        return {
            "judge": self.judge,
            **self.totals(),
            "labels": str(self.labels),
            "run": str(self.run),
            "quality": self.quality.figures() if self.quality else None,
            "findings": [one.record() for one in self.findings],
            "next": self.next_command,
        }

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


def render_summary(summary: RunSummary, first: Sequence[tuple[str, str]] = ()) -> str:
    """Lines for a terminal; figures that have no pairs to stand on are left out. first: other lines, before these."""
    rejections, words = summary.rejections, _OF_PROMPTS if summary.noun == "prompt" else _Words()
    labelled = f"{count(summary.ok, summary.noun)} {words.done}"
    if rejections.count:
        labelled += f", {count(rejections.count, 'row')} rejected"
    lines = [*first, (words.model, one_line(summary.judge))]
    if summary.sharing:
        tokens = f"{summary.prompt_tokens:,} in prompts, {summary.unique_tokens:,} unique"
        lines.append(("tokens", f"{tokens}: sharing {summary.sharing:.2f}x"))
    if summary.rationales:
        mean = summary.generated_tokens / summary.rationales
        written = f"{summary.rationales:,} of {mean:,.0f} tokens in the mean, {summary.generated_tokens:,} in all"
        cut = f"{summary.cut_rationales:,} cut off at the token limit" if summary.cut_rationales else "all whole"
        lines.append((words.written, f"{written}; {cut}"))
    lines += [*_speed_lines(summary), *summary.events]
    lines += [("files", one_line(str(path))) for path in (summary.labels, summary.run)]
    lines += rejections.lines(words.reasons)
    lines.append((words.made, labelled))
    if summary.odd_golds:
        lines.append(("gold", f"{count(summary.odd_golds, 'row')} with a gold that is not read (a, b, tie, 0, 1)"))
    lines += summary.quality.lines() if summary.quality else []
    lines += finding_lines(summary.findings)
    lines.append(("next", summary.next_command))
    return aligned(lines)


def _speed_lines(summary: RunSummary) -> list[tuple[str, str]]:
    prompt_rate, unique_rate = summary.rate(summary.prompt_tokens), summary.rate(summary.unique_tokens)
    if not prompt_rate or not unique_rate:
        return []
    rates = f"{prompt_rate:,.0f} prompt tokens/s, {unique_rate:,.0f} unique tokens/s"
    if generated_rate := summary.rate(summary.generated_tokens):
        rates += f", {generated_rate:,.0f} generated tokens/s"
    return [("speed", f"{rates} over {summary.seconds:,.1f} s in the engine")]


def aligned(lines: Sequence[tuple[str, str]]) -> str:
    """Names in a column, what they name in the next, 80 columns wide; a repeated name is written once.

    What is wider is wrapped at words. A table that is wider goes below its name.
    """
    width = min(max(len(name) for name, _ in lines), _NAMES)
    return "\n".join(
        line
        for (name, _), group in groupby(enumerate(lines), key=_group_of)
        for line in _group(name, [text for _, (_, text) in group], width)
    )


def _group_of(entry: tuple[int, tuple[str, str]]) -> tuple[str, int]:
    """Its name, and for a finding its place: each of them is a line of its own."""
    place, (name, _) = entry
    return name, place if name in (WARNING, NOTE) else -1


def _group(name: str, texts: Sequence[str], width: int) -> Iterator[str]:
    """The lines of one name."""
    is_wide_table = any(_COLUMNS in text.strip() and len(text) > WIDTH - width - 2 for text in texts)
    is_below = is_wide_table or len(name) > width
    indent = 2 if is_below else width + 2
    fit = _command if name in _OF_COMMANDS else _wrapped
    wrapped = [line for text in texts for part in text.split("\n") for line in fit(part, WIDTH - indent)]
    if is_below:
        yield name
    else:
        yield f"{name:<{width}}  {wrapped.pop(0)}"
    yield from (f"{'':<{indent}}{line}" for line in wrapped)


def _wrapped(text: str, width: int) -> list[str]:
    """A word that is longer stays whole, as paths must."""
    if len(text) <= width:
        return [text]
    inner = " " * (len(text) - len(text.lstrip()))
    found = wrap(text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=inner)
    return found or [""]


def _command(text: str, width: int) -> list[str]:
    """A shell reads the lines as one; one that would break inside quotes stays whole."""
    lines = _wrapped(text, width - 2)
    try:
        is_same = [word for line in lines for word in shlex.split(line)] == shlex.split(text)
    except ValueError:
        is_same = False
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]] if is_same else [text]
