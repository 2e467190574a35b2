"""RMSNorm and LayerNorm, alone and after a residual addition: one program a row, one pass over memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from preftree.kernels.fp8_rows import empty_fp8_rows, store_fp8
from preftree.kernels.launch import assert_aligned
from preftree.kernels.quantized.fp8 import Fp8Rows

# A row is held in the registers of one program; longer rows would spill.
MAX_HIDDEN = 16384
# Two 16-byte loads a thread in bf16 keep enough bytes in flight; 16 warps hold the longest row in 32 registers each.
ELEMENTS_PER_THREAD = 16
MAX_WARPS = 16


@triton.jit
def rms_norm_kernel(  # type: ignore[no-untyped-def]
    p_x,
    p_update,
    p_weight,
    p_out,
    p_scale,
    eps,
    hidden,
    BLOCK: tl.constexpr,
    HAS_UPDATE: tl.constexpr,
    IS_CENTRED: tl.constexpr,
):
    """out = norm(x) * weight; with an update, x += update first. Centred, it is the norm of x - mean(x).

    With scales, out is fp8: it leaves float32 once.
    """
    i_row = tl.program_id(0).to(tl.int64)
    # [BLOCK]
    o_hidden = tl.arange(0, BLOCK)
    m_hidden = o_hidden < hidden
    p_row = p_x + i_row * hidden + o_hidden
    b_x = tl.load(p_row, mask=m_hidden, other=0.0)
    if HAS_UPDATE:
        b_update = tl.load(p_update + i_row * hidden + o_hidden, mask=m_hidden, other=0.0)
        # Rounded before the norm: the next layers see this very residual.
        b_x = (b_x.to(tl.float32) + b_update.to(tl.float32)).to(b_x.dtype)
        tl.store(p_row, b_x, mask=m_hidden)
    b_wide = b_x.to(tl.float32)
    if IS_CENTRED:
        b_wide = tl.where(m_hidden, b_wide - tl.div_rn(tl.sum(b_wide, 0), hidden.to(tl.float32)), 0.0)
    # Correctly rounded: the approximate rsqrt would cost float32 its last two bits.
    scale = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(b_wide * b_wide, 0) / hidden + eps))
    b_weight = tl.load(p_weight + o_hidden, mask=m_hidden, other=0.0).to(tl.float32)
    b_out = b_wide * scale * b_weight
    p_out += i_row * hidden + o_hidden
    if p_scale is not None:
        tl.store(p_scale + i_row, store_fp8(b_out, tl.max(tl.abs(b_out), 0), p_out, m_hidden))
    else:
        tl.store(p_out, b_out.to(p_out.dtype.element_ty), mask=m_hidden)


def settings(hidden: int) -> tuple[int, int]:
    """BLOCK and number of warps for rows of `hidden`."""
    block = triton.next_power_of_2(hidden)
    return block, max(1, min(MAX_WARPS, block // (32 * ELEMENTS_PER_THREAD)))


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [rows, hidden] / sqrt(mean(x^2) + eps) * weight [hidden], in float32 inside (Zhang and Sennrich, 2019)."""
    out = torch.empty_like(x)
    _launch(x, None, weight, eps, out, is_centred=False)
    return out


def add_rms_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add `update` to `residual` IN PLACE, both [rows, hidden], and return the norm of the sum."""
    out = torch.empty_like(residual)
    _launch(residual, update, weight, eps, out, is_centred=False)
    return out


def layer_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """(x [rows, hidden] - mean(x)) / sqrt(variance(x) + eps) * weight [hidden], without a bias (Ba et al., 2016)."""
    out = torch.empty_like(x)
    _launch(x, None, weight, eps, out, is_centred=True)
    return out


def add_layer_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`add_rms_norm` with `layer_norm`."""
    out = torch.empty_like(residual)
    _launch(residual, update, weight, eps, out, is_centred=True)
    return out


def fp8_norm(
    x: torch.Tensor, update: torch.Tensor | None, weight: torch.Tensor, eps: float, is_centred: bool
) -> Fp8Rows:
    """What the norm of the same arguments gives, in fp8 at once: `layer_norm` where it is centred, else `rms_norm`."""
    out = empty_fp8_rows(len(x), x.shape[1], like=x)
    _launch(x, update, weight, eps, out.levels, is_centred, out.scale)
    return out


def _launch(
    x: torch.Tensor,
    update: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    out: torch.Tensor,
    is_centred: bool,
    scale: torch.Tensor | None = None,
) -> None:
    rows, hidden = x.shape
    if update is not None:
        assert update.shape == x.shape
        assert update.dtype == x.dtype
        assert update.is_contiguous()
        assert_aligned(update)
    assert hidden <= MAX_HIDDEN, f"rows of {hidden} do not fit one program; at most {MAX_HIDDEN}"
    assert x.is_contiguous()
    assert weight.shape == (hidden,)
    assert weight.is_contiguous()
    assert_aligned(x, weight)
    block, warps = settings(hidden)
    with torch.cuda.device_of(x):
        rms_norm_kernel[(rows,)](
            x,
            update,
            weight,
            out,
            scale,
            eps,
            hidden,
            BLOCK=block,
            HAS_UPDATE=update is not None,
            IS_CENTRED=is_centred,
            num_warps=warps,
            enable_fp_fusion=False,
        )
