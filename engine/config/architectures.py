"""The families of models that preftree runs, as data: what sets each apart from a plain Llama.

A relative of one of them is an entry in ARCHITECTURES. Defaults are those of transformers' configuration class.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

QkNorm = Literal["head", "width"]

# Which tensor of a layer is which of its norms: before and after attention, before and after the MLP.
PRE_NORMS = {"attention": "input_layernorm", "mlp": "post_attention_layernorm"}
GLM_NORMS = {
    "attention": "input_layernorm",
    "post_attention": "post_self_attn_layernorm",
    "mlp": "post_attention_layernorm",
    "post_mlp": "post_mlp_layernorm",
}
POST_NORMS = {"post_attention": "post_attention_layernorm", "post_mlp": "post_feedforward_layernorm"}
FOUR_NORMS = {
    "attention": "input_layernorm",
    "post_attention": "post_attention_layernorm",
    "mlp": "pre_feedforward_layernorm",
    "post_mlp": "post_feedforward_layernorm",
}


@dataclass(frozen=True)
class Windows:
    """Layers that look at the last tokens only. Without a rule of their own, all of them do.

    default: `sliding_window` where config.json says nothing. switch: a field that must be true, or there are none.
    typed: `layer_types` tells the layers apart. first_layer: default of the field `max_window_layers`, from which layer
    on there are windows. full_every: of so many layers the last sees everything; pattern: the field that changes it.
    unrotated: those that do not rotate are the ones.
    """

    default: int | None = None
    switch: str | None = None
    typed: bool = False
    first_layer: int | None = None
    full_every: int | None = None
    pattern: str | None = None
    unrotated: bool = False


# transformers takes either for the other.
COUNT_FIELDS = ("num_experts", "num_local_experts")


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP: names of its fields in config.json, of its tensors, and defaults.

    count: the field to write, which may be read from any of COUNT_FIELDS. width: the field that gives an expert's
    intermediate size. always_normalised: the weights of the chosen experts sum to one; else `norm_topk_prob` says so.
    sparse_fields: `decoder_sparse_step` and `mlp_only_layers` are read. router, expert: prefixes of tensors, {} stands
    for the number. gate, up, down: matrices of an expert.
    """

    count: str
    default_count: int
    default_per_token: int
    width: str
    default_width: int | None
    always_normalised: bool
    sparse_fields: bool
    router: str
    expert: str
    gate: str
    up: str
    down: str


