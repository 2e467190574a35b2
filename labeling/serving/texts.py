"""Prompt and response in what trainers send as one string.

No text can become a control token in the judge's prompt. So control strings of a policy's template are characters as
any others, and all that there is to do is to find where the response begins, and to take off what is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.judge.reward_model import RewardModel
from preftree.labeling.serving.refused import Refused
from preftree.labeling.types import Message, RewardRequest, ScoreRequest

_SHORTEST_END = 4  # characters: that of </s>
# Private characters, which no chat template holds.
_USER, _ANSWER = "\ue000", "\ue001"


def _conversation(judge: AnyJudge) -> str:
    """What the judge reads of a conversation between the two characters; "" where it reads none."""
    if not isinstance(judge, RewardModel):
        return judge.render(ScoreRequest(_USER, _ANSWER, ()))
    return "" if judge.follows_principles else judge.render(RewardRequest((Message("user", _USER),), _ANSWER))


@dataclass(frozen=True)
class Markup:
    """How strings are taken apart.

    Attributes:
        strip: texts to take away from the end of responses and from both ends of prompts, as often as they are there.
        before: what the judge's chat template puts before a user's first message; "" where there is no template.
        split: what stands between prompt and response; "" where that is not known.
    """

    strip: Sequence[str] = ()
    before: str = ""
    split: str = ""

    @classmethod
    def of_judge(cls, judge: AnyJudge, strip: Sequence[str], split: str | None) -> Markup:
        """With what is not said taken from the judge's chat template."""
        rendered = _conversation(judge)
        before, _, rest = rendered.partition(_USER)
        between = rest.partition(_ANSWER)[0]
        if not between.strip():
            before = between = ""  # plain text
        return cls(tuple(strip), before, between if split is None else split)

    def of_query(self, query: str, prompt: str, number: int) -> tuple[str, str]:
        """Prompt and response of OpenRLHF's query, which is both in one string. Raises Refused."""
        if not query.startswith(prompt):
            raise Refused(422, f"does not begin with prompts[{number}]", f"query[{number}]")
        return self._prompt(prompt), self._response(query[len(prompt) :])

    def of_rendered(self, text: str, field: str) -> tuple[str, str]:
        """Prompt and response of a whole conversation in one string. Raises Refused."""
        if not self.split:
            reason = "where the response begins is not known; start the server with --split TEXT, or send messages"
            raise Refused(422, reason, field)
        prompt, found, response = text.rpartition(self.split)
        if not found:
            raise Refused(422, f"does not contain {self.split!r}, which stands before a response", field)
        # Clients leave the BOS token out, or a system text that the template adds: what is left is an end of `before`.
        ends = (self.before[place:] for place in range(len(self.before) + 1))
        before = next(end for end in ends if prompt.startswith(end))
        return self._prompt(prompt[len(before) :]), self._response(response.removesuffix(self._end_of_turn(response)))

    def _end_of_turn(self, text: str) -> str:
        """What a template put after a response; as it ends every turn, `split` begins with it."""
        sizes = range(len(self.split), _SHORTEST_END - 1, -1)
        return next((self.split[:size] for size in sizes if text.endswith(self.split[:size])), "")

    def _response(self, text: str) -> str:
        """Without the texts of `strip`, and white space, at its end."""
        while found := self._at_end(text):
            text = text.rstrip()[: -len(found)]
        return text.rstrip() if self.strip else text

    def _prompt(self, text: str) -> str:
        """Without them at either end."""
        text = self._response(text)
        while found := next((one for one in self.strip if one.strip() and text.lstrip().startswith(one.strip())), None):
            text = text.lstrip()[len(found.strip()) :]
        return text.lstrip() if self.strip else text

    def _at_end(self, text: str) -> str | None:
        ends = (one.strip() for one in self.strip)
        return next((one for one in ends if one and text.rstrip().endswith(one)), None)
