"""What may differ from layer to layer: attention's heads, and embeddings that tokens have for each layer."""

from dataclasses import dataclass

from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError


@dataclass(frozen=True)
class Heads:
    """Heads of some layers: `count` for queries, `kv_count` for keys and values, of `size` each."""

    count: int
    kv_count: int
    size: int
    keys_are_values: bool = False

    def validate(self, prefix: str = "") -> None:
        for field, value in (("num_heads", self.count), ("num_kv_heads", self.kv_count), ("head_dim", self.size)):
            check_whole(prefix + field, value, LIMITS[field])
        if self.size % 2:
            raise ModelError(f"{prefix}head_dim is {self.size}; rotary embedding needs an even one")
        if self.count % self.kv_count:
            raise ModelError(f"num_heads ({self.count}) is no multiple of {prefix}num_kv_heads ({self.kv_count})")
        if not isinstance(self.keys_are_values, bool):
            raise ModelError(f"attention_k_eq_v is {self.keys_are_values!r:.100}, neither true nor false")

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.count // self.kv_count

    @property
    def q_size(self) -> int:
        """Width of the query projection and of the attention output."""
        return self.count * self.size

    @property
    def kv_size(self) -> int:
        """Width of the key projection, and of the value projection."""
        return self.kv_count * self.size


@dataclass(frozen=True)
class PerLayerInputs:
    """Embeddings of `size` numbers that each of `vocab_size` tokens has for every layer."""

    size: int
    vocab_size: int

    def validate(self, tokens: int) -> None:
        check_whole("hidden_size_per_layer_input", self.size, LIMITS["hidden_size"])
        check_whole("vocab_size_per_layer_input", self.vocab_size, LIMITS["vocab_size"])
        if self.vocab_size < tokens:
            raise ModelError(
                f"vocab_size_per_layer_input is {self.vocab_size}, but there are {tokens} tokens; every one needs an "
                "embedding"
            )
