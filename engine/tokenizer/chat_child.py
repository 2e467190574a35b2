"""The program that renders a chat template, run by `preftree.engine.tokenizer.chat_sandbox` and imported by nobody.

A template is a program of the model's authors: Jinja's sandbox keeps it from Python's internals, but not from running
for ever or from asking for gigabytes, while it is compiled already (constants are folded). So it gets a process of its
own with little time and little memory. Arguments: seconds of processor time, bytes of memory, the output's limit in
characters, then the directories that hold Jinja. Input and output are JSON.
"""

import json
import sys
from datetime import datetime
from typing import Any

# What a template gets for "today": a label must not change with the day. Llama 3 templates default to it.
TODAY = datetime(2024, 7, 26)


def limit(seconds: int, memory_bytes: int) -> None:
    """Of this process. Systems without such limits still have the parent's clock."""
    try:
        import resource
    except ImportError:
        return
    limits = ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0))
    for what, most in limits:
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):
            continue


def environment() -> Any:
    """As transformers sets it up, but for the date."""
    import jinja2
    from jinja2.ext import Extension
    from jinja2.nodes import Node
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlocks(Extension):
        """`{% generation %}` marks what transformers trains on. It prints its content, as there."""

        tags = {"generation"}  # noqa: RUF012  the base class declares it so

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = TODAY.strftime
    return made


def render(source: str, conversations: list[dict[str, Any]], longest: int) -> dict[str, Any]:
    """{"broken": why}, or {"rendered": [{"text": ...} or {"error": why} for each conversation]}."""
    try:
        template = environment().from_string(source)
    except Exception as error:  # syntax, depth, memory, and whatever folding a constant raises
        return {"broken": said(error)}
    rendered = []
    for given in conversations:
        try:
            text = template.render(given)
        except Exception as error:  # templates are programs: any Python error can come out of one
            rendered.append({"error": said(error)})
            continue
        too_long = {"error": f"it renders {len(text):,} characters"}
        rendered.append({"text": text} if len(text) <= longest else too_long)
    return {"rendered": rendered}


def said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def main() -> None:
    seconds, memory_bytes, longest = (int(number) for number in sys.argv[1:4])
    sys.path[:0] = sys.argv[4:]
    request = json.load(sys.stdin)
    limit(seconds, memory_bytes)
    sys.stdout.write(json.dumps(render(request["source"], request["conversations"], longest)))


if __name__ == "__main__":
    main()
