"""One continuation on its way: generated token by token, then led through what is appended to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from preftree.engine.decoding.stopping import StopRule
from preftree.engine.generation import Finish
from preftree.engine.planning.forced_tail import ForcedTail
from preftree.engine.planning.steps import ON_DEVICE, StepRow
from preftree.engine.planning.trie import TokenIds


@dataclass
class Sequence:
    """What has been launched, and what has been read of it.

    A row may be launched before the token that the row before it drew has been read: its depth and its slot do not
    depend on that token. Where the token turns out to end the continuation, that row was in vain: what it wrote is
    overwritten before anything attends to it, and what it drew does not count.

    Attributes:
        prompt: its token ids.
        sample: number among the samples of its prompt.
        path: [depths] int64, the K/V slot of each depth, its own after the prompt's.
        uniform: [max_new_tokens] float32, what it draws from.
        tail: what comes after the continuation, or None.
        ids: of the continuation, as far as they have been read.
        finish: set once `ids` are all.
        rest: see `Generation`.
        logits: what was looked up, see `ForcedTail.scores`.
        normalisers: see `ForcedTail.scores`.
        place: its row in the last step; None before the first.
    """

    prompt: TokenIds
    sample: int
    path: np.ndarray
    uniform: np.ndarray
    tail: ForcedTail | None
    stops: StopRule
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None
    rest: str = ""
    logits: list[np.ndarray] = field(default_factory=list)
    normalisers: list[float] = field(default_factory=list)
    place: int | None = None
    _drawn: int = 1  # tokens, read or not; the first of them by the prompt's own pass
    _run: int = 0  # rows of the continuation that have been launched
    _tail_run: int = 0  # rows of the tail that have been launched

    @property
    def has_row(self) -> bool:
        """Whether there is a row to launch."""
        if self.tail is None:
            return self.finish is None and self._drawn < len(self.uniform)
        return self._in_continuation or self._tail_run < len(self.tail)

    @property
    def is_done(self) -> bool:
        """Whether all has been read."""
        return self.finish is not None and (self.tail is None or len(self.normalisers) == self.tail.num_wanted)

    @property
    def num_rows(self) -> int:
        """Rows that were launched and not in vain."""
        return self._run + self._tail_run

    @property
    def row(self) -> StepRow:
        """The row to launch next."""
        if self._in_continuation:
            token = self.ids[self._run] if self._run < len(self.ids) else ON_DEVICE
            return StepRow(token, len(self.prompt) + self._run, self.path)
        assert self.tail is not None
        depth = len(self.prompt) + len(self.ids) + int(self.tail.depth[self._tail_run])
        return StepRow(int(self.tail.token[self._tail_run]), depth, self.path)

    @property
    def draws(self) -> float:
        """The uniform number that the next row draws a token with; 0 where its token is not asked for."""
        return float(self.uniform[self._drawn]) if self._will_draw else 0.0

    @property
    def looked_up(self) -> np.ndarray:
        """Tokens whose logits are wanted after the next row: [lookups] int64, most often none."""
        if self.tail is None or self._in_continuation or not self.tail.wanted[self._tail_run]:
            return _NOTHING
        return self.tail.tokens_looked_up(self._tail_run)

    def launched(self) -> None:
        """The row has been launched."""
        if not self._in_continuation:
            self._tail_run += 1
            return
        self._drawn += self._will_draw
        self._run += 1

    def give(self, ids: TokenIds) -> None:
        """A recorded continuation. It is run in steps, as when it was generated: rows of a prompt have other bits."""
        self.ids = [int(token) for token in ids]
        self.finish = "length" if len(ids) == len(self.uniform) else "stop"

    def take(self, token: int) -> None:
        """What the next row that has not been read drew, in the order of the rows; ignored where nothing was asked."""
        if self.finish is not None:
            return
        before = len(self.ids)
        if token in self.stops.ids:
            self._stop(before)
            return
        self.ids.append(token)
        kept = self.stops.kept(self.ids)
        if kept is not None:
            kept_ids, self.rest = kept
            del self.ids[kept_ids:]
            self._stop(before)
        elif len(self.ids) == len(self.uniform):
            self.finish = "length"

    @property
    def _in_continuation(self) -> bool:
        """Whether the next row is the continuation's."""
        return self._run < (self._drawn if self.finish is None else len(self.ids))

    @property
    def _will_draw(self) -> bool:
        return self.finish is None and self._drawn < len(self.uniform)

    def _stop(self, tokens: int) -> None:
        """The token after `tokens` others was the last. Rows beyond these had been launched before that was known."""
        self.finish = "stop"
        self._run = min(self._run, tokens)


_NOTHING = np.empty(0, dtype=np.int64)
