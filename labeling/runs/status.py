"""How far a run is, whether somebody works on it or not. Looks, and touches nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError, PreftreeError
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.host import kind_of
from preftree.labeling.answers.part import Attempt
from preftree.labeling.data.folder import Folder, LocalFolder, folder_of
from preftree.labeling.data.labels_file import LABELS, RUN
from preftree.labeling.data.selection import rows_of, selection_of
from preftree.labeling.methods.candidates import SAMPLE
from preftree.labeling.report.text import aligned
from preftree.labeling.runs.lock import holder
from preftree.labeling.runs.manifest import COMPLETE
from preftree.labeling.runs.recorded import check_format, read_run
from preftree.labeling.runs.view import view
from preftree.labeling.terminal import count, duration, one_line

_SECONDS_BESIDE = 60.0
_ROWS = 20_000  # of an unfinished run, whose figures take about a second then


def status_lines(named: str | Path, moved_to: str | None = None) -> Iterator[str]:
    """For a terminal. Raises OutputError where there is no run.

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
    done = answered + rejected
    lines = [("run", _about(record)), ("state", _state(record, directory, who))]
    lines.append(("rows", f"{done:,} of {len(rows):,} ({done / len(rows):.1%}), {rejected:,} of them rejected"))
    lines += _damage(answers)
    if attempts := answers.attempts():
        lines += _nodes(attempts, len(answers.parts))
        lines += _pace(attempts, len(rows) - done, is_alive=who is not None)
    if who is None and record["state"] != COMPLETE:
        lines.append(("to resume", one_line(record.get("command", "the same command as before"))))
    yield aligned(lines)
    if done > rejected and record["method"]["name"] != SAMPLE:
        yield from _quality(directory, moved_to)


def _quality(directory: Folder, moved_to: str | None) -> Iterator[str]:
    """Figures of the labels, or of what follows from the first answers so far."""
    from preftree.labeling.report.figures import figures_of

    try:
        with view(directory, moved_to, _ROWS) as found:
            figures = figures_of(found.labels)
    except PreftreeError as error:
        yield f"\nfigures cannot be shown: {one_line(str(error))}"
        return
    if lines := figures.lines():
        yield f"\n{aligned([('figures of', figures.counted()), *lines])}"


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


def _pace(attempts: Sequence[Attempt], left: int, is_alive: bool) -> list[tuple[str, str]]:
    """The rate is that of the last attempt, and of others that were at work beside it until a minute before."""
    last = max(attempts, key=lambda attempt: attempt.committed)
    beside = [one for one in attempts if one.committed >= max(last.started, last.committed - _SECONDS_BESIDE)]
    rate = sum(one.rows / (one.committed - one.started) for one in beside if one.committed > one.started)
    ago = max(time.time() - last.committed, 0.0)
    lines = [("last rows", f"{duration(ago)} ago")]
    if rate:
        last_attempts = "the last attempt" if len(beside) == 1 else f"{len(beside):,} processes"
        lines.append(
            ("rate", f"{rate:,.1f} rows/s, over {count(sum(one.rows for one in beside), 'row')} of {last_attempts}")
        )
        if left and is_alive:
            lines.append(("left", f"about {duration(left / rate)}"))
    return lines
