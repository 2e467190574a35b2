"""SwiGLU, GeGLU and gpt-oss's clamped SwiGLU over the fused gate and up projection, one pass over memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from preftree.kernels.fp8_rows import empty_fp8_rows, store_fp8
from preftree.kernels.quantized.fp8 import Fp8Rows
from preftree.kernels.tanh import tanh
from preftree.kernels.tiles import Activation

# Eight elements a thread: one 16-byte load of gate and one of up in bf16.
BLOCK = 1024
NUM_WARPS = 4
ROOT_2_OVER_PI = tl.constexpr(0.7978845608028654)
# Of the clamped gate.
ALPHA, LIMIT = tl.constexpr(1.702), tl.constexpr(7.0)
# Of a row that one program takes, eight elements a thread.
ROW_BLOCK, ROW_WARPS = 2048, 8


@triton.jit
def activated(b_gate, b_up, ACTIVATION: tl.constexpr):  # type: ignore[no-untyped-def]
    """activation(gate) * up, elementwise, in float32."""
    if ACTIVATION == "gelu_tanh":
        b_tanh = tanh((b_gate + 0.044715 * b_gate * b_gate * b_gate) * ROOT_2_OVER_PI)
        b_out = 0.5 * b_gate * (1.0 + b_tanh) * b_up
    elif ACTIVATION == "clamped_silu":
        # A minimum would take the limit for a NaN.
        b_gate = tl.where(b_gate > LIMIT, LIMIT, b_gate)
        b_up = tl.where(b_up > LIMIT, LIMIT, tl.where(b_up < -LIMIT, -LIMIT, b_up))
        b_out = b_gate * tl.sigmoid(b_gate * ALPHA) * (b_up + 1.0)
    else:
        b_out = b_gate * tl.sigmoid(b_gate) * b_up
    return b_out


@triton.jit
def _gated(p_gate, width, mask, ACTIVATION: tl.constexpr):  # type: ignore[no-untyped-def]
    """`activated` of part of a row. p_gate: of the part; up is `width` further."""
    b_gate = tl.load(p_gate, mask=mask, other=0.0).to(tl.float32)
    b_up = tl.load(p_gate + width, mask=mask, other=0.0).to(tl.float32)
    return activated(b_gate, b_up, ACTIVATION)


@triton.jit
def gated_kernel(  # type: ignore[no-untyped-def]
    p_gate_up,
    p_out,
    width,
    BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    i_row = tl.program_id(0).to(tl.int64)
    # [BLOCK]
    o_width = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m_width = o_width < width
    b_out = _gated(p_gate_up + i_row * 2 * width + o_width, width, m_width, ACTIVATION)
    tl.store(p_out + i_row * width + o_width, b_out.to(p_out.dtype.element_ty), mask=m_width)


@triton.jit
def gated_fp8_kernel(  # type: ignore[no-untyped-def]
    p_gate_up,
    p_out,
    p_scale,
    width,
    BLOCK: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """Twice over the row, the second time in the cache: the widest have no room in a program's registers."""
    i_row = tl.program_id(0).to(tl.int64)
    p_row = p_gate_up + i_row * 2 * width
    # [BLOCK]
    o_block = tl.arange(0, BLOCK)
    b_largest = tl.zeros([BLOCK], tl.float32)
    for first in range(0, width, BLOCK):
        b_out = _gated(p_row + first + o_block, width, first + o_block < width, ACTIVATION)
        b_largest = tl.maximum(b_largest, tl.abs(b_out))
    largest = tl.max(b_largest, 0)
    scale = 0.0
    for first in range(0, width, BLOCK):
        m_block = first + o_block < width
        b_out = _gated(p_row + first + o_block, width, m_block, ACTIVATION)
        scale = store_fp8(b_out, largest, p_out + i_row * width + first + o_block, m_block)
    tl.store(p_scale + i_row, scale)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for gate_up [rows, 2 * width], gate first: [rows, width] (Shazeer, 2020). float32 inside."""
    return _launch(gate_up, "silu")


def geglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) * up, as `swiglu`; gelu by its tanh formula (Hendrycks and Gimpel, 2016)."""
    return _launch(gate_up, "gelu_tanh")


def clamped_swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gate * sigmoid(1.702 * gate) * (up + 1), as `swiglu`; gate at most 7, up within 7 of zero (gpt-oss)."""
    return _launch(gate_up, "clamped_silu")


def fp8_gated(gate_up: torch.Tensor, activation: Activation) -> Fp8Rows:
    """What the gate of this activation gives, in fp8 at once."""
    rows, columns = gate_up.shape
    assert columns % 2 == 0
    assert gate_up.is_contiguous()
    out = empty_fp8_rows(rows, columns // 2, like=gate_up)
    with torch.cuda.device_of(gate_up):
        gated_fp8_kernel[(rows,)](
            gate_up,
            out.levels,
            out.scale,
            columns // 2,
            BLOCK=ROW_BLOCK,
            ACTIVATION=activation,
            num_warps=ROW_WARPS,
            enable_fp_fusion=False,
        )
    return out


def _launch(gate_up: torch.Tensor, activation: str) -> torch.Tensor:
    rows, columns = gate_up.shape
    assert columns % 2 == 0
    assert gate_up.is_contiguous()
    width = columns // 2
    out = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    with torch.cuda.device_of(gate_up):
        gated_kernel[(rows, triton.cdiv(width, BLOCK))](
            gate_up, out, width, BLOCK=BLOCK, ACTIVATION=activation, num_warps=NUM_WARPS, enable_fp_fusion=False
        )
    return out
