"""The label head in Triton against its oracle, on a GPU or else in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from preftree.kernels import label_head as head_module
from preftree.kernels import reference
from preftree.kernels.label_head import label_head, pack_head, scalar_head
from tests.kernels.on_device import (
    DEVICE,
    PRODUCT_DTYPES,
    amid_nan,
    assert_as_good_as_plain,
    free_bytes,
    gpu_if_there,
    needs_gpu,
)

pytestmark = [*gpu_if_there, pytest.mark.usefixtures("poisoned_allocations")]


Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def inputs(rows: int, vocab: int, size: int, dtype: torch.dtype) -> Inputs:
    """Hidden rows, output matrix and three queries a row: the first, some, and the last token."""
    hidden = amid_nan(torch.randn(rows, size).to(dtype))
    weight = amid_nan((3 * size**-0.5 * torch.randn(vocab, size)).to(dtype))
    tokens = torch.cat([torch.zeros(rows), torch.randint(0, vocab, (rows,)), torch.full((rows,), vocab - 1)])
    return hidden, weight, torch.arange(rows).repeat(3).to(DEVICE), tokens.long().to(DEVICE)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize(
    ("rows", "vocab", "size"),
    [(1, 1201, 64), (31, 513, 96), (33, 50, 576), (127, 129, 1000), (129, 1025, 64), (2, 1, 64), (3, 1024, 96)],
)
def test_against_the_oracle(rows: int, vocab: int, size: int, dtype: torch.dtype) -> None:
    """Vocabularies of one token, of less than a block, of whole blocks, of a range and one token more."""
    check_against_oracle(*inputs(rows, vocab, size, dtype))


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
def test_soft_caps(dtype: torch.dtype) -> None:
    """Catches a cap on the logits but not on the normaliser, or the other way round."""
    check_against_oracle(*inputs(33, 600, 96, dtype), softcap=2.0)


def check_against_oracle(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    query_rows: torch.Tensor,
    tokens: torch.Tensor,
    softcap: float | None = None,
) -> None:
    ours = label_head(hidden, pack_head(weight), query_rows, tokens, softcap=softcap)
    plain = reference.label_head(hidden, weight, query_rows, tokens, softcap)
    exact = reference.label_head(hidden.double(), weight.double(), query_rows, tokens, softcap)
    for mine, usual, true in zip(ours, plain, exact, strict=True):
        assert mine.dtype == torch.float32
        assert_as_good_as_plain(mine, usual, true)


def test_large_logits_do_not_overflow() -> None:
    """exp of a logit of 1000 is infinite; the running maximum keeps the sum finite, in every range."""
    hidden, weight, query_rows, tokens = inputs(5, 1100, 64, torch.float32)
    ours = label_head(1000 * hidden, weight, query_rows, tokens)
    exact = reference.label_head(1000 * hidden.double(), weight.double(), query_rows, tokens)
    torch.testing.assert_close(tuple(x.double() for x in ours), exact, rtol=1e-6, atol=1e-3)


def test_no_queries_and_no_rows() -> None:
    hidden, weight, query_rows, tokens = inputs(5, 70, 64, torch.float32)
    logits, normaliser = label_head(hidden, weight, query_rows[:0], tokens[:0])
    assert logits.shape == (0,)
    assert torch.isfinite(normaliser).all()
    assert [len(x) for x in label_head(hidden[:0], weight, query_rows[:0], tokens[:0])] == [0, 0]


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
def test_bits_depend_neither_on_the_number_nor_on_the_order_of_rows(dtype: torch.dtype) -> None:
    """Fails if the vocabulary's ranges follow the number of rows, or if rows of a block mix."""
    rows = 131
    hidden, weight, query_rows, tokens = inputs(rows, 1100, 96, dtype)
    logits, normaliser = label_head(hidden, weight, query_rows, tokens)
    order = torch.randperm(rows).to(DEVICE)
    shuffled = label_head(hidden[order], weight, order.argsort()[query_rows], tokens)
    assert torch.equal(shuffled[0], logits)
    assert torch.equal(shuffled[1], normaliser[order])
    for kept in ([0], [77], [130], [130, 5, 77], list(range(64, 129))):
        index = torch.tensor(kept, device=DEVICE)
        mine = torch.arange(len(kept), device=DEVICE)
        some = label_head(hidden[index], weight, mine, tokens[rows + index])
        assert torch.equal(some[0], logits[rows + index])
        assert torch.equal(some[1], normaliser[index])


