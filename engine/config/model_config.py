"""What a model is: its sizes and what its family leaves open, validated when made. NumPy only."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from preftree.engine.config.architecture import Architecture, Experts
from preftree.engine.config.architectures import ARCHITECTURES, SUPPORTED
from preftree.engine.config.heads import Heads, PerLayerInputs
from preftree.engine.config.latent import Latent
from preftree.engine.config.limits import LIMITS, check_positive, check_whole
from preftree.engine.config.rope import RopeConfig
from preftree.engine.errors import ModelError

__all__ = ["ExpertsConfig", "ModelConfig", "RopeConfig"]

MULTIPLIERS = ("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale")
Activation = Literal["silu", "gelu_tanh", "clamped_silu"]


@dataclass(frozen=True)
class ExpertsConfig:
    """A mixture of experts: `per_token` of `count` MLPs of width `width` for each token, in some layers.

    normalised: the weights of the chosen ones sum to one. layers: those that have experts; the others have one MLP.
    shared_width: of the MLP that every token goes through beside them, in families that have one; else 0.
    groups, kept_groups, scaling: see `SigmoidRouter`.
    """

    count: int
    per_token: int
    width: int
    normalised: bool
    layers: frozenset[int]
    shared_width: int = 0
    groups: int = 1
    kept_groups: int = 1
    scaling: float = 1.0

    def validate(self, family: Experts, num_layers: int) -> None:
        widest = LIMITS["intermediate_size"]
        for field, limit in (("count", 1024), ("per_token", self.count), ("width", widest)):
            check_whole(f"experts' {field}", getattr(self, field), limit)
        if family.shared is not None:
            check_whole(
                "experts' shared width" if family.shared.counted else family.shared.field, self.shared_width, widest
            )
        if family.sigmoid is not None:
            self._validate_groups()
        if not isinstance(self.normalised, bool):
            raise ModelError(f"norm_topk_prob is {self.normalised!r:.100}, neither true nor false")
        if not self.layers <= set(range(num_layers)):
            raise ModelError(f"experts are in layers beyond the model's {num_layers}")

    def _validate_groups(self) -> None:
        check_whole("n_group", self.groups, self.count)
        check_whole("topk_group", self.kept_groups, self.groups)
        check_positive("routed_scaling_factor", self.scaling, 1e6)
        # A group is as good as its two best experts.
        if self.count % self.groups or self.count // self.groups < 2:
            raise ModelError(f"{self.count} experts do not make {self.groups} groups of at least two; n_group is wrong")
        if self.per_token > self.kept_groups * (self.count // self.groups):
            raise ModelError(f"there are not {self.per_token} experts for a token in {self.kept_groups} groups")


@dataclass(frozen=True)
class ModelConfig:
    """A decoder of one of the families in ARCHITECTURES. ModelError naming the field when one is absurd.

    windows: [layers] how many last tokens a layer looks at, itself included, or None for all; () where all do.
    global_heads: of layers without window, where they have others than the rest; keys_are_values: their key projection
    gives the values, too.
    kv_shared_layers: so many layers, the last ones, use keys and values of the last layer before them that has a window
    as they have, or none; has_wide_shared_mlp: their MLPs have twice the width.
    local_rope: of the windowed layers, in families where they have one of their own. unrotated: layers without any.
    qk_norm: queries and keys are normed, in families where a field says so.
    attention_bias, attention_out_bias, mlp_bias: biases beside those that the family always has. query_scalar:
    attention scores are divided by its root; None: the head size. attention_softcap, final_softcap: c in c * tanh(x /
    c), over attention scores and logits. attention_multiplier: what scores are multiplied with, in place of that root.
    embedding_multiplier, residual_multiplier: of embeddings, and of what attention and MLP add to the residual stream.
    logits_scaling, logit_scale: what logits are divided by, and multiplied with. latent: sizes of latent attention,
    whose heads are as large as `Latent.head_size`. draft_layers: see `Architecture`. is_reward_model: the head is one
    row that gives a reward, in place of the output matrix.
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
    global_heads: Heads | None = None
    kv_shared_layers: int = 0
    has_wide_shared_mlp: bool = False
    per_layer_inputs: PerLayerInputs | None = None
    local_rope: RopeConfig | None = None
    unrotated: frozenset[int] = frozenset()
    windows: tuple[int | None, ...] = ()
    activation: Activation = "silu"
    attention_bias: bool = False
    attention_out_bias: bool = False
    qk_norm: bool = False
    mlp_bias: bool = False
    query_scalar: float | None = None
    attention_softcap: float | None = None
    final_softcap: float | None = None
    attention_multiplier: float | None = None
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0
    logit_scale: float = 1.0
    experts: ExpertsConfig | None = None
    latent: Latent | None = None
    draft_layers: int = 0
    is_reward_model: bool = False

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ModelError(f"architecture {self.architecture!r:.100} is unknown; preftree runs {SUPPORTED}")
        for field, limit in LIMITS.items():
            check_whole(field, getattr(self, field), limit)
        for heads, prefix in zip(self.heads, ("", "global "), strict=False):
            heads.validate(prefix)
        check_positive(self.family.norm_eps_field, self.norm_eps, 0.1)
        for field, value in (
            ("attn_logit_softcapping", self.attention_softcap),
            ("final_logit_softcapping", self.final_softcap),
        ):
            if value is not None:
                check_positive(field, value, 1e6)
        if self.query_scalar is not None:
            check_positive("query_pre_attn_scalar", self.query_scalar, 1e6)
        for field in MULTIPLIERS:
            value = getattr(self, field)
            if value is not None:
                check_positive(field, value, 1e6)
        if not isinstance(self.tie_embeddings, bool):
            raise ModelError(f"tie_word_embeddings is {self.tie_embeddings!r:.100}, neither true nor false")
        for place, rope in enumerate(self.ropes):
            if rope is not None:
                rope.check(self.rotary_size(place))
        if self.draft_layers != 0:
            check_whole("num_nextn_predict_layers", self.draft_layers, LIMITS["num_layers"])
        if not self.unrotated <= set(range(self.num_layers)):
            raise ModelError(f"no_rope_layers names layers beyond the model's {self.num_layers}")
        self._validate_windows()
        self._validate_sharing()
        self._validate_family()

    def _validate_windows(self) -> None:
        if self.windows and len(self.windows) != self.num_layers:
            raise ModelError(f"there are windows for {len(self.windows)} layers of {self.num_layers}")
        for window in set(self.windows) - {None}:
            check_whole("sliding_window", window, LIMITS["max_context"])

    def _validate_sharing(self) -> None:
        if not isinstance(self.has_wide_shared_mlp, bool):
            raise ModelError(f"use_double_wide_mlp is {self.has_wide_shared_mlp!r:.100}, neither true nor false")
        if self.per_layer_inputs is not None:
            self.per_layer_inputs.validate(self.vocab_size)
        if self.kv_shared_layers == 0:
            return
        check_whole("num_kv_shared_layers", self.kv_shared_layers, self.num_layers - 1)
        kinds = [self.window_of(layer) for layer in range(self.num_layers)]
        if set(kinds) != set(kinds[: -self.kv_shared_layers]):
            raise ModelError(
                f"num_kv_shared_layers is {self.kv_shared_layers}, but no earlier layer is of the kind of some of these"
            )

    def _validate_family(self) -> None:
        family = self.family
        for field in ("attention_bias", "attention_out_bias", "mlp_bias"):
            value = getattr(self, field)
            if not isinstance(value, bool):
                raise ModelError(f"{family.named(field)} is {value!r:.100}, neither true nor false")
            if value and field not in family.bias_fields:
                raise ModelError(f"{field} is not supported in a {self.title} model")
        if not isinstance(self.qk_norm, bool):
            raise ModelError(f"use_qk_norm is {self.qk_norm!r:.100}, neither true nor false")
        if self.activation not in get_args(Activation):
            raise ModelError(f"activation {self.activation!r:.100} is not supported")
        if (self.experts is None) != (family.experts is None):
            raise ModelError(f"{self.title} models are {'no ' if family.experts is None else ''}mixtures of experts")
        if (self.latent is None) != (family.latent is None):
            raise ModelError(f"{self.title} models have {'no ' if family.latent is None else ''}latent attention")
        if self.latent is not None:
            self.latent.validate()
            if (self.head_dim, self.num_kv_heads) != (self.latent.head_size, self.num_heads):
                raise ModelError(f"heads of latent attention are {self.latent.head_size} wide, each with its own key")
        if self.experts is not None:
            assert family.experts is not None
            self.experts.validate(family.experts, self.num_layers)

    @property
    def family(self) -> Architecture:
        """What all models of this architecture have in common."""
        return ARCHITECTURES[self.architecture]

    @property
    def title(self) -> str:
        """What people call a model of this architecture: "Llama"."""
        return self.family.title

    @property
    def heads(self) -> tuple[Heads, ...]:
        """The heads that there are; `heads_of` says which are a layer's."""
        own = Heads(self.num_heads, self.num_kv_heads, self.head_dim)
        return (own,) if self.global_heads is None else (own, self.global_heads)

    def heads_of(self, layer: int) -> int:
        """The place in `heads` of a layer's heads."""
        return int(self.global_heads is not None and self.window_of(layer) is None)

    def kv_source(self, layer: int) -> int:
        """The layer whose keys and values a layer uses: itself, or an earlier one."""
        own = self.num_layers - self.kv_shared_layers
        if layer < own:
            return layer
        return max(earlier for earlier in range(own) if self.window_of(earlier) == self.window_of(layer))

    @property
    def kv_sources(self) -> tuple[int, ...]:
        """Layers whose keys and values later ones use, in order."""
        shared = range(self.num_layers - self.kv_shared_layers, self.num_layers)
        return tuple(sorted({self.kv_source(layer) for layer in shared}))

    def mlp_size(self, layer: int) -> int:
        """Width of a layer's MLP."""
        is_wide = self.has_wide_shared_mlp and self.kv_source(layer) != layer
        return self.intermediate_size * (2 if is_wide else 1)

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads[0].group_size

    @property
    def q_size(self) -> int:
        """Width of the query projection and of the attention output: num_heads * head_dim."""
        return self.heads[0].q_size

    @property
    def kv_size(self) -> int:
        """Width of the key projection, and of the value projection: num_kv_heads * head_dim."""
        return self.heads[0].kv_size

    @property
    def has_qk_norm(self) -> bool:
        """Whether queries and keys are normed before they rotate."""
        return self.family.qk_norm is not None and (self.family.qk_norm_field is None or self.qk_norm)

    @property
    def qkv_bias(self) -> bool:
        return self.family.qkv_bias or self.attention_bias

    @property
    def output_bias(self) -> bool:
        """Whether the matrix after attention has a bias."""
        field = self.family.output_bias
        return field is not None and bool(getattr(self, field))

    @property
    def attention_scale(self) -> float | None:
        """What scores are multiplied with; None: one over the root of the head size."""
        if self.latent is not None:
            return float(self.latent.key_size**-0.5 * self.rope.score_scale)
        if self.attention_multiplier is not None:
            return float(self.attention_multiplier)
        if self.family.attention_scale is not None:
            return self.family.attention_scale
        return None if self.query_scalar is None else float(self.query_scalar**-0.5)

    @property
    def embedding_scale(self) -> float:
        """What embeddings are multiplied with on their way in."""
        return math.sqrt(self.hidden_size) if self.family.scaled_embedding else self.embedding_multiplier

    @property
    def ropes(self) -> tuple[RopeConfig | None, ...]:
        """The rotary embeddings that there are; `rope_of` says which is a layer's. None: its heads do not rotate."""
        local = () if self.local_rope is None else (self.local_rope,)
        return (self.rope, *local, None) if self.unrotated else (self.rope, *local)

    def rotary_size(self, place: int) -> int:
        """Dimensions of the heads that one of `ropes` rotates."""
        return self.heads[-1 if place == 0 else 0].size

    @property
    def rotated_size(self) -> int:
        """Dimensions of heads that a row has angles for: of each of `ropes`, and once more where queries grow."""
        growing = (rope is not None and rope.query_growth != 0 for rope in self.ropes)
        return sum(self.rotary_size(place) * (1 + grows) for place, grows in enumerate(growing))

    def rope_of(self, layer: int) -> int:
        """The place in `ropes` of a layer's rotary embedding."""
        if layer in self.unrotated:
            return len(self.ropes) - 1
        return int(self.local_rope is not None and self.window_of(layer) is not None)

    def rope_variant(self, length: int) -> int:
        """Only sequences of the same RoPE variant may share keys and values, see `RopeConfig.rope_variant`."""
        return max(rope.rope_variant(length) for rope in filter(None, self.ropes))

    def window_of(self, layer: int) -> int | None:
        """How many last tokens a layer looks at, the present one included; None: all of them."""
        return self.windows[layer] if self.windows else None
