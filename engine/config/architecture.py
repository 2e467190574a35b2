"""What sets a family of models apart from a plain Llama. The families are in `architectures`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from preftree.engine.config.latent import Latent

QkNorm = Literal["head", "width", "rotated head"]


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
    alternating_below: default of `max_window_layers`, below which every second layer has one, the first among them.
    unrotated: those that do not rotate are the ones. rotate_alone: they are the only ones to rotate, "always", or
    "if set", so that all do where `sliding_window` is null. last_is_full: whatever the rest says, the last layer
    sees everything.
    """

    default: int | None = None
    switch: str | None = None
    typed: bool = False
    first_layer: int | None = None
    full_every: int | None = None
    pattern: str | None = None
    alternating_below: int | None = None
    unrotated: bool = False
    rotate_alone: Literal["always", "if set"] | None = None
    last_is_full: bool = False


@dataclass(frozen=True)
class SharedExpert:
    """An MLP that every token goes through, beside the chosen experts.

    prefix: of its tensors. field, default: its width or, if counted, how many times the width of an expert that is.
    gate: a row whose product with the token, through a sigmoid, weighs what it gives; None: counts in full.
    """

    prefix: str
    field: str
    default: int
    counted: bool = False
    gate: str | None = None


@dataclass(frozen=True)
class SigmoidRouter:
    """A router that scores experts one by one, by sigmoids in float32, in place of a softmax (DeepSeek-V3).

    The chosen experts' weights are times `routed_scaling_factor`. correction: a tensor that is added to the scores, but
    for the choice alone. groups, kept_groups, scaling: defaults of `n_group`, `topk_group` (experts are chosen from so
    many of so many groups) and that factor. dense_layers: default of `first_k_dense_replace`, layers without experts.
    """

    groups: int = 1
    kept_groups: int = 1
    scaling: float = 1.0
    dense_layers: int = 1
    correction: str = "mlp.gate.e_score_correction_bias"

    @property
    def defaults(self) -> dict[str, Any]:
        """By the names of config.json."""
        return {
            "n_group": self.groups,
            "topk_group": self.kept_groups,
            "routed_scaling_factor": self.scaling,
            "first_k_dense_replace": self.dense_layers,
        }


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP: names of its fields in config.json, of its tensors, and defaults.

    count: the field to write, which may be read from any of count_fields. width: the field that gives an expert's
    intermediate size. always_normalised: the weights of the chosen experts sum to one; else `norm_topk_prob` says so,
    or normalised where it is missing. sparse_fields: `decoder_sparse_step` and `mlp_only_layers` are read. router,
    expert: prefixes of tensors, {} stands for the number. gate, up, down: matrices of an expert. shared: None: all
    experts are chosen. sigmoid: how the router scores; None: by a softmax over all experts. stacked: prefix of
    tensors that hold all experts, as `engine.weights.stacked` has them; these and the router have biases.
    """

    default_count: int
    default_per_token: int
    default_width: int | None
    count: str = "num_experts"
    count_fields: tuple[str, ...] = ("num_experts", "num_local_experts")  # transformers takes either for the other
    width: str = "moe_intermediate_size"
    always_normalised: bool = False
    normalised: bool = False
    sparse_fields: bool = False
    router: str = "mlp.gate"
    expert: str = "mlp.experts.{}."
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    shared: SharedExpert | None = None
    sigmoid: SigmoidRouter | None = None
    stacked: str | None = None

    @property
    def reads(self) -> frozenset[str]:
        """Fields of config.json that mean something to this mixture."""
        found = {*self.count_fields, "num_experts_per_tok", self.width}
        found |= {"decoder_sparse_step", "mlp_only_layers"} if self.sparse_fields else set()
        found |= set() if self.always_normalised else {"norm_topk_prob"}
        found |= set() if self.shared is None else {self.shared.field}
        found |= set() if self.sigmoid is None else set(self.sigmoid.defaults)
        return frozenset(found)


@dataclass(frozen=True)
class Architecture:
    """One family by its Hugging Face names. A default says what a plain Llama is.

    Attributes:
        class_name: in transformers.
        title: what people call a model of the family.
        examples: some models.
        reward_class_name: the class with a head of scores in place of the output matrix, where its name does not follow
            from `class_name`.
        has_reward_class: transformers has such a class.

        norms: roles of the norms in a layer, and their tensors.
        layer_norm: norms subtract the mean: LayerNorm without bias in place of RMSNorm.
        centred_norms: a norm multiplies with 1 + weight.
        wide_norms: a norm multiplies before it rounds to 16 bits.
        parallel: the MLP reads what attention reads, and both are added to the residual stream together.
        qk_norm: queries and keys go through an RMSNorm before they rotate: one for each "head", or one over all heads,
            the "width" of the projection; "rotated head": one for each head after it rotated.
        qk_norm_names: their tensors.
        qk_norm_field: a field that must be true, or there are none.
        value_norm: values go through an RMSNorm without weights.
        layer_scalar: a layer's result is multiplied with a number.
        qkv_bias: q, k and v have biases, whatever config.json says.
        bias_fields: fields that add biases, to attention ("attention_bias": q, k, v and, unless output_bias names
            another field or None, o) or to the MLP ("mlp_bias").
        output_bias: the field that decides about the bias of o.
        attention_bias: where config.json says nothing.
        attention_bias_field: what config.json calls it.
        fused: what is one stored matrix, "qkv": q, k and v; "mlp": gate and up.
        activation: the field, and the function where it is missing.
        activation_aliases: other names of functions.
        clamped_gate: gate and up have a limit, and up is one larger, as in gpt-oss.
        has_sinks: every head has a learned score that joins the softmax of a row's scores, and no value.
        scaled_embedding: embeddings are multiplied with the root of the hidden size.
        soft_caps: defaults of `attn_logit_softcapping` and `final_logit_softcapping`; None: no cap. One that is missing
            here is not read.
        query_scalar: default of `query_pre_attn_scalar`, in place of the head size under attention's root.
        attention_scale: what scores are multiplied with, in place of one over that root.
        multipliers: fields that multiply (`logits_scaling` divides), with defaults.
        windows: which layers see the last tokens only.
        experts: a mixture of experts in place of the MLP.
        draft_layers: default of `num_nextn_predict_layers`: layers after the last that only draft tokens, and are not
            read.
        global_head_dim: default of the field of that name, of layers without window, where they have heads of their
            own.
        per_layer_inputs: default of `hidden_size_per_layer_input`, of embeddings that a token has for each layer; in
            such a family the last layers may use keys and values of earlier ones.
        latent: defaults of latent attention; `rope_interleave` then says whether heads are interleaved, and
            `mscale_all_dim` how much YaRN raises scores.

        head_dim: where config.json says nothing, as the next ones; None: hidden_size / heads.
        num_kv_heads: None: as many as there are query heads.
        norm_eps: added to the mean square.
        norm_eps_field: what config.json calls it.
        max_context: in tokens.
        tied: the output matrix is the embedding's.
        theta: base of the rotary embedding.
        local_theta: of windowed layers, where they have a rotary embedding of their own.
        local_theta_field: the field that changes it in old directories.
        rope_kinds: rotary embeddings that the family's class takes.
        rope_aliases: other names of them.
        rope_fields: what else their settings may hold.
        default_rope: the settings where config.json has none.
        original_context: default of `original_max_position_embeddings`.
        partial_rotary: share of a head's dimensions that rotates; None: all do.
        interleaved: neighbours rotate together, and not dimensions of both halves.
        unrotated_every: `no_rope_layers` may name layers without rotary embedding, and where it does not, of so many
            the last is one, see `no_rope_layer_interval`.
        ignored: fields that the family's class does not look at, though others do.
    """

    class_name: str
    title: str
    examples: str
    reward_class_name: str | None = None
    has_reward_class: bool = True
    norms: dict[str, str] = field(default_factory=lambda: PRE_NORMS)
    layer_norm: bool = False
    centred_norms: bool = False
    wide_norms: bool = False
    parallel: bool = False
    qk_norm: QkNorm | None = None
    qk_norm_names: tuple[str, str] = ("q_norm", "k_norm")
    qk_norm_field: str | None = None
    value_norm: bool = False
    layer_scalar: bool = False
    qkv_bias: bool = False
    bias_fields: tuple[str, ...] = ()
    output_bias: Literal["attention_bias", "attention_out_bias"] | None = "attention_bias"
    attention_bias: bool = False
    attention_bias_field: str = "attention_bias"
    fused: tuple[str, ...] = ()
    activation: tuple[str, str] = ("hidden_act", "silu")
    activation_aliases: dict[str, str] = field(default_factory=dict)
    clamped_gate: bool = False
    has_sinks: bool = False
    scaled_embedding: bool = False
    soft_caps: dict[str, float | None] = field(default_factory=dict)
    query_scalar: int | None = None
    attention_scale: float | None = None
    multipliers: dict[str, float] = field(default_factory=dict)
    windows: Windows | None = None
    experts: Experts | None = None
    draft_layers: int = 0
    global_head_dim: int | None = None
    per_layer_inputs: int | None = None
    latent: Latent | None = None
    head_dim: int | None = None
    num_kv_heads: int | None = None
    norm_eps: float = 1e-6
    norm_eps_field: str = "rms_norm_eps"
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
    ignored: tuple[str, ...] = ()

    @property
    def reward_class(self) -> str | None:
        """The class in transformers with a head of scores, such as "LlamaForSequenceClassification"; None: has none."""
        if not self.has_reward_class:
            return None
        return self.reward_class_name or self.class_name.replace("ForCausalLM", "ForSequenceClassification")

    def named(self, field: str) -> str:
        """What config.json calls a field of ModelConfig."""
        return self.attention_bias_field if field == "attention_bias" else field

    @property
    def reads(self) -> frozenset[str]:
        """Fields of config.json that mean something to this family and nothing to a plain Llama, or are ignored."""
        found = {*map(self.named, self.bias_fields), *self.soft_caps, *self.multipliers}
        found |= {*self.ignored, self.activation[0], self.norm_eps_field}
        if self.qk_norm_field is not None:
            found.add(self.qk_norm_field)
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
        if self.latent is not None:
            found |= {*self.latent.fields, "rope_interleave"}
        if self.draft_layers:
            found.add("num_nextn_predict_layers")
        if self.experts is not None:
            found |= self.experts.reads
        return frozenset(found)
