"""Chat templates, rendered once around placeholders so that a message's text never passes through them.

The template's own text is trusted and may hold control tokens; the messages go around it as plain text.
"""

import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import ModelError
from preftree.engine.sandbox import Sandbox, TemplateBroken, TemplateFailure
from preftree.engine.tokenizer.tokenizer import Tokenizer

MAX_TEMPLATE_CHARACTERS = 1_000_000
MAX_RENDERED_CHARACTERS = 4_000_000
_PADDING = "\t \n \t"  # around a placeholder; a template that trims its messages takes it away
PLAIN_WAY_OUT = "use --plain to leave the chat template out"
# How models open and close their thoughts, here and there.
_TAGS = ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think", "mm:think")
_THOUGHTS = {f"<{tag}>": f"</{tag}>" for tag in _TAGS} | {
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|channel|>analysis": "<|channel|>final",
    "<|open|>think<|sep|>": "<|open|>response<|sep|>",  # Kimi K3
    "Here are my reasoning steps:": "[BEGIN FINAL RESPONSE]",  # Apriel
}
# A tag of another name at the very end that reads like the beginning of thoughts: "<|begin_of_reasoning|>".
_LAST_TAG = re.compile(r"[<\[]\|?([\w:]*(?:think|thought|reason)\w*)\|?[>\]]\s*\Z", re.IGNORECASE)
_NO_THOUGHTS = re.compile(r"(?:\A|_)(?:end|stop|no|disable)", re.IGNORECASE)
# gpt-oss (harmony): the model names a channel first, and that is "analysis".
_BARE_START = "<|start|>assistant"
# How templates call the switch. Each takes its own and knows nothing of the other.
THINKING_OFF = {"enable_thinking": False, "thinking": False}


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


class ChatTemplate:
    """A model's Jinja chat template. It runs in a process of its own, once, when it is first needed."""

    def __init__(self, source: str, bos_token: str | None, eos_token: str | None) -> None:
        """ModelError when the template is absurdly long."""
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ModelError(f"the chat template has {len(source):,} characters; {PLAIN_WAY_OUT}")
        self.source = source
        tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._tokens = {name: token for name, token in tokens.items() if token is not None}
        self._marks = tuple("".join(secrets.choice(string.ascii_letters) for _ in range(24)) for _ in range(2))
        self._rendered: list[str | TemplateFailure] | None = None
        self._frames: dict[int, _Frame | None] = {}

    def prepare(self) -> None:
        """Run the template now. ModelError when it does not compile, is cut off, or fails whatever it is given."""
        if self._rendered is None:
            sandbox = Sandbox(self.source, "chat", MAX_RENDERED_CHARACTERS)
            self._rendered = [self._rendering(sandbox, count) for count in (1, 2)]
            sandbox.close()
        if all(isinstance(rendered, TemplateFailure) for rendered in self._rendered):
            raise ModelError(f"the chat template {self._rendered[0]}; {PLAIN_WAY_OUT}")

    def _rendering(self, sandbox: Sandbox, num_messages: int) -> str | TemplateFailure:
        try:
            return sandbox.render(self._conversation(num_messages))
        except TemplateBroken as failure:
            raise ModelError(f"the chat template {failure}; {PLAIN_WAY_OUT}") from None
        except TemplateFailure as failure:
            return failure

    def pieces(
        self, tokenizer: Tokenizer, user: str, system: str | None = None, answer_start: str = ""
    ) -> list[str | int]:
        """The prompt for `tokenizer.encode`: ids of the template's control tokens, everything else as text.

        The ids equal those of transformers' apply_chat_template(enable_thinking=False, thinking=False), but for
        control strings in the texts: labels are scored where the answer begins, not among thoughts. No BOS is added,
        as a template prints its own. If the template has no system role, `system` and a blank line go in front of
        `user`. `answer_start` follows the generation prompt, as text.
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
        return tokenizer.swallowed([*pieces, answer_start])

    def _frame(self, num_messages: int) -> _Frame | None:
        """The frame of a user message (1) or of system and user (2); None: it has no such place."""
        if num_messages not in self._frames:
            self._frames[num_messages] = self._make_frame(num_messages)
        return self._frames[num_messages]

    def _make_frame(self, num_messages: int) -> _Frame | None:
        self.prepare()
        assert self._rendered is not None
        rendered, marks = self._rendered[num_messages - 1], self._marks[-num_messages:]
        if isinstance(rendered, TemplateFailure):
            if num_messages == 2:  # many templates raise for the system role; without it they must not
                return None
            raise ModelError(f"the chat template {rendered}; {PLAIN_WAY_OUT}")
        if marks[0] not in rendered and all(mark in rendered for mark in marks[1:]):
            return None
        frame = _cut(rendered, marks)
        if _thinking_is_open(frame.texts[-1]):
            raise ModelError(f"the chat template lets the answer begin with thinking; {PLAIN_WAY_OUT}")
        return frame

    def _conversation(self, num_messages: int) -> dict[str, Any]:
        """What the template is given for a user message (1), or for system and user (2)."""
        messages = [
            {"role": role, "content": _PADDING + mark + _PADDING}
            for role, mark in list(zip(("system", "user"), self._marks, strict=True))[-num_messages:]
        ]
        # Templates ask `tools is not none`, which an undefined name would answer wrongly.
        given: dict[str, Any] = {"messages": messages, "tools": None, "documents": None}
        return given | {"add_generation_prompt": True} | THINKING_OFF | self._tokens


def _thinking_is_open(ending: str) -> bool:
    """Whether the text that leads to the answer opens a block of thoughts and does not close it, or leaves it open
    to the model to begin with one.
    """
    if ending.rstrip().endswith(_BARE_START):
        return True
    last = _LAST_TAG.search(ending)
    if last and not _NO_THOUGHTS.search(last[1]):
        return True
    for opening, closing in _THOUGHTS.items():
        _, opened, inside = ending.rpartition(opening)
        if opened and closing not in inside:
            return True
    return False


def _cut(rendered: str, marks: Sequence[str]) -> _Frame:
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
