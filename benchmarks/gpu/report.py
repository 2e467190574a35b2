"""What a run has found so far, as JSON for programs and Markdown for people, rewritten after every step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.targets import Measured, summary_rows, verdict_rows

JSON_NAME, MARKDOWN_NAME, ERRORS_NAME = "gpu.json", "gpu.md", "errors.txt"
# Where everything runs: a checkout, installed or not.
ROOT = Path(__file__).parent.parent.parent
REHEARSAL = "REHEARSAL on a CPU, tiny sizes: its numbers mean nothing"


@dataclass
class Table:
    """Cells are texts, ready to be read."""

    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        assert len(cells) == len(self.header)
        self.rows.append([str(cell) for cell in cells])

    def markdown(self) -> str:
        """A table of Markdown, its title above."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        body = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        return f"**{self.title}**\n\n{body}" if self.title else body


@dataclass
class Section:
    """What one step found. lines: remarks. data: JSON values. measured: what targets are held against."""

    tables: list[Table] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)


@dataclass
class StepRecord:
    """status: running, done, failed, skipped, or lost (its process ended under it). limit: seconds after which a step
    counts as hanging. began: seconds since the epoch."""

    title: str
    status: str
    began: float = 0.0
    seconds: float = 0.0
    limit: float = 0.0
    note: str = ""
    section: Section = field(default_factory=Section)


@dataclass
class Report:
    """Lives in a directory; `save` rewrites it, `load` continues it."""

    directory: Path
    is_rehearsal: bool
    facts: dict[str, str] = field(default_factory=dict)
    steps: list[StepRecord] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path) -> Report:
        """What `save` left in `directory`. Raises OSError or ValueError where there is nothing of the kind."""
        state = json.loads((directory / JSON_NAME).read_text(encoding="utf-8"))
        steps = []
        for step in state["steps"]:
            section = step.pop("section")
            tables = [Table(**table) for table in section.pop("tables")]
            measured = [Measured(**item) for item in section.pop("measured")]
            steps.append(StepRecord(**step, section=Section(tables=tables, measured=measured, **section)))
        return cls(directory, state["is_rehearsal"], state["facts"], steps)

    def step(self, title: str) -> StepRecord | None:
        return next((step for step in self.steps if step.title == title), None)

    def data(self, title: str) -> dict[str, Any]:
        """What step `title` found, empty where it did not run."""
        step = self.step(title)
        return step.section.data if step else {}

    def save(self) -> None:
        """Rewrite both files; a reader, or whoever comes after a crash, sees the old ones or the new ones."""
        state = {"is_rehearsal": self.is_rehearsal, "facts": self.facts, "steps": [asdict(step) for step in self.steps]}
        text = json.dumps(_without_nan(state), indent=1, ensure_ascii=False, allow_nan=False, default=str)
        _replace(self.directory / JSON_NAME, text + "\n")
        _replace(self.directory / MARKDOWN_NAME, self.markdown())

    def add_error(self, title: str, trace: str) -> None:
        """A traceback, for those who look into a failure."""
        with (self.directory / ERRORS_NAME).open("a", encoding="utf-8") as file:
            file.write(f"--- {title}\n{trace}\n")

    def markdown(self) -> str:
        """All of it: targets first, then every step's findings."""
        targets = Table("", ["target", "measured on", "value", "wanted", "verdict"])
        targets.rows = verdict_rows(self._measured)
        parts = [part for step in self.steps for part in _section_parts(step)]
        return "\n\n".join([self.summary(), *parts, "## All measurements of targets", targets.markdown()]) + "\n"

    def summary(self) -> str:
        """The first page: device, targets, steps."""
        title = f"# GPU evidence: {self.facts.get('device', 'device unknown')}"
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        targets = Table("", ["target", "wanted", "reached", "worst", "measured on", "verdict of the worst"])
        targets.rows = summary_rows(self._measured)
        steps = Table("", ["step", "status", "seconds", "note"])
        for step in self.steps:
            steps.add(step.title, step.status, f"{step.seconds:.1f}", step.note)
        title = f"{title} ({REHEARSAL})" if self.is_rehearsal else title
        return "\n\n".join([title, facts, "## Targets", targets.markdown(), "## Steps", steps.markdown()])

    @property
    def _measured(self) -> list[Measured]:
        return [found for step in self.steps for found in step.section.measured]


def first_line(error: BaseException) -> str:
    """An error as one line."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}"[:300]


def number(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits, "-" for what was not measured."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def percent(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "-"


def _section_parts(step: StepRecord) -> Iterable[str]:
    section = step.section
    if section.tables or section.lines:
        yield f"## {step.title}"
        yield from (table.markdown() for table in section.tables)
        if section.lines:
            yield "\n".join(f"- {line}" for line in section.lines)


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _replace(path: Path, text: str) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
