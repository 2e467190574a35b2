"""The families of models that preftree runs, as data: what sets each apart from a plain Llama."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One family by its Hugging Face names.

    class_name, title: the class in transformers, and what people call a model of the family. examples: some models.
    qk_norm: every query and key head goes through an RMSNorm of its own before it rotates.
    head_dim, num_kv_heads, max_context: what transformers' configuration class assumes where config.json says nothing;
    None for hidden_size / heads, and for as many as there are query heads.
    refused: switches of config.json that must be absent or false, because the engine lacks what they turn on.
    """

    class_name: str
    title: str
    examples: str
    qk_norm: bool = False
    head_dim: int | None = None
    num_kv_heads: int | None = None
    max_context: int = 2048
    refused: tuple[str, ...] = ()


ARCHITECTURES = {
    "llama": Architecture(
        class_name="LlamaForCausalLM",
        title="Llama",
        examples="Llama, SmolLM2, TinyLlama and their fine-tunes",
        refused=("attention_bias", "mlp_bias"),
    ),
    "qwen3": Architecture(
        class_name="Qwen3ForCausalLM",
        title="Qwen3",
        examples="dense Qwen3 models and their fine-tunes",
        qk_norm=True,
        head_dim=128,
        num_kv_heads=32,
        max_context=32768,
        refused=("attention_bias", "use_sliding_window"),
    ),
}
SUPPORTED = "model_type " + " or ".join(f"{key!r} ({a.class_name}: {a.examples})" for key, a in ARCHITECTURES.items())
