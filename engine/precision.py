"""The numbers that a model computes in, by the names that people give them."""

from __future__ import annotations

import functools
import logging

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import InputError
from preftree.kernels import isa
from preftree.kernels.quantized.types import Quantized, product_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPES |= {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What linear layers may be quantised to, by the names that torch and people have for it.
QUANTIZED: dict[str, Quantized] = {"int8": "int8", "fp8": "fp8", "float8_e4m3fn": "fp8"}
# What products of fp8 ask of a GPU: its compute capability, and what inputs and outputs are multiples of.
LEAST_FP8_CAPABILITY = (8, 9)
FP8_MULTIPLE = 16


def name_of(dtype: torch.dtype) -> str:
    """ "bfloat16" of torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def check_int8(device: torch.device) -> None:
    """InputError, one line, where there are no products of int8: for the device or the processor."""
    if device.type != "cpu":
        raise InputError(f"int8 runs on CPUs; use dtype 'bfloat16' on device '{device}', or device 'cpu'")
    if obstacle := isa.int8_obstacle():
        raise InputError(f"int8 does not run here: {obstacle}; use dtype '{name_of(isa.default_dtype())}'")


def check_fp8(device: torch.device, config: ModelConfig) -> None:
    """InputError, one line, where a GPU has no products of fp8, or none for this model. Says so once where a CPU
    emulates them."""
    if device.type == "cpu":
        _warn("fp8 is emulated on a CPU: for figures of its accuracy, not for speed")
        return
    try:
        product_name()
    except ValueError as error:
        raise InputError(str(error)) from None
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_FP8_CAPABILITY:
        least, found = (".".join(map(str, pair)) for pair in (LEAST_FP8_CAPABILITY, capability))
        raise InputError(
            f"fp8 needs a GPU of compute capability {least} or newer, {device} ({torch.cuda.get_device_name(device)}) "
            f"has {found}; use dtype 'bfloat16'"
        )
    sizes = [("hidden_size", config.hidden_size)]
    sizes += [("intermediate_size", config.mlp_size(layer)) for layer in range(config.num_layers)]
    if config.experts is not None and config.experts.shared_width:
        sizes.append(("shared expert's width", config.experts.shared_width))
    for field, size in sizes:
        if size % FP8_MULTIPLE:
            raise InputError(
                f"fp8 products take multiples of {FP8_MULTIPLE}, and this model's {field} is {size:,}; "
                "use dtype 'bfloat16'"
            )


@functools.cache
def _warn(message: str) -> None:
    """Once."""
    logging.getLogger("preftree").warning(message)
