"""Options out of a file: YAML, or the run.json of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.options.option import Options, declared
from preftree.labeling.terminal import one_line
from preftree.labeling.values import suggestion

if TYPE_CHECKING:
    from preftree.labeling.yaml_file import FrontMatter


def read_config(path: str, kind: type[Options]) -> dict[str, Any]:
    """Values by name, as the options of `kind` are called or spelled on the command line; null leaves the default.

    UsageError with file, line and key for what is none of them, and for a value that cannot be.
    """
    from preftree.labeling.yaml_file import FrontMatter, json_as_yaml, read_text

    try:
        head = FrontMatter(json_as_yaml(read_text(Path(path), f"--config {path}")), path, 1, "--config")
        nodes = head.nodes
        if (options := head.get("options")) is not None:  # the run.json of a run
            head.entries(options, "options")
            nodes = dict(options.value)
        return _values(head, nodes, kind)
    except InputError as error:
        raise UsageError(str(error)) from None


def _values(head: FrontMatter, nodes: Mapping[Any, Any], kind: type[Options]) -> dict[str, Any]:
    known = declared(kind)
    names = {name: name for name in known} | {option.flag: name for name, option in known.items() if option.flag}
    found: dict[str, Any] = {}
    for key, node in nodes.items():
        name = names.get(key.value.replace("-", "_"), "")
        if not name:
            raise head.error(key, f"there is no option {one_line(key.value)!r}; {suggestion(key.value, sorted(names))}")
        if name in found:
            raise head.error(key, f"{name} is there twice")
        if (value := _plain(node)) is not None:
            try:
                found[name] = known[name].kind(value)
            except ValueError as error:
                raise head.error(node, f"{key.value} {error}") from None
    return found


def _plain(node: Any, depth: int = 2) -> Any:
    """Text as it is written, lists of it, None for null; {} for what no option is."""
    if node.id == "sequence" and depth:
        return [_plain(entry, depth - 1) for entry in node.value]
    if node.id != "scalar":
        return {}
    return None if node.tag.endswith(":null") else node.value
