"""How far a run is, whether somebody works on it or not. Looks, and touches nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import OutputError, PreftreeError
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.host import kind_of
from preftree.labeling.answers.part import Attempt
from preftree.labeling.data.folder import Folder, LocalFolder, folder_of
from preftree.labeling.data.labels_file import LABELS, RUN
from preftree.labeling.data.selection import rows_of, selection_of
from preftree.labeling.methods.candidates import SAMPLE
from preftree.labeling.report.findings import Finding, finding_lines, findings
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.lock import holder
from preftree.labeling.runs.manifest import COMPLETE
from preftree.labeling.runs.recorded import check_format, read_run
from preftree.labeling.runs.view import view
from preftree.labeling.terminal import count, duration, one_line

if TYPE_CHECKING:
    from preftree.labeling.report.figures import Figures

_Quality = tuple["Figures | None", list[Finding], str]
_SECONDS_BESIDE = 60.0
_ROWS = 20_000  # of an unfinished run, whose figures take about a second then


def status_lines(named: str | Path, moved_to: str | None = None) -> Result:
    """Raises OutputError where there is no run.

    moved_to: where the input is now, from which figures of an unfinished run are made.
    """
    directory = folder_of(named)
    record = read_run(directory)
    if "state" not in record:
        raise OutputError(f"{directory.place(RUN)} is no record of a run by preftree")
    check_format(directory, record)
    who = holder(directory)
    rows = rows_of(record["input"]["rows"], **selection_of(record["options"]))
    answers = Answers.open(directory.child(ANSWERS), record["answers"])
    _, answered, rejected = answers.counts(rows)
    done, attempts = answered + rejected, answers.attempts()
    pace = _Pace.of(attempts)
    lines = [("run", _about(record)), ("state", _state(record, directory, who))]
    lines.append(("rows", f"{done:,} of {len(rows):,} ({done / len(rows):.1%}), {rejected:,} of them rejected"))
    lines += _damage(answers)
    if attempts:
        lines += _nodes(attempts, len(answers.parts))
        lines += pace.lines(len(rows) - done, is_alive=who is not None)
    is_open = who is None and record["state"] != COMPLETE
    resume = one_line(record.get("command", "the same command as before")) if is_open else None
    quality: _Quality = (None, [], "")
    if done > rejected and record["method"]["name"] != SAMPLE:
        quality = _quality(directory, record, moved_to)
    found, meant, problem = quality
    last = [*finding_lines(meant), *([("to resume", resume)] if resume else [])]
    figures = found.lines() if found else []
    shown = [aligned(lines if figures else lines + last)]
    if problem:
        shown.append(f"\nfigures cannot be shown: {problem}")
    if found and figures:
        shown.append(f"\n{aligned([('figures of', found.counted()), *figures, *last])}")
    data = {
        "state": record["state"],
        "running": who,
        "rows": len(rows),
        "done": done,
        "rejected": rejected,
        "damaged": [str(path) for path, _ in answers.damaged],
        **pace.record(len(rows) - done),
        "resume": resume,
        "quality": found.figures() if found else None,
        "findings": [one.record() for one in meant],
    }
    return Result(shown, data)


def _quality(directory: Folder, record: Mapping[str, Any], moved_to: str | None) -> _Quality:
    """Figures of the labels, or of what follows from the first answers so far; or why there are none."""
    from preftree.labeling.report.figures import figures_of

    try:
        with view(directory, moved_to, _ROWS) as found:
            figures = figures_of(found.labels)
    except PreftreeError as error:
        return None, [], one_line(str(error))
    return figures, findings(figures.figures(), record), ""


def _damage(answers: Answers) -> list[tuple[str, str]]:
    way = "`preftree label` judges its rows again"
    return [("damaged", f"{one_line(str(path))}: {problem}; {way}") for path, problem in answers.damaged]


def _about(record: dict[str, Any]) -> str:
    settings, shard = record["options"], record["options"].get("shard")
    part = f", shard {shard}" if shard else ""
    paths = record["input"]["path"]
    name = paths if isinstance(paths, str) else f"{paths[0]} and {len(paths) - 1:,} more"
    return one_line(f"{name}, method {record['method']['name']}, {settings['model']}{part}")


def _state(record: dict[str, Any], directory: Folder, who: str | None) -> str:
    if who is not None:
        return f"running: {who}"
    if record["state"] == COMPLETE:
        made = record["options"]["out"] if record["method"]["name"] == SAMPLE else directory.place(LABELS)
        return f"complete: {made}"
    if not isinstance(directory, LocalFolder):
        return "unfinished; nothing locks a URL, so a process may or may not work on it"
    return "stopped: no process works on it"


def _nodes(attempts: Sequence[Attempt], parts: int) -> list[tuple[str, str]]:
    """Who has judged what, where several processes have."""
    if len(attempts) == 1:
        return []
    by_node: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_node.setdefault(attempt.host.get("node", "an unknown node"), []).append(attempt)
    lines = [("parts", f"{parts:,} by {len(attempts):,} processes on {count(len(by_node), 'node')}")]
    for node, mine in by_node.items():
        ago = duration(max(time.time() - max(one.committed for one in mine), 0.0))
        done = count(sum(one.rows for one in mine), "row")
        lines.append(("node", one_line(f"{node}: {done}, the last {ago} ago; {kind_of(mine[-1].host)}")))
    return lines


@dataclass(frozen=True)
class _Pace:
    """The rate is that of the last attempt, and of others that were at work beside it until a minute before.

    Attributes:
        beside: those attempts.
        rate: rows a second; 0 where it is not known.
        ago: seconds since the last rows; None where there are none.
    """

    beside: Sequence[Attempt] = ()
    rate: float = 0.0
    ago: float | None = None

    @classmethod
    def of(cls, attempts: Sequence[Attempt]) -> _Pace:
        if not attempts:
            return cls()
        last = max(attempts, key=lambda attempt: attempt.committed)
        beside = [one for one in attempts if one.committed >= max(last.started, last.committed - _SECONDS_BESIDE)]
        rate = sum(one.rows / (one.committed - one.started) for one in beside if one.committed > one.started)
        return cls(beside, rate, max(time.time() - last.committed, 0.0))

    def record(self, left: int) -> dict[str, Any]:
        """For `--json`. left: rows."""
        seconds = left / self.rate if self.rate else None
        return {"rows_per_second": self.rate or None, "seconds_since_last": self.ago, "seconds_left": seconds}

    def lines(self, left: int, is_alive: bool) -> list[tuple[str, str]]:
        lines = [("last rows", f"{duration(self.ago or 0.0)} ago")]
        if self.rate:
            attempts = "the last attempt" if len(self.beside) == 1 else f"{len(self.beside):,} processes"
            rows = count(sum(one.rows for one in self.beside), "row")
            lines.append(("rate", f"{self.rate:,.1f} rows/s, over {rows} of {attempts}"))
            if left and is_alive:
                lines.append(("left", f"about {duration(left / self.rate)}"))
        return lines
