"""The Triton kernel of tree attention against its oracle, and the promise that a row's bits are its path's alone.

Without a GPU it runs in Triton's interpreter, whose bfloat16 products are wrong: float16 and float32 are tested there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from preftree.engine.planning.plan import build_plan
from preftree.engine.planning.tiling import by_height
from preftree.engine.planning.trie import TokenTrie
from preftree.kernels import attention, launch, reference
from preftree.kernels.tiles import PathTiles
from tests.kernels.on_device import (
    DEVICE,
    DTYPES,
    PRODUCT_DTYPES,
    assert_as_good_as_plain,
    free_bytes,
    gpu_if_there,
    needs_gpu,
)
from tests.kernels.shapes import LAYOUT, random_sequences, sinks_of, tile_runs

pytestmark = gpu_if_there


def cut(trie: TokenTrie, rows: int, first: int | None = None) -> PathTiles:
    """Every branch in tiles of `rows` rows, the branch's first tile of `first`."""
    tiles, slots, listed = [], [], 0
    for start, length, first_depth, path in zip(trie.start, trie.length, trie.first_depth, trie.paths(), strict=True):
        bounds = [0, *range(first or rows, length, rows), length]
        for begin, end in pairwise(bounds):
            tiles.append((start + begin, end - begin, first_depth + begin, listed))
        slots.append(path)
        listed += len(path)
    columns = [torch.tensor(column, dtype=torch.int32, device=DEVICE) for column in zip(*tiles, strict=True)]
    first_row, num_rows, depth, begins = columns
    listing = torch.from_numpy(np.concatenate(slots).astype(np.int32)).to(DEVICE)
    return PathTiles(first_row, num_rows, depth, begins, listing, max_rows=int(num_rows.max()))


def select(tiles: PathTiles, chosen: torch.Tensor) -> PathTiles:
    fields = ("first_row", "num_rows", "first_depth", "path")
    return replace(tiles, **{name: getattr(tiles, name)[chosen] for name in fields})


def tallest(size: int, dtype: torch.dtype, group: int) -> int:
    return launch.tile_rows(launch.capability_of(DEVICE), size, dtype.itemsize, group)


