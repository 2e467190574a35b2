"""The published files of LLMBar, where nothing but the folder says which subset a file is."""

from __future__ import annotations

from contextlib import closing
from pathlib import PurePosixPath

from preftree.labeling.data.benchmarks import LLMBAR_COLUMNS
from preftree.labeling.data.jsonl import JsonLines
from preftree.labeling.data.source import File, Rows

_NAME = "dataset.json"
_GROUPS = ("Adversarial", "CaseStudy", "Processed")
_COLUMNS = {*LLMBAR_COLUMNS}


class LlmBar(JsonLines):
    """JSON in a file named `dataset.json`. Rows with the columns of LLMBar, and no others, get a column `subset`:
    "Natural" for LLMBar/Natural/dataset.json, "Adversarial_Neighbor" for LLMBar/Adversarial/Neighbor/dataset.json.
    """

    @staticmethod
    def is_named(file: File) -> bool:
        """Whether a file may be one of LLMBar."""
        return PurePosixPath(file.recorded).name == _NAME

    def rows(self, last: int = 0) -> Rows:
        """See `JsonLines.rows`."""
        subset = _subset(self.file.recorded)
        with closing(super().rows(last)) as rows:
            while True:
                try:
                    number, row = next(rows)
                except StopIteration as end:
                    return int(end.value)
                if isinstance(row, dict) and row.keys() == _COLUMNS:
                    row["subset"] = subset
                yield number, row


def _subset(place: str) -> str:
    """Of the path or URL of a file."""
    *_, group, folder, _ = ("", "", *PurePosixPath(place).parts)
    return f"{group}_{folder}" if group in _GROUPS else folder
