"""A finished run of method salmon with scores of a test's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.labeling.data.labels_file import LabelWriter
from preftree.labeling.methods.principle_labels import PrincipleScore, SalmonLabel
from preftree.labeling.principles.principle import Principle
from preftree.labeling.runs.manifest import write_record
from tests.labeling.fakes import row, write_rows
from tests.labeling.opened import info_of, read, sha256_of

PRINCIPLES = tuple(Principle(name, f"Be {name}.", f"Do not be {name}.") for name in ("concise", "ethical", "precise"))


@dataclass(frozen=True)
class Judged:
    """A label with the scores of each principle: s12 and s21, or one number for both."""

    scores: Sequence[float | tuple[float, float]]
    principles: Sequence[Principle] = PRINCIPLES
    prompt_tokens: int = 1

    def values(self) -> dict[str, Any]:
        both = [score if isinstance(score, tuple) else (score, score) for score in self.scores]
        judged = [PrincipleScore(one.name, *two, 0.9, 0.9) for one, two in zip(self.principles, both, strict=False)]
        return dict.fromkeys(SalmonLabel.COLUMNS) | {"principles": [score.values() for score in judged]}


def salmon_run(
    directory: Path,
    scores: Sequence[Sequence[float | tuple[float, float]] | None],
    principles: Sequence[Principle] = PRINCIPLES,
    rows: Sequence[dict[str, Any]] | None = None,
    **record: Any,
) -> Path:
    """A finished run of method salmon, next to its input; None is a rejected row."""
    directory.mkdir()
    rows = rows or [row(id=f"row {k}", response_a="" if one is None else f"this {k}") for k, one in enumerate(scores)]
    source = write_rows(directory / "in.jsonl", rows)
    found = info_of(source)
    out = directory / "labels"
    out.mkdir()
    with LabelWriter(out, found, SalmonLabel.COLUMNS) as writer:
        judged = [None if one is None else Judged(one, principles) for one in scores]
        writer.add(list(zip(read(source), judged, strict=False)))
        method = {"name": "salmon", "principles": [principle.record() for principle in principles]}
        run = {"input": {"path": str(source), "sha256": sha256_of(source)}, "options": {"limit": None}, "scorer": {}}
        writer.publish()
    write_record(out, {"state": "complete", "method": method, **run} | record)
    return out
