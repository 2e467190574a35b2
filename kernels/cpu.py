"""The operations on a CPU, in plain torch. Oracles of the same names stand in `kernels/reference.py`.

Rows never influence each other: calls on the same number of rows give a row the same bits whatever its neighbours
are. `tests/kernels/test_cpu_invariance.py` holds every function here to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from preftree.kernels.routing import route as route
from preftree.kernels.tiles import PlanLayout, StepGroup, TileGroup

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
    return PlanLayout(
        ROW_BLOCK, FINAL_ROW_BLOCK, TILE_LANES, aligned=True, step_block=STEP_BLOCK, batch_blocks=BATCH_BLOCKS
    )


@dataclass(frozen=True)
class PackedLinear:
    """A weight matrix in the layout that its library reads fastest. Made by `pack_linear`."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    out_features: int
    is_onednn: bool


def pack_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> PackedLinear:
    """Prepare `weight` [out, in] and, where there is one, `bias` [out] for `linear`.

    oneDNN's packed weights ran 1.3 to 1.5 times as fast as MKL's on plain ones (float32, AVX-512). Where oneDNN or
    its instructions for the dtype are missing, plain ones serve.
    """
    if torch.backends.mkldnn.is_available() and _ONEDNN_RUNS[weight.dtype]():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        return PackedLinear(packed, bias, weight.shape[0], is_onednn=True)
    return PackedLinear(weight.contiguous(), bias, weight.shape[0], is_onednn=False)


def exact_products() -> AbstractContextManager[None]:
    """Nothing to switch: sums are float32 or wider."""
    return nullcontext()


def linear(x: torch.Tensor, packed: PackedLinear, row_block: int | None = None) -> torch.Tensor:
    """x [rows, in] times the transposed weight, plus the bias: [rows, out].

    row_block: rows of one matrix product, on which a row's bits may depend; None for all at once.
    """
    if row_block is not None and len(x) != row_block:
        return torch.cat([linear(block, packed) for block in x.split(row_block)])
    if packed.is_onednn:
        return torch.ops.mkldnn._linear_pointwise(x, packed.weight, packed.bias, "none", [], None)
    return F.linear(x, packed.weight, packed.bias)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32 inside (Zhang and Sennrich, 2019).

    A weight in float32 multiplies before the result is rounded to x's dtype, any other one after.
    """
    wide = x.float()
    scale = wide.pow(2).mean(-1, keepdim=True).add_(eps).rsqrt_()
    if weight.dtype == torch.float32:
        return (wide * scale).mul_(weight).to(x.dtype)
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
    slots: torch.Tensor | None = None,
) -> None:
    """Keys and values x [rows, 2 * kv_heads * size] into their slots, out [slots, 2, kv_heads, size]; keys rotated.

    With `norm` [size], every key head is RMS-normed before it rotates. slots: [rows] int64, where each row goes; None
    for row r into slot r of as many.
    """
    keys, values = x.chunk(2, dim=-1)
    own = out if slots is None else out.new_empty(len(x), *out.shape[1:])
    rotate(keys, cos, sin, out=own[:, 0], norm=norm, eps=eps)
    own[:, 1] = values.view(own[:, 1].shape)
    if slots is not None:
        out.index_copy_(0, slots, own)


def tree_attention(
    queries: torch.Tensor,
    kv: torch.Tensor,
    groups: Sequence[TileGroup | StepGroup],
    out: torch.Tensor,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> None:
    """Causal attention of every tile's rows over their path.

    queries: [rows, heads, size]. kv: [slots, 2, kv_heads, size], keys then values. out: like queries, may be queries
    itself; rows that are in no tile stay as they are, the scratch row receives garbage.
    scale: of scores, None for one over the root of the size. window: how many last tokens of its path a row sees,
    itself included. softcap: c of c * tanh(score / c), over scaled scores.

    The query heads that share a K/V head are stacked into the rows of one matrix product.
    """
    steps = [group for group in groups if isinstance(group, StepGroup)]
    if steps:
        _attend_steps(queries, kv, steps, out, scale, window, softcap)
    gathered = _Gathered(kv)
    for group in groups:
        if isinstance(group, StepGroup):
            continue
        begin = _first_key(group.keys, group.lanes, window)
        tiles_at_once = max(1, GATHERED_KEYS // (group.keys - begin))
        mask = _mask(group, begin, window, queries.shape[1] // kv.shape[2], queries.dtype)
        for first in range(0, len(group.rows), tiles_at_once):
            part = slice(first, first + tiles_at_once)
            path = gathered.paths(group.slots[part, begin:])
            _attend_tiles(queries, path, group.rows[part], mask, out, scale, softcap)


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


def _first_key(keys: int, span: int, window: int | None) -> int:
    """Where the keys begin that some row among the last `span` depths sees: at a multiple of `span`."""
    if window is None:
        return 0
    return max(0, keys - span - window + 1) // span * span


def _mask(group: TileGroup, begin: int, window: int | None, heads_per_kv: int, dtype: torch.dtype) -> torch.Tensor:
    """[heads_per_kv * lanes, keys from `begin` on], -inf where a key lies deeper than the query or before its window.

    Only the last block has keys of the first kind."""
    future = torch.full((group.lanes, group.lanes), float("-inf"), dtype=dtype).triu_(1)
    mask = F.pad(future, (group.keys - begin - group.lanes, 0))
    if window is not None and window < group.keys:
        query = torch.arange(group.keys - group.lanes, group.keys).unsqueeze(1)
        mask.masked_fill_(torch.arange(begin, group.keys) <= query - window, float("-inf"))
    return mask.repeat(heads_per_kv, 1)


def _attend_tiles(
    queries: torch.Tensor,
    path: torch.Tensor,
    rows: torch.Tensor,
    mask: torch.Tensor,
    out: torch.Tensor,
    scale: float | None,
    softcap: float | None,
) -> None:
    tiles, lanes = rows.shape
    _, heads, size = queries.shape
    kv_heads = path.shape[3]
    row_index = rows.reshape(-1)
    # [tiles, lanes, kv_heads, group, size] -> [tiles, kv_heads, group * lanes, size]
    query = queries.index_select(0, row_index).view(tiles, lanes, kv_heads, heads // kv_heads, size)
    query = query.permute(0, 2, 3, 1, 4).reshape(tiles, kv_heads, -1, size)
    result = _attended(query, path, mask, scale, softcap)
    result = result.view(tiles, kv_heads, -1, lanes, size).permute(0, 3, 1, 2, 4)
    out.index_copy_(0, row_index, result.reshape(-1, heads, size))


def _attend_steps(
    queries: torch.Tensor,
    kv: torch.Tensor,
    groups: Sequence[StepGroup],
    out: torch.Tensor,
    scale: float | None,
    window: int | None,
    softcap: float | None,
) -> None:
    _, heads, size = queries.shape
    kv_heads = kv.shape[2]
    heads_per_kv = heads // kv_heads
    lanes = -(-heads_per_kv // STEP_LANES) * STEP_LANES
    rows = max(group.first_row + len(group.depth) for group in groups)
    query = queries.new_zeros(rows, kv_heads, lanes, size)
    query[:, :, :heads_per_kv] = queries[:rows].view(rows, kv_heads, heads_per_kv, size)
    gathered = _Gathered(kv)
    for group in groups:
        begin = _first_key(group.keys, group.span, window)
        for part, slots, mask in group.parts(begin, window, queries.dtype, GATHERED_KEYS):
            result = _attended(query[part], gathered.paths(slots), mask, scale, softcap)
            out[part] = result[:, :, :heads_per_kv].reshape(-1, heads, size)


def _attended(
    query: torch.Tensor, path: torch.Tensor, mask: torch.Tensor, scale: float | None, softcap: float | None
) -> torch.Tensor:
    """query: [tiles, kv_heads, rows, size]. path: [tiles, keys, 2, kv_heads, size]. Returns a tensor like query."""
    keys, values = path.permute(2, 0, 3, 1, 4).unbind(0)
    if softcap is None:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    return _capped_attention(query, keys, values, mask, query.shape[-1] ** -0.5 if scale is None else scale, softcap)


def _capped_attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float, softcap: float
) -> torch.Tensor:
    """What the library's attention has no room for: a function over the scores. float32 up to the probabilities."""
    scores = query.float() @ keys.float().transpose(2, 3)
    scores.mul_(scale / softcap).tanh_().mul_(softcap).add_(mask)
    return torch.softmax(scores, -1).to(values.dtype) @ values


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for gate_up [rows, 2 * width], gate first: [rows, width] (Shazeer, 2020)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def geglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) * up, as `swiglu`; gelu by its tanh formula (Hendrycks and Gimpel, 2016)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh").mul_(up)


