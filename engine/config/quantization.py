"""`quantization_config` of a config.json: who quantised a model, and with what settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import ModelError

# Those that `preftree.engine.weights.quantized` reads.
METHODS = ("awq", "compressed-tensors", "fbgemm_fp8", "fp8", "gptq", "mxfp4")
# Where it stands, newest name first.
FIELDS = ("quantization_config", "compression_config")
_WAY_OUT = (
    "load it in transformers, call model.dequantize() and save that; or use the full-precision model or a GGUF file"
)


@dataclass(frozen=True)
class Quantization:
    """A model's quantisation, not checked beyond its name.

    Attributes:
        method: `quant_method`, one of METHODS.
        fields: the whole of `quantization_config`, for the reader of that method.
    """

    method: str
    fields: Mapping[str, Any]


def quantization_of(config: dict[str, Any]) -> Quantization | None:
    """The quantisation of a config.json, of its own or of its text model; None for a model that has none.

    ModelError naming a method that is not read.
    """
    text = config.get("text_config")
    places = [config, text] if isinstance(text, dict) else [config]
    found = [place[field] for place in places for field in FIELDS if place.get(field)]
    if not found:
        return None
    fields = found[0]
    if not isinstance(fields, dict):
        raise ModelError(f"quantization_config is {fields!r:.100}, which is not an object")
    method = fields.get("quant_method")
    if method is None and (fields.get("load_in_8bit") or fields.get("load_in_4bit")):
        method = "bitsandbytes"  # as transformers wrote it before methods had names
    if method is None:
        raise ModelError("quantization_config names no quant_method; download the model's own config.json")
    if not isinstance(method, str) or method not in METHODS:
        raise ModelError(
            f"quantization_config has the quant_method {method!r:.100}, which is not supported; preftree reads "
            f"{', '.join(METHODS)}; {_WAY_OUT}"
        )
    return Quantization(method, fields)
