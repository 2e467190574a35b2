"""What a launch would have the JIT compile, without a GPU and without memory: launches on meta tensors, recorded.

The launchers run as ever: asserts, grids, and the JIT's own look at every argument. Only compiling and running is left
out. Needs a process without TRITON_INTERPRET.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import triton
from triton.backends.compiler import GPUTarget

from preftree.kernels import launch


@dataclass(frozen=True)
class Variant:
    """A kernel as the JIT would compile it. constexprs, attributes: by place among the arguments, as Triton has them.

    options: num_warps, num_stages, enable_fp_fusion.
    """

    fn: Any
    signature: dict[str, str]
    constexprs: dict[Any, Any]
    attributes: dict[Any, Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.fn.__name__)


class _NoDevice:
    """What the JIT asks of a driver before it compiles. The device's number is its architecture, for caches apart."""

    def __init__(self, arch: int) -> None:
        self._arch = arch

    def get_current_device(self) -> int:
        return self._arch

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._arch, 32)


@contextmanager
def recorded(arch: int) -> Iterator[list[Variant]]:
    """Launches in this context end up in the list that it gives, as for a GPU of compute capability `arch`."""
    variants: list[Variant] = []

    def record(**call: Any) -> bool:
        compiled = call["compile"]
        variants.append(
            Variant(
                fn=call["fn"].jit_function,
                signature=compiled["signature"],
                constexprs=compiled["constants"],
                attributes=compiled["configs"][0],
                options={name: compiled[name] for name in ("num_warps", "num_stages", "enable_fp_fusion")},
            )
        )
        return True  # the JIT takes it for compiled and leaves it at that

    before = triton.runtime.driver._active
    triton.runtime.driver.set_active(_NoDevice(arch))
    try:
        with (
            mock.patch.object(triton.knobs.runtime, "jit_cache_hook", record),
            mock.patch.object(launch, "INTERPRETED_CAPABILITY", arch),
        ):
            yield variants
    finally:
        triton.runtime.driver._active = before
