"""Several methods asked about the same pairs in one run: what `preftree compare` compares.

Their prompts go through the model as one trie, so whatever they share is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import METHODS, SEVERAL, make_method, templates_of
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.methods.set_labels import SetsLabel, set_columns
from preftree.labeling.options.methods import MethodOptions
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Pair, PairLabel, Request, RequestScores, Sample

NO_GOLD = "no gold"
# `consistent` is left out: with other methods it is another thing.
_FIELDS = {name: kind for name, kind in PairLabel.COLUMNS.items() if name != "consistent"}


@dataclass(frozen=True)
class Several:
    """Only pairs whose gold is A or B are asked about; the others could not be compared with anything.

    Attributes:
        names: of the methods, all different.
        methods: they take pairs and have a verdict.
        options: that each of them was made with.
    """

    names: tuple[str, ...]
    methods: tuple[Method, ...]
    options: tuple[MethodOptions, ...]

    name: ClassVar[str] = SEVERAL
    takes: ClassVar[tuple[type[Sample], ...]] = (Pair,)
    columns: ClassVar[Mapping[str, ArrowType]] = set_columns(_FIELDS)

    @cached_property
    def beginnings(self) -> int:
        """See `preftree.labeling.methods.base.HasBeginnings`."""
        heads = {
            (template.system, template.preambles[method.preamble], method.exemplars)  # type: ignore[attr-defined]
            for method in self.methods
            for template in templates_of(method)
        }
        return len(heads)

    def requests(self, sample: Sample) -> list[Request]:
        """Those of all methods, one after another. InputError for a pair without gold."""
        assert isinstance(sample, Pair)
        if sample.gold not in ("a", "b"):
            raise InputError(f"{NO_GOLD}: only pairs whose gold is a or b are compared")
        return [
            replace(request, title=f"{name}, {request.title}")
            for name, method in zip(self.names, self.methods, strict=True)
            for request in method.requests(sample)
        ]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> SetsLabel:
        """An entry for each method. Raises InputError where one of them has no label, since all are compared."""
        labels, start = [], 0
        for method in self.methods:
            end = start + len(method.requests(sample))
            labels.append(method.aggregate(sample, scores[start:end]))
            start = end
        return SetsLabel(self.names, tuple(labels), _FIELDS)

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request; columns tell it of method rlaif alone."""
        if any(method.name != Rlaif.name for method in self.methods):
            return []
        return [
            answer
            for method, entry in zip(self.methods, values["sets"], strict=True)
            for answer in method.answers(entry)
        ]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """The judge is not to explain."""
        return []

    def record(self) -> dict[str, Any]:
        """For run.json. order: of the names, which JSON objects do not keep."""
        entries = {
            name: {"name": method.name, "options": asdict(options), **method.record()}
            for name, method, options in zip(self.names, self.methods, self.options, strict=True)
        }
        return {"order": list(self.names), "methods": entries}


def opened(options: MethodOptions, recorded: Mapping[str, Any] | None) -> Several:
    """See `preftree.labeling.methods.registry.open_method`; what a run has recorded, nothing else."""
    if recorded is None:
        raise UsageError(f"method {SEVERAL} is what `preftree compare` runs; run or resume it with that command")
    names = tuple(recorded["order"])
    entries = [recorded["methods"][name] for name in names]
    asked = tuple(METHODS[entry["name"]].options(**entry["options"]) for entry in entries)
    pairs = zip(entries, asked, strict=True)
    return Several(names, tuple(make_method(entry["name"], own, entry) for entry, own in pairs), asked)
