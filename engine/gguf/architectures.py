"""The families of models that preftree reads from GGUF, as data: llama.cpp's names of what sets each apart."""

from dataclasses import dataclass, field


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
    """

    model_type: str
    fields: dict[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    wide_layers: int | None = None
    longrope: bool = False


_WINDOW = {"attention.sliding_window": "sliding_window"}
_GEMMA = {**_WINDOW, "final_logit_softcapping": "final_logit_softcapping"}
_EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
FAMILIES = {
    "llama": GgufFamily("llama"),
    "qwen2": GgufFamily("qwen2"),
    "qwen3": GgufFamily("qwen3"),
    "qwen3moe": GgufFamily("qwen3_moe", _EXPERTS, needed=tuple(_EXPERTS)),
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
}
