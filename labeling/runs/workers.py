"""Several processes that judge one run together: who makes the labels, and when."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from preftree.labeling.answers.answers import Answers
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.lock import holder
from preftree.labeling.terminal import count, one_line

_LOGGER = logging.getLogger("preftree")


def answers_of_all(directory: RunDirectory, job: Job, record: Mapping[str, Any]) -> Answers | None:
    """The answers of all workers, for the one that has done its part and is to make the labels.

    None, with a message, while rows are left or another process is busy: of workers that are done at the same time, one
    has the directory to itself in the end. Raises OutputError.
    """
    answers, out = directory.answers_now(record), one_line(str(directory.folder))
    left, _, _ = answers.counts(job.rows)
    if left:
        _LOGGER.info(f"done; {count(left, 'row')} of {out} are left to other workers, and the last makes the labels")
        return None
    if not directory.take_alone():
        busy = holder(directory.folder) or "another process"
        _LOGGER.info(f"done; every row of {out} has answers, and {busy} makes the labels")
        return None
    return directory.answers_now(record)
