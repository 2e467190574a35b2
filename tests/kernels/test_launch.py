"""The launch table of tree attention, and what it says to models and GPUs that it does not know."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from preftree.kernels import launch


def test_settings() -> None:
    assert launch.tile_rows(90, 128, dtype_bytes=2, group=3) == 21
    assert launch.attention_settings(90, 128, 2, tokens=21, group=3).block_m == 64
    assert launch.attention_settings(89, 128, 2, 42, 3) == launch.attention_settings(80, 128, 2, 42, 3)
    assert launch.attention_settings(120, 128, 2, 42, 3) == launch.attention_settings(80, 128, 2, 42, 3)
    assert launch.attention_settings(100, 128, 2, 21, 3) == launch.attention_settings(90, 128, 2, 21, 3)


def test_tiles_of_single_tokens() -> None:
    """Not chosen by how many rows a tile has, but by how many it may have: the bits of a row hang on it."""
    assert launch.attention_settings(90, 128, 2, tokens=1, group=16) == launch.SINGLE_TOKENS[90, 128]
    assert launch.attention_settings(90, 128, 2, tokens=2, group=8).block_m == 64
    assert launch.attention_settings(90, 128, 2, tokens=1, group=17).block_m == 64
    assert launch.attention_settings(90, 128, 4, tokens=1, group=4).num_warps == 8


@pytest.mark.parametrize("size", launch.HEAD_SIZES)
def test_one_height_where_heights_would_sum_differently(size: int) -> None:
    """From sm_100 on, warps share the rows of a tile as its height says."""
    settings = {launch.attention_settings(100, size, 2, rows, 1) for rows in (1, 32, 64)}
    assert settings == {launch.attention_settings(90, size, 2, 64, 1)}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("size", launch.HEAD_SIZES)
def test_all_heights_of_a_tile_sum_alike(capability: int, size: int) -> None:
    """One key block, and whole rows of 16 a warp, unless there is one height only."""
    top = launch.tile_rows(capability, size, dtype_bytes=2, group=1)
    settings = {launch.attention_settings(capability, size, 2, rows, 1) for rows in range(2, top + 1)}
    assert len({s.block_n for s in settings}) == 1
    assert len(settings) == 1 or {s.block_m // s.num_warps for s in settings} == {16}


def test_low_tiles() -> None:
    """Catches low tiles where there is one height, and ones that no token of this many heads fits."""
    assert [launch.low_tile_rows(80, 128, 2, group) for group in (1, 2, 7, 16, 17)] == [16, 8, 2, 1, 0]
    assert launch.low_tile_rows(80, 256, 2, 1) == launch.low_tile_rows(90, 128, 2, 1) == 0
    assert launch.low_tile_rows(80, 128, 4, 1) == 0
    assert [launch.attention_settings(80, 128, 2, rows, 2).block_m for rows in (8, 9)] == [16, 128]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: launch.attention_settings(90, 72, 2, 1, 1), "heads of size 72, only 64, 80, 96, 128, 256; use device"),
        (lambda: launch.attention_settings(90, 64, 8, 1, 1), "8-byte floats; use bfloat16, float16 or float32"),
        (lambda: launch.attention_settings(75, 64, 2, 1, 1), "capability 8.0 or newer, this one has 7.5; use device"),
        (lambda: launch.attention_settings(90, 64, 2, 43, 3), "129 packed rows exceeds the kernel's 64"),
        (lambda: launch.tile_rows(90, 64, 2, group=129), "up to 64 query heads per K/V head of size 64, this model"),
    ],
)
def test_what_is_not_supported(call: Callable[[], object], words: str) -> None:
    """One line that says what to do: the engine shows it as it is."""
    with pytest.raises(ValueError, match=words.replace(".", r"\.")) as caught:
        call()
    assert "\n" not in str(caught.value)
