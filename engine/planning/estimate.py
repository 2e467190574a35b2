"""What a job will cost, said before a model runs. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from preftree.engine.config.model_config import ExpertsConfig, ModelConfig
from preftree.engine.planning.batching import Schedule
from preftree.engine.planning.trie import TokenIds
from preftree.engine.weights.names import (
    num_linear_parameters,
    num_padding,
    num_parameters,
    num_quantized_parameters,
)


@dataclass(frozen=True)
class JobPlan:
    """What scoring some prompts takes.

    Attributes:
        prompts: how many.
        prompt_tokens: tokens of all prompts.
        unique_tokens: rows of a single trie over all of them.
        rows: rows that are run; what two batches share counts twice unless the prefix cache has it.
        batches: forward passes.
        peak_bytes: estimated peak memory beyond the weights.
        weight_bytes: the weights in the working dtype that are in the device's memory at a time.
        streamed_bytes: of layers that are copied there one after the other in every forward pass; 0 where none is.
        compute_share: of the speed that the same batches would have with all layers in memory, about.
    """

    prompts: int
    prompt_tokens: int
    unique_tokens: int
    rows: int
    batches: int
    peak_bytes: int
    weight_bytes: int
    streamed_bytes: int = 0
    compute_share: float = 1.0

    @property
    def sharing(self) -> float:
        """Prompt tokens per row run: how often a token would have been computed without the trie."""
        return self.prompt_tokens / self.rows if self.rows else 1.0


@dataclass(frozen=True)
class MemoryModel:
    """Sizes of the kernels that decide what a batch needs.

    Attributes:
        dtype_bytes: bytes of an activation.
        row_block: rows of a matrix product, of which a batch has a multiple.
        lanes: query rows of an attention tile, per head.
        chunk_rows: rows whose intermediate activations are alive together.
        wide_bytes: bytes of a number of the residual stream.
        kv_buffers: that K/V of a layer go to in turns.
        quantized: the type of linear layers' weights, "int8" or "fp8"; None where they have that of activations.
        threads: that have a chunk at hand each, and K/V of its path; 0 where the kernel gathers by itself.
        slots: layers in memory at a time where they are streamed, 0 where all of them are.
        flops_per_byte: that the device computes while a byte of a streamed layer is copied.
    """

    dtype_bytes: int
    row_block: int
    lanes: int
    chunk_rows: int
    wide_bytes: int
    kv_buffers: int = 1
    quantized: str | None = None
    threads: int = 0
    slots: int = 0
    flops_per_byte: float = 0.0

    def batch_bytes(self, config: ModelConfig, rows: int, finals: int, longest: int) -> int:
        """Activations and tile indices of one batch; `longest`: tokens of its longest prompt."""
        padded = -(-rows // self.row_block) * self.row_block
        angles = 2 * self.wide_bytes * config.rotated_size
        kv_size = max(heads.kv_size for heads in config.heads)
        narrow = sum(heads.q_size for heads in config.heads) + 2 * (self.kv_buffers + len(config.kv_sources)) * kv_size
        if config.per_layer_inputs is not None:
            narrow += config.hidden_size  # embeddings, of which every layer takes its part
        inner = max(config.mlp_size(layer) for layer in (0, config.num_layers - 1))
        if config.latent is not None:
            # Expanded for all of a chunk's rows, but not yet where attention reads them.
            inner = max(inner, (2 * config.kv_size + config.q_size) // 3)
        if config.experts is not None:
            inner = max(inner, config.experts.width, config.experts.shared_width)
        row = config.hidden_size * self.wide_bytes + narrow * self.dtype_bytes + angles
        making_angles = 8 * max(heads.size for heads in config.heads)  # float64
        tile_index = 8 * (rows // self.lanes + finals + 1) * longest
        chunk = min(padded, max(1, self.threads) * self.chunk_rows) * (3 * inner + 2 * config.hidden_size)
        if config.experts is not None:
            # Threads share out the experts of all rows; a GPU takes a chunk's.
            together = padded if self.threads else min(padded, self.chunk_rows)
            chunk += together * _mixture_numbers(config, config.experts)
        gathered = self.threads * 2 * longest * (2 * kv_size + 3 * self.lanes)  # and scores of some rows
        if config.attention_softcap is not None:
            gathered += self.threads * longest * 2 * self.lanes * config.num_heads  # scores
        return padded * (row + making_angles) + 2 * finals * row + tile_index + self.dtype_bytes * (chunk + gathered)

    def weight_bytes(self, config: ModelConfig, layers: range | None = None) -> int:
        """Weights in the device's memory at a time, or a stage's with `layers`; but for scales of quantized ones."""
        everything = self.all_weight_bytes(config, layers)
        if not self.slots:
            return everything
        largest = max(self._layer_bytes(config))
        return everything - self.streamed_bytes(config) + min(self.slots, config.num_layers) * largest

    def streamed_bytes(self, config: ModelConfig) -> int:
        """Matrices of all layers, which are elsewhere where they are streamed."""
        return sum(self._layer_bytes(config)) if self.slots else 0

    def _layer_bytes(self, config: ModelConfig) -> list[int]:
        layers = (range(layer, layer + 1) for layer in range(config.num_layers))
        return [
            (num_linear_parameters(config, layer) + num_padding(config, layer)) * self.dtype_bytes
            - self._saved_bytes(config, layer)
            for layer in layers
        ]

    def _saved_bytes(self, config: ModelConfig, layers: range | None) -> int:
        """By matrices of 8 bits."""
        if not self.quantized:
            return 0
        in_8_bits = num_quantized_parameters(config, self.quantized, layers) + num_padding(config, layers)
        return in_8_bits * (self.dtype_bytes - 1)

    def hiding_rows(self, config: ModelConfig) -> int:
        """Rows of a batch from which on computing a layer takes as long as copying the next; 0 where none is."""
        unused = 0
        if config.experts is not None:
            one = 3 * config.hidden_size * config.experts.width
            unused = len(config.experts.layers) * one * (config.experts.count - config.experts.per_token)
        flops_per_row = 2 * (num_linear_parameters(config) - unused)
        return math.ceil(self.streamed_bytes(config) * self.flops_per_byte / flops_per_row)

    def compute_share(self, config: ModelConfig, rows: int) -> float:
        """Of the speed without streaming, in batches of `rows`."""
        return share_of_compute(rows, self.hiding_rows(config))

    def all_weight_bytes(self, config: ModelConfig, layers: range | None = None) -> int:
        """All weights, wherever they are, or those of a stage with `layers`; but for scales of quantized ones."""
        numbers = num_parameters(config, layers) + num_padding(config, layers)
        return numbers * self.dtype_bytes - self._saved_bytes(config, layers)

    def cache_bytes(self, config: ModelConfig, tokens: int, layers: range | None = None) -> int:
        """K/V of every layer, or of these, for `tokens` cached tokens."""
        layers = range(config.num_layers) if layers is None else layers
        own = (layer for layer in layers if config.kv_source(layer) == layer)
        sizes = (config.heads[config.heads_of(layer)].kv_size for layer in own)
        return tokens * 2 * sum(sizes) * self.dtype_bytes


def _mixture_numbers(config: ModelConfig, experts: ExpertsConfig) -> int:
    """Of a row: what goes into experts, what comes out of each and their sum; and its choice among them, which by
    sigmoids is sorted in float32."""
    is_sorted = config.family.experts is not None and config.family.experts.sigmoid is not None
    of_pairs = experts.per_token * (config.hidden_size + experts.width)
    return 2 * config.hidden_size + of_pairs + (14 if is_sorted else 4) * experts.count


@dataclass(frozen=True)
class WeightCost:
    """What the weights of a model take, whatever is run: to be found once for many estimates.

    Attributes:
        resident_bytes: in the device's memory at a time.
        streamed_bytes: copied there in every forward pass.
        hiding_rows: see `MemoryModel.hiding_rows`.
    """

    resident_bytes: int
    streamed_bytes: int
    hiding_rows: int

    @classmethod
    def of(cls, config: ModelConfig, memory: MemoryModel) -> WeightCost:
        return cls(memory.weight_bytes(config), memory.streamed_bytes(config), memory.hiding_rows(config))


def estimate(
    config: ModelConfig, memory: MemoryModel, weights: WeightCost, prompts: Sequence[TokenIds], plan: Schedule
) -> JobPlan:
    """The cost of running `prompts` as scheduled."""
    longest = max(len(ids) for ids in prompts)
    largest = max(plan.batches, key=lambda batch: batch.rows)
    peak = memory.batch_bytes(config, largest.rows, len(largest.prompts), longest)
    return JobPlan(
        prompts=len(prompts),
        prompt_tokens=sum(len(ids) for ids in prompts),
        unique_tokens=plan.unique_tokens,
        rows=plan.rows,
        batches=len(plan.batches),
        peak_bytes=peak + memory.cache_bytes(config, plan.skipped),
        weight_bytes=weights.resident_bytes,
        streamed_bytes=weights.streamed_bytes,
        compute_share=share_of_compute(largest.rows, weights.hiding_rows),
    )


def share_of_compute(rows: int, hiding_rows: int) -> float:
    """Of the speed without streaming, in batches of `rows`."""
    return min(1.0, rows / max(1, hiding_rows))
