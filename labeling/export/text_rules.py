"""Rules about the texts of a pair that decide instead of a principle, as the released code of SALMON has them.

A response that contains a refusal phrase loses against one that does not. A response in another language than the last
message of the prompt loses against one in the same language; where both are in another one, the pair is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from preftree.engine.errors import InputError
from preftree.labeling.export.drawing import Side
from preftree.labeling.options.export import InstructionOptions
from preftree.labeling.types import Pair

REFUSAL, LANGUAGE = "refusal phrase", "language"
DETECTOR = "py3langid"
# The score of a text in which the detector finds nothing to go by: a word, a number.
_NO_EVIDENCE = -1e38


@dataclass(frozen=True)
class Ruled:
    """A pair after the rules.

    Attributes:
        pair: its responses cut.
        refusal: the response without a refusal phrase, where the other has one.
        language: the response in the prompt's language, where the other is in another one.
    """

    pair: Pair
    refusal: Side | None = None
    language: Side | None = None


class TextRules:
    """The rules that are on. Raises InputError where the language detector is not installed."""

    def __init__(self, options: InstructionOptions) -> None:
        self._options = options
        self._language_of = _detector() if options.language else None

    def takes(self, pair: Pair) -> bool:
        """Whether both responses are long enough, before they are cut."""
        return min(len(pair.response_a), len(pair.response_b)) >= self._options.min_length

    def apply(self, pair: Pair) -> Ruled | str:
        """What the rules find in a pair, or why it is left out."""
        if not self.takes(pair):
            return f"a response has fewer than {self._options.min_length:,} characters"
        if marker := self._options.cut_at:
            a, b = (text.split(marker, 1)[0].strip() for text in (pair.response_a, pair.response_b))
            pair = pair._replace(response_a=a, response_b=b)
            if not (a and b):
                return "nothing stands before the marker of --cut-at"
        refused = tuple(
            any(phrase in text for phrase in self._options.refusal_phrase)
            for text in (pair.response_a, pair.response_b)
        )
        foreign = self._foreign(pair)
        if all(foreign):
            return "both responses are in another language than the prompt"
        return Ruled(pair, _better(*refused), _better(*foreign))

    def _foreign(self, pair: Pair) -> tuple[bool, bool]:
        """Of each response. A text whose language cannot be told is in every language."""
        if self._language_of is None:
            return False, False
        asked, a, b = map(self._language_of, (pair.prompt[-1].content, pair.response_a, pair.response_b))
        return None not in (asked, a) and a != asked, None not in (asked, b) and b != asked


def _better(bad_a: bool, bad_b: bool) -> Side | None:
    """The only response that is not bad."""
    if bad_a == bad_b:
        return None
    return "b" if bad_a else "a"


def detector_version() -> str:
    """Languages are told by this version, for the record."""
    return metadata.version(DETECTOR)


def _detector() -> Callable[[str], str | None]:
    try:
        from py3langid import classify
    except ImportError:
        raise InputError(f"--language tells languages with {DETECTOR}: pip install 'preftree[language]'") from None

    def language_of(text: str) -> str | None:
        language, score = classify(text)
        return None if score < _NO_EVIDENCE else str(language)

    return language_of
