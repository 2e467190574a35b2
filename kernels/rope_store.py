"""Optional per-head RMSNorm, rotary embedding, and the write to where attention reads: one pass over projected rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from preftree.kernels.launch import assert_aligned

# Elements of half a head block in a program: 4 warps with one 16-byte load a thread and half, in bf16.
BLOCK_ELEMENTS = 1024
NUM_WARPS = 4


@triton.jit
def place_heads(  # type: ignore[no-untyped-def]
    i_block,
    p_x,
    p_cos,
    p_sin,
    p_norm,
    p_out,
    p_slots,
    eps,
    units,
    heads,
    x_row_stride,
    out_row_stride,
    out_value_stride,
    SIZE: tl.constexpr,
    BLOCK_UNITS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_VALUES: tl.constexpr,
    HAS_SLOTS: tl.constexpr,
):
    """Block `i_block` of the units: one head of one row each, so that any number of heads fills the program.

    With HAS_VALUES, x holds as many value heads after its key heads; they are copied. With HAS_SLOTS, p_slots says
    which row of the output each row goes to.
    """
    HALF: tl.constexpr = SIZE // 2
    # [BLOCK_UNITS, 1]
    o_unit = (i_block * BLOCK_UNITS + tl.arange(0, BLOCK_UNITS))[:, None]
    o_row = (o_unit // heads).to(tl.int64)
    o_head = o_unit % heads
    # [1, BLOCK_HALF]
    o_dim = tl.arange(0, BLOCK_HALF)[None, :]
    m_dim = o_dim < HALF
    # [BLOCK_UNITS, BLOCK_HALF]
    m_half = (o_unit < units) & m_dim
    p_left = p_x + o_row * x_row_stride + o_head * SIZE + o_dim
    b_left = tl.load(p_left, mask=m_half, other=0.0).to(tl.float32)
    b_right = tl.load(p_left + HALF, mask=m_half, other=0.0).to(tl.float32)
    if HAS_NORM:
        # [BLOCK_UNITS, 1]
        b_square = tl.sum(b_left * b_left + b_right * b_right, 1)[:, None] / SIZE
        b_scale = tl.div_rn(1.0, tl.sqrt_rn(b_square + eps))
        # [1, BLOCK_HALF]
        b_norm_left = tl.load(p_norm + o_dim, mask=m_dim, other=0.0).to(tl.float32)
        b_norm_right = tl.load(p_norm + HALF + o_dim, mask=m_dim, other=0.0).to(tl.float32)
        b_left = b_left * b_scale * b_norm_left
        b_right = b_right * b_scale * b_norm_right
    b_cos = tl.load(p_cos + o_row * HALF + o_dim, mask=m_half, other=0.0).to(tl.float32)
    b_sin = tl.load(p_sin + o_row * HALF + o_dim, mask=m_half, other=0.0).to(tl.float32)
    o_to_row = tl.load(p_slots + o_row, mask=o_unit < units, other=0) if HAS_SLOTS else o_row
    p_to = p_out + o_to_row * out_row_stride + o_head * SIZE + o_dim
    dtype = p_out.dtype.element_ty
    tl.store(p_to, (b_left * b_cos - b_right * b_sin).to(dtype), mask=m_half)
    tl.store(p_to + HALF, (b_right * b_cos + b_left * b_sin).to(dtype), mask=m_half)
    if HAS_VALUES:
        p_value = p_left + heads * SIZE
        tl.store(p_to + out_value_stride, tl.load(p_value, mask=m_half), mask=m_half)
        tl.store(p_to + out_value_stride + HALF, tl.load(p_value + HALF, mask=m_half), mask=m_half)


# The number of rows differs from batch to batch; heads only divide.
@triton.jit(do_not_specialize=["units", "heads"])
def rope_kernel(  # type: ignore[no-untyped-def]
    p_x, p_cos, p_sin, p_norm, p_out, p_slots, eps, units, heads, x_row_stride, out_row_stride, out_value_stride,
    SIZE: tl.constexpr, BLOCK_UNITS: tl.constexpr, BLOCK_HALF: tl.constexpr, HAS_NORM: tl.constexpr,
    HAS_VALUES: tl.constexpr, HAS_SLOTS: tl.constexpr,
):  # fmt: skip
    """Heads of one kind: queries, or keys with their values."""
    place_heads(
        tl.program_id(0), p_x, p_cos, p_sin, p_norm, p_out, p_slots, eps, units, heads, x_row_stride, out_row_stride,
        out_value_stride, SIZE, BLOCK_UNITS, BLOCK_HALF, HAS_NORM, HAS_VALUES, HAS_SLOTS,
    )  # fmt: skip


def settings(size: int) -> tuple[int, int]:
    """BLOCK_UNITS and BLOCK_HALF for heads of `size`."""
    half = triton.next_power_of_2(size // 2)
    return max(1, BLOCK_ELEMENTS // half), half


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
    [size], every head is RMS-normed before (Qwen3). Rows of x and of out may be strided.
    """
    heads, size = out.shape[1:]
    assert x.shape == (len(out), heads * size)
    _launch(x, cos, sin, norm, eps, out, value_stride=0, has_values=False, slots=None)


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

    With `norm` [size], every key head is RMS-normed before it rotates. Strides as in `rotate`; values may lie anywhere
    after their keys. slots: [rows] int64, where each row goes; None for row r into slot r of as many.
    """
    _, two, heads, size = out.shape
    assert two == 2
    assert x.shape == (len(out if slots is None else slots), 2 * heads * size)
    assert slots is None or (slots.dtype == torch.int64 and slots.is_contiguous())
    _launch(x, cos, sin, norm, eps, out, value_stride=out.stride(1), has_values=True, slots=slots)


def _launch(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    norm: torch.Tensor | None,
    eps: float,
    out: torch.Tensor,
    value_stride: int,
    has_values: bool,
    slots: torch.Tensor | None,
) -> None:
    """value_stride: from a row's keys to its values."""
    rows, heads, size = len(x), out.shape[-2], out.shape[-1]
    assert size % 2 == 0
    assert x.stride(1) == 1
    assert out.stride(-1) == 1
    assert out.stride(-2) == size, "heads lie side by side"
    assert x.dtype == out.dtype
    assert cos.shape == sin.shape == (rows, size // 2)
    assert cos.is_contiguous()
    assert sin.is_contiguous()
    assert norm is None or (norm.shape == (size,) and norm.is_contiguous())
    assert_aligned(x, cos, sin, out)
    block_units, block_half = settings(size)
    units = rows * heads
    assert units + block_units <= 2**31, "units are counted in 32 bits"
    with torch.cuda.device_of(x):
        rope_kernel[(triton.cdiv(units, block_units),)](
            x,
            cos,
            sin,
            norm,
            out,
            slots,
            eps,
            units,
            heads,
            x.stride(0),
            out.stride(0),
            value_stride,
            SIZE=size,
            BLOCK_UNITS=block_units,
            BLOCK_HALF=block_half,
            HAS_NORM=norm is not None,
            HAS_VALUES=has_values,
            HAS_SLOTS=slots is not None,
            num_warps=NUM_WARPS,
            enable_fp_fusion=False,
        )
