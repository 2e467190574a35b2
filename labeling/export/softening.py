"""Soft labels for trainers that know only hard ones: each pair is written several times, with either side chosen.

Of K copies about p·K have A chosen and the others B, so the mean over them of any loss of (pair, verdict) is that loss
under the soft label: -log σ(Δ) becomes -p log σ(Δ) - (1-p) log σ(-Δ), with p rounded to a multiple of 1/K. The rounding
is systematic: what a pair's share loses is carried on to the next one, so that errors do not add up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from preftree.labeling.export.comparison import Comparison
from preftree.labeling.principles.drawing import uniforms

# Probabilities are counted in these units: sums of whole numbers are exact, however many pairs there are.
_UNITS = 2**53


@dataclass
class Softening:
    """Copies of comparisons, in the order in which they are exported.

    Attributes:
        copies: of each comparison.
        seed: of the first carry, which is uniform in [0, 1): a pair's expected share over seeds is exactly p.
    """

    copies: int
    seed: int = 0

    def __post_init__(self) -> None:
        self._carry = int(uniforms(f"soften/{self.seed}", 1)[0] * _UNITS)

    def of(self, one: Comparison) -> Iterator[Comparison]:
        """The copies of a comparison with a probability, those with A chosen first. Ids end in #1, #2, ..."""
        assert one.p_a is not None
        with_a, self._carry = divmod(round(one.p_a * _UNITS) * self.copies + self._carry, _UNITS)
        for number in range(self.copies):
            yield replace(one, id=f"{one.id}#{number + 1}", verdict="a" if number < with_a else "b")
