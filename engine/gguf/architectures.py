"""The families of models that preftree reads from GGUF, as data: llama.cpp's names of what sets each apart."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GgufFamily:
    """One family by its names in GGUF.

    Attributes:
        model_type: its name in Hugging Face's config.json.
        fields: its own metadata, and the fields of config.json that say the same.
        needed: those of `fields` that a file has to have, as no default is right.
        wide_layers: layers of the one model of the family whose attention scores are divided by the root of hidden size
            / heads instead of that of the head size. llama.cpp recognises it by that, too: no metadata says so.
        longrope: rotary frequencies may be stretched by the factors of two tensors.
        permuted: the converter has reordered rows of q and k.
        biases: fields of config.json that are true where the first layer has a tensor.
        normalised_experts: weights of the chosen experts sum to one; the format has no word for it.
        norms: its names of norms that differ from other families', by the roles of `Architecture.norms`.
        typed: which layers have a window is a list, where the file has one; where it names no window, none has.
        layer_ropes: windowed layers have a rotary embedding of their own, of the same base and never scaled.
        said: fields of config.json that the file does not say, unless others say more.
        yarn: those of a YaRN; the family reads what the file says of one beyond its factor.
    """

    model_type: str
    fields: dict[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    wide_layers: int | None = None
    longrope: bool = False
    permuted: bool = False
    biases: dict[str, str] = field(default_factory=dict)
    normalised_experts: bool = True
    norms: dict[str, str] = field(default_factory=dict)
    typed: bool = False
    layer_ropes: bool = False
    said: dict[str, Any] = field(default_factory=dict)
    yarn: dict[str, Any] = field(default_factory=dict)


_WINDOW = {"attention.sliding_window": "sliding_window"}
_GEMMA = {**_WINDOW, "final_logit_softcapping": "final_logit_softcapping"}
_EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
FAMILIES = {
    "llama": GgufFamily("llama", permuted=True),
    "smollm3": GgufFamily("smollm3", permuted=True),
    "granite": GgufFamily(
        "granite",
        {
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        needed=("attention.scale", "embedding_scale", "residual_scale", "logit_scale"),
        permuted=True,
    ),
    "seed_oss": GgufFamily(
        "seed_oss",
        biases={"attention_bias": "attn_q.bias", "attention_out_bias": "attn_output.bias"},
        norms={"mlp": "post_attention_norm"},
    ),
    "glm4": GgufFamily("glm4", biases={"attention_bias": "attn_q.bias"}),
    "qwen2": GgufFamily("qwen2"),
    "qwen3": GgufFamily("qwen3"),
    "qwen3moe": GgufFamily("qwen3_moe", _EXPERTS, needed=tuple(_EXPERTS)),
    "qwen2moe": GgufFamily(
        "qwen2_moe",
        _EXPERTS | {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        needed=(*_EXPERTS, "expert_shared_feed_forward_length"),
        normalised_experts=False,
    ),
    "gemma2": GgufFamily("gemma2", {**_GEMMA, "attn_logit_softcapping": "attn_logit_softcapping"}, wide_layers=46),
    "gemma3": GgufFamily(
        "gemma3_text",
        {
            **_GEMMA,
            "attention.sliding_window_pattern": "sliding_window_pattern",
            "rope.freq_base_swa": "rope_local_base_freq",
        },
        needed=("attention.sliding_window",),
        wide_layers=62,
    ),
    "phi3": GgufFamily(
        "phi3",
        {**_WINDOW, "rope.scaling.original_context_length": "original_max_position_embeddings"},
        longrope=True,
    ),
    "olmo2": GgufFamily("olmo2"),
    "gemma": GgufFamily("gemma"),
    "exaone4": GgufFamily("exaone4", _WINDOW, typed=True, said={"sliding_window": None}),
    "hunyuan-dense": GgufFamily("hunyuan_v1_dense"),
    "command-r": GgufFamily("cohere", {"logit_scale": "logit_scale"}, needed=("logit_scale",)),
    "cohere2": GgufFamily(
        "cohere2",
        {**_WINDOW, "logit_scale": "logit_scale"},
        needed=("logit_scale", "attention.sliding_window"),
        typed=True,
    ),
    "ernie4_5": GgufFamily("ernie4_5"),
    "gpt-oss": GgufFamily(
        "gpt_oss",
        {**_WINDOW, "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        needed=("attention.sliding_window", "expert_count", "expert_used_count"),
        norms={"mlp": "post_attention_norm"},
        yarn={"truncate": False},
    ),
    "mistral3": GgufFamily("mistral", permuted=True, said={"sliding_window": None}),
}
# Names that stand for two families, told apart by a field of the metadata: Mixtral, OLMo 3 and Ministral 3.
BY_FIELD = {
    ("llama", "expert_count"): GgufFamily(
        "mixtral",
        {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        needed=("expert_used_count",),
        permuted=True,
    ),
    ("olmo2", "attention.sliding_window"): GgufFamily("olmo3", _WINDOW, typed=True, layer_ropes=True),
    ("mistral3", "attention.temperature_scale"): GgufFamily(
        "ministral3",
        needed=("rope.scaling.type", "rope.scaling.yarn_log_multiplier"),
        permuted=True,
        yarn={"mscale": 1.0},
    ),
}


def family_of(metadata: dict[str, Any]) -> GgufFamily | None:
    """The family of a file, by its metadata; None for one that is not read."""
    kind = metadata.get("general.architecture")
    for (name, field_), family in BY_FIELD.items():
        if kind == name and metadata.get(f"{name}.{field_}"):
            return family
    return FAMILIES.get(kind) if isinstance(kind, str) else None
