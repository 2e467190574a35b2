"""Which experts a row goes through, in plain torch: rows are independent, and few numbers are read."""

from __future__ import annotations

import torch


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
