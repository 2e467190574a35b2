"""Directories that hold a text model beside a vision model, as data, and how the text model is read out of one.

A relative of one of them is an entry in MULTIMODAL.
"""

from dataclasses import dataclass, field
from typing import Any

from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError


@dataclass(frozen=True)
class TextModel:
    """What `text_config` describes: an entry of ARCHITECTURES.

    architecture: its key. defaults: fields of config.json for which transformers' class of the text configuration has
    another default than the architecture's own. unread: fields of the architecture that this class has no use for.
    """

    architecture: str
    defaults: dict[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Multimodal:
    """One family of directories.

    class_name, title: the class in transformers, and what people call such a model. reward_class: the class with a head
    of scores; None: transformers has none. texts: what its text model may be, by the `model_type` of `text_config`;
    the first where that names none. is_flat: without `text_config`, the text model's fields are the directory's own.
    tied: `tie_word_embeddings` where config.json says nothing.
    has_mrope: rotary embeddings may have `mrope_section`.

    text_prefixes: of the text model's tensors, and what takes their place in a directory without vision.
    vision_prefixes: of tensors that no text goes through.
    """

    class_name: str
    title: str
    texts: dict[str, TextModel]
    vision_prefixes: tuple[str, ...]
    text_prefixes: dict[str, str]
    reward_class: str | None = None
    is_flat: bool = False
    tied: bool = False
    has_mrope: bool = False

    def tensor_name(self, stored: str) -> str | None:
        """The name without vision beside it; None for a tensor of the vision model."""
        if stored.startswith(self.vision_prefixes):
            return None
        for prefix, plain in self.text_prefixes.items():
            if stored.startswith(prefix):
                return plain + stored.removeprefix(prefix)
        return stored


# As saved before and after transformers 4.52.
_LLAVA: dict[str, Any] = {
    "text_prefixes": {"model.language_model.": "model.", "language_model.": ""},
    "vision_prefixes": tuple(
        outer + name for outer in ("", "model.") for name in ("vision_tower.", "multi_modal_projector.")
    ),
}
_QWEN: dict[str, Any] = {
    "text_prefixes": {"model.language_model.": "model."},
    "vision_prefixes": ("visual.", "model.visual."),
    "has_mrope": True,
}
MULTIMODAL = {
    "gemma3": Multimodal(
        class_name="Gemma3ForConditionalGeneration",
        title="Gemma 3",
        reward_class="Gemma3ForSequenceClassification",
        texts={"gemma3_text": TextModel("gemma3_text", {"vocab_size": 262208, "num_attention_heads": 8})},
        tied=True,
        **_LLAVA,
    ),
    "gemma4": Multimodal(
        class_name="Gemma4ForConditionalGeneration",
        title="Gemma 4",
        texts={"gemma4_text": TextModel("gemma4_text")},
        text_prefixes={"model.language_model.": "model."},
        vision_prefixes=tuple(
            f"model.{name}." for name in ("vision_tower", "audio_tower", "embed_vision", "embed_audio")
        ),
        tied=True,
    ),
    "mistral3": Multimodal(
        class_name="Mistral3ForConditionalGeneration",
        title="Mistral 3",
        texts={"mistral": TextModel("mistral"), "ministral3": TextModel("ministral3")},
        **_LLAVA,
    ),
    "qwen2_5_vl": Multimodal(
        class_name="Qwen2_5_VLForConditionalGeneration",
        title="Qwen2.5-VL",
        texts={
            "qwen2_5_vl_text": TextModel(
                "qwen2",
                {"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "max_window_layers": 80},
            )
        },
        is_flat=True,
        **_QWEN,
    ),
    "qwen3_vl": Multimodal(
        class_name="Qwen3VLForConditionalGeneration",
        title="Qwen3-VL",
        texts={
            "qwen3_vl_text": TextModel(
                "qwen3", {"rope_theta": 5e5, "max_position_embeddings": 128000}, unread=("use_sliding_window",)
            )
        },
        **_QWEN,
    ),
}
SUPPORTED = "the text model of " + ", ".join(f"{key!r} ({m.class_name})" for key, m in MULTIMODAL.items())
# Of the whole directory: what they would change, they change in the text model, too.
_OF_BOTH = ("quantization_config",)
_BESIDE_TEXT = ("vision_config", "audio_config")


def multimodal_of(config: dict[str, Any]) -> Multimodal | None:
    """The family of a directory's config.json; None for one of text alone."""
    kind = config.get("model_type")
    return MULTIMODAL.get(kind) if isinstance(kind, str) else None


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The config.json that the text model would have in a directory of its own; `config` itself if it has no vision.

    ModelError for a text configuration that is missing, nested or of an unknown type, and for a vision configuration
    or sections of a rotary embedding that are none.
    """
    family = multimodal_of(config)
    if family is None:
        return config
    is_reward_model = _is_reward_model(config, family)
    for name in _BESIDE_TEXT:
        if not isinstance(config.get(name) or {}, dict):
            raise ModelError(f"{name} is {config[name]!r:.100}, which is not an object")
    own = _own_fields(config, family)
    kind = own.get("model_type") or next(iter(family.texts))
    text = family.texts.get(kind) if isinstance(kind, str) else None
    if text is None:
        known = ", ".join(map(repr, family.texts))
        raise ModelError(
            f"text_config has model_type {kind!r:.100}, which is not supported; that of {family.title} is {known}"
        )
    for name in text.unread:
        if own.get(name):
            raise ModelError(f"text_config has {name} {own[name]!r:.100}, which {family.title} models do not read")
    found = text.defaults | own | {name: config[name] for name in _OF_BOTH if config.get(name)}
    if family.has_mrope:
        for name in ("rope_scaling", "rope_parameters"):
            found[name] = _plain_rope(own.get(name) or {}, found, text)
    architecture = ARCHITECTURES[text.architecture]
    if is_reward_model:
        found |= {name: config.get(name, default) for name, default in (("id2label", None), ("num_labels", 2))}
    return found | {
        "model_type": text.architecture,
        "architectures": [architecture.reward_class if is_reward_model else architecture.class_name],
        "tie_word_embeddings": _is_tied(config, own, family),
    }


def _is_reward_model(config: dict[str, Any], family: Multimodal) -> bool:
    """Whether the directory's class is the one with a head of scores. ModelError for a third class."""
    known = list(filter(None, (family.class_name, family.reward_class)))
    classes = config.get("architectures") or known[:1]
    if not isinstance(classes, list) or len(classes) != 1 or classes[0] not in known:
        raise ModelError(
            f"architectures {classes!r:.100} is not supported; preftree runs the text model of {' and '.join(known)}"
        )
    return bool(classes[0] == family.reward_class)


def _own_fields(config: dict[str, Any], family: Multimodal) -> dict[str, Any]:
    """The fields of the text model, from `text_config` or, in old directories of some families, from beside it."""
    text = config.get("text_config")
    if text is None and family.is_flat:
        return {name: value for name, value in config.items() if name not in ("model_type", "vision_config")}
    if not isinstance(text, dict):
        what = "missing" if text is None else f"{text!r:.100}, which is not an object"
        raise ModelError(f"text_config is {what}; download the model's own config.json")
    for name in ("text_config", *_BESIDE_TEXT):
        if text.get(name) is not None:
            raise ModelError(f"text_config holds another {name}; download the model's own config.json")
    return text


def _is_tied(config: dict[str, Any], own: dict[str, Any], family: Multimodal) -> Any:
    """transformers 5 goes by the directory's own field, older ones by the text model's."""
    for fields in (config, own):
        if fields.get("tie_word_embeddings") is not None:
            return fields["tie_word_embeddings"]
    return family.tied


def _plain_rope(scaling: Any, found: dict[str, Any], text: TextModel) -> Any:
    """Settings of a rotary embedding without its sections, which share out dimensions to time, height and width.

    A token of text has the same place in all three, so that every dimension rotates as without sections.
    """
    if not isinstance(scaling, dict):
        return scaling  # for `hf_rope` to refuse
    plain = {name: value for name, value in scaling.items() if name not in ("mrope_section", "mrope_interleaved")}
    for name in ("type", "rope_type"):
        if plain.get(name) == "mrope":
            plain[name] = "default"
    sections = scaling.get("mrope_section")
    if sections is None:
        return plain
    if not isinstance(sections, list) or len(sections) != 3:
        raise ModelError(f"mrope_section is {sections!r:.100}, which is not a list of three numbers")
    for section in sections:
        check_whole("mrope_section", section, LIMITS["head_dim"])
    size = found.get("head_dim") or ARCHITECTURES[text.architecture].head_dim or _head_size(found)
    if 2 * sum(sections) != size:
        raise ModelError(f"mrope_section {sections!r} are not half of a head's {size!r:.100} dimensions")
    return plain


def _head_size(found: dict[str, Any]) -> int:
    for name in ("hidden_size", "num_attention_heads"):
        check_whole(name, found.get(name), LIMITS["hidden_size"])
    return int(found["hidden_size"] // found["num_attention_heads"])
