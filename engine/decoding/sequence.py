"""One continuation on its way: generated token by token, then led through what is appended to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from preftree.engine.decoding.stopping import StopRule
from preftree.engine.generation import Finish
from preftree.engine.planning.forced_tail import ForcedTail
from preftree.engine.planning.steps import StepRow
from preftree.engine.planning.trie import TokenIds


@dataclass
class Sequence:
    """What has been run, and what is to be run next.

    prompt: its token ids. sample: number among those of its prompt. path: [depths] int64, the K/V slot of each depth,
    those of its own after the prompt's. uniform: [max_new_tokens] float32, what it draws from. tail: what comes
    after the continuation, or None. given: the continuation where it is recorded and not to be generated. ids: of the
    continuation so far. finish: set once they are all. rest: see `Generation`. logits, normalisers: what was looked up,
    see `ForcedTail.scores`.
    """

    prompt: TokenIds
    sample: int
    path: np.ndarray
    uniform: np.ndarray
    tail: ForcedTail | None
    stops: StopRule
    given: TokenIds | None = None
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None
    rest: str = ""
    is_done: bool = False
    logits: list[np.ndarray] = field(default_factory=list)
    normalisers: list[float] = field(default_factory=list)
    _tail_row: int | None = None

    @property
    def row(self) -> StepRow:
        """The token to run next."""
        start = len(self.prompt) + len(self.ids)
        if self._tail_row is None:
            return StepRow(self.ids[-1], start - 1, self.path)
        assert self.tail is not None
        depth = start + int(self.tail.depth[self._tail_row])
        return StepRow(int(self.tail.token[self._tail_row]), depth, self.path)

    @property
    def draws(self) -> float:
        """The uniform number that its next token is drawn with; 0 where that token is not asked for."""
        is_drawn = self.finish is None and self.given is None
        return float(self.uniform[len(self.ids)]) if is_drawn else 0.0

    @property
    def looked_up(self) -> np.ndarray:
        """Tokens whose logits are wanted after the row that is being run: [lookups] int64, most often none."""
        if self.tail is None or self._tail_row is None or not self.tail.wanted[self._tail_row]:
            return _NOTHING
        return self.tail.tokens_looked_up(self._tail_row)

    def take(self, token: int) -> None:
        """`token` follows what has been run. It counts while the continuation is being generated."""
        if self._tail_row is not None:
            self._tail_row += 1
            assert self.tail is not None
            self.is_done = self._tail_row == len(self.tail)
        elif self.finish is not None:
            self._begin_tail()  # the last token was run for its K/V
        elif self.given is not None:
            self._take_given(self.given)
        elif token in self.stops.ids:
            self._stop()
        else:
            self.ids.append(token)
            kept = self.stops.kept(self.ids)
            if kept is not None:
                kept_ids, self.rest = kept
                del self.ids[kept_ids:]
                self._stop()
            elif len(self.ids) == len(self.uniform):
                self.finish = "length"
                self.is_done = self.tail is None

    def _take_given(self, given: TokenIds) -> None:
        """Steps as when it was generated: rows of a prompt have other bits than those of steps."""
        if len(self.ids) < len(given):
            self.ids.append(int(given[len(self.ids)]))
        else:
            self._stop("length" if len(given) == len(self.uniform) else "stop")

    def _stop(self, finish: Finish = "stop") -> None:
        """Its last token has been run already: another one was generated after it."""
        self.finish = finish
        self._begin_tail()

    def _begin_tail(self) -> None:
        self.is_done = self.tail is None
        if self.tail is not None:
            self._tail_row = 0


_NOTHING = np.empty(0, dtype=np.int64)
