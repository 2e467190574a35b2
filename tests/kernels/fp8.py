"""What tests of fp8 in Triton's interpreter set up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.kernels.on_device import IS_GPU


@pytest.fixture
def rounding_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 becomes e4m3 as on a GPU (cvt.rn.satfinite): the interpreter cuts digits off."""
    if IS_GPU:
        return
    from triton import language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    plain = InterpreterBuilder.create_fp_to_fp

    def create_fp_to_fp(self: Any, source: Any, type_: Any, mode: Any) -> Any:
        if type_.scalar != tl.float8e4nv or source.dtype.scalar != tl.float32:
            return plain(self, source, type_, mode)
        levels = torch.from_numpy(source.data.copy()).clamp(-448, 448).to(torch.float8_e4m3fn)
        return TensorHandle(levels.view(torch.uint8).numpy(), type_.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_fp_to_fp", create_fp_to_fp)
