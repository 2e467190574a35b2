"""Rules of config.json that tell the layers of a model apart, where no list names each layer's kind."""

from typing import Any

from preftree.engine.config.architecture import Architecture
from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError


def slides_by_pattern(pattern: Any, count: int) -> list[bool]:
    """Which of `count` layers have a window, by `sliding_window_pattern`.

    Args:
        pattern: of so many layers the last sees everything; or a string such as "LLLG" that repeats, L for a window
            and G for none, and whatever it says, the last layer of all sees everything (EXAONE 4).
        count: layers of the model.

    Raises:
        ModelError: the pattern is neither of the two.
    """
    if isinstance(pattern, str):
        if not pattern or set(pattern) - {"L", "G"}:
            raise ModelError(f"sliding_window_pattern {pattern!r:.100} is not a string of L (window) and G (none)")
        return [pattern[layer % len(pattern)] == "L" and layer != count - 1 for layer in range(count)]
    check_whole("sliding_window_pattern", pattern, LIMITS["num_layers"])
    return [(layer + 1) % pattern != 0 for layer in range(count)]


def unrotated_beside_windows(
    config: dict[str, Any], family: Architecture, windows: tuple[int | None, ...]
) -> frozenset[int]:
    """Layers without rotary embedding because they see everything, in families whose windowed layers alone rotate.

    windows: see `ModelConfig.windows`.
    """
    rule, count = family.windows, config["num_hidden_layers"]
    if rule is None or rule.rotate_alone is None:
        return frozenset()
    if rule.rotate_alone == "if set" and config.get("sliding_window", rule.default) is None:
        return frozenset()
    return frozenset(layer for layer in range(count) if not windows or windows[layer] is None)
