"""What sets a family of models apart from a plain Llama. The families are in `architectures`."""

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
    unrotated: those that do not rotate are the ones. last_is_full: whatever the rest says, the last layer sees
    everything.
    """

    default: int | None = None
    switch: str | None = None
    typed: bool = False
    first_layer: int | None = None
    full_every: int | None = None
    pattern: str | None = None
    unrotated: bool = False
    last_is_full: bool = False


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
    value_norm: so do values, through one without weights. layer_scalar: a layer's result is multiplied with a number.
    qkv_bias: q, k and v have biases whatever config.json says; bias_fields: fields that add some, to attention
    ("attention_bias": q, k, v and, unless output_bias names another field or None, o) or MLP ("mlp_bias").
    attention_bias: where config.json says nothing. fused: what is one matrix, "qkv": q, k and v; "mlp": gate and up.
    activation: the field, and the function where it is missing. scaled_embedding: times the root of the hidden size.
    soft_caps: `attn_logit_softcapping` and `final_logit_softcapping`, with defaults; None: not read. query_scalar:
    default of `query_pre_attn_scalar`, in place of the head size under attention's root. attention_scale: what scores
    are multiplied with, in place of one over that root. multipliers: fields that
    multiply (`logits_scaling` divides), each 1 where config.json says nothing.

    global_head_dim: default of the field of that name, of layers without window, where they have heads of their own.
    per_layer_inputs: default of `hidden_size_per_layer_input`, of embeddings that a token has for each layer; in such a
    family the last layers may use keys and values of earlier ones.
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
    value_norm: bool = False
    layer_scalar: bool = False
    qkv_bias: bool = False
    bias_fields: tuple[str, ...] = ()
    output_bias: Literal["attention_bias", "attention_out_bias"] | None = "attention_bias"
    attention_bias: bool = False
    fused: tuple[str, ...] = ()
    activation: tuple[str, str] = ("hidden_act", "silu")
    scaled_embedding: bool = False
    soft_caps: dict[str, float | None] = field(default_factory=dict)
    query_scalar: int | None = None
    attention_scale: float | None = None
    multipliers: tuple[str, ...] = ()
    windows: Windows | None = None
    experts: Experts | None = None
    global_head_dim: int | None = None
    per_layer_inputs: int | None = None
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
        if self.global_head_dim is not None:
            found |= {"global_head_dim", "num_global_key_value_heads", "attention_k_eq_v", "per_layer_config"}
        if self.per_layer_inputs is not None:
            found |= {"hidden_size_per_layer_input", "vocab_size_per_layer_input"}
            found |= {"num_kv_shared_layers", "use_double_wide_mlp"}
        if self.local_theta_field is not None:
            found.add(self.local_theta_field)
        if self.windows is not None:
            found |= {"sliding_window", self.windows.switch or "", self.windows.pattern or ""}
        if self.experts is not None:
            found |= {*COUNT_FIELDS, "num_experts_per_tok", self.experts.width}
            found |= {"decoder_sparse_step", "mlp_only_layers"} if self.experts.sparse_fields else set()
            found |= set() if self.experts.always_normalised else {"norm_topk_prob"}
        return frozenset(found)
