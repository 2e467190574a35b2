"""Runs tutorials and examples as a reader would: `python -m tests.documents DIRECTORY PAGE_OR_SCRIPT...`.

All in one process, since torch, TRL and the embedded model take seconds to import or to load. Each has a folder of its
own in DIRECTORY, with `examples` and what `models` names in it. They run as they stand, but train for one epoch. Prints
one JSON object: what each block printed.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from tests.processes import ROOT

if TYPE_CHECKING:
    from preftree import Engine

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of a page that runs, and what the page shows of its output.

    Attributes:
        kind: "sh", "py" or "python".
        code: what stands in it.
        shown: the block without a language that follows; "" where there is none.
    """

    kind: str
    code: str
    shown: str


def blocks(page: str) -> list[Block]:
    """Blocks of other kinds are for reading only."""
    found = [*_BLOCK.findall(page), ("", "")]
    return [
        Block(kind, code, after if not language else "")
        for (kind, code), (language, after) in pairwise(found)
        if kind in ("sh", "py", "python")
    ]


def run(block: Block, names: dict[str, Any]) -> str:
    """What a block prints. Commands of preftree run in this process; names: what the page's Python has defined."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            if block.kind != "sh":
                exec(compile(block.code, "<document>", "exec"), names)
            elif block.code.startswith("preftree "):
                _commands(block.code.replace("\\\n", " ").replace("--epochs 3", "--epochs 1"))
            else:
                subprocess.run(["bash", "-ec", block.code], check=True)
    except Exception as error:
        error.add_note(f"in this block:\n{block.code}\nwhich had printed:\n{printed.getvalue()}")
        raise
    return printed.getvalue()


def _commands(code: str) -> None:
    from preftree.labeling import cli

    for line in code.splitlines():
        name, *arguments = shlex.split(line, comments=True)
        assert name == "preftree", line
        assert (ended := cli.main(arguments)) == 0, f"{line}: exit code {ended}"


@contextlib.contextmanager
def one_embedded_model(loaded: Engine | None = None) -> Iterator[None]:
    """Whoever loads the embedded model gets `loaded`, or one that is loaded here; all load it with the same options."""
    from preftree.engine import checkpoint, engine

    load, close = engine.Engine, engine.Engine.close
    loaded = loaded or load(checkpoint.open_checkpoint("embedded"))
    opened, options_of = loaded.checkpoint, inspect.signature(load)

    def open_checkpoint(spec: str, offline: bool = False) -> Any:
        return opened if spec == "embedded" else opens(spec, offline)

    class Shared(load):  # type: ignore[misc, valid-type]
        def __new__(cls, asked: Any, **options: Any) -> Any:
            options_of.bind(asked, **options)  # a name that is not one is an error as ever
            return loaded if asked is opened else load(asked, **options)

    def kept(one: engine.Engine) -> None:
        if one is not loaded:
            close(one)

    opens = checkpoint.open_checkpoint
    with (
        mock.patch.object(checkpoint, "open_checkpoint", open_checkpoint),
        mock.patch.object(load, "close", kept),
        mock.patch.object(engine, "Engine", Shared),
    ):
        yield


def outputs(directory: Path, document: Path) -> list[str]:
    """What each block of a document printed; a script is one block."""
    folder = directory / document.stem
    shutil.copytree(directory / "models", folder)
    (folder / "examples").symlink_to(ROOT / "examples")
    text = document.read_text(encoding="utf-8")
    parts = blocks(text) if document.suffix == ".md" else [Block("py", text, "")]
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        return [run(block, names) for block in parts]


def main(directory: Path, *documents: str) -> dict[str, list[str]]:
    with one_embedded_model():
        return {name: outputs(directory, ROOT / name) for name in documents}


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), *sys.argv[2:])
    print(json.dumps(found))
