"""The program that renders templates, run by `preftree.engine.sandbox` and imported by nobody.

Arguments: the dialect, seconds of processor time for each answer, bytes of memory, the output's limit in characters,
then the directories that hold Jinja. Input are lines of JSON: the source, then variables; each is answered by a line.
"""

import json
import math
import sys
import time
import traceback
from datetime import datetime
from typing import Any

# What a template gets for "today": a label must not change with the day. Llama 3 templates default to it.
TODAY = datetime(2024, 7, 26)


def limit(name: str, most: int) -> None:
    """Of this process. Systems without such limits still have the parent's clock."""
    try:
        import resource

        what = getattr(resource, name)
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))
    except (ImportError, ValueError, OSError):
        return


def plain_environment() -> Any:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)


def chat_environment() -> Any:
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


def rendered(template: Any, variables: dict[str, Any], longest: int) -> str:
    parts, characters = [], 0
    for part in template.generate(variables):
        parts.append(part)
        characters += len(part)
        if characters > longest:
            raise ValueError(f"it renders more than {longest:,} characters")
    return "".join(parts)


def said(error: Exception) -> dict[str, Any]:
    lines = str(error).strip().splitlines()
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    line = getattr(error, "lineno", None) or (places[-1] if places else None)
    return {"error": (lines[0] if lines else type(error).__name__)[:300], "line": line}


def main() -> None:
    dialect, *numbers = sys.argv[1:5]
    seconds, memory_bytes, longest = map(int, numbers)
    sys.path[:0] = sys.argv[5:]
    template: Any = None
    limit("RLIMIT_CORE", 0)
    for line in sys.stdin:
        given = json.loads(line)
        limit("RLIMIT_CPU", math.ceil(time.process_time()) + seconds)
        try:  # templates are programs: any Python error can come out of one, or out of its constants
            if template is None:
                environment = chat_environment() if dialect == "chat" else plain_environment()
                limit("RLIMIT_AS", memory_bytes)
                template, answer = environment.from_string(given), {}
            else:
                answer = {"text": rendered(template, given, longest)}
        except Exception as error:
            answer = said(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
