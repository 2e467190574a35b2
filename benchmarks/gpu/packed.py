"""Dense causal attention on prompts of several lengths without padding: torch's, and FlashAttention-3 from a library.

Both compute every prompt from its first token on and are checked against `scaled_dot_product_attention` first.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.gpu.device import Call, Device

# The namespace and the name under which vLLM's build of FlashAttention-3 registers its forward pass.
FA3_NAMESPACE, FA3_NAME = "_vllm_fa3_C", "fwd"
# Largest difference over the largest value: two kernels round bfloat16 differently, a wrong mask is far off.
TOLERANCE = 0.02
CHECKED_LENGTHS = (130, 64, 257)


class NoPeerError(Exception):
    """An attention that cannot be compared with, in one line."""


@dataclass(frozen=True)
class PackedInputs:
    """Prompts one after another.

    Attributes:
        q: [tokens, heads, size].
        k: [tokens, K/V heads, size].
        v: As k.
        starts: [prompts + 1] int32, where each prompt begins, and the end of the last one.
        longest: Tokens of the longest prompt.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    starts: torch.Tensor
    longest: int

    @classmethod
    def random(cls, device: Device, heads: int, kv_heads: int, size: int, lengths: tuple[int, ...]) -> PackedInputs:
        """Normal numbers."""
        starts = torch.tensor((0, *lengths)).cumsum(0).to(torch.int32).to(device.torch_device)
        q, k, v = (device.random(sum(lengths), count, size) for count in (heads, kv_heads, kv_heads))
        return cls(q, k, v, starts, max(lengths))


class PackedAttention:
    """An attention over PackedInputs."""

    name: str

    def attend(self, inputs: PackedInputs) -> torch.Tensor:
        """The output, shaped like the queries."""
        raise NotImplementedError

    def checked(self, device: Device, heads: int, kv_heads: int, size: int) -> PackedAttention:
        """Itself. Raises NoPeerError where it does not run here, or computes something else."""
        inputs = PackedInputs.random(device, heads, kv_heads, size, CHECKED_LENGTHS)
        try:
            found = self.attend(inputs)
        except (RuntimeError, TypeError, AttributeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise NoPeerError(f"{self.name} does not run here: {lines[0][:200]}") from None
        expected = reference(inputs)
        difference = float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
        if not difference <= TOLERANCE:
            raise NoPeerError(
                f"{self.name} differs from scaled_dot_product_attention by {difference:.2g} of the largest"
            )
        return self

    def call(self, inputs: PackedInputs) -> Call:
        return lambda: self.attend(inputs)


class Varlen(PackedAttention):
    """torch's FlashAttention 2 for lengths that differ."""

    name = "torch's varlen attention"

    def attend(self, inputs: PackedInputs) -> torch.Tensor:
        public = _public_varlen()
        q, k, v, starts, longest = inputs.q, inputs.k, inputs.v, inputs.starts, inputs.longest
        if public is not None:
            out: torch.Tensor = public(
                q, k, v, starts, starts, longest, longest, window_size=(-1, 0), enable_gqa=q.shape[1] != k.shape[1]
            )
            return out
        # What the public function calls, where that one does not take grouped heads yet.
        forward: Any = torch.ops.aten._flash_attention_forward
        first: torch.Tensor = forward(q, k, v, starts, starts, longest, longest, 0.0, True, False)[0]
        return first


class FlashAttention3(PackedAttention):
    """FlashAttention-3 as a library with torch's stable interface has it. Raises NoPeerError for any other file."""

    name = "FlashAttention-3"

    def __init__(self, path: Path) -> None:
        try:
            torch.ops.load_library(str(path))
        except (OSError, RuntimeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise NoPeerError(f"{path} cannot be loaded: {lines[0][:200]}") from None
        try:
            self._forward: Any = getattr(getattr(torch.ops, FA3_NAMESPACE), FA3_NAME)
            self._schema = self._forward.default._schema
        except (AttributeError, RuntimeError):
            raise NoPeerError(f"{path} has no operation {FA3_NAMESPACE}::{FA3_NAME}") from None

    def attend(self, inputs: PackedInputs) -> torch.Tensor:
        found = self._forward(**fa3_arguments(self._schema, inputs))
        out: torch.Tensor = found[0] if isinstance(found, list | tuple) else found
        return out


def fa3_arguments(schema: Any, inputs: PackedInputs) -> dict[str, Any]:
    """Arguments by name. Builds of the library differ in what they take beside these; what may be None is None.

    Raises NoPeerError for an argument that has to be given and is not known here.
    """
    known: dict[str, Any] = {
        "q": inputs.q,
        "k": inputs.k,
        "v": inputs.v,
        "cu_seqlens_q": inputs.starts,
        "cu_seqlens_k": inputs.starts,
        "max_seqlen_q": inputs.longest,
        "max_seqlen_k": inputs.longest,
        "softmax_scale": inputs.q.shape[-1] ** -0.5,
        "is_causal": True,
        "causal": True,
        "window_size_left": -1,
        "window_size_right": -1,
        "attention_chunk": 0,
        "softcap": 0.0,
        "is_rotary_interleaved": False,
        "num_splits": 1,
        "sm_margin": 0,
    }
    arguments = {}
    for argument in schema.arguments:
        if argument.name in known:
            arguments[argument.name] = known[argument.name]
        elif not argument.has_default_value():
            if not isinstance(argument.type, torch.OptionalType):
                raise NoPeerError(f"{FA3_NAMESPACE}::{FA3_NAME} takes {argument.name!r}, which is not known here")
            arguments[argument.name] = None
    return arguments


def reference(inputs: PackedInputs) -> torch.Tensor:
    """The same by `scaled_dot_product_attention`, one prompt at a time."""
    starts, parts = inputs.starts.tolist(), []
    repeats = inputs.q.shape[1] // inputs.k.shape[1]
    for first, end in pairwise(starts):
        q, k, v = (x[first:end].transpose(0, 1) for x in (inputs.q, inputs.k, inputs.v))
        k, v = (x.repeat_interleave(repeats, dim=0) for x in (k, v))
        parts.append(F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0].transpose(0, 1))
    return torch.cat(parts)


def _public_varlen() -> Any:
    """torch.nn.attention.varlen's function where it takes what is needed, else None."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    taken = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "enable_gqa"} <= taken.keys() else None