def poisoned(rows: int, heads: int, kv_heads: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and K/V of `rows` rows, NaN in the rows and slots after them."""
    generator = torch.Generator().manual_seed(rows + heads)
    queries = torch.full((rows + 9, heads, size), float("nan"))
    kv = torch.full((rows + 9, 2, kv_heads, size), float("nan"))
    queries[:rows] = torch.randn(rows, heads, size, generator=generator)
    kv[:rows] = torch.randn(rows, 2, kv_heads, size, generator=generator)
    return queries.to(DEVICE, dtype), kv.to(DEVICE, dtype)


def attend(
    queries: torch.Tensor, kv: torch.Tensor, tiles: PathTiles | tuple[PathTiles, ...], **options: Any
) -> torch.Tensor:
    out = torch.full_like(queries, float("nan"))
    attention.tree_attention(queries, kv, tiles, out, **options)
    return out


def visible_slots(trie: TokenTrie, window: int | None) -> torch.Tensor:
    """[rows, rows], whether a row's path leads through another's slot, within the window."""
    visible = np.zeros((trie.num_rows, trie.num_rows), dtype=bool)
    for start, length, first_depth, path in zip(trie.start, trie.length, trie.first_depth, trie.paths(), strict=True):
        for i in range(length):
            visible[start + i, path[: first_depth + i + 1][-(window or len(path)) :]] = True
    return torch.from_numpy(visible).to(DEVICE)


def by_oracle(
    queries: torch.Tensor,
    kv: torch.Tensor,
    trie: TokenTrie,
    dtype: torch.dtype,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """What `preftree.kernels.reference` computes row by row, all rows at once in `dtype`: [rows, heads, size]."""
    rows, (heads, size) = trie.num_rows, queries.shape[1:]
    query = queries[:rows].to(dtype).transpose(0, 1)
    keys, values = kv[:rows].to(dtype).repeat_interleave(heads // kv.shape[2], dim=2).permute(1, 2, 0, 3)
    scores = reference.capped(query @ keys.transpose(1, 2) * (size**-0.5 if scale is None else scale), softcap)
    scores = scores.masked_fill(~visible_slots(trie, window), float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.to(dtype)[:, None, None].expand(heads, rows, 1)], -1)
    return (torch.softmax(scores, -1)[..., :rows] @ values).transpose(0, 1)


OPTIONS: list[dict[str, Any]] = [
    {"scale": 0.3},
    {"softcap": 1.5},
    *({"window": window} for window in (1, 17, 64, 100, 1000)),
    {"scale": 0.3, "window": 50, "softcap": 2.0},
]


@pytest.mark.parametrize("options", [{}, OPTIONS[-1], {"sinks": sinks_of(6)}], ids=["plain", "all", "sinks"])
def test_the_oracle_is_the_reference(options: dict[str, Any]) -> None:
    trie = TokenTrie.build(random_sequences(4, 5, 60))
    rows = trie.num_rows
    queries, kv = poisoned(rows, 6, 2, 64, torch.float32)
    plan = build_plan(trie, LAYOUT)
    padded = torch.zeros(len(plan.tokens), 6, 64, dtype=torch.float64)
    padded[:rows] = queries[:rows]
    expected = torch.empty_like(padded)
    reference.tree_attention(padded, kv.cpu().double(), tile_runs(plan.tiles), expected, **options)
    torch.testing.assert_close(by_oracle(queries, kv, trie, torch.float64, **options).cpu(), expected[:rows])


def check_against_oracle(
    sequences: Sequence[np.ndarray],
    heads: int,
    kv_heads: int,
    size: int,
    dtype: torch.dtype,
    tile: int | None = None,
    **options: Any,
) -> None:
    """Error against float64 at most twice plain PyTorch's in the same dtype, in place as the model calls it."""
    trie = TokenTrie.build(sequences)
    rows = trie.num_rows
    queries, kv = poisoned(rows, heads, kv_heads, size, dtype)
    tiles = cut(trie, tile or tallest(size, dtype, heads // kv_heads))
    exact, plain = (by_oracle(queries, kv, trie, t, **options) for t in (torch.float64, dtype))
    separate = attend(queries, kv, tiles, **options)
    assert separate[rows:].isnan().all(), "rows in no tile stay as they are"
    attention.tree_attention(queries, kv, tiles, out=queries, **options)
    assert torch.equal(queries[:rows], separate[:rows])
    # No unwritten slot is read, every row is written.
    assert_as_good_as_plain(queries[:rows], plain, exact)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize(
    ("rows", "above", "group"),
    [(1, 0, 1), (1, 699, 1), (31, 33, 3), (33, 31, 8), (127, 1, 4), (129, 63, 1), (129, 0, 3), (64, 64, 4)],
)
def test_rows_below_a_prefix(rows: int, above: int, group: int, dtype: torch.dtype) -> None:
    """Branches that begin and end at, before and behind the bounds of key blocks."""
    tokens = np.arange(above + rows)
    check_against_oracle([tokens, tokens[: max(above, 1)]], group, 1, 64, dtype)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize(
    ("longest", "group"),
    [(1, 1), (2, 3), (15, 4), (15, 8), *((70, group) for group in (1, 3, 4, 8)), (150, 3), (150, 8)],
)
def test_tries(longest: int, group: int, dtype: torch.dtype) -> None:
    """Branches that begin and end anywhere, two K/V heads, tiles that are not full."""
    check_against_oracle(random_sequences(longest + group, 4, longest), 2 * group, 2, 64, dtype)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_windows_and_caps(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Windows that begin in a key block, at its bounds and before every path; rows of a tile that begin in several."""
    check_against_oracle(random_sequences(3, 3, 150), 2, 1, 64, dtype, **options)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize("options", [{}, {"window": 17}, OPTIONS[-1]], ids=str)
def test_sinks(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Catches a sink of another head, one that joins with every block, and one in exponents of the wrong base."""
    check_against_oracle(random_sequences(3, 3, 150), 6, 2, 64, dtype, **options, sinks=sinks_of(6).to(DEVICE))


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")
def test_sinks_of_any_size() -> None:
    """Catches overflow: far above all scores a sink leaves nothing; far below it changes no bit."""
    trie = TokenTrie.build([np.arange(70)])
    queries, kv = poisoned(70, 2, 1, 64, torch.float32)
    tiles = cut(trie, 20)
    sinks = torch.tensor([1e4, -1e4], device=DEVICE)
    out, plain = (attend(queries, kv, tiles, sinks=each)[:70] for each in (sinks, None))
    assert not out[:, 0].any()
    assert torch.equal(out[:, 1], plain[:, 1])


def test_a_window_leaves_blocks_before_it_out() -> None:
    """Catches windows that are but a mask: what lies a key block before them is never read (NaN)."""
    trie = TokenTrie.build([np.arange(300)])
    queries, kv = poisoned(300, 1, 1, 64, torch.float32)
    tiles = cut(trie, 7)
    tile = select(tiles, torch.tensor([len(tiles.first_row) - 1], device=DEVICE))
    first, rows = int(tile.first_row[0]), int(tile.num_rows[0])
    kv[: first - 50 - 128] = float("nan")
    out = attend(queries, kv, tile, window=50)
    assert torch.isfinite(out[first : first + rows]).all()


def test_a_long_path() -> None:
    """Many blocks without a mask, shared by branches far down."""
    trunk = np.arange(680)
    sequences = [np.concatenate([trunk[:kept], np.full(20, 1000 + kept)]) for kept in (5, 640, 680)]
    check_against_oracle([trunk, *sequences], 4, 1, 64, torch.float16)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize("size", [80, 96, 128, 256])
def test_head_sizes(size: int, dtype: torch.dtype) -> None:
    """Head sizes that are no power of two leave columns of a block empty."""
    check_against_oracle(random_sequences(size, 3, 70), 6, 2, size, dtype)


def test_a_tile_reads_its_own_path_only() -> None:
    """Everything that is not on the path of the one tile that runs is NaN, siblings and deeper rows included."""
    trie = TokenTrie.build(random_sequences(5, 5, 90))
    queries, kv = poisoned(trie.num_rows, 4, 1, 64, torch.float32)
    tiles = cut(trie, 7)
    for chosen in range(0, len(tiles.first_row), 3):
        tile = select(tiles, torch.tensor([chosen], device=DEVICE))
        begin, rows = int(tile.first_row[0]), int(tile.num_rows[0])
        path = tile.slots[int(tile.path[0]) :][: int(tile.first_depth[0]) + rows].long()
        alone = torch.full_like(kv, float("nan"))
        alone[path] = kv[path]
        out = attend(queries, alone, tile)
        written = torch.zeros(len(out), dtype=torch.bool, device=DEVICE)
        written[begin : begin + rows] = True
        assert torch.isfinite(out[written]).all()
        assert out[~written].isnan().all()


@dataclass(frozen=True)
class TrieRun:
    """A trie of deep and shallow branches, and its attention as a function of its tiles; `full` rows fill a tile."""

    trie: TokenTrie
    queries: torch.Tensor
    kv: torch.Tensor
    full: int
    options: dict[str, Any]

    @classmethod
    def draw(cls, longest: int, size: int, dtype: torch.dtype, **options: Any) -> TrieRun:
        trie = TokenTrie.build(random_sequences(9, 4, longest))
        return cls(trie, *poisoned(trie.num_rows, 3, 1, size, dtype), tallest(size, dtype, group=3), options)

    def __call__(self, tiles: PathTiles | tuple[PathTiles, ...]) -> torch.Tensor:
        return attend(self.queries, self.kv, tiles, **self.options)[: self.trie.num_rows]


@pytest.fixture(params=PRODUCT_DTYPES, ids=str)
def run(request: pytest.FixtureRequest) -> TrieRun:
    return TrieRun.draw(140, 64, request.param)


def test_bits_do_not_depend_on_the_order_of_tiles(run: TrieRun) -> None:
    tiles = cut(run.trie, 10)
    order = torch.randperm(len(tiles.first_row), generator=torch.Generator().manual_seed(0))
    assert torch.equal(run(select(tiles, order.to(DEVICE))), run(tiles))


def assert_bits_survive_other_cuts(run: TrieRun) -> None:
    """A row moves to other places of other tiles, lower ones too, and other blocks of its path need the mask."""
    expected = run(cut(run.trie, run.full))
    assert torch.isfinite(expected).all()
    for rows, first in ((run.full, 1), (run.full - 1, 3), (3, None), (5, 4)):
        assert torch.equal(run(cut(run.trie, rows, first)), expected)


def assert_one_row_tiles_have_the_same_bits(run: TrieRun) -> None:
    """Decoding and the last layer's final rows: lower tiles, launched with other settings. Where these sum in an order
    of their own, bits are still a function of the row."""
    place = (launch.table_of(launch.capability_of(DEVICE)), run.queries.shape[-1])
    has_own_order = run.queries.itemsize == 2 and place in launch.SINGLE_TOKENS
    expected = run(cut(run.trie, 1 if has_own_order else run.full))
    chosen = torch.arange(0, run.trie.num_rows, 7, device=DEVICE)
    found = run(select(cut(run.trie, 1), chosen))
    assert torch.equal(found[chosen], expected[chosen])
    if has_own_order:
        torch.testing.assert_close(expected, run(cut(run.trie, run.full)), rtol=1e-2, atol=1e-2)


def test_bits_do_not_depend_on_where_tiles_are_cut(run: TrieRun) -> None:
    assert_bits_survive_other_cuts(run)


@pytest.mark.parametrize("options", [{}, {"window": 37}, {"window": 17, "softcap": 1.5}], ids=str)
def test_bits_of_low_tiles(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches rows whose bits depend on whether short branches have tiles, and a launch, of their own."""
    if DEVICE.type == "cuda" and launch.table_of(launch.capability_of(DEVICE)) != 80:
        pytest.skip("this GPU's table has one height")
    monkeypatch.setattr(launch, "INTERPRETED_CAPABILITY", 80)
    run = TrieRun.draw(140, 64, torch.float16, **options)
    whole = cut(run.trie, run.full)
    both = by_height(whole, launch.low_tile_rows(80, 64, 2, group=3))
    assert all(len(part.first_row) for part in both)
    expected = run(whole)
    assert torch.equal(run(both), expected)
    monkeypatch.setitem(launch.TENSOR_CORES[80], 64, launch.TileShapes(((128, 8),), block_n=32, num_stages=3))
    assert launch.attention_settings(80, 64, 2, 1, 3).masks_all is False
    assert torch.equal(run(whole), expected) or DEVICE.type == "cuda", "a mask that hides nothing changes nothing"


def test_bits_of_one_row_tiles(run: TrieRun) -> None:
    assert_one_row_tiles_have_the_same_bits(run)


def test_bits_of_single_tokens_with_an_order_of_their_own() -> None:
    assert_one_row_tiles_have_the_same_bits(TrieRun.draw(90, 128, torch.float16))


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
def test_bits_of_windows_caps_and_sinks(dtype: torch.dtype) -> None:
    """Tiles cut elsewhere begin with other blocks, and hold rows whose window begins later."""
    run = TrieRun.draw(140, 64, dtype, window=37, softcap=2.0, sinks=sinks_of(3).to(DEVICE))
    assert_bits_survive_other_cuts(run)
    assert_one_row_tiles_have_the_same_bits(run)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize(
    "options", [{}, {"window": 130}, {"window": 130, "softcap": 2.0}, {"sinks": sinks_of(3).to(DEVICE)}], ids=str
)
@pytest.mark.parametrize("size", launch.HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_on_a_gpu(size: int, dtype: torch.dtype, options: dict[str, Any]) -> None:
    """What the interpreter cannot show: instructions that differ between tile heights or loops, and races."""
    run = TrieRun.draw(700, size, dtype, **options)
    assert_bits_survive_other_cuts(run)
    assert_one_row_tiles_have_the_same_bits(run)
    tiles = cut(run.trie, run.full)
    expected = run(tiles)
    for _ in range(5):
        assert torch.equal(run(tiles), expected), "again"


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("group", [1, 3, 4, 8])
@pytest.mark.parametrize("size", launch.HEAD_SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_tries_on_a_gpu(size: int, dtype: torch.dtype, group: int) -> None:
    check_against_oracle(random_sequences(size + group, 8, 700), 2 * group, 2, size, dtype)


@needs_gpu
@pytest.mark.gpu
def test_more_elements_than_32_bits_count() -> None:
    """Rows and slots at offsets beyond 2^31: whoever computes them in 32 bits reads elsewhere, or crashes."""
    heads, kv_heads, size, length = 32, 8, 128, 100
    rows, slots = 2**31 // (heads * size) + length, 2**31 // (2 * kv_heads * size) + length
    if free_bytes() < 24e9:
        pytest.skip("needs 24 GB of free memory")
    queries = torch.empty(rows, heads, size, dtype=torch.bfloat16, device=DEVICE)
    kv = torch.empty(slots, 2, kv_heads, size, dtype=torch.bfloat16, device=DEVICE)
    queries[-length:] = torch.randn(length, heads, size).to(DEVICE)
    kv[-length:] = torch.randn(length, 2, kv_heads, size).to(DEVICE)
    few_queries, few_kv = queries[-length:].clone(), kv[-length:].clone()
    tiles = cut(TokenTrie.build([np.arange(length)]), tallest(size, torch.bfloat16, heads // kv_heads))
    attention.tree_attention(few_queries, few_kv, tiles, out=few_queries)
    far = replace(tiles, first_row=tiles.first_row + (rows - length), slots=tiles.slots + (slots - length))
    attention.tree_attention(queries, kv, far, out=queries)
    assert torch.equal(queries[-length:], few_queries)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
def test_bits_do_not_depend_on_siblings(dtype: torch.dtype) -> None:
    """The same path in other tries: alone, and among siblings that cut its branch elsewhere."""
    generator = torch.Generator().manual_seed(0)
    drawn: dict[bytes, torch.Tensor] = {}

    def by_path(sequences: Sequence[np.ndarray]) -> dict[bytes, torch.Tensor]:
        trie = TokenTrie.build(sequences)
        queries, kv = poisoned(trie.num_rows, 4, 1, 64, dtype)
        keys = []
        for path, length, depth in zip(trie.paths(), trie.length, trie.first_depth, strict=True):
            keys += [trie.token[path[: depth + i + 1]].tobytes() for i in range(length)]
        for row, key in enumerate(keys):
            values = drawn.setdefault(key, torch.randn(6, 64, generator=generator)).to(DEVICE, dtype)
            queries[row], kv[row] = values[:4], values[4:, None]
        return dict(zip(keys, attend(queries, kv, cut(trie, 16)), strict=False))

    sequences = random_sequences(11, 6, 140)
    everything = by_path(sequences)
    for part in ([sequences[0]], [sequences[4]], sequences[3:5]):
        for key, value in by_path(part).items():
            assert torch.equal(value, everything[key])


def test_another_key_block_has_other_bits(run: TrieRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inverse: were the key block a function of the tile, the tests above would see it."""
    tiles = cut(run.trie, run.full)
    expected = run(tiles)
    chosen = launch.attention_settings

    def variant(*args: int, **named: int) -> launch.AttentionSettings:
        settings = chosen(*args, **named)
        return replace(settings, block_n=settings.block_n // 2)

    monkeypatch.setattr(attention, "attention_settings", variant)
    found = run(tiles)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


def test_another_order_of_keys_has_other_bits(run: TrieRun) -> None:
    """The inverse: were blocks not counted from depth 0, keys would change places. The sum stays, its bits do not."""
    tiles = cut(run.trie, run.full)
    tile = select(tiles, torch.argmax(tiles.first_depth)[None])
    first_row, num_rows, above, path = (
        int(column[0]) for column in (tile.first_row, tile.num_rows, tile.first_depth, tile.path)
    )
    slots = tile.slots.clone()
    slots[path : path + above] = slots[path : path + above].roll(40)
    rows = slice(first_row, first_row + num_rows)
    found, expected = run(replace(tile, slots=slots))[rows], run(tile)[rows]
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


def test_unsupported_dtype() -> None:
    queries, kv = poisoned(3, 1, 1, 64, torch.float64)
    with pytest.raises(ValueError, match=r"no tree attention for torch.float64; use bfloat16"):
        attend(queries, kv, cut(TokenTrie.build([np.arange(3)]), 3))
