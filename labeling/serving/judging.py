"""How responses are judged at a moment: the methods in force, and the principles, which may be replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.calibration.artefact import Calibration
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.group import Group
from preftree.labeling.methods.principled import Principled
from preftree.labeling.methods.registry import open_method
from preftree.labeling.methods.reward import Reward
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.methods.rubric import ByRubric
from preftree.labeling.options.serving import ServeOptions
from preftree.labeling.principles.row_sets import NO_SETS, RowSets
from preftree.labeling.principles.sets import EVERY, GUARDS, Statements, load_principles
from preftree.labeling.types import Response


@dataclass(frozen=True)
class Judging:
    """What is in force for requests that come now. A replacement is another object: requests keep theirs.

    Attributes:
        method: as the command line names it.
        single: scores a response on its own; None where the method cannot.
        group: compares the responses of one prompt; None where the method cannot.
        sets: of principles; empty for a method without.
        rubric_column: of a response's row, with the rubric that it is judged by; None where the method has one or none.
    """

    method: str
    single: Method | None
    group: Group | None
    sets: RowSets = NO_SETS
    rubric_column: str | None = None

    @property
    def digest(self) -> str | None:
        """SHA-256 of the principles; None for a method without."""
        if not self.sets:
            return None
        text = json.dumps(self.sets.record(), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Of the principles, as JSON."""
        return {"method": self.method, **self.sets.record(), "sha256": self.digest}


def opened(options: ServeOptions) -> Judging:
    """Raises InputError for a template or principles that cannot be used."""
    # Comparisons are there of method ranking alone, and what is calibrated here is the pairs of a group.
    method = open_method(replace(options, comparisons=None, calibration=None))
    compares = isinstance(method, Rlaif) or (isinstance(method, Principled) and method.pair is not None)
    if options.comparisons is not None and (options.comparisons % 2 or not compares):
        raise UsageError("--comparisons must be an even number, and is for methods that compare two responses")
    if options.calibration is not None and not isinstance(method, Rlaif):
        raise UsageError("--calibration is about pairs, which method rlaif alone compares here; leave it out")
    if isinstance(method, Principled):
        return _of_principled(method, options.comparisons)
    if isinstance(method, Reward):
        return Judging(method.name, method, None, method.sets)
    if isinstance(method, Rlaif):
        calibration = None if options.calibration is None else Calibration.read(options.calibration)
        return Judging(method.name, None, Group(method, options.comparisons, calibration))
    column = method.rubrics.column if isinstance(method, ByRubric) else None
    return Judging(method.name, method if Response in method.takes else None, None, rubric_column=column)


def check_calibration(judging: Judging, options: ServeOptions, judge: AnyJudge) -> None:
    """InputError where pairs are to be calibrated by a file that was made for another judge, or asked otherwise."""
    group = judging.group
    if group is not None and group.calibration is not None:
        method = {"name": group.pairs.name, **group.pairs.record()}
        record = {"method": method, "options": vars(replace(options, comparisons=None)), "scorer": judge.describe()}
        group.calibration.check(record, str(options.calibration))


class Principles:
    """What may stand in a set of principles, and what is in every set whatever a client asks for."""

    def __init__(self, options: ServeOptions) -> None:
        own = load_principles(options.principles) if options.principles is not None else ()
        self._statements = Statements((*own, *load_principles(EVERY)))
        self._common = (*options.add_principle, *(GUARDS if options.guard else ()))

    def replaced(self, judging: Judging, sets: Sequence[Sequence[str]]) -> Judging:
        """The same method under other sets, each by names of principles and statements.

        Raises InputError for a method without principles, members that mean nothing, and sets that are the same.
        """
        method = judging.single or (judging.group.pairs if judging.group else None)
        if not isinstance(method, Principled | Reward) or not method.sets:
            raise InputError(
                f"method {judging.method} follows no principles here; start the server with principled, or with a "
                "reward model that follows some"
            )
        chosen = RowSets(self._statements.sets((*members, *self._common) for members in sets))
        if isinstance(method, Reward):
            return replace(judging, single=replace(method, sets=chosen), sets=chosen)
        return _of_principled(replace(method, sets=chosen), judging.group.comparisons if judging.group else None)


def _of_principled(method: Principled, comparisons: int | None) -> Judging:
    return Judging(
        method.name,
        method if method.single else None,
        Group(method, comparisons) if method.pair else None,
        method.sets,
    )
