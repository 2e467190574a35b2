"""Which module reads which `quant_method`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from preftree.engine.config.quantization import Quantization
from preftree.engine.weights.quantized.awq import read_awq
from preftree.engine.weights.quantized.compressed_tensors import read_compressed_tensors
from preftree.engine.weights.quantized.fp8 import read_fbgemm, read_fp8
from preftree.engine.weights.quantized.gptq import read_gptq
from preftree.engine.weights.quantized.mxfp4 import read_mxfp4
from preftree.engine.weights.quantized.scheme import Format

# Every one of preftree.engine.config.quantization.METHODS.
READERS: dict[str, Callable[[Mapping[str, Any]], Format]] = {
    "awq": read_awq,
    "compressed-tensors": read_compressed_tensors,
    "fbgemm_fp8": read_fbgemm,
    "fp8": read_fp8,
    "gptq": read_gptq,
    "mxfp4": read_mxfp4,
}


def format_of(quantization: Quantization) -> Format:
    """ModelError for settings that cannot be followed."""
    return READERS[quantization.method](quantization.fields)
