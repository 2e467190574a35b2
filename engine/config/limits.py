"""Numbers that a model's configuration may give. Nothing is imported but the errors."""

from preftree.engine.errors import ModelError

# Far above every published model: a corrupt or hostile config becomes an error instead of an allocation.
LIMITS = {
    "vocab_size": 1 << 22,
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "num_layers": 1024,
    "num_heads": 1024,
    "num_kv_heads": 1024,
    "head_dim": 1024,
    "max_context": 1 << 27,
}


def check_positive(field: str, value: object, limit: float) -> None:
    """ModelError unless `value` is a finite number in (0, limit]; bool is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= limit:
        raise ModelError(f"{field} is {value!r:.100}, which is not a number above 0 and at most {limit:g}")


def check_whole(field: str, value: object, limit: int) -> None:
    """ModelError unless `value` is a whole number from 1 to `limit`."""
    check_positive(field, value, limit)
    if not isinstance(value, int):
        raise ModelError(f"{field} is {value!r}, which is not a whole number")
