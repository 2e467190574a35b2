"""How a quantised checkpoint stores one matrix, as every format describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch


class Stored(NamedTuple):
    """A stored tensor before it is read.

    dtype: by the name that safetensors has for it, such as "F8_E4M3" or "I32".
    """

    dtype: str
    shape: tuple[int, ...]


class Scheme(Protocol):
    """How one matrix is stored: which tensors make it up, and what values they mean.

    A matrix `X.weight` is stored as tensors `X` + suffix, such as `X.qweight` and `X.scales`. Mappings below have the
    suffixes as keys, and an optional one only if its tensor is there.
    """

    @property
    def title(self) -> str:
        """What people call it: "AWQ", "fp8 in blocks of 128 x 128"."""

    @property
    def required(self) -> tuple[str, ...]:
        """Suffixes without which there is no matrix."""

    @property
    def optional(self) -> tuple[str, ...]:
        """Suffixes of tensors that a checkpoint may leave out."""

    def check(self, stored: Mapping[str, Stored], shape: tuple[int, ...]) -> None:
        """Before anything is read: ModelError unless these tensors make up a matrix of `shape`.

        Every type and every shape is checked here, so that `dequantized` may rely on them. Messages name the suffix;
        the caller puts file and matrix before them.
        """

    def dequantized(
        self, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...], first: int, last: int
    ) -> torch.Tensor:
        """Rows `first` to `last` of the matrix in float32, [last - first, *shape[1:]], on the device of `parts`.

        parts: whole tensors as stored, which may be the file itself mapped into memory: slice before converting. Any
        rows may be asked for, in any order. Values may be NaN or infinite; the caller checks what comes back.
        ModelError for stored numbers without a meaning, such as a group that is not there.
        """


@dataclass(frozen=True)
class Format:
    """A whole checkpoint.

    Attributes:
        scheme_of: the scheme of a module by its name, such as "model.layers.0.mlp.up_proj"; None for one that is
            stored as it is.
        quantizes_activations: whether the model was made to run with quantised activations, too.
        unread: last parts of the names of tensors that only quantised activations and caches need.
    """

    scheme_of: Callable[[str], Scheme | None]
    quantizes_activations: bool = False
    unread: tuple[str, ...] = ()