def test_bits_show_other_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inverse: with ranges of another length the bits differ, so the test above would notice."""
    hidden, weight, query_rows, tokens = inputs(64, 1100, 96, torch.float32)
    _, normaliser = label_head(hidden, weight, query_rows, tokens)
    chosen = replace(head_module.SETTINGS[torch.float32], split=128)
    monkeypatch.setitem(head_module.SETTINGS, torch.float32, chosen)
    _, other = label_head(hidden, weight, query_rows, tokens)
    torch.testing.assert_close(other, normaliser, rtol=1e-5, atol=1e-5)
    assert not torch.equal(other, normaliser)


def test_no_logits_of_the_whole_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, query_rows, tokens = inputs(64, 2048, 64, torch.float32)
    allocated = []
    empty = torch.empty

    def recording(*shape: int, **options: Any) -> torch.Tensor:
        allocated.append(empty(shape, **options))
        return allocated[-1]

    monkeypatch.setattr(torch, "empty", recording)
    label_head(hidden, weight, query_rows, tokens)
    assert allocated
    assert sum(x.numel() for x in allocated) < 64 * 2048 / 64


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 64), (33, 1000), (129, 96)])
def test_scalars(rows: int, size: int, dtype: torch.dtype) -> None:
    """Against the oracle; and a row has the same bits alone, and among others in another order."""
    hidden, weight, _, _ = inputs(rows, 1, size, dtype)
    places = torch.arange(rows, device=DEVICE)
    found = scalar_head(hidden, weight, places)
    assert found.dtype == torch.float32
    plain = reference.scalar_head(hidden, weight, places)
    assert_as_good_as_plain(found, plain, reference.scalar_head(hidden.double(), weight.double(), places))
    order = torch.randperm(rows).to(DEVICE)
    assert torch.equal(scalar_head(hidden[order], weight, places), found[order])
    assert torch.equal(scalar_head(hidden, weight, order), found[order])
    assert torch.equal(scalar_head(hidden[-1:], weight, places[:1]), found[-1:])


@needs_gpu
@pytest.mark.gpu
def test_more_elements_than_32_bits_count() -> None:
    """Rows and tokens at offsets beyond 2^31: whoever computes them in 32 bits reads elsewhere, or crashes."""
    size, few = 4096, 70
    many = 2**31 // size + few
    if free_bytes() < 16e9:
        pytest.skip("needs 16 GB of free memory")
    hidden, weight = (torch.zeros(many, size, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    hidden[-few:], weight[-few:] = (torch.randn(few, size).to(DEVICE) / 16 for _ in range(2))
    last, places = torch.arange(few, device=DEVICE), torch.arange(many - few, many, device=DEVICE)
    logits, normaliser = label_head(hidden[-few:].clone(), weight[-few:].clone(), last, last)
    far_logits, far_normaliser = label_head(hidden, weight[-few:].clone(), places, last)
    assert torch.equal(far_logits, logits)
    assert torch.equal(far_normaliser[-few:], normaliser)
    far_logits, far_normaliser = label_head(hidden[-few:].clone(), weight, last, places)
    assert torch.equal(far_logits, logits)
    # All other tokens have a logit of 0.
    expected = torch.logaddexp(normaliser, torch.tensor(many - few, device=DEVICE).log())
    torch.testing.assert_close(far_normaliser, expected, rtol=1e-6, atol=1e-5)