def pack_head(weight: torch.Tensor) -> list[PackedLinear]:
    """The output matrix [vocab, hidden] in vocabulary blocks.

    Label logits are accumulated in float32. A matrix of 16 bits stays as it is, and its blocks become float32 one by
    one whenever they are multiplied with: a copy in float32 would take twice its memory.
    """
    blocks = weight.split(VOCAB_BLOCK)
    if weight.dtype == torch.float32:
        return [pack_linear(block) for block in blocks]
    return [PackedLinear(block, None, len(block), is_onednn=False) for block in blocks]


def _wide(block: PackedLinear) -> PackedLinear:
    return block if block.weight.dtype == torch.float32 else replace(block, weight=block.weight.float())


def label_head(
    hidden: torch.Tensor,
    head: Sequence[PackedLinear],
    query_rows: torch.Tensor,
    query_tokens: torch.Tensor,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of single tokens, and the normaliser of their rows, in one pass over the vocabulary.

    hidden: [rows, hidden], already normed; rows a multiple of FINAL_ROW_BLOCK. head: from `pack_head`.
    query_rows, query_tokens: [queries] int64. softcap: c of c * tanh(logit / c), over all logits. Returns logits
    [queries] and log-sum-exp over the vocabulary [rows], float32. No [rows, vocabulary] tensor ever exists.
    """
    logits = torch.empty(len(query_rows), dtype=torch.float32)
    log_normaliser = torch.full((len(hidden),), float("-inf"))
    rows = hidden.float()
    offset = 0
    for block in map(_wide, head):
        mine = ((query_tokens >= offset) & (query_tokens < offset + block.out_features)).nonzero().squeeze(1)
        for first in range(0, len(rows), FINAL_ROW_BLOCK):
            part = slice(first, first + FINAL_ROW_BLOCK)
            block_logits = linear(rows[part], block)
            if softcap is not None:
                block_logits.div_(softcap).tanh_().mul_(softcap)
            torch.logaddexp(log_normaliser[part], block_logits.logsumexp(-1), out=log_normaliser[part])
            here = mine[(query_rows[mine] >= first) & (query_rows[mine] < part.stop)]
            logits[here] = block_logits[query_rows[here] - first, query_tokens[here] - offset]
        offset += block.out_features
    return logits, log_normaliser


def token_logits(hidden: torch.Tensor, head: Sequence[PackedLinear]) -> torch.Tensor:
    """Logits of the whole vocabulary, to choose a token from: [rows, vocab] float32.

    hidden: [rows, hidden], already normed. Bits of a row may depend on the number of rows.
    """
    wide = hidden.float()
    return torch.cat([linear(wide, block) for block in map(_wide, head)], dim=-1)
