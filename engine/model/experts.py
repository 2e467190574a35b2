"""A mixture of experts over rows of a pass: every row goes through the few MLPs that its router chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from preftree.engine.weights.layers import ExpertsWeights
from preftree.kernels.routing import ExpertPairs
from preftree.kernels.tiles import Activation


@dataclass(frozen=True)
class Routed:
    """Rows on their way into the experts.

    Attributes:
        x: [rows, hidden].
        weights: [rows, experts per row] float32.
        chosen: [rows, experts per row], the experts that `weights` are of.
        gate: [rows, 1], of the shared expert; [rows, 0] where it counts in full.
    """

    x: torch.Tensor
    weights: torch.Tensor
    chosen: torch.Tensor
    gate: torch.Tensor


class Mixture:
    """The experts of one layer over all rows of `parts`: of few rows, hardly any would choose the same expert."""

    def __init__(
        self, ops: SimpleNamespace, experts: ExpertsWeights, count: int, parts: Sequence[Routed], row_block: int
    ) -> None:
        """count: how many experts there are. row_block: rows of a matrix product, at most."""
        self._ops, self._experts, self._row_block = ops, experts, row_block
        self.x, self.gate = _joined([part.x for part in parts]), _joined([part.gate for part in parts])
        weights, chosen = _joined([part.weights for part in parts]), _joined([part.chosen for part in parts])
        self._pairs: ExpertPairs = ops.sort_by_expert(weights, chosen, count)
        self._products = self.x.new_empty(chosen.numel(), self.x.shape[1])

    def multiply(self, activation: Activation, **part: range) -> None:
        """Rows through their experts. part: `numbers` of the experts to take, where a device lets some be taken."""
        mlps, block = self._experts.mlps, self._row_block
        self._ops.expert_products(self.x, self._pairs, mlps, activation, self._products, block, **part)

    def combined(self, rows: slice) -> torch.Tensor:
        """Weighted sum of each row's experts, once they are multiplied: [rows, hidden]."""
        total: torch.Tensor = self._ops.combine_experts(self._products, self._pairs.of_rows(rows))
        return total


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
