"""Attention over the paths of a trie on a CPU, by torch's flash attention: tile by tile, or for single decoded rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from preftree.kernels.tiles import StepGroup, Tile, TileRun

# Query heads of a decoded row are filled up to a multiple of this: products of one to three rows gave a row other bits
# with other tiles beside it.
STEP_LANES = 8
# Gathered K and V of one attention call over decoded rows stay in the last-level cache.
GATHERED_KEYS = 4096
# Keys that the library takes at a time, counted from the first it is given. A window may begin at multiples only: the
# bits of a row depend on how its keys are divided.
LIBRARY_KEYS = 512
MOST_VIEWS = 10_000


def tree_attention(
    queries: torch.Tensor,
    kv: torch.Tensor,
    groups: Sequence[TileRun | StepGroup],
    out: torch.Tensor,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> None:
    """Causal attention of every tile's rows over their path.

    queries: [rows, heads, size]. kv: [slots, 2, kv_heads, size], keys then values. out: like queries, may be queries
    itself; rows that are in no tile stay as they are.
    scale: of scores, None for one over the root of the size. window: how many last tokens of its path a row sees,
    itself included. softcap: c of c * tanh(score / c), over scaled scores. sinks: [heads] float32, the score of a key
    without a value that every row sees besides.

    The query heads that share a K/V head are stacked into the rows of one matrix product.
    """
    steps = [group for group in groups if isinstance(group, StepGroup)]
    if steps:
        _attend_steps(queries, kv, steps, out, scale, window, softcap, sinks)
    for group in groups:
        if isinstance(group, TileRun):
            _attend_run(queries, kv, group, out, scale, window, softcap, sinks)


class _Memory(threading.local):
    """What a thread uses again and again: fresh memory has to be mapped in first, which takes longer than filling it.

    Views are kept, too. Every call into torch gives up Python's lock, and threads that wait for it sleep.
    """

    def __init__(self) -> None:
        self._kv = torch.empty(0)
        self._query = torch.empty(0)
        self._masks: dict[tuple[int, int, int | None, torch.dtype], torch.Tensor] = {}
        self._views: dict[tuple[object, ...], Any] = {}

    def prepare(self, queries: torch.Tensor, kv: torch.Tensor, tiles: Sequence[Tile]) -> None:
        """Room for the paths and query rows of `tiles`, of which kv and queries are."""
        keys, shape = max(tile.keys for tile in tiles), kv.shape[1:]
        rows = max(tile.lanes for tile in tiles) * queries.shape[1]
        is_new = self._kv.dtype != kv.dtype or self._kv.shape[1:] != shape or len(self._kv) < keys
        if is_new or len(self._query) < rows or len(self._views) > MOST_VIEWS:
            with torch.inference_mode(False):  # to be written outside of it, too
                self._kv = torch.empty(_power_of_two(keys), *shape, dtype=kv.dtype)
                self._query = torch.empty(_power_of_two(rows), queries.shape[2], dtype=queries.dtype)
            self._views = {}

    def path(self, first: int, end: int) -> torch.Tensor:
        """K/V of the path at hand from depth `first` on: [keys, 2, kv_heads, size]."""
        return self._view(("path", first, end), lambda: self._kv[first:end])

    def keys_and_values(self, first: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as [1, kv_heads, keys, size], both."""
        return self._view(("kv", first, end), lambda: self._kv[first:end].unsqueeze(0).permute(2, 0, 3, 1, 4).unbind(0))

    def query(self, kv_heads: int, group: int, lanes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """[1, kv_heads, group * lanes, size], and a view of it by lane: [lanes, kv_heads, group, size]."""

        def view() -> tuple[torch.Tensor, torch.Tensor]:
            stacked = self._query[: kv_heads * group * lanes].view(1, kv_heads, group * lanes, -1)
            return stacked, stacked.view(kv_heads, group, lanes, -1).permute(2, 0, 1, 3)

        return self._view(("query", kv_heads, group, lanes), view)

    def mask(self, tile: Tile, begin: int, heads_per_kv: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """[heads_per_kv * lanes, keys from `begin` on], -inf where a key is deeper than the query or before its window.

        A view of one that is wide enough for every depth: what a lane sees moves on by a key with every depth.
        """

        def view() -> torch.Tensor:
            whole = self._wide_mask(tile, heads_per_kv, window, dtype)
            first = whole.shape[1] // 2 - tile.first_depth
            return whole[:, first + begin : first + tile.keys]

        return self._view((tile.lanes, heads_per_kv, window, dtype, tile.first_depth, begin, tile.keys), view)

    def _wide_mask(self, tile: Tile, heads_per_kv: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        key = (tile.lanes, heads_per_kv, window, dtype)
        if key not in self._masks or self._masks[key].shape[1] < 2 * tile.keys:
            depths = max(_power_of_two(tile.keys), LIBRARY_KEYS)
            lane, column = torch.arange(tile.lanes).unsqueeze(1), torch.arange(2 * depths)
            unseen = column > lane + depths
            if window is not None:
                unseen |= column <= lane + depths - window
            mask = torch.zeros(unseen.shape, dtype=dtype).masked_fill_(unseen, float("-inf"))
            self._masks[key] = mask.repeat(heads_per_kv, 1)
        return self._masks[key]

    def _view(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        if key not in self._views:
            self._views[key] = make()
        return self._views[key]


_memory = _Memory()


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _attend_run(
    queries: torch.Tensor,
    kv: torch.Tensor,
    run: TileRun,
    out: torch.Tensor,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> None:
    if not run.tiles:
        return
    heads, size = queries.shape[1:]
    kv_heads = kv.shape[2]
    group = heads // kv_heads
    _memory.prepare(queries, kv, run.tiles)
    for rows in run.rows_of(queries, out, lambda whole: whole.view(len(whole), kv_heads, group, size)):
        tile = rows.tile
        torch.index_select(kv, 0, tile.slots, out=_memory.path(tile.fresh, tile.keys))
        begin = _first_key(tile, window)
        mask = _memory.mask(tile, begin, group, window, queries.dtype)
        stacked, by_lane = _memory.query(kv_heads, group, tile.lanes)
        if rows.num_lanes < tile.lanes:
            by_lane = by_lane[rows.first_lane : rows.first_lane + rows.num_lanes]
        by_lane.copy_(rows.lanes)
        row_sinks = None if sinks is None else sinks.view(kv_heads, group).repeat_interleave(tile.lanes, 1)
        attended = _attended(stacked, *_memory.keys_and_values(begin, tile.keys), mask, scale, softcap, row_sinks)
        attended = attended.view(kv_heads, group, tile.lanes, size).permute(2, 0, 1, 3)
        rows.results.copy_(attended if tile.rows == tile.lanes else attended[tile.lane : tile.lane + tile.rows])


def _first_key(tile: Tile, window: int | None) -> int:
    """Where the keys begin that some row of the tile sees, rounded down."""
    if window is None:
        return 0
    first_seen = max(0, tile.first_depth - window + 1)
    return first_seen // LIBRARY_KEYS * LIBRARY_KEYS


class _Gathered:
    """K/V gathered into the same memory again and again: fresh memory has to be mapped in first, which takes longer."""

    def __init__(self, kv: torch.Tensor) -> None:
        self._kv = kv
        self._memory = kv[:0]

    def paths(self, slots: torch.Tensor) -> torch.Tensor:
        """K/V at slots [tiles, keys]: [tiles, keys, 2, kv_heads, size], good until the next call."""
        if slots.numel() > len(self._memory):
            self._memory = self._kv.new_empty(max(slots.numel(), GATHERED_KEYS), *self._kv.shape[1:])
        found = torch.index_select(self._kv, 0, slots.reshape(-1), out=self._memory[: slots.numel()])
        return found.view(*slots.shape, *self._kv.shape[1:])


def _attend_steps(
    queries: torch.Tensor,
    kv: torch.Tensor,
    groups: Sequence[StepGroup],
    out: torch.Tensor,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> None:
    _, heads, size = queries.shape
    kv_heads = kv.shape[2]
    heads_per_kv = heads // kv_heads
    lanes = -(-heads_per_kv // STEP_LANES) * STEP_LANES
    rows = max(group.first_row + len(group.depth) for group in groups)
    query = queries.new_zeros(rows, kv_heads, lanes, size)
    query[:, :, :heads_per_kv] = queries[:rows].view(rows, kv_heads, heads_per_kv, size)
    row_sinks = None if sinks is None else F.pad(sinks.view(kv_heads, -1), (0, lanes - heads_per_kv))
    gathered = _Gathered(kv)
    for group in groups:
        begin = _first_step_key(group, window)
        for part, slots, mask in group.parts(begin, window, queries.dtype, GATHERED_KEYS):
            keys, values = gathered.paths(slots).permute(2, 0, 3, 1, 4).unbind(0)
            result = _attended(query[part], keys, values, mask, scale, softcap, row_sinks)
            out[part] = result[:, :, :heads_per_kv].reshape(-1, heads, size)


def _first_step_key(group: StepGroup, window: int | None) -> int:
    """Where the keys begin that some row of the group sees: at a multiple of its span."""
    if window is None:
        return 0
    return max(0, group.keys - group.span - window + 1) // group.span * group.span


def _attended(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scale: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """query: [tiles, kv_heads, rows, size]. keys, values: [tiles, kv_heads, keys, size]. The result is like query.

    sinks: [kv_heads, rows].
    """
    if softcap is not None:
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        return _capped_attention(query, keys, values, mask, scale, softcap, sinks)
    if sinks is None:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    attended, normaliser = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, attn_mask=mask, scale=scale
    )
    # Next to keys whose powers sum to e^normaliser, a sink takes its share of all weights.
    return attended.mul_((normaliser.contiguous() - sinks).sigmoid_().unsqueeze(-1))


def _capped_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
    softcap: float,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """What the library's attention has no room for: a function over the scores. float32 up to the probabilities."""
    scores = query.float() @ keys.float().transpose(2, 3)
    scores.mul_(scale / softcap).tanh_().mul_(softcap).add_(mask)
    if sinks is not None:
        scores = torch.cat([scores, sinks.unsqueeze(-1).expand(*scores.shape[:-1], 1)], -1)
    return torch.softmax(scores, -1)[..., : keys.shape[2]].to(values.dtype) @ values
