"""Shards, run on any machines, joined into the run that one machine would have made, bytes of the labels included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.data.folder import Folder, folder_of
from preftree.labeling.data.selection import parse_shard, rows_of, selection_of
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.aggregate import check_answered
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.labels import labels_of_parts
from preftree.labeling.runs.manifest import difference, judge_of, with_judge
from preftree.labeling.runs.recorded import check_format, finished_run, labelled_input


@dataclass(frozen=True)
class Shard:
    """A finished shard. index: from 1, of `number`."""

    path: Folder
    record: dict[str, Any]
    index: int
    number: int

    @classmethod
    def of(cls, path: Folder) -> Shard:
        """Raises OutputError for anything but a finished shard."""
        record = finished_run(path, shards=True)
        check_format(path, record)
        shard = record["options"].get("shard")
        if shard is None:
            raise OutputError(f"{path} is no shard but a run of its own, labelled without --shard")
        return cls(path, record, *parse_shard(shard))


def merge(
    paths: Sequence[str], out: str, input_path: str | None, overwrite: bool, quiet: bool, same_hardware: bool = False
) -> RunSummary:
    """Joins finished shards into the run `out`. Loads no model. Raises PreftreeError, and then leaves nothing."""
    shards = complete([Shard.of(folder_of(path)) for path in paths])
    record = shards[0].record
    dataset = labelled_input(record, input_path)
    with RunDirectory(out, overwrite) as directory:
        job = Job.again(record, dataset, out=out, quiet=quiet, shard=None, same_hardware=same_hardware)
        answers = []
        for shard in shards:
            answers.append(Answers.open(shard.path.child(ANSWERS), shard.record["answers"]))
            mine = rows_of(dataset.info.rows, **selection_of(shard.record["options"]))
            check_answered(shard.path, answers[-1], mine)
        directory.check_new()
        new_record = with_judge(job.manifest(), judge_of(record)) | {"answers": record["answers"]}
        return labels_of_parts(directory, job, new_record, [part for found in answers for part in found.parts])


def complete(shards: Sequence[Shard]) -> list[Shard]:
    """The shards in order. OutputError where one is missing, there twice, or of another run."""
    first = shards[0]
    by_index: dict[int, Shard] = {}
    for shard in shards:
        if shard.number != first.number:
            raise OutputError(
                f"{shard.path} is one of {shard.number:,} shards, and {first.path} one of {first.number:,}"
            )
        if said := difference(first.record, shard.record, shards=True):
            raise OutputError(f"{shard.path} is not of the same run as {first.path}: {said}")
        if shard.index in by_index:
            raise OutputError(
                f"{by_index[shard.index].path} and {shard.path} are both shard {shard.index}/{shard.number}"
            )
        by_index[shard.index] = shard
    if missing := [index for index in range(1, first.number + 1) if index not in by_index]:
        named = ", ".join(f"{index}/{first.number}" for index in missing[:5]) + (", ..." if missing[5:] else "")
        raise OutputError(f"missing shards: {named}; name the directory of each")
    return [by_index[index] for index in sorted(by_index)]
