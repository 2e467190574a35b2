"""Which experts a row goes through, in plain torch: rows are independent, and few numbers are read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class ExpertPairs:
    """Pairs of a row and one of its experts, sorted by expert and then by row. Made by `sort_by_expert`.

    Attributes:
        rows: [pairs] int64, the row of each pair.
        starts: [experts + 1] int64, the first pair of each expert, and the number of pairs.
        places: [rows, experts per row] int64, which pairs are a row's, experts in ascending order.
        weights: [rows, experts per row] float32, in the order of `places`.
    """

    rows: torch.Tensor
    starts: torch.Tensor
    places: torch.Tensor
    weights: torch.Tensor

    def of_rows(self, rows: slice) -> ExpertPairs:
        """The same pairs, and the places of some rows."""
        return replace(self, places=self.places[rows], weights=self.weights[rows])


def route(router_logits: torch.Tensor, per_row: int, is_normalised: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The `per_row` likeliest experts of each row and their probabilities, both [rows, per_row]; weights are float32.

    router_logits: [rows, experts]. is_normalised: the chosen experts' weights are divided by their sum.
    """
    weights, chosen = torch.softmax(router_logits.float(), -1).topk(per_row, dim=-1)
    if is_normalised:
        weights = weights / weights.sum(-1, keepdim=True)
    return weights, chosen


def route_by_sigmoid(
    router_logits: torch.Tensor,
    correction: torch.Tensor,
    per_row: int,
    is_normalised: bool,
    groups: int,
    kept_groups: int,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `per_row` best experts of each row and their sigmoids times `scaling`, both [rows, per_row] (DeepSeek-V3).

    router_logits: [rows, experts] float32. correction: [experts] float32, added to the sigmoids for the choice alone.
    groups, kept_groups: only experts of the best groups are chosen, and a group is as good as its two best experts
    together. is_normalised: the chosen experts' weights are divided by their sum. Of equals the first are better.
    """
    scores = router_logits.sigmoid()
    for_choice = (scores + correction).unflatten(1, (groups, -1))
    best = _best(for_choice.topk(2, dim=-1).values.sum(-1), kept_groups)
    is_left_out = torch.ones_like(for_choice[..., 0], dtype=torch.bool).scatter_(1, best, False)
    chosen = _best(for_choice.masked_fill(is_left_out.unsqueeze(-1), float("-inf")).flatten(1), per_row)
    weights = scores.gather(1, chosen)
    if is_normalised:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return weights * scaling, chosen


def _best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Places of the highest `count` scores of each row. Sigmoids of large logits are equal; of those, the first."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[:, :count]


def sort_by_expert(weights: torch.Tensor, chosen: torch.Tensor, experts: int) -> ExpertPairs:
    """Rows by the experts that they go through. The host waits for nothing.

    weights, chosen: from `route` or `route_by_sigmoid`. experts: how many there are.
    """
    chosen, by_expert = chosen.sort(1)
    of_pairs, order = chosen.flatten().sort(stable=True)
    numbers = torch.arange(max(len(order), experts + 1), device=chosen.device)
    return ExpertPairs(
        rows=order // chosen.shape[1],
        starts=torch.searchsorted(of_pairs, numbers[: experts + 1]),
        places=torch.empty_like(order).scatter_(0, order, numbers[: len(order)]).view_as(chosen),
        weights=weights.gather(1, by_expert),
    )
