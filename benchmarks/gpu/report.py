"""What a run has found so far, as JSON for programs and Markdown for people, rewritten after every step."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.outcome import NOT_FINISHED, Outcome
from benchmarks.gpu.targets import SUMMARY_HEADER, VERDICT_HEADER, Measured, below, summary_rows, verdict_row

JSON_NAME, MARKDOWN_NAME, ERRORS_NAME = "gpu.json", "gpu.md", "errors.txt"
# Where everything runs: a checkout, installed or not.
ROOT = Path(__file__).parent.parent.parent
# What is sampled of the GPU while a step runs.
CLOCK_UNITS = {"sm": "MHz", "memory": "MHz", "power": "W", "temperature": "C"}
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
    """What one step found. lines: remarks. data: JSON values. measured: what targets are held against. is_cut: there
    was no time for all of it."""

    tables: list[Table] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    is_cut: bool = False


@dataclass
class StepRecord:
    """What became of a step.

    Attributes:
        title: As in the plan.
        status: running, done, failed, skipped (makes no sense here), lost (its process ended under it), or not finished
            (there was no time for it).
        began: Seconds since the epoch.
        seconds: How long it took.
        limit: Seconds after which it counts as hanging.
        note: One line.
        clocks: [minimum, median] while it ran, by the names of CLOCK_UNITS.
    """

    title: str
    status: str
    began: float = 0.0
    seconds: float = 0.0
    limit: float = 0.0
    note: str = ""
    clocks: dict[str, list[float]] = field(default_factory=dict)
    section: Section = field(default_factory=Section)


@dataclass
class Report:
    """Lives in a directory; `save` rewrites it, `load` continues it.

    Attributes:
        facts: What every figure must be read with.
        planned: Titles of the steps that this call wants to take.
        steps: Those it has taken.
        earlier: Steps of earlier calls on the same directory.
    """

    directory: Path
    is_rehearsal: bool
    facts: dict[str, str] = field(default_factory=dict)
    steps: list[StepRecord] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)
    earlier: list[StepRecord] = field(default_factory=list)
    is_saved: bool = True

    @classmethod
    def load(cls, directory: Path) -> Report:
        """What `save` left in `directory`. Raises OSError or ValueError where there is nothing of the kind."""
        text = (directory / JSON_NAME).read_text(encoding="utf-8")
        try:
            state = json.loads(text)
            steps, earlier = ([_step(item) for item in state[name]] for name in ("steps", "earlier"))
            return cls(directory, state["is_rehearsal"], state["facts"], steps, state["planned"], earlier)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError(f"{JSON_NAME} is damaged or of another version") from None

    def next_call(self, facts: dict[str, str]) -> Report:
        """A report on the same directory without steps of its own; those so far say whose they are."""
        whose = f"earlier call on {self.facts.get('device', 'an unknown device')}, {self.facts.get('commit', '')}"
        for step in self.steps:
            step.note = f"{step.note}; {whose}" if step.note else whose
        return Report(self.directory, self.is_rehearsal, facts, earlier=self.all_steps)

    def step(self, title: str) -> StepRecord | None:
        return next((step for step in self.steps if step.title == title), None)

    def data(self, title: str) -> dict[str, Any]:
        """What step `title` found, in this call or in an earlier one; empty where it did not run."""
        return next((step.section.data for step in self.all_steps if step.title == title), {})

    def save(self) -> None:
        """Rewrite both files; a reader, or whoever comes after a crash, sees the old ones or the new ones."""
        state = {name: getattr(self, name) for name in ("is_rehearsal", "facts", "planned")}
        state |= {name: [asdict(step) for step in getattr(self, name)] for name in ("steps", "earlier")}
        text = json.dumps(_without_nan(state), indent=1, ensure_ascii=False, allow_nan=False, default=str)
        _replace(self.directory / JSON_NAME, text + "\n")
        _replace(self.directory / MARKDOWN_NAME, self.markdown())
        self.is_saved = True

    def try_save(self) -> None:
        """Save, or say once in one line why that was impossible: a full disk stops no measurement."""
        try:
            self.save()
        except OSError as error:
            if self.is_saved:
                print(f"benchmarks.gpu: {self._trouble(error)}; the steps go on", file=sys.stderr, flush=True)
            self.is_saved = False
            with suppress(OSError):
                os.utime(self.directory / JSON_NAME)  # the supervisor takes it for a sign of life

    def add_error(self, title: str, trace: str) -> None:
        """A traceback, for those who look into a failure."""
        with suppress(OSError), (self.directory / ERRORS_NAME).open("a", encoding="utf-8") as file:
            file.write(f"--- {title}\n{trace}\n")

    @property
    def outcome(self) -> Outcome:
        """How this call ended."""
        late = [title for title in self.planned if self.step(title) is None]
        late += [step.title for step in self.steps if step.status in (NOT_FINISHED, "running")]
        return Outcome(
            done=sum(step.status == "done" for step in self.steps),
            skipped=[f"{step.title} ({step.note})" for step in self.steps if step.status == "skipped"],
            failed=[f"{step.title} ({step.note})" for step in self.steps if step.status in ("failed", "lost")],
            late=late,
            below=below(item for step in self.steps for item in step.section.measured),
            is_rehearsal=self.is_rehearsal,
        )

    def markdown(self) -> str:
        """All of it: targets first, then every step's findings."""
        table = Table("", [*VERDICT_HEADER, "clocks, minimum/median"])
        for step in self.all_steps:
            for item in step.section.measured:
                table.add(*verdict_row(item), clocks_text(step.clocks))
        parts = [part for step in self.all_steps for part in _section_parts(step)]
        return "\n\n".join([self.summary(), *parts, "## All measurements of targets", table.markdown()]) + "\n"

    def summary(self) -> str:
        """The first page: how it ended, device, targets, steps."""
        title = f"# GPU evidence: {self.facts.get('device', 'device unknown')}"
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        targets = Table("", SUMMARY_HEADER)
        targets.rows = summary_rows([item for step in self.all_steps for item in step.section.measured])
        steps = Table("", ["step", "status", "seconds", "clocks, minimum/median", "note"])
        for step in self.all_steps:
            steps.add(step.title, step.status, f"{step.seconds:.1f}", clocks_text(step.clocks), step.note)
        title = f"{title} ({REHEARSAL})" if self.is_rehearsal else title
        parts = [title, self.outcome.text(), facts, "## Targets", targets.markdown(), "## Steps", steps.markdown()]
        return "\n\n".join(parts)

    @property
    def all_steps(self) -> list[StepRecord]:
        """Of this call, then what no step of this call has replaced."""
        return [*self.steps, *(step for step in self.earlier if self.step(step.title) is None)]

    def _trouble(self, error: OSError) -> str:
        return f"cannot write the report to {self.directory} ({error.strerror or error})"


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


def clocks_text(clocks: dict[str, list[float]]) -> str:
    """A step's clocks as one cell, "-" where nothing was sampled."""
    cells = [f"{name} {low:.0f}/{median:.0f} {CLOCK_UNITS[name]}" for name, (low, median) in clocks.items()]
    return ", ".join(cells) or "-"


def _step(state: dict[str, Any]) -> StepRecord:
    section = state.pop("section")
    tables = [Table(**table) for table in section.pop("tables")]
    measured = [Measured(**item) for item in section.pop("measured")]
    return StepRecord(**state, section=Section(tables=tables, measured=measured, **section))


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
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    except OSError:
        with suppress(OSError):
            scratch.unlink()  # half a file takes room, too
        raise
