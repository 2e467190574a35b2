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