@dataclass(frozen=True)
class Architecture:
    """One family by its Hugging Face names.

    class_name, title: the class in transformers, and what people call a model of the family. examples: some models.
    reward_class_name: the class with a head of scores in place of the output matrix, where its name does not follow
    from `class_name`. has_reward_class: transformers has such a class.

    norms: roles of the norms in a layer, and their tensors. centred_norms: a norm multiplies with 1 + weight.
    wide_norms: it does so before it rounds to 16 bits. qk_norm: queries and keys go through an RMSNorm before they
    rotate, one for each "head" or one over all heads, the "width" of the projection.
    qkv_bias: q, k and v have biases whatever config.json says; bias_fields: fields that add some, to attention
    ("attention_bias": q, k, v and, unless output_bias names another field or None, o) or MLP ("mlp_bias").
    attention_bias: where config.json says nothing. fused: what is one matrix, "qkv": q, k and v; "mlp": gate and up.
    activation: the field, and the function where it is missing. scaled_embedding: times the root of the hidden size.
    soft_caps: `attn_logit_softcapping` and `final_logit_softcapping`, with defaults; None: not read. query_scalar:
    default of `query_pre_attn_scalar`, in place of the head size under attention's root. multipliers: fields that
    multiply (`logits_scaling` divides), each 1 where config.json says nothing.

    head_dim, num_kv_heads, norm_eps, max_context, tied, theta: of config.json where it says nothing. head_dim None is
    hidden_size / heads, num_kv_heads None as many as there are query heads. local_theta: rotary embedding of windowed
    layers, where it is one of their own; local_theta_field: the field that changes it in old directories. rope_kinds,
    rope_aliases: rotary embeddings that the family's class takes, and other names for them; rope_fields: what else
    their settings may hold; default_rope: the settings where config.json has none. original_context: default of
    `original_max_position_embeddings`. partial_rotary: share of a head's dimensions that rotates; None: all do.
    interleaved: neighbours rotate together, and not dimensions of both halves. unrotated_every: `no_rope_layers` may
    name layers without rotary embedding, and where it does not, of so many the last is one, see
    `no_rope_layer_interval`.
    """

    class_name: str
    title: str
    examples: str
    reward_class_name: str | None = None
    has_reward_class: bool = True
    norms: dict[str, str] = field(default_factory=lambda: PRE_NORMS)
    centred_norms: bool = False
    wide_norms: bool = False
    qk_norm: QkNorm | None = None
    qkv_bias: bool = False
    bias_fields: tuple[str, ...] = ()
    output_bias: Literal["attention_bias", "attention_out_bias"] | None = "attention_bias"
    attention_bias: bool = False
    fused: tuple[str, ...] = ()
    activation: tuple[str, str] = ("hidden_act", "silu")
    scaled_embedding: bool = False
    soft_caps: dict[str, float | None] = field(default_factory=dict)
    query_scalar: int | None = None
    multipliers: tuple[str, ...] = ()
    windows: Windows | None = None
    experts: Experts | None = None
    head_dim: int | None = None
    num_kv_heads: int | None = None
    norm_eps: float = 1e-6
    max_context: int = 2048
    tied: bool = False
    theta: float = 10000.0
    local_theta: float | None = None
    local_theta_field: str | None = None
    rope_kinds: tuple[str, ...] = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
    rope_aliases: dict[str, str] = field(default_factory=dict)
    rope_fields: tuple[str, ...] = ()
    default_rope: dict[str, Any] = field(default_factory=dict)
    original_context: int | None = None
    partial_rotary: float | None = None
    interleaved: bool = False
    unrotated_every: int | None = None

    @property
    def reward_class(self) -> str | None:
        """The class in transformers with a head of scores, such as "LlamaForSequenceClassification"; None: has none."""
        if not self.has_reward_class:
            return None
        return self.reward_class_name or self.class_name.replace("ForCausalLM", "ForSequenceClassification")

    @property
    def reads(self) -> frozenset[str]:
        """Fields of config.json that mean something to this family and nothing to a plain Llama."""
        found = {*self.bias_fields, *self.soft_caps, *self.multipliers, self.activation[0]}
        if self.query_scalar is not None:
            found.add("query_pre_attn_scalar")
        if self.partial_rotary is not None:
            found.add("partial_rotary_factor")
        if self.unrotated_every is not None:
            found |= {"no_rope_layers", "no_rope_layer_interval"}
        if self.local_theta_field is not None:
            found.add(self.local_theta_field)
        if self.windows is not None:
            found |= {"sliding_window", self.windows.switch or "", self.windows.pattern or ""}
        if self.experts is not None:
            found |= {*COUNT_FIELDS, "num_experts_per_tok", self.experts.width}
            found |= {"decoder_sparse_step", "mlp_only_layers"} if self.experts.sparse_fields else set()
            found |= set() if self.experts.always_normalised else {"norm_topk_prob"}
        return frozenset(found)


