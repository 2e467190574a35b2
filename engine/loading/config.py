"""What a model is: sizes and rotary embedding, read in one function and validated when made. NumPy only."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from engine.errors import ModelError
from engine.loading.files import naming

RopeKind = Literal["default", "linear", "llama3"]
SUPPORTED = "model_type 'llama' (LlamaForCausalLM: Llama, SmolLM2, TinyLlama and their fine-tunes)"

REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

# Far above every published model: a corrupt or hostile config becomes an error instead of an allocation.
LIMITS = {
    "vocab_size": 1 << 22,
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "num_layers": 1024,
    "num_heads": 1024,
    "num_kv_heads": 1024,
    "head_dim": 1024,
    "max_context": 1 << 27,
}


def _positive(field: str, value: object, limit: float) -> None:
    """ModelError unless `value` is a finite number in (0, limit]; bool is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= limit:
        raise ModelError(f"{field} is {value!r:.100}, which is not a number above 0 and at most {limit:g}")


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding. `original_context` (tokens) and the freq_factors serve "llama3" only."""

    theta: float = 10000.0
    kind: RopeKind = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in get_args(RopeKind):
            known = ", ".join(get_args(RopeKind))
            raise ModelError(f"rope type {self.kind!r:.100} is not supported; preftree knows {known}")
        _positive("rope_theta", self.theta, 1e12)
        _positive("rope factor", self.factor, 1e6)
        _positive("rope low_freq_factor", self.low_freq_factor, 1e6)
        _positive("rope high_freq_factor", self.high_freq_factor, 1e6)
        _positive("rope original_max_position_embeddings", self.original_context, LIMITS["max_context"])
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ModelError("rope high_freq_factor must be above low_freq_factor")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a Llama-like decoder. ModelError naming the field when one is absurd."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: RopeConfig
    max_context: int
    tie_embeddings: bool

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        if self.architecture != "llama":
            raise ModelError(f"architecture {self.architecture!r:.100} is unknown; preftree runs {SUPPORTED}")
        for field, limit in LIMITS.items():
            value = getattr(self, field)
            _positive(field, value, limit)
            if not isinstance(value, int):
                raise ModelError(f"{field} is {value!r}, which is not a whole number")
        if self.head_dim % 2:
            raise ModelError(f"head_dim is {self.head_dim}; rotary embedding needs an even one")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(f"num_heads ({self.num_heads}) is no multiple of num_kv_heads ({self.num_kv_heads})")
        _positive("rms_norm_eps", self.norm_eps, 0.1)
        if not isinstance(self.tie_embeddings, bool):
            raise ModelError(f"tie_word_embeddings is {self.tie_embeddings!r:.100}, neither true nor false")

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def q_size(self) -> int:
        """Width of the query projection and of the attention output: num_heads * head_dim."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the key projection, and of the value projection: num_kv_heads * head_dim."""
        return self.num_kv_heads * self.head_dim

    @property
    def num_parameters(self) -> int:
        """Stored numbers, a tied embedding counted once."""
        attention = self.hidden_size * (2 * self.q_size + 2 * self.kv_size)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        return self.num_layers * layer + embeddings + self.hidden_size


