"""The operations on a CPU, in plain torch. Oracles of the same names stand in `kernels/reference.py`.

Rows never influence each other: calls on the same number of rows give a row the same bits whatever its neighbours
are. `tests/kernels/test_cpu_invariance.py` holds every function here to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from kernels.tiles import PlanLayout, StepGroup, TileGroup

# Measured on two cores: linear layers reach 95% of their rate at 128 rows, and the block's temporaries stay in cache.
ROW_BLOCK = 128
# Rows that only the last layer and the label head see are few; a small block wastes little on padding.
FINAL_ROW_BLOCK = 32
# Sequences that are decoded together. Linear layers run at half their rate here, and reach it at four times the rows.
STEP_BLOCK = 32
# Row blocks in a batch by default: memory stays small, and larger batches run no faster.
BATCH_BLOCKS = 32
# Query rows of a tile, per head. Short suffixes leave lanes of a tile empty, tall tiles feed the matrix units better.
TILE_LANES = 16
# Query heads of a decoded row are filled up to a multiple of this: products of one to three rows gave a row other bits
# with other tiles beside it.
STEP_LANES = 8
# Gathered K and V of one attention call stay in the last-level cache.
GATHERED_KEYS = 4096
VOCAB_BLOCK = 8192


_ONEDNN_RUNS: dict[torch.dtype, Callable[[], bool]] = {
    torch.float32: lambda: True,
    # Looked up when called: a torch build without oneDNN has neither.
    torch.bfloat16: lambda: torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    torch.float16: lambda: torch.ops.mkldnn._is_mkldnn_fp16_supported(),
}


def plan_layout(
    device: torch.device, dtype: torch.dtype, hidden_size: int, heads_per_kv: int, head_dim: int
) -> PlanLayout:
    """The same for every model."""
    return PlanLayout(ROW_BLOCK, FINAL_ROW_BLOCK, TILE_LANES, aligned=True, step_block=STEP_BLOCK)


@dataclass(frozen=True)
class PackedLinear:
    """A weight matrix in the layout that its library reads fastest. Made by `pack_linear`."""

    weight: torch.Tensor
    out_features: int
    is_onednn: bool


def pack_linear(weight: torch.Tensor) -> PackedLinear:
    """Prepare `weight` [out, in] for `linear`.

    oneDNN's packed weights ran 1.3 to 1.5 times as fast as MKL's on plain ones (float32, AVX-512). Where oneDNN or
    its instructions for the dtype are missing, plain ones serve.
    """
    if torch.backends.mkldnn.is_available() and _ONEDNN_RUNS[weight.dtype]():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        return PackedLinear(packed, weight.shape[0], is_onednn=True)
    return PackedLinear(weight.contiguous(), weight.shape[0], is_onednn=False)


def exact_products() -> AbstractContextManager[None]:
    """Nothing to switch: sums are float32 or wider."""
    return nullcontext()


def linear(x: torch.Tensor, packed: PackedLinear) -> torch.Tensor:
    """x [rows, in] times the transposed weight: [rows, out]. Bits of a row may depend on the number of rows."""
    if packed.is_onednn:
        return torch.ops.mkldnn._linear_pointwise(x, packed.weight, None, "none", [], None)
    return F.linear(x, packed.weight)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32 inside (Zhang and Sennrich, 2019)."""
    wide = x.float()
    scale = wide.pow(2).mean(-1, keepdim=True).add_(eps).rsqrt_()
    return (wide * scale).to(x.dtype).mul_(weight)


