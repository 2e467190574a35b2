"""What a model is: its sizes, read in one function and validated when made. NumPy only."""

from dataclasses import dataclass
from typing import Any

from engine.errors import ModelError
from engine.loading.architectures import ARCHITECTURES, SUPPORTED, Architecture
from engine.loading.files import naming
from engine.loading.limits import LIMITS, check_positive
from engine.loading.rope import RopeConfig, rope_from_hf, rope_to_hf

__all__ = ["ModelConfig", "RopeConfig", "from_hf", "to_hf"]

REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a Llama-shaped decoder. ModelError naming the field when one is absurd.

    qk_norm: every query and key head goes through an RMSNorm of its own before it rotates (Qwen3).
    """

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
    qk_norm: bool = False

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ModelError(f"architecture {self.architecture!r:.100} is unknown; preftree runs {SUPPORTED}")
        for field, limit in LIMITS.items():
            value = getattr(self, field)
            check_positive(field, value, limit)
            if not isinstance(value, int):
                raise ModelError(f"{field} is {value!r}, which is not a whole number")
        if self.head_dim % 2:
            raise ModelError(f"head_dim is {self.head_dim}; rotary embedding needs an even one")
        if self.num_heads % self.num_kv_heads:
            raise ModelError(f"num_heads ({self.num_heads}) is no multiple of num_kv_heads ({self.num_kv_heads})")
        check_positive("rms_norm_eps", self.norm_eps, 0.1)
        if not isinstance(self.tie_embeddings, bool):
            raise ModelError(f"tie_word_embeddings is {self.tie_embeddings!r:.100}, neither true nor false")
        if self.qk_norm is not ARCHITECTURES[self.architecture].qk_norm:
            raise ModelError(f"qk_norm is {self.qk_norm!r:.100}, which no {self.title} model has")

    @property
    def title(self) -> str:
        """What people call a model of this architecture: "Llama"."""
        return ARCHITECTURES[self.architecture].title

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
        attention = self.hidden_size * (2 * self.q_size + 2 * self.kv_size) + 2 * self.head_dim * self.qk_norm
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        return self.num_layers * layer + embeddings + self.hidden_size


def _architecture(config: dict[str, Any]) -> Architecture:
    """The family of a config.json. ModelError for one that preftree does not run, or for code in place of one."""
    if config.get("auto_map"):
        raise ModelError("auto_map asks for Python code from the model directory, which preftree never runs")
    kind = config.get("model_type")
    architecture = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if architecture is None:
        raise ModelError(f"model_type {kind!r:.100} is not supported; preftree runs {SUPPORTED}")
    classes = config.get("architectures") or [architecture.class_name]
    if not isinstance(classes, list) or architecture.class_name not in classes:
        raise ModelError(f"architectures {classes!r:.100} is not supported; preftree runs {SUPPORTED}")
    return architecture


def _refuse_unsupported(config: dict[str, Any], architecture: Architecture) -> None:
    """ModelError for what would make preftree compute something else than the model's authors meant."""
    if config.get("quantization_config"):
        raise ModelError("quantization_config is not supported; use the full-precision model or a GGUF file")
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ModelError(f"hidden_act {config['hidden_act']!r:.100} is not supported; preftree knows silu")
    for field in architecture.refused:
        if config.get(field):
            raise ModelError(f"{field} is not supported; preftree runs {architecture.title} models without it")
    layers = config.get("layer_types") or []
    if not isinstance(layers, list) or any(layer != "full_attention" for layer in layers):
        raise ModelError(f"layer_types {layers!r:.100} is not supported; every layer has to be full_attention")


def from_hf(config: dict[str, Any], origin: str) -> ModelConfig:
    """Read the dictionary of a Hugging Face config.json; `origin` (a path) opens every error's line."""

    def optional(field: str, default: Any) -> Any:
        value = config.get(field)
        return default if value is None else value

    with naming(origin):
        architecture = _architecture(config)
        _refuse_unsupported(config, architecture)
        for field in REQUIRED:
            if config.get(field) is None:
                raise ModelError(f"the field {field} is missing; download the model's own config.json")
            check_positive(field, config[field], LIMITS["vocab_size"])
        heads = config["num_attention_heads"]
        max_context = optional("max_position_embeddings", architecture.max_context)
        # transformers reads an explicit null as "one for each query head", whatever it assumes for a missing key.
        kv_heads = config.get("num_key_value_heads", architecture.num_kv_heads)
        return ModelConfig(
            architecture=config["model_type"],
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=heads if kv_heads is None else kv_heads,
            head_dim=optional("head_dim", architecture.head_dim or config["hidden_size"] // heads),
            norm_eps=optional("rms_norm_eps", 1e-6),
            rope=rope_from_hf(config, max_context),
            max_context=max_context,
            tie_embeddings=optional("tie_word_embeddings", False),
            qk_norm=architecture.qk_norm,
        )


def to_hf(config: ModelConfig, bos_id: int | None = None, eos_id: int | None = None) -> dict[str, Any]:
    """The config.json that `from_hf` and transformers (4 and 5) open as a float32 model of the same architecture."""
    architecture = ARCHITECTURES[config.architecture]
    return {
        "architectures": [architecture.class_name],
        "model_type": config.architecture,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        **rope_to_hf(config.rope),
        "max_position_embeddings": config.max_context,
        "tie_word_embeddings": config.tie_embeddings,
        **dict.fromkeys(architecture.refused, False),
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": "float32",
    }
