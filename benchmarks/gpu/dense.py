"""Dense causal attention of torch: flash attention through `scaled_dot_product_attention`, and cuDNN's."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.device import Call, Device
from benchmarks.gpu.report import first_line

# Lengths are rounded to what every kernel takes in whole tiles.
LENGTH_MULTIPLE = 128
# More calls than this one by one say nothing new.
MOST_SINGLE = 64


class DenseAttention:
    """Times causal attention of sequences of one length with the heads of a model. remarks: what had to be given up."""

    def __init__(self, device: Device, heads: int, kv_heads: int, size: int, window: float) -> None:
        self._device, self._window = device, window
        self._heads, self._kv_heads, self._size = heads, kv_heads, size
        self._is_grouped = True
        self.remarks: list[str] = []

    @staticmethod
    def length_of(keys: int) -> int:
        """Tokens of the one causal sequence whose rows attend to about `keys` keys in all."""
        return max(LENGTH_MULTIPLE, round(math.sqrt(2 * keys) / LENGTH_MULTIPLE) * LENGTH_MULTIPLE)

    def seconds(self, batch: int, length: int, backend: SDPBackend = SDPBackend.FLASH_ATTENTION) -> float:
        """Of `batch` sequences of `length` tokens in one call."""
        return self._device.time([self._call(self._inputs(batch, length), backend)], self._window).seconds

    def unshared_seconds(self, prompts: int, length: int) -> float:
        """Of `prompts` prompts without sharing, in one batch or one by one, whatever is faster."""
        batched = self.seconds(prompts, length)
        if prompts > MOST_SINGLE:
            return batched
        inputs = self._inputs(prompts, length)
        calls = [
            self._call(tuple(x[place : place + 1] for x in inputs), SDPBackend.FLASH_ATTENTION)
            for place in range(prompts)
        ]
        return min(batched, self._device.time(calls, self._window).seconds * prompts)

    def cudnn_seconds(self, length: int) -> float:
        """Of one sequence in cuDNN's attention; nan, and a remark, where that does not run."""
        if self._device.is_rehearsal:
            self._remark("cuDNN's attention needs a GPU")
            return math.nan
        try:
            return self.seconds(1, length, SDPBackend.CUDNN_ATTENTION)
        except RuntimeError as error:
            self._remark(f"cuDNN's attention does not run ({first_line(error)})")
            return math.nan

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _inputs(self, batch: int, length: int) -> tuple[torch.Tensor, ...]:
        """Queries, keys, values [batch, heads, length, size]."""
        counts = (self._heads, self._kv_heads, self._kv_heads)
        return tuple(self._device.random(batch, count, length, self._size) for count in counts)

    def _call(self, inputs: tuple[torch.Tensor, ...], backend: SDPBackend) -> Call:
        if self._is_grouped:
            call = self._attend(inputs, backend, is_grouped=True)
            try:
                with torch.no_grad():
                    call()
                return call
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if backend != SDPBackend.FLASH_ATTENTION:
                    raise
                self._is_grouped = False
                self.remarks.append(f"flash attention refused grouped heads ({first_line(error)}); K/V repeated")
        queries, *rest = inputs
        repeated = (x.repeat_interleave(self._heads // self._kv_heads, dim=1) for x in rest)
        return self._attend((queries, *repeated), backend, is_grouped=False)

    def _attend(self, inputs: tuple[torch.Tensor, ...], backend: SDPBackend, is_grouped: bool) -> Call:
        queries, keys, values = inputs

        def call() -> torch.Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=is_grouped)

        return call
