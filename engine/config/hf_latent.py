"""Where config.json has the sizes of latent attention."""

from typing import Any

from preftree.engine.config.latent import Latent


def latent_from_hf(config: dict[str, Any], defaults: Latent) -> Latent:
    """ModelError for sizes that are none. transformers reads an explicit null of `q_lora_rank` as no such vector."""
    given = defaults.fields | {field: config[field] for field in defaults.fields if config.get(field) is not None}
    latent = Latent(
        q_rank=config.get("q_lora_rank", defaults.q_rank),
        kv_rank=given["kv_lora_rank"],
        still=given["qk_nope_head_dim"],
        rotated=given["qk_rope_head_dim"],
        value=given["v_head_dim"],
    )
    latent.validate()
    return latent
