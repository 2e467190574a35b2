"""Candidates on a device: do they compute the right thing, in the same bits at every height, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from preftree.engine.planning.plan import build_plan
from preftree.engine.planning.trie import TokenTrie
from preftree.kernels import reference
from preftree.kernels.attention import launch_tree_attention
from preftree.kernels.label_head import HeadSettings, log_normaliser
from preftree.kernels.launch import AttentionSettings, TileShapes
from preftree.kernels.tiles import PathTiles, PlanLayout

Seconds = Callable[[Callable[[], object]], float]
# Of the trie's layers, the last has queries for final rows only.
LAYERS = 32


@dataclass(frozen=True)
class Workload:
    """Prompts of a shared beginning, a text of their own, and both orders with several endings each, in tokens."""

    prompts: int = 24
    shared: int = 500
    own: int = 1200
    order: int = 400
    endings: int = 2
    ending: int = 30

    def trie(self) -> TokenTrie:
        numbers = iter(range(1 << 30))

        def fresh(count: int) -> list[int]:
            return [next(numbers) for _ in range(count)]

        beginning, sequences = fresh(self.shared), []
        for _ in range(self.prompts):
            own = beginning + fresh(self.own)
            for _ in range(2):
                order = own + fresh(self.order)
                sequences += [np.array(order + fresh(self.ending)) for _ in range(self.endings)]
        return TokenTrie.build(sequences)


class AttentionBench:
    """Tree attention of one head size: candidates are entries of the launch table."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        head_size: int,
        compiled: Mapping[AttentionSettings, str | None],
        time: Seconds,
        heads: int = 32,
        kv_heads: int = 8,
        check: Workload = Workload(prompts=2, shared=70, own=90, order=60, ending=10),
        work: Workload = Workload(),
    ) -> None:
        """compiled: what is wrong with the machine code of each setting, None where nothing is."""
        self._compiled = compiled
        self._time = time
        self._group = heads // kv_heads
        self._small = _Attention(check.trie(), device, dtype, (self._group, 1, head_size))
        self._exact, self._allowed = self._small.oracle(dtype)
        self._large = _Attention(work.trie(), device, dtype, (heads, kv_heads, head_size))

    def problem(self, candidate: TileShapes) -> str | None:
        for settings in candidate.all_settings:
            note = self._compiled.get(settings, "was not compiled in time")
            if note is not None:
                return f"tiles of {settings.block_m}: {note}"
        rows = candidate.tallest // self._group
        expected = self._small.run(self._small.tiles(rows), candidate.all_settings[-1]).clone()
        error = (expected.double() - self._exact).norm() / self._exact.norm()
        if not error <= self._allowed:
            return f"error {error:.2g} against float64, allowed are {self._allowed:.2g}"
        for settings in candidate.all_settings:
            for fewer in {max(1, settings.block_m // self._group - 1), 1}:
                if not torch.equal(self._small.run(self._small.tiles(fewer), settings), expected):
                    return f"tiles of {settings.block_m} holding {fewer} rows: other bits"
        return None

    def seconds(self, candidate: TileShapes) -> float:
        """Of a model's layers: all but the last attend from every row, the last from final rows."""
        tall, low = candidate.all_settings[-1], candidate.all_settings[0]
        rows = candidate.tallest // self._group
        tiles, finals = self._large.tiles(rows), self._large.tiles(rows, finals=True)
        every_row = self._time(lambda: self._large.run(tiles, tall))
        return (LAYERS - 1) * every_row + self._time(lambda: self._large.run(finals, low))


class _Attention:
    """Inputs of tree attention over a trie, and where its output goes."""

    def __init__(self, trie: TokenTrie, device: torch.device, dtype: torch.dtype, sizes: tuple[int, int, int]) -> None:
        """sizes: heads, K/V heads, head size."""
        heads, kv_heads, size = sizes
        generator = torch.Generator(device).manual_seed(0)
        self._trie = trie
        self._device = device
        self._queries = torch.randn(trie.num_rows, heads, size, generator=generator, dtype=dtype, device=device)
        self._kv = torch.randn(trie.num_rows, 2, kv_heads, size, generator=generator, dtype=dtype, device=device)
        self._out = torch.empty_like(self._queries)

    def tiles(self, rows: int, finals: bool = False) -> PathTiles:
        """Tiles of up to `rows` tokens for every row, or of one for each final row."""
        layout = PlanLayout(row_block=1, final_row_block=1, tile_rows=rows)
        plan = build_plan(self._trie, layout)
        tiles = plan.final_tiles if finals else plan.tiles
        assert isinstance(tiles, PathTiles)
        return tiles.moved(lambda tensor: tensor.to(self._device))

    def run(self, tiles: PathTiles, settings: AttentionSettings) -> torch.Tensor:
        """The same tensor every time, but for its contents."""
        launch_tree_attention(self._queries, self._kv, tiles, self._out, settings)
        return self._out

    def oracle(self, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
        """The result in float64, and twice the relative error of the reference in `dtype`."""
        plan = build_plan(self._trie, PlanLayout(64, 64, 16, tiles="runs"))
        exact, plain = (self._by_reference(plan.tiles, kind) for kind in (torch.float64, dtype))
        return exact, 2 * float((plain.double() - exact).norm() / exact.norm())

    def _by_reference(self, tiles: object, dtype: torch.dtype) -> torch.Tensor:
        queries = self._queries.cpu().to(dtype)
        out = torch.empty_like(queries)
        reference.tree_attention(queries, self._kv.cpu().to(dtype), tiles, out)  # type: ignore[arg-type]
        return out.to(self._device)


class HeadBench:
    """The log-sum-exp of the label head: candidates are its settings."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        compiled: Mapping[HeadSettings, str | None],
        time: Seconds,
        shape: tuple[int, int, int] = (256, 128256, 4096),
    ) -> None:
        """compiled: as in AttentionBench. shape: rows, vocabulary and hidden size of what is timed."""
        self._compiled = compiled
        self._time = time
        self._few = _draw(131, 256, device, dtype), _draw(1100, 256, device, dtype)
        rows, vocabulary, hidden = shape
        self._many = _draw(rows, hidden, device, dtype), _draw(vocabulary, hidden, device, dtype)

    def problem(self, candidate: HeadSettings) -> str | None:
        note = self._compiled.get(candidate, "was not compiled in time")
        if note is not None:
            return note
        rows, weight = self._few
        found = log_normaliser(rows, weight, candidate)
        exact, plain = ((rows.to(t) @ weight.to(t).T).logsumexp(-1).double() for t in (torch.float64, rows.dtype))
        error, allowed = (found.double() - exact).norm(), 2 * (plain - exact).norm()
        if not error <= allowed:
            return (
                f"error {error / exact.norm():.2g} against float64, plain PyTorch's allows {allowed / exact.norm():.2g}"
            )
        for chosen in (torch.arange(len(rows) - 1, -1, -1), torch.tensor([77]), torch.arange(64, 130)):
            index = chosen.to(rows.device)
            if not torch.equal(log_normaliser(rows[index], weight, candidate), found[index]):
                return f"{len(index)} rows: other bits"
        return None

    def seconds(self, candidate: HeadSettings) -> float:
        return self._time(lambda: log_normaliser(*self._many, candidate))


def _draw(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator(device).manual_seed(rows)
    return torch.randn(rows, columns, generator=generator, dtype=dtype, device=device) * columns**-0.5
