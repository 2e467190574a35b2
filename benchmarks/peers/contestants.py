"""Who is compared: preftree and the others, by type, with the environment and the code that runs each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preftree.engine.errors import InputError, PreftreeError

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
SERVE = Path(__file__).parent / "serving" / "serve.py"
INSTALL = "make peers"


class NotInstalledError(PreftreeError):
    """The environment of a contestant is not there."""


@dataclass(frozen=True)
class Contestant:
    """One engine in one type.

    Attributes:
        family: the engine, and how it is used: one of `FAMILIES`.
        dtype: of weights: float32, bfloat16 or int8.
        rate: type of the matrix products.
    """

    family: str
    dtype: str
    rate: str

    @property
    def name(self) -> str:
        return f"{self.family}-{self.dtype}"

    @property
    def is_ours(self) -> bool:
        return self.family == OURS

    @property
    def is_reference(self) -> bool:
        """Whether the others are compared with it, so that nothing can be said without it."""
        return self in (FLOAT32, BFLOAT16)

    def command(self, job: Path) -> list[str]:
        """The worker's command line. Raises NotInstalledError."""
        environment = _ENVIRONMENTS.get(self.family)
        if environment is None:
            module = "preftree" if self.is_ours else "transformers"
            return module_command(f"benchmarks.peers.serving.{module}_contestant", job)
        python = ENVIRONMENTS / environment / "bin" / "python"
        if not (ENVIRONMENTS / environment / ".ready").exists():  # made last
            raise NotInstalledError(f"{self.name} is not installed; install it with: {INSTALL}")
        return [str(python), str(SERVE), f"{environment}_contestant", str(job)]


def module_command(module: str, job: Path) -> list[str]:
    """The command line of a worker under this interpreter."""
    return [sys.executable, "-m", "benchmarks.peers.serving.serve", module, str(job)]


OURS = "preftree"
FLOAT32 = Contestant(OURS, "float32", "float32")
BFLOAT16 = Contestant(OURS, "bfloat16", "bfloat16")
CONTESTANTS = (
    FLOAT32,
    BFLOAT16,
    Contestant(OURS, "int8", "int8"),
    Contestant("padded", "float32", "float32"),
    Contestant("padded", "bfloat16", "bfloat16"),
    Contestant("prefix", "float32", "float32"),
    Contestant("prefix", "bfloat16", "bfloat16"),
    Contestant("vllm", "bfloat16", "bfloat16"),
    Contestant("openvino", "bfloat16", "bfloat16"),
    # Weights of 8 bits, activations and products of 16.
    Contestant("openvino", "int8", "bfloat16"),
)
FAMILIES = tuple(dict.fromkeys(one.family for one in CONTESTANTS))
# Of those that have one of their own.
_ENVIRONMENTS = {"vllm": "vllm", "openvino": "openvino"}


def chosen(names: Sequence[str]) -> list[Contestant]:
    """preftree in every type, and the peers of `names`, each a family or a contestant. Raises InputError."""
    known = {*FAMILIES, *(one.name for one in CONTESTANTS)}
    for name in names:
        if name not in known:
            raise InputError(f"peer {name!r} is not known; use some of {', '.join(sorted(known))}")
    return [one for one in CONTESTANTS if one.is_ours or one.family in names or one.name in names]
