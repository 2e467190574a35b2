"""SwiGLU and GeGLU over the fused gate and up projection, one pass over memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from preftree.kernels.tanh import tanh

# Eight elements a thread: one 16-byte load of gate and one of up in bf16.
BLOCK = 1024
NUM_WARPS = 4
ROOT_2_OVER_PI = tl.constexpr(0.7978845608028654)


@triton.jit
def gated_kernel(  # type: ignore[no-untyped-def]
    p_gate_up,
    p_out,
    width,
    BLOCK: tl.constexpr,
    IS_GELU: tl.constexpr,
):
    i_row = tl.program_id(0).to(tl.int64)
    # [BLOCK]
    o_width = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m_width = o_width < width
    p_gate = p_gate_up + i_row * 2 * width + o_width
    b_gate = tl.load(p_gate, mask=m_width, other=0.0).to(tl.float32)
    b_up = tl.load(p_gate + width, mask=m_width, other=0.0).to(tl.float32)
    if IS_GELU:
        b_tanh = tanh((b_gate + 0.044715 * b_gate * b_gate * b_gate) * ROOT_2_OVER_PI)
        b_out = 0.5 * b_gate * (1.0 + b_tanh) * b_up
    else:
        b_out = b_gate * tl.sigmoid(b_gate) * b_up
    tl.store(p_out + i_row * width + o_width, b_out.to(p_out.dtype.element_ty), mask=m_width)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for gate_up [rows, 2 * width], gate first: [rows, width] (Shazeer, 2020). float32 inside."""
    return _launch(gate_up, is_gelu=False)


def geglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) * up, as `swiglu`; gelu by its tanh formula (Hendrycks and Gimpel, 2016)."""
    return _launch(gate_up, is_gelu=True)


def _launch(gate_up: torch.Tensor, is_gelu: bool) -> torch.Tensor:
    rows, columns = gate_up.shape
    assert columns % 2 == 0
    assert gate_up.is_contiguous()
    width = columns // 2
    out = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    with torch.cuda.device_of(gate_up):
        gated_kernel[(rows, triton.cdiv(width, BLOCK))](
            gate_up, out, width, BLOCK=BLOCK, IS_GELU=is_gelu, num_warps=NUM_WARPS, enable_fp_fusion=False
        )
    return out
