"""Chat templates, rendered once around placeholders so that a message's text never passes through them.

The template's own text is trusted and may hold control tokens; the messages go around it as plain text.
"""

import re
import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError, ModelError
from preftree.engine.sandbox import Sandbox, TemplateBroken, TemplateFailure
from preftree.engine.tokenizer.tokenizer import Tokenizer

MAX_TEMPLATE_CHARACTERS = 1_000_000
MAX_RENDERED_CHARACTERS = 4_000_000
# Around a placeholder: a template that trims its messages takes all of it away, or the outer characters alone where it
# trims line feeds in front (Qwen 3) or spaces at the end (Mistral). They are more than a template itself puts there.
_LEFT, _PADDING, _RIGHT = "\n" * 7, "\t \n \t", " " * 7
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
# gpt-oss (harmony): the model names a channel first, and that is "analysis". Answers are in "final".
_BARE_START, _FINAL_CHANNEL = "<|start|>assistant", "<|channel|>final<|message|>"
# How templates call the switch. Each takes its own and knows nothing of the other.
THINKING_OFF = {"enable_thinking": False, "thinking": False}

Roles = tuple[str, ...]
"""Of the messages of a conversation."""
_USER, _SYSTEM_USER = ("user",), ("system", "user")


@dataclass(frozen=True)
class _Slot:
    """The place of one message, and what the template trims at its sides (as Llama's do).

    Attributes:
        message: its number in the conversation.
        left, right: characters that are trimmed; None: all whitespace.
    """

    message: int
    left: str | None
    right: str | None

    def clean(self, text: str) -> str:
        return text.lstrip(self.left).rstrip(self.right)


@dataclass(frozen=True)
class _Frame:
    """A rendered prompt with the messages cut out: `slots[i]` lies between `texts[i]` and `texts[i + 1]`.

    Slots come in the order of the prompt: Mistral's older templates put the system text into the user's last turn.
    """

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
        self._marks: list[str] = []
        self._rendered: dict[Roles, str | TemplateFailure] = {}
        self._frames: dict[Roles, _Frame | None] = {}

    def prepare(self) -> None:
        """Run the template now. ModelError when it does not compile, is cut off, or fails whatever it is given."""
        self._render(_USER, _SYSTEM_USER)
        if all(isinstance(self._rendered[roles], TemplateFailure) for roles in (_USER, _SYSTEM_USER)):
            raise ModelError(f"the chat template {self._rendered[_USER]}; {PLAIN_WAY_OUT}")

    def _render(self, *conversations: Roles) -> None:
        """Runs the template for conversations of these roles, unless that was done already."""
        missing = [roles for roles in conversations if roles not in self._rendered]
        if not missing:
            return
        sandbox = Sandbox(self.source, "chat", MAX_RENDERED_CHARACTERS)
        for roles in missing:
            self._rendered[roles] = self._rendering(sandbox, roles)
        sandbox.close()

    def _rendering(self, sandbox: Sandbox, roles: Roles) -> str | TemplateFailure:
        try:
            rendered = sandbox.render(self._conversation(roles))
            return rendered if _is_finished(roles) else rendered + _channel(self.source, rendered)
        except TemplateBroken as failure:
            raise ModelError(f"the chat template {failure}; {PLAIN_WAY_OUT}") from None
        except TemplateFailure as failure:
            return failure

    def pieces(
        self, tokenizer: Tokenizer, user: str, system: str | None = None, answer_start: str = ""
    ) -> list[str | int]:
        """`conversation` of one message by the user, and of a system text before it if there is one."""
        messages = [("user", user)] if system is None else [("system", system), ("user", user)]
        return self.conversation(tokenizer, messages, answer_start)

    def conversation(
        self, tokenizer: Tokenizer, messages: Sequence[tuple[str, str]], answer_start: str = ""
    ) -> list[str | int]:
        """The prompt for `tokenizer.encode`: ids of the template's control tokens, everything else as text.

        The ids equal those of transformers' apply_chat_template(enable_thinking=False, thinking=False), but for
        control strings in the texts: labels are scored where the answer begins, not among thoughts. Where a template
        leaves the channel to the model (gpt-oss), the header of the final one follows. No BOS is added, as a template
        prints its own. If the template has no system role, a first system text and a blank line go in
        front of the next message. `answer_start` follows the generation prompt, as text.

        messages: role and text of each; the next turn is the assistant's.
        ModelError when the template fails, changes or repeats a message, or opens a thinking block; InputError where
        that is due to a conversation of several turns.
        """
        pieces, ending = self._filled(tokenizer, messages)
        return tokenizer.swallowed([*pieces, *ending, answer_start])

    def finished(self, tokenizer: Tokenizer, messages: Sequence[tuple[str, str]]) -> list[str | int]:
        """A conversation whose last turn is the assistant's, for `tokenizer.encode`: what a reward model reads.

        The ids equal those of transformers' apply_chat_template(messages), but for control strings in the texts. Where
        the template ends the last turn without a control token, EOS follows. Errors are those of `conversation`.
        """
        pieces, ending = self._filled(tokenizer, messages)
        is_closed = any(isinstance(piece, int) for piece in ending)
        eos = [] if is_closed or tokenizer.eos_id is None else [tokenizer.eos_id]
        return tokenizer.swallowed([*pieces, *ending, *eos])

    def _filled(
        self, tokenizer: Tokenizer, messages: Sequence[tuple[str, str]]
    ) -> tuple[list[str | int], list[str | int]]:
        """The frame of these messages with their texts in it, and what the template puts after the last one."""
        frame = self._frame(_roles(messages))
        if frame is None and len(messages) > 1:
            (_, system), (role, text), *others = messages
            messages = [(role, f"{system}\n\n{text}"), *others]
            frame = self._frame(_roles(messages))
        if frame is None:
            raise ModelError(f"the chat template leaves the message out; {PLAIN_WAY_OUT}")
        pieces: list[str | int] = []
        for before, slot in zip(frame.texts, frame.slots, strict=False):
            pieces += [*tokenizer.split_control(before), slot.clean(messages[slot.message][1])]
        return pieces, tokenizer.split_control(frame.texts[-1])

    def _frame(self, roles: Roles) -> _Frame | None:
        """The frame of a conversation; None: it has no place for the first message."""
        if roles not in self._frames:
            self._frames[roles] = self._make_frame(roles)
        return self._frames[roles]

    def _make_frame(self, roles: Roles) -> _Frame | None:
        self.prepare()
        self._render(roles)
        rendered, marks = self._rendered[roles], self._marks[: len(roles)]
        has_system = roles[:2] == _SYSTEM_USER
        if isinstance(rendered, TemplateFailure):
            if has_system:  # many templates raise for the system role; without it they must not
                return None
            raise _at_fault(roles, f"the chat template {rendered}; {PLAIN_WAY_OUT}")
        if marks[0] not in rendered and all(mark in rendered for mark in marks[1:]) and (has_system or roles == _USER):
            return None
        frame = _cut(rendered, marks, roles[0] == "system")
        if frame is None:
            raise _at_fault(roles, f"the chat template changes or repeats the message; {PLAIN_WAY_OUT}")
        if not _is_finished(roles) and _thinking_is_open(frame.texts[-1]):
            raise ModelError(f"the chat template lets the answer begin with thinking; {PLAIN_WAY_OUT}")
        return frame

    def _conversation(self, roles: Roles) -> dict[str, Any]:
        """What the template is given for messages of these roles."""
        while len(self._marks) < len(roles):
            self._marks.append("".join(secrets.choice(string.ascii_letters) for _ in range(24)))
        messages = [
            {"role": role, "content": _LEFT + _PADDING + mark + _PADDING + _RIGHT}
            for role, mark in zip(roles, self._marks, strict=False)
        ]
        # Templates ask `tools is not none`, which an undefined name would answer wrongly.
        given: dict[str, Any] = {"messages": messages, "tools": None, "documents": None}
        if not _is_finished(roles):
            given |= {"add_generation_prompt": True} | THINKING_OFF
        return given | self._tokens