_GEMMA: dict[str, Any] = {
    "norms": FOUR_NORMS,
    "centred_norms": True,
    "wide_norms": True,
    "bias_fields": ("attention_bias",),
    "activation": ("hidden_activation", "gelu_pytorch_tanh"),
    "scaled_embedding": True,
    "query_scalar": 256,
    "head_dim": 256,
    "num_kv_heads": 4,
    "tied": True,
}
_OLMO: dict[str, Any] = {
    "norms": POST_NORMS,
    "wide_norms": True,
    "qk_norm": "width",
    "bias_fields": ("attention_bias",),
    "norm_eps": 1e-5,
}
_QWEN_WINDOWS = Windows(default=4096, switch="use_sliding_window", typed=True, first_layer=28)
ARCHITECTURES = {
    "llama": Architecture(
        class_name="LlamaForCausalLM",
        title="Llama",
        examples="Llama 1 to 3, SmolLM2, TinyLlama and their fine-tunes",
        bias_fields=("attention_bias", "mlp_bias"),
    ),
    "smollm3": Architecture(
        class_name="SmolLM3ForCausalLM",
        title="SmolLM3",
        examples="SmolLM3",
        bias_fields=("attention_bias", "mlp_bias"),
        windows=Windows(switch="use_sliding_window", typed=True, unrotated=True),
        num_kv_heads=4,
        max_context=32768,
        tied=True,
        theta=2e6,
        unrotated_every=4,
    ),
    "mistral": Architecture(
        class_name="MistralForCausalLM",
        title="Mistral",
        examples="Mistral 7B and Nemo",
        windows=Windows(default=4096),
        num_kv_heads=8,
        max_context=131072,
    ),
    "ministral3": Architecture(
        class_name="Ministral3ForCausalLM",
        title="Ministral 3",
        examples="text-only Ministral 3",
        windows=Windows(),
        head_dim=128,
        num_kv_heads=8,
        norm_eps=1e-5,
        max_context=262144,
        rope_kinds=("yarn",),
        # The class has no use for the second.
        rope_fields=("llama_4_scaling_beta", "max_position_embeddings"),
        default_rope={
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    ),
    "qwen2": Architecture(
        class_name="Qwen2ForCausalLM",
        title="Qwen2",
        examples="Qwen2 and Qwen2.5",
        qkv_bias=True,
        windows=_QWEN_WINDOWS,
        num_kv_heads=32,
        max_context=32768,
    ),
    "seed_oss": Architecture(
        class_name="SeedOssForCausalLM",
        title="Seed-OSS",
        examples="Seed-OSS",
        bias_fields=("attention_bias", "attention_out_bias", "mlp_bias"),
        output_bias="attention_out_bias",
        attention_bias=True,
        head_dim=128,
        num_kv_heads=8,
        max_context=524288,
    ),
    "phi3": Architecture(
        class_name="Phi3ForCausalLM",
        title="Phi-3",
        examples="Phi-3, Phi-3.5 and Phi-4",
        fused=("qkv", "mlp"),
        windows=Windows(),
        norm_eps=1e-5,
        max_context=4096,
        rope_kinds=("default", "longrope"),
        rope_aliases={"su": "longrope", "yarn": "longrope"},
        original_context=4096,
        partial_rotary=1.0,
    ),
    "glm4": Architecture(
        class_name="Glm4ForCausalLM",
        title="GLM-4",
        examples="GLM-4-0414",
        norms=GLM_NORMS,
        bias_fields=("attention_bias",),
        output_bias=None,
        attention_bias=True,
        fused=("mlp",),
        head_dim=128,
        num_kv_heads=2,
        norm_eps=1.5625e-7,
        max_context=131072,
        partial_rotary=0.5,
        interleaved=True,
    ),
    "gemma2": Architecture(
        class_name="Gemma2ForCausalLM",
        title="Gemma 2",
        examples="Gemma 2",
        **_GEMMA,
        soft_caps={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        windows=Windows(default=4096, typed=True, full_every=2),
        max_context=8192,
    ),
    "gemma3_text": Architecture(
        class_name="Gemma3ForCausalLM",
        title="Gemma 3",
        examples="text-only Gemma 3",
        reward_class_name="Gemma3TextForSequenceClassification",
        **_GEMMA,
        qk_norm="head",
        # `attn_logit_softcapping` is a field that the class has and leaves unused.
        soft_caps={"final_logit_softcapping": None},
        windows=Windows(default=4096, typed=True, full_every=6, pattern="sliding_window_pattern"),
        max_context=131072,
        theta=1e6,
        local_theta=10000.0,
        local_theta_field="rope_local_base_freq",
    ),
    "granite": Architecture(
        class_name="GraniteForCausalLM",
        title="Granite",
        examples="dense Granite 3",
        has_reward_class=False,
        bias_fields=("attention_bias", "mlp_bias"),
        multipliers=("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling"),
    ),
    "olmo2": Architecture(class_name="Olmo2ForCausalLM", title="OLMo 2", examples="OLMo 2", **_OLMO),
    "olmo3": Architecture(
        class_name="Olmo3ForCausalLM",
        title="OLMo 3",
        examples="OLMo 3",
        **_OLMO,
        windows=Windows(default=4096, typed=True, full_every=4),
        theta=5e5,
        local_theta=5e5,
    ),
    "mixtral": Architecture(
        class_name="MixtralForCausalLM",
        title="Mixtral",
        examples="Mixtral",
        windows=Windows(),
        experts=Experts(
            count="num_local_experts",
            default_count=8,
            default_per_token=2,
            width="intermediate_size",
            default_width=None,
            always_normalised=True,
            sparse_fields=False,
            router="block_sparse_moe.gate",
            expert="block_sparse_moe.experts.{}.",
            gate="w1",
            up="w3",
            down="w2",
        ),
        num_kv_heads=8,
        norm_eps=1e-5,
        max_context=131072,
        theta=1e6,
    ),
    "qwen3_moe": Architecture(
        class_name="Qwen3MoeForCausalLM",
        title="Qwen3-MoE",
        examples="Qwen3 mixtures of experts",
        qk_norm="head",
        bias_fields=("attention_bias",),
        windows=Windows(default=4096, switch="use_sliding_window"),
        experts=Experts(
            count="num_experts",
            default_count=128,
            default_per_token=8,
            width="moe_intermediate_size",
            default_width=768,
            always_normalised=False,
            sparse_fields=True,
            router="mlp.gate",
            expert="mlp.experts.{}.",
            gate="gate_proj",
            up="up_proj",
            down="down_proj",
        ),
        num_kv_heads=4,
        max_context=32768,
    ),
    "qwen3": Architecture(
        class_name="Qwen3ForCausalLM",
        title="Qwen3",
        examples="dense Qwen3 models",
        qk_norm="head",
        bias_fields=("attention_bias",),
        windows=_QWEN_WINDOWS,
        head_dim=128,
        num_kv_heads=32,
        max_context=32768,
    ),
}
SUPPORTED = "model_type " + ", ".join(f"{key!r} ({a.class_name}: {a.examples})" for key, a in ARCHITECTURES.items())
