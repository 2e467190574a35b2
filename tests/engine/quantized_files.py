"""Quantised copies of model directories, made by the libraries that define the formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

# Of one matrix: its tensors by their suffixes, and its values back again as the library has them.
Quantised = tuple[dict[str, torch.Tensor], torch.Tensor]
# From the name of a module and its matrix.
Quantiser = Callable[[str, torch.Tensor], Quantised]


def quantise(
    directory: Path,
    quantization: dict[str, Any],
    one: Quantiser,
    plain: tuple[str, ...] = ("embed_tokens", "lm_head"),
) -> dict[str, torch.Tensor]:
    """Store every matrix but the plain ones as `one(module, weight)` says. Returns the library's values of all."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    values = {}
    for name in [name for name, tensor in tensors.items() if tensor.ndim == 2 and not any(p in name for p in plain)]:
        module = name.removesuffix(".weight")
        parts, values[name] = one(module, tensors.pop(name))
        tensors |= {module + suffix: part for suffix, part in parts.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    write_quantization(directory, quantization)
    return values


def write_quantization(directory: Path, quantization: dict[str, Any]) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization}))


def by_fp8(block: tuple[int, int] | None, suffix: str = ".weight_scale_inv") -> Quantiser:
    """fp8 in blocks, or per tensor; read back as transformers does when it loads, or trains where blocks do not fit."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize, _dequantize_fp8_weight

    def one(module: str, weight: torch.Tensor) -> Quantised:
        rows, columns = weight.shape
        high, wide = block or (rows, columns)
        padded = torch.nn.functional.pad(weight, (0, -columns % wide, 0, -rows % high))
        blocks = padded.reshape(-(-rows // high), high, -(-columns // wide), wide)
        scale = blocks.abs().amax((1, 3)) / 448
        stored = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).reshape(padded.shape)
        stored = stored[:rows, :columns].contiguous()
        scale = scale if block else scale.reshape(())
        if rows % high or columns % wide:
            values = _dequantize_fp8_weight(stored, scale, [high, wide], torch.float32)
        else:
            values = Fp8Dequantize(None)._dequantize_one(stored, scale, torch.float32)
        return {".weight": stored, suffix: scale}, values

    return one


def by_compressed_tensors(stored_as: str, weights: dict[str, Any], dtype: torch.dtype = torch.float32) -> Quantiser:
    """One of compressed-tensors' own compressors. dtype: of scales."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    args = QuantizationArgs(**weights)
    compressor = BaseCompressor.get_value_from_registry(stored_as)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)

    def one(module: str, weight: torch.Tensor) -> Quantised:
        blocks, dims = weight, [0, 1]
        if args.strategy == "channel":
            dims = [1]
        elif args.strategy == "group":
            blocks, dims = weight.unflatten(1, (-1, args.group_size)), [2]
        elif args.strategy == "block":
            high, wide = args.block_structure
            rows, columns = weight.shape
            padded = torch.nn.functional.pad(weight, (0, -columns % wide, 0, -rows % high))
            blocks, dims = padded.reshape(-(-rows // high), high, -(-columns // wide), wide), [1, 3]
        low, high_ = (
            blocks.amin(dims, keepdim=args.strategy == "channel"),
            blocks.amax(dims, keepdim=args.strategy == "channel"),
        )
        scale, zero_point = calculate_qparams(low, high_, args)
        state = {"weight": weight, "weight_scale": scale.to(dtype), "weight_zero_point": zero_point}
        if args.strategy == "tensor":
            state = {name: value.reshape(-1) if name != "weight" else value for name, value in state.items()}
        stored = compressor.compress(state, scheme)
        values = compressor.decompress(dict(stored), scheme)["weight"]
        return {f".{name}": part.contiguous() for name, part in stored.items()}, values

    return one


def group_of(weights: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"targets": ["Linear"], "weights": weights} | others


def compressed(stored_as: str, *groups: dict[str, Any], **others: Any) -> dict[str, Any]:
    settings = {f"group_{index}": group for index, group in enumerate(groups)}
    return {"quant_method": "compressed-tensors", "format": stored_as, "config_groups": settings} | others


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 8, "symmetric": False}
INT4_CONFIG = compressed("pack-quantized", group_of(INT4))


def in_int4(module: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Whatever fits: these matrices are there to be refused."""
    rows, columns = weight.shape
    parts = {
        ".weight_packed": torch.zeros(rows, columns // 8, dtype=torch.int32),
        ".weight_scale": torch.ones(rows, columns // 8),
        ".weight_zero_point": torch.zeros(rows // 8, columns // 8, dtype=torch.int32),
        ".weight_shape": torch.tensor([rows, columns]),
    }
    return parts, torch.zeros(rows, columns)