def _roles(messages: Sequence[tuple[str, str]]) -> Roles:
    return tuple(role for role, _ in messages)


def _is_finished(roles: Roles) -> bool:
    """Whether nothing is to be answered any more."""
    return roles[-1] == "assistant"


def _at_fault(roles: Roles, message: str) -> ModelError | InputError:
    """Of the model where it fails for what judging asks, of the input where only a longer conversation is at fault."""
    return ModelError(message) if roles in (_USER, _SYSTEM_USER) else InputError(message)


def _channel(source: str, rendered: str) -> str:
    """What begins the answer where a template that knows channels leaves their choice to the model."""
    return _FINAL_CHANNEL if rendered.endswith(_BARE_START) and "<|channel|>" in source else ""


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


def _cut(rendered: str, marks: Sequence[str], has_system: bool) -> _Frame | None:
    """Cut the placeholders out. None unless each is there once, in order; a system text may stand in a later turn."""
    if any(rendered.count(mark) != 1 for mark in marks):
        return None
    found = sorted(marks, key=rendered.index)
    turns = list(marks[1:] if has_system else marks)
    if found[-1] != marks[-1] or [mark for mark in found if mark in turns] != turns:
        return None
    texts, slots = [], []
    rest = rendered
    for mark in found:
        before, _, rest = rest.partition(mark)
        before, left = _untrimmed(before, _LEFT, str.removesuffix)
        rest, right = _untrimmed(rest, _RIGHT, str.removeprefix)
        texts.append(before)
        slots.append(_Slot(marks.index(mark), left, right))
    return _Frame((*texts, rest), tuple(slots))


def _untrimmed(text: str, outermost: str, remove: Callable[[str, str], str]) -> tuple[str, str | None]:
    """`text` without what is left of the padding at the placeholder's side, and the characters that were trimmed."""
    inner = remove(text, _PADDING)
    if inner == text:
        return text, None
    outer = remove(inner, outermost)
    return outer, outermost[0] if outer == inner else ""
