"""RM-Bench (Liu et al. 2024): each of three styles of the better response against each of the worse one.

A comparison is hard where the worse response has the more elaborate style, normal where both have one style, and easy
where the better one has it; ties are wrong (THU-KEG/RM-Bench, scripts/utils.py). A domain's score is the mean of its
three accuracies, and the average that of the domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from preftree.labeling.data.benchmarks import CHOSEN_STYLE, REJECTED_STYLE, STYLES
from preftree.labeling.report.arrays import Floats, choices, column
from preftree.labeling.report.benchmarks.benchmark import are_texts, gold_and, mean, scored

DOMAINS = ("chat", "math", "code", "safety")
_ALL = "all prompts"  # where rows name no domain
_MEASURES = ("average", "easy", "normal", "hard")


class RmBench:
    """See `preftree.labeling.report.benchmarks.benchmark.Benchmark`."""

    READS: ClassVar[tuple[str, ...]] = ("domain", CHOSEN_STYLE, REJECTED_STYLE, "verdict", "gold")

    def __init__(self) -> None:
        """Of each domain [better style, worse style, 2]: comparisons, and those that are right."""
        self._counts: dict[str, Floats] = {}

    @classmethod
    def fits(cls, kinds: Mapping[str, Any]) -> bool:
        return are_texts(kinds, CHOSEN_STYLE, REJECTED_STYLE, "verdict", "gold")

    def add(self, batch: Any) -> None:
        import pyarrow as pa
        from pyarrow import compute

        verdict = choices(column(batch, "verdict"))
        gold, there = gold_and(batch, verdict)
        known = pa.array(STYLES)
        better, worse = (
            compute.index_in(column(batch, name), known).fill_null(-1).to_numpy(zero_copy_only=False)
            for name in (CHOSEN_STYLE, REJECTED_STYLE)
        )
        there &= (better >= 0) & (worse >= 0)
        domains = _domains(batch)
        for domain in dict.fromkeys(domains[there]):
            mine = there & (domains == domain)
            counts = self._counts.setdefault(domain, np.zeros((len(STYLES), len(STYLES), 2)))
            np.add.at(counts, (better[mine], worse[mine], 0), 1)
            np.add.at(counts, (better[mine], worse[mine], 1), verdict[mine] == gold[mine])

    def figures(self) -> dict[str, Any] | None:
        """matrix: by domain, the accuracy of each comparison; rows are styles of the better response."""
        if not self._counts:
            return None
        expected = () if _ALL in self._counts else DOMAINS
        there = [name for name in (*DOMAINS, _ALL) if name in self._counts]
        shares = {name: _shares(self._counts[name]) for name in there}
        accuracies = {name: _accuracies(shares[name]) for name in there}
        parts = [{"name": name, "rows": int(self._counts[name][..., 0].sum()), **accuracies[name]} for name in there]
        scores = {name: mean([one[name] for one in accuracies.values()]) for name in _MEASURES}
        matrix = {name: [[_number(cell) for cell in row] for row in one] for name, one in shares.items()}
        return scored("RM-Bench", scores, parts, expected, matrix=matrix)


def _domains(batch: Any) -> Any:
    """Of each row, the domain that its own begins with: safety-refuse and safety-response are safety."""
    found = column(batch, "domain")
    names = [None] * len(batch) if found is None else found.to_pylist()
    known = {name: next((domain for domain in DOMAINS if str(name).startswith(domain)), _ALL) for name in {*names}}
    return np.array([known[name] for name in names], dtype=object)


def _shares(counts: Floats) -> Floats:
    """NaN where nothing was compared."""
    with np.errstate(invalid="ignore"):
        found: Floats = counts[..., 1] / counts[..., 0]
    return found


def _accuracies(shares: Floats) -> dict[str, float | None]:
    lower, upper = np.tril_indices(len(STYLES), -1), np.triu_indices(len(STYLES), 1)
    cells = {"easy": shares[lower], "normal": np.diag(shares), "hard": shares[upper]}
    found = {name: mean([_number(cell) for cell in some]) for name, some in cells.items()}
    found["average"] = mean(found.values())
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
