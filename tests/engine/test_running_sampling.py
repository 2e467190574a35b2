"""Drawing tokens: the distribution that was asked for, and the same token for the same sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from preftree import Sampling
from preftree.engine.decoding.sampler import next_tokens, uniforms
from preftree.engine.planning.trie import as_token_ids

ROWS = 20_000


def drawn(logits: torch.Tensor, **options: Any) -> torch.Tensor:
    """Shares of each token among `ROWS` draws from `logits` [vocab], at evenly spread uniform numbers."""
    uniform = (torch.arange(ROWS) + 0.5) / ROWS
    tokens = next_tokens(logits.expand(ROWS, -1), uniform, Sampling(**options))
    return torch.bincount(tokens, minlength=len(logits)) / ROWS


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.6},
        {"temperature": 0.8, "top_k": 7, "top_p": 0.9},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_k": 1000, "top_p": 1.0},
        {"temperature": 1.0, "top_p": 1e-9},
    ],
)
def test_the_distribution_is_that_of_transformers(options: dict[str, Any]) -> None:
    """Temperature, then top_k, then top_p, over what top_k left: another order keeps other tokens."""
    transformers = pytest.importorskip("transformers")
    logits = torch.randn(23, generator=torch.Generator().manual_seed(1)) * 2
    warped = logits.unsqueeze(0) / options["temperature"]
    ids = torch.zeros(1, 1, dtype=torch.long)
    if "top_k" in options:
        warped = transformers.TopKLogitsWarper(min(options["top_k"], 23))(ids, warped)
    if options.get("top_p", 1.0) < 1.0:
        warped = transformers.TopPLogitsWarper(options["top_p"])(ids, warped)
    expected = warped.softmax(-1)[0]
    shares = drawn(logits, **options)
    assert not shares[expected == 0].any()
    torch.testing.assert_close(shares, expected, atol=2e-4, rtol=0)


def test_the_ends_of_the_unit_interval() -> None:
    """0 takes the first token, the largest number below 1 the last that has any probability, and never one behind."""
    logits = torch.tensor([[-1e9, 1.0, 2.0, -1e9]]).expand(2, -1)
    ends = torch.tensor([0.0, np.nextafter(np.float32(1), np.float32(0))])
    assert next_tokens(logits, ends, Sampling(temperature=1.0)).tolist() == [1, 2]
    assert next_tokens(logits, ends, Sampling(temperature=1.0, top_k=2)).tolist() == [2, 1]


def test_greedy_takes_the_first_of_equals() -> None:
    assert next_tokens(torch.tensor([[1.0, 3.0, 3.0]]), torch.zeros(1), Sampling()).tolist() == [1]


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(32, 5000, generator=torch.Generator().manual_seed(2))
    uniform = torch.rand(32, generator=torch.Generator().manual_seed(3))
    sampling = Sampling(temperature=1.2, top_k=40, top_p=0.9)
    tokens = next_tokens(logits, uniform, sampling)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(4))
    assert torch.equal(next_tokens(logits[order], uniform[order], sampling), tokens[order])


def test_what_a_sequence_draws_from_is_its_own() -> None:
    """Other prompts, samples and seeds draw other numbers; more tokens draw the same ones first."""
    prompt, other = as_token_ids([1, 2, 3]), as_token_ids([1, 2, 4])
    sampling = Sampling(max_new_tokens=50, temperature=1.0)
    mine = uniforms(sampling, prompt, 0)
    assert np.array_equal(mine, uniforms(sampling, prompt, 0))
    assert np.array_equal(mine[:20], uniforms(Sampling(max_new_tokens=20, temperature=1.0), prompt, 0))
    seeded = Sampling(max_new_tokens=50, temperature=1.0, seed=1)
    for strange in (uniforms(sampling, other, 0), uniforms(sampling, prompt, 1), uniforms(seeded, prompt, 0)):
        assert len(set(mine.tolist()) & set(strange.tolist())) == 0
    assert ((mine >= 0) & (mine < 1)).all()


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.9}, {"top_k": 3, "top_p": 0.9}], ids=str)
def test_logits_that_are_no_numbers_give_a_token_in_range(options: dict[str, Any]) -> None:
    """On a GPU an index out of range ends every later call of the process."""
    logits = torch.full((4, 10), float("nan"))
    tokens = next_tokens(logits, torch.tensor([0.0, 0.3, 0.6, 0.999]), Sampling(temperature=0.7, **options))
    assert ((tokens >= 0) & (tokens < 10)).all()
