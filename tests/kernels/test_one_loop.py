"""The attention kernel's one loop has the bits of the two that it replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from preftree.engine.planning.trie import TokenTrie
from preftree.kernels import attention
from preftree.kernels.launch import AttentionSettings
from tests.kernels import two_loop_attention
from tests.kernels.on_device import DEVICE, PRODUCT_DTYPES, gpu_if_there
from tests.kernels.test_triton_attention import cut, poisoned, select

pytestmark = gpu_if_there

GROUP = 3
# Low tiles are many, and alike.
MOST_TILES = 5
OPTIONS: list[dict[str, Any]] = [
    {},
    {"softcap": 1.5},
    *({"window": window} for window in (1, 17, 33, 1000)),
    {"window": 40, "softcap": 2.0},
]


def attend(settings: AttentionSettings, size: int, dtype: torch.dtype, **options: Any) -> torch.Tensor:
    """Rows of two branches that end amid a key block, in some tiles that begin and end amid others: [rows, 3, size]."""
    trunk = np.arange(75)
    trie = TokenTrie.build([trunk, np.concatenate([trunk[:43], trunk[20:48]])])
    queries, kv = poisoned(trie.num_rows, GROUP, 1, size, dtype)
    fullest = settings.block_m // GROUP
    tiles = cut(trie, fullest, first=3)
    chosen = torch.arange(0, len(tiles.first_row), 1 + len(tiles.first_row) // MOST_TILES, device=DEVICE)
    out = torch.zeros_like(queries)
    attention.launch_tree_attention(queries, kv, select(tiles, chosen), out, settings, **options)
    return out


def assert_same_bits(
    patch: pytest.MonkeyPatch, settings: AttentionSettings, size: int, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    found = attend(settings, size, dtype, **options)
    patch.setattr(attention, "tree_attention_kernel", two_loop_attention.tree_attention_kernel)
    assert torch.isfinite(found).all()
    assert found.any()
    assert torch.equal(found, attend(settings, size, dtype, **options))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize("block_n", [16, 32])
def test_bits_of_windows_and_caps(
    monkeypatch: pytest.MonkeyPatch, block_n: int, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    assert_same_bits(monkeypatch, AttentionSettings(64, block_n, 4, 3), 64, dtype, options)


@pytest.mark.parametrize("options", [{}, {"window": 21, "softcap": 2.0}], ids=str)
@pytest.mark.parametrize("block_m", [16, 128])
@pytest.mark.parametrize("size", [80, 96, 128, 256])
def test_bits_of_head_sizes_and_tile_heights(
    monkeypatch: pytest.MonkeyPatch, size: int, block_m: int, options: dict[str, Any]
) -> None:
    assert_same_bits(monkeypatch, AttentionSettings(block_m, 32, 4, 3), size, torch.float16, options)


def test_the_comparison_sees_another_key_block() -> None:
    """The inverse: what the loops take in other steps has other bits."""
    one, other = (attend(AttentionSettings(64, block_n, 4, 3), 64, torch.float32) for block_n in (16, 32))
    assert not torch.equal(one, other)
