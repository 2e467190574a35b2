"""Samples to jobs of the queue, and a batch of jobs to labels: one call of the judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from preftree.engine.errors import InputError
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.base import Method
from preftree.labeling.pipeline import Waiting, aggregated, encoded
from preftree.labeling.serving.batcher import Job, prefix_blocks
from preftree.labeling.types import Label, Rejected, Sample


class Asked(NamedTuple):
    """A sample whose prompts are token ids, and the method that was in force when it came."""

    method: Method
    waiting: Waiting


class Scorer:
    """A judge for jobs of several clients."""

    def __init__(self, judge: AnyJudge) -> None:
        self._judge = judge

    def prepare(self, method: Method, sample: Sample) -> Job[Asked]:
        """Makes the prompts and their token ids. Raises InputError where the sample cannot be asked about."""
        entry = encoded(sample, method, self._judge)
        if isinstance(entry, Rejected):
            raise InputError(entry.reason)
        blocks = {block: None for prompt in entry.encoded for block in prefix_blocks(prompt.ids)}
        return Job(Asked(method, entry), sum(len(prompt.ids) for prompt in entry.encoded), tuple(blocks))

    def label(self, batch: Sequence[Asked]) -> list[Label | Exception]:
        """A label for each, or what kept it from having one. Where a whole batch fails, each is tried alone."""
        try:
            (scores,) = self._judge.score_stream([[prompt for asked in batch for prompt in asked.waiting.encoded]])
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [answer for asked in batch for answer in self.label([asked])]
        found: list[Label | Exception] = []
        position = 0
        for method, waiting in batch:
            end = position + len(waiting.encoded)
            labelled = aggregated(waiting.sample, method, scores[position:end])
            found.append(labelled.label or InputError(str(labelled.reason)))
            position = end
        return found
