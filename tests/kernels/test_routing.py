"""Routing by sigmoids: against the oracle and against transformers' own router, where scores are hard to tell apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from preftree.kernels import reference
from preftree.kernels.routing import route_by_sigmoid, sort_by_expert

EXPERTS, GROUPS, KEPT, PER_ROW = 24, 6, 3, 5


def adversarial() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Logits [rows, experts] and corrections [experts]."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, EXPERTS, generator=generator)
    correction = 0.3 * torch.randn(EXPERTS, generator=generator)
    one = torch.zeros(EXPERTS)
    one[7] = 2.0
    return {
        "plain": (logits, torch.zeros(EXPERTS)),
        "corrected": (logits, correction),
        "a correction that decides": (logits, one),
        "corrections below every score": (logits, correction - 3),
        "nearly equal": (logits * 1e-3, correction * 1e-3),
        "nearly saturated": (logits + 7, correction * 1e-4),
        "vanishing": (logits * 10 - 80, correction),
    }


def routed(logits: torch.Tensor, correction: torch.Tensor, is_normalised: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return route_by_sigmoid(logits, correction, PER_ROW, is_normalised, GROUPS, KEPT, 2.5)


def by_expert(weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """[rows, experts], 0 for those that are not chosen."""
    return torch.zeros(len(weights), EXPERTS, dtype=weights.dtype).scatter_(1, chosen, weights)


def without_ties(logits: torch.Tensor, correction: torch.Tensor) -> torch.Tensor:
    """The rows in which no two experts and no two groups are equally good: [rows]."""
    scores = logits.sigmoid() + correction
    groups = scores.unflatten(1, (GROUPS, -1)).topk(2).values.sum(-1)
    return (scores.sort(1).values.diff() > 0).all(1) & (groups.sort(1).values.diff() > 0).all(1)


@pytest.mark.parametrize("is_normalised", [False, True])
@pytest.mark.parametrize("name", adversarial())
def test_equals_the_oracle(name: str, is_normalised: bool) -> None:
    """Catches groups that are ranked by one expert, weights with the correction in them, and a factor left out."""
    logits, correction = adversarial()[name]
    weights, chosen = routed(logits, correction, is_normalised)
    expected, order = reference.route_by_sigmoid(
        logits, correction, PER_ROW, is_normalised, groups=GROUPS, kept_groups=KEPT, scaling=2.5
    )
    found = by_expert(weights, chosen)
    agrees = (found.gt(0) == by_expert(expected, order).gt(0)).all(1)
    assert agrees.float().mean() >= (0.9 if "nearly" in name else 1.0), "sigmoids of both round differently"
    torch.testing.assert_close(found[agrees], by_expert(expected, order)[agrees], rtol=1e-5, atol=0)


@pytest.mark.parametrize("is_normalised", [False, True])
@pytest.mark.parametrize("kind", ["glm4_moe", "deepseek_v3"])
@pytest.mark.parametrize("name", adversarial())
def test_equals_the_router_of_transformers(kind: str, name: str, is_normalised: bool) -> None:
    """Catches another choice, or other weights, than those of the models' own code, to the bit of a score."""
    transformers = pytest.importorskip("transformers")
    settings: dict[str, Any] = {"n_routed_experts": EXPERTS, "n_group": GROUPS, "topk_group": KEPT}
    settings |= {"num_experts_per_tok": PER_ROW, "norm_topk_prob": is_normalised, "routed_scaling_factor": 2.5}
    small = {"hidden_size": EXPERTS, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.AutoConfig.for_model(kind, **settings, **small, vocab_size=9, first_k_dense_replace=0)
    router = transformers.AutoModelForCausalLM.from_config(config).model.layers[0].mlp.gate
    logits, correction = adversarial()[name]
    with torch.no_grad():
        router.weight.copy_(torch.eye(EXPERTS))
        router.e_score_correction_bias.copy_(correction)
        _, expected, order = router(logits)
    weights, chosen = routed(logits, correction, is_normalised)
    rows = without_ties(logits, correction)
    assert rows.float().mean() > 0.6
    torch.testing.assert_close(by_expert(weights, chosen)[rows], by_expert(expected, order)[rows], rtol=1e-6, atol=0)


def test_equal_scores_go_to_the_first_experts() -> None:
    """Catches ties that hang on the library, the device or the rows beside: sigmoids of large logits are all 1."""
    weights, chosen = routed(torch.full((300, EXPERTS), 40.0), torch.zeros(EXPERTS), True)
    assert (chosen == torch.arange(PER_ROW)).all()
    assert (weights == 0.5).all()


def test_rows_do_not_see_each_other() -> None:
    """Catches bits that depend on how many rows there are, and on which."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(200, EXPERTS, generator=generator).mul_(8).round_().div_(4)  # with many ties
    correction = torch.zeros(EXPERTS)
    weights, chosen = routed(logits, correction, True)
    for rows in (torch.randperm(200, generator=generator), torch.tensor([77]), torch.arange(50, 91)):
        found, order = routed(logits[rows], correction, True)
        assert torch.equal(order, chosen[rows])
        assert torch.equal(found, weights[rows])


def test_every_expert_can_be_chosen_in_one_group() -> None:
    """Catches a group that is left out where there is one alone."""
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    weights, chosen = route_by_sigmoid(logits, torch.zeros(4), 4, False, 1, 1, 1.0)
    assert (chosen.sort(1).values == torch.arange(4)).all()
    assert torch.equal(weights, logits.sigmoid().gather(1, chosen))


def test_pairs_are_sorted_by_expert_and_then_by_row() -> None:
    """Catches weights that go to another expert, rows that are left out, and an order that hangs on the router's."""
    chosen = torch.tensor([[4, 0], [1, 4], [4, 2]])
    weights = torch.tensor([[0.75, 0.25], [0.5, 0.125], [1.0, 2.0]])
    pairs = sort_by_expert(weights, chosen, 6)
    assert pairs.rows.tolist() == [0, 1, 2, 0, 1, 2]
    assert pairs.starts.tolist() == [0, 1, 2, 3, 3, 6, 6]
    assert pairs.places.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert pairs.weights.tolist() == [[0.25, 0.75], [0.5, 0.125], [2.0, 1.0]]
    assert pairs.of_rows(slice(1, 3)).places.tolist() == [[1, 4], [2, 5]]
