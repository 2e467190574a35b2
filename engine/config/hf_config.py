"""A Hugging Face config.json.

Every field that changes numbers in some model of transformers is read or, where the family lacks it, refused.
"""

from typing import Any

from preftree.engine.config import multimodal
from preftree.engine.config.architecture import Architecture, Windows
from preftree.engine.config.architectures import ARCHITECTURES, LACKING, SUPPORTED
from preftree.engine.config.hf_experts import experts_from_hf
from preftree.engine.config.hf_heads import global_heads, per_layer_inputs
from preftree.engine.config.hf_latent import latent_from_hf
from preftree.engine.config.hf_layers import slides_by_pattern, unrotated_beside_windows
from preftree.engine.config.hf_rope import ropes_from_hf
from preftree.engine.config.limits import LIMITS, check_positive, check_whole
from preftree.engine.config.model_config import Activation, ModelConfig
from preftree.engine.config.quantization import quantization_of
from preftree.engine.errors import ModelError
from preftree.engine.files import naming

REQUIRED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# Fields of one family or another that change what a model computes, and the values that change nothing. A family that
# reads a field says so in `Architecture.reads`; in all others it has to be absent, null or neutral.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("attention_bias", "attention_out_bias", "mlp_bias", "qkv_bias", "use_bias"), (False,)),
    **dict.fromkeys(("use_qkv_bias", "bias", "lm_head_bias"), (False,)),
    **dict.fromkeys(("sliding_window", "sliding_window_pattern", "attention_chunk_size"), ()),
    **dict.fromkeys(("no_rope_layers", "no_rope_layer_interval"), ()),
    **dict.fromkeys(("use_sliding_window", "use_parallel_residual", "alibi"), (False,)),
    **dict.fromkeys(
        ("parallel_attn", "rope_interleaved", "use_qk_norm", "qk_layernorm", "is_encoder_decoder"), (False,)
    ),
    **dict.fromkeys(("add_cross_attention", "use_mrope", "attn_temperature_tuning", "attn_output_gate"), (False,)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "clip_qkv"), ()),
    **dict.fromkeys(("logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier"), (1,)),
    **dict.fromkeys(("attention_multiplier", "scale_emb", "scale_depth", "dim_model_base", "rope_local_base_freq"), ()),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"), (0,)),
    **dict.fromkeys(("num_experts_per_tok", "shared_expert_intermediate_size", "mlp_only_layers"), (0, [])),
    **dict.fromkeys(("n_shared_experts", "first_k_dense_replace", "n_group", "topk_group"), (0,)),
    "routed_scaling_factor": (1,),
    "num_nextn_predict_layers": (0,),
    # Of DeepSeek's own code; transformers' class takes these values for granted.
    "scoring_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "moe_layer_freq": (1,),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "num_kv_shared_layers"), (0,)),
    **dict.fromkeys(("hidden_size_per_layer_input", "vocab_size_per_layer_input", "top_k_experts"), (0,)),
    **dict.fromkeys(("attention_k_eq_v", "enable_moe_block", "use_double_wide_mlp"), (False,)),
    **dict.fromkeys(("global_head_dim", "num_global_key_value_heads", "per_layer_config"), ()),
    # Between the tokens of one picture.
    "use_bidirectional_attention": (False, "vision"),
    "mup_width_multiplier": (1,),
    "swiglu_alpha": (1.702,),
    "swiglu_limit": (7,),
    "position_embedding_type": ("rope", "absolute"),
}