def add_rms_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add `update` to `residual` IN PLACE and return the norm of the sum."""
    return rms_norm(residual.add_(update), weight, eps)


def rotate(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """Rotary embedding of x [rows, heads * size] into out [rows, heads, size]; cos and sin are [rows, size / 2].

    Pairs are (i, i + size / 2), as in the checkpoints of Hugging Face (Su et al., 2021, rotated halves). With `norm`
    [size], every head is RMS-normed before (Qwen3).
    """
    half = cos.shape[-1]
    heads = x.view(out.shape)
    if norm is not None:
        heads = rms_norm(heads, norm, eps)
    left, right = heads.split(half, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    torch.mul(left, cos, out=out[..., :half]).addcmul_(right, sin, value=-1)
    torch.mul(right, cos, out=out[..., half:]).addcmul_(left, sin)


def store_kv(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """Keys and values x [rows, 2 * kv_heads * size] into their slots, out [rows, 2, kv_heads, size]; keys rotated.

    With `norm` [size], every key head is RMS-normed before it rotates.
    """
    keys, values = x.chunk(2, dim=-1)
    rotate(keys, cos, sin, out=out[:, 0], norm=norm, eps=eps)
    out[:, 1] = values.view(out[:, 1].shape)


def tree_attention(
    queries: torch.Tensor, kv: torch.Tensor, groups: Sequence[TileGroup | StepGroup], out: torch.Tensor
) -> None:
    """Causal attention of every tile's rows over their path.

    queries: [rows, heads, size]. kv: [slots, 2, kv_heads, size], keys then values. out: like queries, may be queries
    itself; rows that are in no tile stay as they are, the scratch row receives garbage.

    The query heads that share a K/V head are stacked into the rows of one matrix product.
    """
    for group in groups:
        if isinstance(group, StepGroup):
            _attend_steps(queries, kv, group, out)
            continue
        tiles_at_once = max(1, GATHERED_KEYS // group.keys)
        mask = _causal_mask(group, queries.shape[1] // kv.shape[2], queries.dtype)
        for first in range(0, len(group.rows), tiles_at_once):
            part = slice(first, first + tiles_at_once)
            _attend_tiles(queries, kv, group.rows[part], group.slots[part], mask, out)


def _causal_mask(group: TileGroup, heads_per_kv: int, dtype: torch.dtype) -> torch.Tensor:
    """[heads_per_kv * lanes, keys], -inf where a key lies deeper than the query. Only the last block has such keys."""
    future = torch.full((group.lanes, group.lanes), float("-inf"), dtype=dtype).triu_(1)
    return F.pad(future, (group.keys - group.lanes, 0)).repeat(heads_per_kv, 1)


def _attend_tiles(
    queries: torch.Tensor,
    kv: torch.Tensor,
    rows: torch.Tensor,
    slots: torch.Tensor,
    mask: torch.Tensor,
    out: torch.Tensor,
) -> None:
    tiles, lanes = rows.shape
    _, heads, size = queries.shape
    kv_heads = kv.shape[2]
    row_index = rows.reshape(-1)
    # [tiles, lanes, kv_heads, group, size] -> [tiles, kv_heads, group * lanes, size]
    query = queries.index_select(0, row_index).view(tiles, lanes, kv_heads, heads // kv_heads, size)
    query = query.permute(0, 2, 3, 1, 4).reshape(tiles, kv_heads, -1, size)
    path = kv.index_select(0, slots.reshape(-1)).view(tiles, -1, 2, kv_heads, size)
    keys, values = path.permute(2, 0, 3, 1, 4).unbind(0)
    result = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    result = result.view(tiles, kv_heads, -1, lanes, size).permute(0, 3, 1, 2, 4)
    out.index_copy_(0, row_index, result.reshape(-1, heads, size))


def _attend_steps(queries: torch.Tensor, kv: torch.Tensor, group: StepGroup, out: torch.Tensor) -> None:
    count, keys = group.slots.shape
    _, heads, size = queries.shape
    kv_heads = kv.shape[2]
    hidden = torch.arange(keys) > group.depth.unsqueeze(1)
    mask = torch.zeros(count, 1, 1, keys, dtype=queries.dtype).masked_fill_(hidden[:, None, None], float("-inf"))
    at_once = max(1, GATHERED_KEYS // keys)
    heads_per_kv = heads // kv_heads
    packed = -(-heads_per_kv // STEP_LANES) * STEP_LANES
    for first in range(0, count, at_once):
        part = slice(first, first + at_once)
        slots = group.slots[part]
        rows = slice(group.first_row + first, group.first_row + first + len(slots))
        query = queries.new_zeros(len(slots), kv_heads, packed, size)
        query[:, :, :heads_per_kv] = queries[rows].view(len(slots), kv_heads, heads_per_kv, size)
        path = kv.index_select(0, slots.reshape(-1)).view(len(slots), keys, 2, kv_heads, size)
        key, value = path.permute(2, 0, 3, 1, 4).unbind(0)
        result = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[part])
        out[rows] = result[:, :, :heads_per_kv].reshape(len(slots), heads, size)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for gate_up [rows, 2 * width], gate first: [rows, width] (Shazeer, 2020)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def pack_head(weight: torch.Tensor) -> list[PackedLinear]:
    """The output matrix [vocab, hidden] in vocabulary blocks, float32: label logits are accumulated in float32."""
    return [pack_linear(block.float()) for block in weight.split(VOCAB_BLOCK)]


def label_head(
    hidden: torch.Tensor, head: Sequence[PackedLinear], query_rows: torch.Tensor, query_tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of single tokens, and the normaliser of their rows, in one pass over the vocabulary.

    hidden: [rows, hidden], already normed; rows a multiple of FINAL_ROW_BLOCK. head: from `pack_head`.
    query_rows, query_tokens: [queries] int64. Returns logits [queries] and log-sum-exp over the vocabulary [rows],
    float32. No [rows, vocabulary] tensor ever exists.
    """
    logits = torch.empty(len(query_rows), dtype=torch.float32)
    log_normaliser = torch.full((len(hidden),), float("-inf"))
    for first in range(0, len(hidden), FINAL_ROW_BLOCK):
        rows = hidden[first : first + FINAL_ROW_BLOCK].float()
        mine = ((query_rows >= first) & (query_rows < first + FINAL_ROW_BLOCK)).nonzero().squeeze(1)
        running = log_normaliser[first : first + FINAL_ROW_BLOCK]
        offset = 0
        for block in head:
            block_logits = linear(rows, block)
            torch.logaddexp(running, block_logits.logsumexp(-1), out=running)
            here = mine[(query_tokens[mine] >= offset) & (query_tokens[mine] < offset + block.out_features)]
            logits[here] = block_logits[query_rows[here] - first, query_tokens[here] - offset]
            offset += block.out_features
    return logits, log_normaliser


def token_logits(hidden: torch.Tensor, head: Sequence[PackedLinear]) -> torch.Tensor:
    """Logits of the whole vocabulary, to choose a token from: [rows, vocab] float32.

    hidden: [rows, hidden], already normed. Bits of a row may depend on the number of rows.
    """
    wide = hidden.float()
    return torch.cat([linear(wide, block) for block in head], dim=-1)
