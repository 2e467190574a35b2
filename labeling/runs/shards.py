"""Shards, run on any machines, joined into the run that one machine would have made, bytes of the labels included."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from heapq import merge as merged_by_number
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.data.dataset import parse_shard, rows_of
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.journal import JOURNAL, Attempt, attempts, connected, entries, holds
from preftree.labeling.runs.manifest import difference, judge_of, with_judge
from preftree.labeling.runs.memory import Memory
from preftree.labeling.runs.recorded import finished_run, labelled_input, options_again
from preftree.labeling.runs.run import Job, label_into


@dataclass(frozen=True)
class Part:
    """A finished shard. index: from 1, of `number`."""

    path: Path
    record: dict[str, Any]
    index: int
    number: int

    @classmethod
    def of(cls, path: Path) -> Part:
        """Raises OutputError for anything but a finished shard."""
        record = finished_run(path, shards=True)
        shard = record["options"].get("shard")
        if shard is None:
            raise OutputError(f"{path} is no shard but a run of its own, labelled without --shard")
        return cls(path, record, *parse_shard(shard))

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    def holds(self, rows: range) -> bool:
        try:
            return self.journal.exists() and holds(self.journal, rows)
        except sqlite3.Error:
            return False


def merge(paths: Sequence[str], out: str, input_path: str | None, overwrite: bool, quiet: bool) -> RunSummary:
    """Joins finished shards into the run `out`. Loads no model. Raises PreftreeError, and then leaves nothing."""
    parts = complete([Part.of(Path(path)) for path in paths])
    record = parts[0].record
    dataset = labelled_input(record, input_path)
    own = {"input": dataset.paths, "out": out, "overwrite": overwrite, "quiet": quiet}
    whole = {"shard": None, "retry_rejects": False, "force_new": False, "profile": None}
    options = options_again(LabelOptions, record, **own, **whole)
    with RunDirectory(Path(out), overwrite) as directory:
        job = Job.of(options, open_method(options, record["method"]), dataset)
        for part in parts:
            mine = rows_of(dataset.info.rows, options.limit, f"{part.index}/{part.number}")
            if not part.holds(mine):
                raise OutputError(f"{part.journal} is damaged or missing; its `preftree label` command puts it right")
        if directory.previous is not None:
            raise OutputError(f"{out} exists already; name another --out, or replace it with --overwrite")
        judge = Memory(judge_of(record))
        new_record = with_judge(job.manifest(), judge.describe())
        journal = directory.begin(new_record)
        journal.take_over(
            merged_by_number(*(entries(part.journal) for part in parts), key=lambda entry: entry.number),
            [attempt for part in parts for attempt in _attempts(part)],
        )
        return label_into(directory, journal, job, judge, new_record)


def complete(parts: Sequence[Part]) -> list[Part]:
    """The shards in order. OutputError where one is missing, there twice, or of another run."""
    first = parts[0]
    by_index: dict[int, Part] = {}
    for part in parts:
        if part.number != first.number:
            raise OutputError(f"{part.path} is one of {part.number:,} shards, and {first.path} one of {first.number:,}")
        if said := difference(first.record, part.record, shards=True):
            raise OutputError(f"{part.path} is not of the same run as {first.path}: {said}")
        if part.index in by_index:
            raise OutputError(f"{by_index[part.index].path} and {part.path} are both shard {part.index}/{part.number}")
        by_index[part.index] = part
    if missing := [index for index in range(1, first.number + 1) if index not in by_index]:
        named = ", ".join(f"{index}/{first.number}" for index in missing[:5]) + (", ..." if missing[5:] else "")
        raise OutputError(f"missing shards: {named}; name the directory of each")
    return [by_index[index] for index in sorted(by_index)]


def _attempts(part: Part) -> list[Attempt]:
    with closing(connected(part.journal, read_only=True)) as database:
        return attempts(database)
