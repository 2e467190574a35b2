"""Chat templates, rendered once around placeholders so that a message's text never passes through them.

The template's own text is trusted and may hold control tokens; the messages go around it as plain text.
"""

import json
import secrets
import string
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import ModelError
from engine.loading.files import first_line
from engine.loading.tokenizer import Tokenizer

MAX_TEMPLATE_CHARACTERS = 1_000_000
# What a template gets for "today": a label must not change with the day. Llama 3 templates default to it.
TODAY = datetime(2024, 7, 26)
_PADDING = "\t \n \t"  # around a placeholder; a template that trims its messages takes it away
PLAIN_WAY_OUT = "use --plain to leave the chat template out"


@dataclass(frozen=True)
class _Slot:
    """The place of one message, and on which sides the template trims it (as Llama's do)."""

    strip_left: bool
    strip_right: bool

    def clean(self, text: str) -> str:
        text = text.lstrip() if self.strip_left else text
        return text.rstrip() if self.strip_right else text


@dataclass(frozen=True)
class _Frame:
    """A rendered prompt with the messages cut out: `slots[i]` lies between `texts[i]` and `texts[i + 1]`."""

    texts: tuple[str, ...]
    slots: tuple[_Slot, ...]


class _GenerationBlocks(Extension):
    """`{% generation %}` marks what transformers trains on. It prints its content, as there."""

    tags = {"generation"}  # noqa: RUF012  the base class declares it so

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A model's Jinja chat template, compiled in a sandbox."""

    def __init__(self, source: str, bos_token: str | None, eos_token: str | None) -> None:
        """ModelError when the template does not compile."""
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ModelError(f"the chat template has {len(source):,} characters; {PLAIN_WAY_OUT}")
        self.source = source
        tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._tokens = {name: token for name, token in tokens.items() if token is not None}
        self._frames: dict[int, _Frame | None] = {}
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelError(f"the chat template is broken ({first_line(error)}); {PLAIN_WAY_OUT}") from None

    def pieces(
        self, tokenizer: Tokenizer, user: str, system: str | None = None, answer_start: str = ""
    ) -> list[str | int]:
        """The prompt for `tokenizer.encode`: ids of the template's control tokens, everything else as text.

        The ids equal those of transformers' apply_chat_template(enable_thinking=False), but for control strings
        in the texts: labels are scored where the answer begins, not among thoughts. No BOS is added, as a template
        prints its own. If the template has no system role, `system` and a blank line go in front of `user`.
        `answer_start` follows the generation prompt, as text.
        ModelError when the template fails, changes or repeats a message, or opens a thinking block.
        """
        contents = [user] if system is None else [system, user]
        frame = self._frame(len(contents))
        if frame is None:
            contents = ["\n\n".join(contents)]
            frame = self._frame(1)
        if frame is None:
            raise ModelError(f"the chat template leaves the message out; {PLAIN_WAY_OUT}")
        pieces = tokenizer.split_control(frame.texts[0])
        for slot, content, text in zip(frame.slots, contents, frame.texts[1:], strict=True):
            pieces += [slot.clean(content), *tokenizer.split_control(text)]
        return [*pieces, answer_start]

    def _frame(self, num_messages: int) -> _Frame | None:
        """The frame of a user message (1) or of system and user (2); None: it has no such place."""
        if num_messages not in self._frames:
            self._frames[num_messages] = self._make_frame(num_messages)
        return self._frames[num_messages]

    def _make_frame(self, num_messages: int) -> _Frame | None:
        marks = ["".join(secrets.choice(string.ascii_letters) for _ in range(24)) for _ in range(num_messages)]
        roles = ("system", "user")[-num_messages:]
        messages = [
            {"role": role, "content": _PADDING + mark + _PADDING} for role, mark in zip(roles, marks, strict=True)
        ]
        try:
            rendered = self._render(messages)
        except ModelError:
            if num_messages == 2:  # many templates raise for the system role; without it they must not
                return None
            raise
        if marks[0] not in rendered and all(mark in rendered for mark in marks[1:]):
            return None
        frame = _cut(rendered, marks)
        opened = frame.texts[-1].rpartition("<think>")
        if opened[1] and "</think>" not in opened[2]:
            raise ModelError(f"the chat template lets the answer begin with thinking; {PLAIN_WAY_OUT}")
        return frame

    def _render(self, messages: list[dict[str, str]]) -> str:
        try:
            # Templates ask `tools is not none`, which an undefined name would answer wrongly.
            given: dict[str, Any] = {"messages": messages, "tools": None, "documents": None}
            given |= {"add_generation_prompt": True, "enable_thinking": False}
            return self._template.render(given | self._tokens)
        except Exception as error:  # templates are programs: any Python error can come out of one
            raise ModelError(f"the chat template fails ({first_line(error)}); {PLAIN_WAY_OUT}") from None


def _cut(rendered: str, marks: list[str]) -> _Frame:
    """Cut the placeholders out. ModelError unless each is there once, in order."""
    texts, slots = [], []
    rest = rendered
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or rendered.count(mark) != 1:
            raise ModelError(f"the chat template changes or repeats the message; {PLAIN_WAY_OUT}")
        slots.append(_Slot(not before.endswith(_PADDING), not rest.startswith(_PADDING)))
        texts.append(before.removesuffix(_PADDING))
        rest = rest.removeprefix(_PADDING)
    return _Frame((*texts, rest), tuple(slots))


def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers sets it up, but for the date."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    return environment