def from_hf(config: dict[str, Any], origin: str) -> ModelConfig:
    """Read the dictionary of a config.json; `origin` (a path) opens every error's line."""
    with naming(origin):
        config = multimodal.text_config(config)
        family = _family(config)
        _refuse_unsupported(config, family)
        for field in REQUIRED:
            if config.get(field) is None:
                raise ModelError(f"the field {field} is missing; download the model's own config.json")
            check_positive(field, config[field], LIMITS["vocab_size"])
        check_whole("num_layers", config["num_hidden_layers"], LIMITS["num_layers"])

        def optional(field: str, default: Any) -> Any:
            value = config.get(field)
            return default if value is None else value

        heads = config["num_attention_heads"]
        max_context = optional("max_position_embeddings", family.max_context)
        check_whole("max_context", max_context, LIMITS["max_context"])
        rope, local_rope = ropes_from_hf(config, family, max_context)
        unrotated = _unrotated(config, family)
        windows = _windows(config, family, unrotated)
        # transformers reads an explicit null as "one for each query head", whatever it assumes for a missing key.
        kv_heads = config.get("num_key_value_heads", family.num_kv_heads)
        head_dim = optional("head_dim", family.head_dim or config["hidden_size"] // heads)
        latent = None
        if family.latent is not None:
            # Every head has a key; transformers' class has no use for fields that say otherwise.
            latent, kv_heads = latent_from_hf(config, family.latent), heads
            head_dim = latent.head_size
        return ModelConfig(
            architecture=config["model_type"],
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=heads if kv_heads is None else kv_heads,
            head_dim=head_dim,
            norm_eps=optional(family.norm_eps_field, family.norm_eps),
            rope=rope,
            # What "dynamic" is for: contexts beyond the trained one, up to so many times its length.
            max_context=int(max_context * rope.factor) if rope.kind == "dynamic" else max_context,
            tie_embeddings=optional("tie_word_embeddings", family.tied),
            global_heads=None if family.global_head_dim is None else global_heads(config, family, windows),
            kv_shared_layers=optional("num_kv_shared_layers", 0),
            has_wide_shared_mlp=optional("use_double_wide_mlp", False),
            per_layer_inputs=per_layer_inputs(config, family),
            local_rope=local_rope,
            unrotated=unrotated | unrotated_beside_windows(config, family, windows),
            windows=windows,
            activation=_activation(config, family),
            attention_bias=optional(family.attention_bias_field, family.attention_bias),
            qk_norm=family.qk_norm_field is not None and optional(family.qk_norm_field, False),
            attention_out_bias=optional("attention_out_bias", False),
            mlp_bias=optional("mlp_bias", False),
            query_scalar=None
            if family.query_scalar is None
            else optional("query_pre_attn_scalar", family.query_scalar),
            attention_softcap=_soft_cap(config, family, "attn_logit_softcapping"),
            final_softcap=_soft_cap(config, family, "final_logit_softcapping"),
            **{field: optional(field, default) for field, default in family.multipliers.items()},
            experts=None if family.experts is None else experts_from_hf(config, family.experts),
            latent=latent,
            draft_layers=optional("num_nextn_predict_layers", family.draft_layers) if family.draft_layers else 0,
            is_reward_model=_is_reward_model(config, family),
        )


def _family(config: dict[str, Any]) -> Architecture:
    """The family of a config.json. ModelError for one that preftree does not run, or for code in place of one.

    Of a family that transformers has a class for, that class is meant, whatever code the directory brings beside it.
    """
    kind = config.get("model_type")
    family = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if isinstance(kind, str) and kind in LACKING:
        raise ModelError(f"model_type {kind!r} is not supported: it takes {LACKING[kind]}")
    if family is None and config.get("auto_map"):
        raise ModelError(
            f"model_type {kind!r:.100} is not supported; auto_map asks for Python code from the model directory, which "
            "preftree never runs"
        )
    if family is None:
        known = f"{SUPPORTED}, and {multimodal.SUPPORTED}"
        raise ModelError(f"model_type {kind!r:.100} is not supported; preftree runs {known}")
    classes = config.get("architectures") or [family.class_name]
    if not isinstance(classes, list) or not {family.class_name, family.reward_class} & set(map(str, classes)):
        raise ModelError(f"architectures {classes!r:.100} is not supported; preftree runs {SUPPORTED}")
    return family


def _is_reward_model(config: dict[str, Any], family: Architecture) -> bool:
    """ModelError for a head that gives several scores, or nobody says how many."""
    if family.class_name in (config.get("architectures") or [family.class_name]):
        return False
    # transformers writes the names of the labels, but for two: its default.
    names, count = config.get("id2label"), config.get("num_labels", 2)
    count = len(names) if isinstance(names, dict) else count
    if count != 1:
        raise ModelError(
            f"architectures {family.reward_class} with {count!r:.20} labels is not supported; a reward model has one, "
            "and config.json says so in id2label or num_labels (without either, there are 2)"
        )
    return True


def _refuse_unsupported(config: dict[str, Any], family: Architecture) -> None:
    """ModelError for what would make preftree compute something else than the model's authors meant."""
    quantization_of(config)
    for field, neutral in NEUTRAL.items():
        value = config.get(field)
        if value is not None and field not in family.reads and value not in neutral:
            raise ModelError(f"{field} {value!r:.100} is not supported; preftree runs {family.title} models without it")


def _activation(config: dict[str, Any], family: Architecture) -> Activation:
    """ModelError for one that is unknown, and where a field that the family does not read says another one."""
    field, default = family.activation
    name = config.get(field) or default
    meant = family.activation_aliases.get(name, name) if isinstance(name, str) else ""
    kind = ACTIVATIONS.get(meant)
    if kind is None:
        raise ModelError(f"{field} {name!r:.100} is not supported; preftree knows {', '.join(ACTIVATIONS)}")
    for other in {"hidden_act", "hidden_activation"} - {field}:
        if config.get(other) not in (None, name, meant):
            raise ModelError(f"{other} {config[other]!r:.100} contradicts {field} {name!r}; keep the right one")
    if not family.clamped_gate:
        return kind
    if kind != "silu":
        raise ModelError(f"{field} {name!r:.100} is not supported in {family.title}, which is made of 'silu'")
    return "clamped_silu"


def _soft_cap(config: dict[str, Any], family: Architecture, field: str) -> Any:
    """transformers reads an explicit null as "no cap", whatever it assumes for a missing key."""
    return config.get(field, family.soft_caps[field]) if field in family.soft_caps else None


def _unrotated(config: dict[str, Any], family: Architecture) -> frozenset[int]:
    """Layers without rotary embedding. ModelError where no_rope_layers cannot be followed."""
    count, given = config["num_hidden_layers"], config.get("no_rope_layers")
    if family.unrotated_every is None:
        return frozenset()
    if given is None:
        every = config.get("no_rope_layer_interval", family.unrotated_every)
        check_whole("no_rope_layer_interval", every, LIMITS["num_layers"])
        return frozenset(layer for layer in range(count) if (layer + 1) % every == 0)
    if not isinstance(given, list) or len(given) < count or any(rotates not in (0, 1) for rotates in given):
        raise ModelError(
            f"no_rope_layers {given!r:.100} is not a list of a 1 (rotates) or 0 for each of {count} layers"
        )
    return frozenset(layer for layer in range(count) if not given[layer])


def _windows(config: dict[str, Any], family: Architecture, unrotated: frozenset[int]) -> tuple[int | None, ...]:
    """The window of every layer; () where there is none. ModelError where layer_types cannot be followed."""
    rule, count = family.windows, config["num_hidden_layers"]
    types = config.get("layer_types")
    known = ("full_attention", "sliding_attention")
    if types is not None and (not isinstance(types, list) or len(types) != count or any(t not in known for t in types)):
        raise ModelError(
            f"layer_types {types!r:.100} is not supported; every layer has to be one of {', '.join(known)}"
        )
    window = None
    if rule is not None and _is_on(config, rule.switch):
        window = config.get("sliding_window", rule.default)
    if window is not None:
        check_whole("sliding_window", window, LIMITS["max_context"])
    if rule is None or not rule.typed:
        slides = [window is not None] * count
        if types is not None and types != [known[here] for here in slides]:
            raise ModelError(
                f"layer_types {types!r:.100} is not supported in {family.title}, whose layers are all alike"
            )
    elif types is not None:
        slides = [kind == known[1] for kind in types]
        if window is None and any(slides):
            raise ModelError("layer_types has sliding_attention, but there is no sliding_window")
    else:
        slides = _ruled(config, rule, window, count, unrotated)
    if rule is not None and rule.last_is_full:
        slides[-1] = False
    return tuple(window if slide else None for slide in slides) if any(slides) else ()


def _is_on(config: dict[str, Any], switch: str | None) -> bool:
    value = True if switch is None else config.get(switch) or False
    if not isinstance(value, bool):
        raise ModelError(f"{switch} is {value!r:.100}, neither true nor false")
    return value


def _ruled(config: dict[str, Any], rule: Windows, window: Any, count: int, unrotated: frozenset[int]) -> list[bool]:
    """Which layers have a window by the family's rule."""
    if rule.unrotated:
        return [window is not None and layer in unrotated for layer in range(count)]
    if rule.full_every is not None:
        if window is None:
            raise ModelError("sliding_window is null, but some layers need one")
        return slides_by_pattern(config.get(rule.pattern, rule.full_every) if rule.pattern else rule.full_every, count)
    bound = config.get(
        "max_window_layers", rule.first_layer if rule.first_layer is not None else rule.alternating_below
    )
    if not isinstance(bound, int):
        raise ModelError(f"max_window_layers is {bound!r:.100}, which is not a whole number")
    if rule.alternating_below is not None:
        return [window is not None and layer < bound and layer % 2 == 0 for layer in range(count)]
    return [window is not None and layer >= bound for layer in range(count)]
