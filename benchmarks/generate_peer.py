"""transformers' generate, as well as one would call it by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.continuations import Decoded, now


class TransformersGenerate:
    """`model.generate` on batches of `batch` prompts in the order of their length, padded on the left."""

    def __init__(self, model: Any, batch: int, stop_ids: Sequence[int]) -> None:
        self._model = model
        self._stop_ids = list(stop_ids)
        self.batch = batch

    def run(self, prompts: Sequence[list[int]], max_tokens: int) -> Decoded:
        device = self._model.device
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        ids: list[list[int]] = [[] for _ in order]
        started = now(device)
        for first in range(0, len(order), self.batch):
            members = order[first : first + self.batch]
            generated = self._generate([prompts[place] for place in members], max_tokens)
            for place, row in zip(members, generated, strict=True):
                ids[place] = self._cut(row)
        return Decoded(ids, now(device) - started, 0.0, 0)

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[list[int]], max_tokens: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        device = self._model.device
        out = self._model.generate(
            tokens.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=self._stop_ids,
            pad_token_id=self._stop_ids[0],
        )
        rows: list[list[int]] = out[:, longest:].tolist()
        return rows

    def _cut(self, row: list[int]) -> list[int]:
        """Without the token that ended it, and the padding after that."""
        ends = [place for place, token in enumerate(row) if token in self._stop_ids]
        return row[: ends[0]] if ends else row
