"""SwiGLU over the fused gate and up projection, one pass over memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

# Eight elements a thread: one 16-byte load of gate and one of up in bf16.
BLOCK = 1024
NUM_WARPS = 4


@triton.jit
def swiglu_kernel(  # type: ignore[no-untyped-def]
    p_gate_up,
    p_out,
    width,
    BLOCK: tl.constexpr,
):
    i_row = tl.program_id(0).to(tl.int64)
    # [BLOCK]
    o_width = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m_width = o_width < width
    p_gate = p_gate_up + i_row * 2 * width + o_width
    b_gate = tl.load(p_gate, mask=m_width, other=0.0).to(tl.float32)
    b_up = tl.load(p_gate + width, mask=m_width, other=0.0).to(tl.float32)
    b_out = b_gate * tl.sigmoid(b_gate) * b_up
    tl.store(p_out + i_row * width + o_width, b_out.to(p_out.dtype.element_ty), mask=m_width)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for gate_up [rows, 2 * width], gate first: [rows, width] (Shazeer, 2020). float32 inside."""
    rows, columns = gate_up.shape
    assert columns % 2 == 0
    assert gate_up.is_contiguous()
    width = columns // 2
    out = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    with torch.cuda.device_of(gate_up):
        swiglu_kernel[(rows, triton.cdiv(width, BLOCK))](
            gate_up, out, width, BLOCK=BLOCK, num_warps=NUM_WARPS, enable_fp_fusion=False
        )
    return out
