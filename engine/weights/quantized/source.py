"""A quantised checkpoint as if it were not: every matrix by its own name, in the type that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import torch

from preftree.engine.errors import ModelError
from preftree.engine.files import naming
from preftree.engine.weights.conversion import check_finite, joined
from preftree.engine.weights.names import Shapes
from preftree.engine.weights.quantized.scaled import Scaled
from preftree.engine.weights.quantized.scheme import Format, Scheme, Stored
from preftree.engine.weights.safetensors import CPU, DTYPES, PART_DTYPES, SLICE, SafetensorsSource
from preftree.kernels.quantized.fp8 import Fp8Rows


class QuantizedSource:
    """TensorSource over a quantised checkpoint's tensors.

    A matrix that is stored in a type of its own is read as it is: that is how a checkpoint says which are not
    quantised. All others are made of the tensors that their scheme names.

    Attributes:
        dequantized: how many matrices there are of each scheme, by its title.
        quantizes_activations: as Format.
    """

    def __init__(self, source: SafetensorsSource, format_: Format, expected: Shapes, origin: str) -> None:
        """expected: the model's tensors. No matrix is read; ModelError, beginning with `origin`, for a matrix whose
        tensors are missing or do not make it up.
        """
        self._source, self._origin = source, origin
        self.files, self.skipped = source.files, source.skipped
        self.quantizes_activations = format_.quantizes_activations
        self.dequantized: Counter[str] = Counter()
        self._quantized: dict[str, tuple[Scheme, dict[str, str]]] = {}
        stored = {name: Stored(entry.dtype, entry.shape) for name, entry in source.entries().items()}
        for name, shape in expected.items():
            if len(shape) < 2 or (name in stored and stored[name].dtype in DTYPES):
                continue
            with naming(origin):
                scheme = format_.scheme_of(name.removesuffix(".weight"))
                if scheme is not None:
                    self._quantized[name] = scheme, _checked_parts(scheme, name, shape, stored)
                    self.dequantized[scheme.title] += 1
        parts = {part for _, parts in self._quantized.values() for part in parts.values()}
        unread = {name for name in stored if name.rpartition(".")[2] in format_.unread}
        unread |= {name for name in stored.keys() - expected.keys() if self._is_zero_bias(name, stored[name])}
        self._names = (source.names() - parts - unread) | self._quantized.keys()

    def _is_zero_bias(self, name: str, stored: Stored) -> bool:
        """AutoGPTQ gave every matrix a bias, zero where the model has none."""
        matrix = name.removesuffix("bias") + "weight"
        if not name.endswith(".bias") or matrix not in self._quantized:
            return False
        return not self._source.tensor(name, stored.shape).any()

    def names(self) -> frozenset[str]:
        return frozenset(self._names)

    def stored_types(self) -> Counter[str]:
        return self._source.stored_types()

    def tensor(
        self, name: str, shape: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """See TensorSource. What is dequantised is float32 where no type is asked for, and made on `device`."""
        if name not in self._quantized:
            return self._source.tensor(name, shape, device, dtype)
        scheme, names = self._quantized[name]
        with ExitStack() as stack:
            parts = {
                suffix: stack.enter_context(self._source.mapped(part)).to(device) for suffix, part in names.items()
            }
            slices = _slices(scheme, parts, shape, f"{self._origin}: tensor {name}")
            return joined(slices, shape, device, dtype or torch.float32, name, self._origin)

    def fp8_rows(self, name: str, shape: tuple[int, ...], device: torch.device) -> Fp8Rows | None:
        """A matrix of `shape` as it is stored, where that is e4m3 with a scale for each row or for all; else None."""
        if name not in self._quantized:
            return None
        scheme, names = self._quantized[name]
        with ExitStack() as stack:
            parts = {suffix: stack.enter_context(self._source.mapped(part)) for suffix, part in names.items()}
            found = scheme.fp8_rows(parts, shape) if isinstance(scheme, Scaled) else None
            if found is None:
                return None
            check_finite(found.scale, name, self._origin)
            check_finite(found.levels.float(), name, self._origin)
            return Fp8Rows(found.levels.to(device, copy=True), found.scale.to(device, copy=True))

    def close(self) -> None:
        self._source.close()


def _checked_parts(scheme: Scheme, name: str, shape: tuple[int, ...], stored: dict[str, Stored]) -> dict[str, str]:
    """Names of the tensors that make up the matrix, by their suffixes. ModelError unless they do."""
    module = name.removesuffix(".weight")
    names = {suffix: module + suffix for suffix in (*scheme.required, *scheme.optional)}
    parts = {suffix: part for suffix, part in names.items() if part in stored}
    for suffix in scheme.required:
        if suffix not in parts:
            raise ModelError(
                f"tensor {module + suffix!r:.100} is missing, without which {scheme.title} cannot be read; "
                "download the model again with all its files"
            )
    with naming(f"tensor {name}"):
        for suffix, part in parts.items():
            if stored[part].dtype not in PART_DTYPES:
                raise ModelError(f"{suffix} is stored as {stored[part].dtype}, which no format of weights is")
        scheme.check({suffix: stored[part] for suffix, part in parts.items()}, shape)
    return parts


def _slices(
    scheme: Scheme, parts: dict[str, torch.Tensor], shape: tuple[int, ...], title: str
) -> Iterator[torch.Tensor]:
    """All rows in float32, in slices. title: what errors call the tensor."""
    step = max(1, SLICE * shape[0] // max(1, torch.Size(shape).numel()))
    for first in range(0, shape[0], step):
        with naming(title):
            values = scheme.dequantized(parts, shape, first, min(first + step, shape[0]))
        yield values
