"""Runs a chat template in a process of its own, which is ended when it takes too long or too much."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from preftree.engine.errors import ModelError
from preftree.engine.files import first_line

CHILD = Path(__file__).with_name("chat_child.py")
CPU_SECONDS = 3
WALL_SECONDS = 15  # of a machine that has other things to do; rendering takes a tenth of a second
MEMORY_BYTES = 256 << 20
MAX_RENDERED_CHARACTERS = 4_000_000


class TemplateFailure(Exception):
    """What is wrong with a template, in one line that goes on after "the chat template"."""


def render(source: str, conversations: Sequence[dict[str, Any]]) -> list[str | TemplateFailure]:
    """`source` rendered with the variables of each conversation; for each the text, or why there is none.

    TemplateFailure when the template does not compile, or was cut off. ModelError when no process can be started.
    """
    command = [sys.executable, "-I", "-S", str(CHILD)]
    limits = map(str, (CPU_SECONDS, MEMORY_BYTES, MAX_RENDERED_CHARACTERS))
    request = json.dumps({"source": source, "conversations": list(conversations)})
    try:
        child = subprocess.run(
            [*command, *limits, *_homes("jinja2", "markupsafe")],
            input=request.encode(),
            capture_output=True,
            timeout=WALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise TemplateFailure(f"takes more than {WALL_SECONDS} seconds") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"no process can be started to render the chat template in ({first_line(error)})") from None
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise TemplateFailure(f"takes more than {CPU_SECONDS} seconds")
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = last[0][:200] if last else f"exit status {child.returncode}"
        raise TemplateFailure(f"brings its process down ({why})")
    answer = json.loads(child.stdout)
    if "broken" in answer:
        raise TemplateFailure(f"is broken ({answer['broken']})")
    return [
        entry["text"] if "text" in entry else TemplateFailure(f"fails ({entry['error']})")
        for entry in answer["rendered"]
    ]


def _homes(*packages: str) -> list[str]:
    """Directories to import `packages` from: the child sees no others, the working directory least of all."""
    specs = [find_spec(package) for package in packages]
    return sorted({str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin})
