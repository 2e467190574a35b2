"""Sines and cosines of the rotary embeddings of a model, as a function of depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.rope import RopeConfig, rotary_table


@dataclass(frozen=True)
class Rotary:
    """cos, sin: [rows, size / 2]. queries: what queries rotate with, where it is not what keys do."""

    cos: torch.Tensor
    sin: torch.Tensor
    queries: Rotary | None = None

    def __getitem__(self, rows: slice | torch.Tensor) -> Rotary:
        queries = None if self.queries is None else self.queries[rows]
        return Rotary(self.cos[rows], self.sin[rows], queries)


class RotaryTables:
    """What turns depths into angles, for each of `ModelConfig.ropes`."""

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device, self._dtype = config, device, dtype
        # Sent there once: a captured graph must not read the host's memory.
        self._tables: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def at(self, depths: torch.Tensor, rope_variant: int = 0) -> tuple[Rotary, ...]:
        """Angles of rows at `depths` [rows], one for each rotary embedding of the model.

        rope_variant: that of the rows' sequences, see `RopeConfig.rope_variant`.
        """
        return tuple(self._rotary(place, depths, rope_variant) for place in range(len(self._config.ropes)))

    def _rotary(self, place: int, depths: torch.Tensor, rope_variant: int) -> Rotary:
        rope = self._config.ropes[place]
        if rope is None:
            shape = len(depths), self._config.rotary_size(place) // 2
            ones = torch.ones(shape, dtype=self._dtype, device=self._device)
            return Rotary(ones, torch.zeros_like(ones))
        frequencies, scale = self._table(place, rope, rope_variant)
        angles = depths.unsqueeze(1) * frequencies
        cos, sin = angles.cos(), angles.sin()
        if rope.attention_factor != 1:
            cos, sin = cos * scale, sin * scale
        rotary = Rotary(cos.to(self._dtype), sin.to(self._dtype))
        if rope.query_growth == 0:
            return rotary
        # A rotation is linear: what multiplies its sine and cosine multiplies the query.
        contexts = torch.div(depths, rope.original_context, rounding_mode="floor")
        growth = (1 + rope.query_growth * contexts.double().log1p()).unsqueeze(1)
        return replace(rotary, queries=Rotary((cos * growth).to(self._dtype), (sin * growth).to(self._dtype)))

    def _table(self, place: int, rope: RopeConfig, rope_variant: int) -> tuple[torch.Tensor, torch.Tensor]:
        key = (place, rope_variant)
        if key not in self._tables:
            table = rotary_table(rope, self._config.rotary_size(place), rope_variant)
            frequencies, scale = (
                torch.from_numpy(array).to(self._device) for array in (table.frequencies, table.scale)
            )
            self._tables[key] = frequencies, scale
        return self._tables[key]
