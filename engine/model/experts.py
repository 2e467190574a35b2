"""A mixture of experts over the rows of a pass: every row goes through the few MLPs that its router chose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Mlp = Callable[[torch.Tensor], torch.Tensor]


def mixture(
    x: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor, experts: Sequence[Mlp], block: int
) -> torch.Tensor:
    """Weighted sum of each row's experts: [rows, hidden].

    x: [rows, hidden]. weights, chosen: [rows, experts per row], which experts of `experts` a row goes through.

    An expert takes its rows in blocks of exactly `block`, the last one padded, and a row adds up its experts in
    ascending order: its bits do not depend on who else chose them.
    """
    out = torch.zeros_like(x)
    padded = torch.zeros(block, x.shape[1], dtype=x.dtype, device=x.device)
    for number, expert in enumerate(experts):
        rows, rank = (chosen == number).nonzero(as_tuple=True)
        for first in range(0, len(rows), block):
            here = rows[first : first + block]
            padded[: len(here)] = x[here]
            update = expert(padded)[: len(here)] * weights[here, rank[first : first + block], None]
            out[here] += update.to(x.dtype)
    return out
