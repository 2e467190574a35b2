"""Which rows a method can ask about, in words."""

from __future__ import annotations

from preftree.engine.errors import InputError
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.row import FIELDS
from preftree.labeling.methods.base import Method
from preftree.labeling.types import Several


def check_kinds(found: DatasetInfo, method: Method) -> None:
    """InputError where no row of the file is of a kind that the method takes, or one has a single response to rank."""
    if Several in method.takes and found.lone_line is not None:
        raise InputError(
            f"{found.name}, {found.place(found.lone_line)}: responses has one entry; ranking needs two or more"
        )
    wanted = [FIELDS[kind] for kind in method.takes]
    if not found.first_lines or any(own in found.first_lines for own in wanted):
        return
    own, line = min(found.first_lines.items(), key=lambda entry: entry[1])
    raise InputError(f"{found.name}, {found.place(line)}: has {_responses(own)}, but {needs(method)}")


def needs(method: Method) -> str:
    """ "method rlaif needs response_a and response_b"."""
    return f"method {method.name} needs {' or '.join(_responses(FIELDS[kind]) for kind in method.takes)}"


def _responses(own: tuple[str, ...]) -> str:
    return " and ".join(name for name in own if name.startswith("response"))