def _rope_from_hf(config: dict[str, Any], max_context: int) -> RopeConfig:
    """Old style (`rope_theta` and `rope_scaling`) or that of transformers 5 (`rope_parameters`)."""
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old and new and old != new:
        raise ModelError("has both rope_scaling and rope_parameters and they differ; keep the right one")
    scaling = new or old or {}
    if not isinstance(scaling, dict):
        raise ModelError(f"rope_scaling is {scaling!r:.100}, which is not an object")
    for holder in (config, scaling):
        if holder.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise ModelError("partial_rotary_factor is not supported; every dimension has to rotate")
    theta = scaling.get("rope_theta", config.get("rope_theta"))
    base = RopeConfig(theta=10000.0 if theta is None else theta)
    kind: Any = scaling.get("rope_type", scaling.get("type")) or "default"
    if kind == "default":
        return base
    needed = {"linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
    for field in needed.get(kind if isinstance(kind, str) else "", ()):
        if field not in scaling:
            raise ModelError(f"rope type {kind!r} needs the field {field}")
    return RopeConfig(
        theta=base.theta,
        kind=kind,
        factor=scaling.get("factor", base.factor),
        low_freq_factor=scaling.get("low_freq_factor", base.low_freq_factor),
        high_freq_factor=scaling.get("high_freq_factor", base.high_freq_factor),
        original_context=scaling.get("original_max_position_embeddings") or max_context,
    )


def _refuse_unsupported(config: dict[str, Any]) -> None:
    """ModelError for what would make preftree compute something else than the model's authors meant."""
    if config.get("auto_map"):
        raise ModelError("auto_map asks for Python code from the model directory, which preftree never runs")
    kind, classes = config.get("model_type"), config.get("architectures") or ["LlamaForCausalLM"]
    if kind != "llama":
        raise ModelError(f"model_type {kind!r:.100} is not supported; preftree runs {SUPPORTED}")
    if not isinstance(classes, list) or "LlamaForCausalLM" not in classes:
        raise ModelError(f"architectures {classes!r:.100} is not supported; preftree runs {SUPPORTED}")
    if config.get("quantization_config"):
        raise ModelError("quantization_config is not supported; use the full-precision model or a GGUF file")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ModelError(f"hidden_act {config['hidden_act']!r:.100} is not supported; preftree knows silu")
    for field in ("attention_bias", "mlp_bias"):
        if config.get(field):
            raise ModelError(f"{field} is not supported; preftree runs Llama models without bias")


def from_hf(config: dict[str, Any], origin: str) -> ModelConfig:
    """Read the dictionary of a Hugging Face config.json; `origin` (a path) opens every error's line."""

    def optional(field: str, default: Any) -> Any:
        value = config.get(field)
        return default if value is None else value

    with naming(origin):
        _refuse_unsupported(config)
        for field in REQUIRED:
            if config.get(field) is None:
                raise ModelError(f"the field {field} is missing; download the model's own config.json")
            _positive(field, config[field], LIMITS["vocab_size"])
        heads, max_context = config["num_attention_heads"], optional("max_position_embeddings", 2048)
        return ModelConfig(
            architecture="llama",
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=optional("num_key_value_heads", heads),
            head_dim=optional("head_dim", config["hidden_size"] // heads),
            norm_eps=optional("rms_norm_eps", 1e-6),
            rope=_rope_from_hf(config, max_context),
            max_context=max_context,
            tie_embeddings=optional("tie_word_embeddings", False),
        )


def to_hf(config: ModelConfig, bos_id: int | None = None, eos_id: int | None = None) -> dict[str, Any]:
    """The config.json that `from_hf` and transformers (4 and 5) open as a float32 LlamaForCausalLM."""
    rope: dict[str, Any] = {"rope_type": config.rope.kind, "rope_theta": config.rope.theta}
    if config.rope.kind != "default":
        rope["factor"] = config.rope.factor
    if config.rope.kind == "llama3":
        rope["low_freq_factor"] = config.rope.low_freq_factor
        rope["high_freq_factor"] = config.rope.high_freq_factor
        rope["original_max_position_embeddings"] = config.rope.original_context
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "rope_scaling": rope if config.rope.kind != "default" else None,
        "max_position_embeddings": config.max_context,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": "float32",
    }


def rope_frequencies(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """Inverse frequencies in radians per token, float64 [head_dim / 2]; transformers' formulas."""
    inverse = rope.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "linear":
        return inverse / rope.factor
    if rope.kind == "llama3":
        wavelength = 2 * math.pi / inverse
        # 1 keeps a frequency, 0 divides it by the factor; between the two wavelengths it goes over smoothly.
        kept = (rope.original_context / wavelength - rope.low_freq_factor) / (
            rope.high_freq_factor - rope.low_freq_factor
        )
        kept = np.clip(kept, 0.0, 1.0)
        return kept * inverse + (1 - kept) * inverse / rope.factor
    return inverse
