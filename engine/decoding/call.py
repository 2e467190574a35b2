"""What one caller of decoding asked, and the answers as they come."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass

import numpy as np

from preftree.engine.decoding.sequence import Sequence
from preftree.engine.generation import Generation, Sampling
from preftree.engine.planning.forced_tail import ForcedTail
from preftree.engine.planning.lookups import Labels
from preftree.engine.planning.trie import TokenIds
from preftree.engine.results import LabelScores, label_mass


@dataclass(frozen=True)
class RationaleScores:
    """Continuations of prompts, and the scores of labels after each of them.

    Attributes:
        generations: `[prompts][n]`.
        scores: row p * n + s is of sample s of prompt p; without columns where no labels were asked for.
        generated_tokens: of all continuations.
        prefill_rows: those of `scores.rows` that were prompts'; the others are continuations and endings, one row per
            token.
    """

    generations: list[list[Generation]]
    scores: LabelScores
    generated_tokens: int
    prefill_rows: int


class RationaleCall:
    """One call on its way.

    prompts: token ids. tails: what comes after the continuations of each prompt, or None. samples: continuations of
    each. given: those of each prompt, where they are not to be generated. prefill_rows, step_rows: run for it so far.
    passes, seconds: spent while it was the oldest call that was not complete, on whatever; and on its own prompts.
    """

    def __init__(
        self,
        prompts: list[TokenIds],
        tails: list[ForcedTail] | None,
        labels: Several[Labels],
        samples: int,
        given: list[list[TokenIds]] | None = None,
    ) -> None:
        self.prompts = prompts
        self.tails = tails
        self.samples = samples
        self.given = given
        self.prefill_rows = self.step_rows = self.passes = 0
        self.seconds = 0.0
        self._labels = labels
        self._finished: dict[tuple[int, int], Sequence] = {}

    @property
    def is_complete(self) -> bool:
        return len(self._finished) == len(self.prompts) * self.samples

    def own_slots(self, prompt: int, sampling: Sampling) -> int:
        """K/V slots of a sequence beyond its prompt. It holds them from the start, so none has to be put off again."""
        return sampling.max_new_tokens + (0 if self.tails is None else self.tails[prompt].slots)

    def finish(self, prompt: int, sequence: Sequence) -> None:
        """`sequence` is done; its K/V is needed no more."""
        self.step_rows += sequence.num_rows
        self._finished[prompt, sequence.sample] = sequence

    def result(self, decode: Callable[[Several[int]], str]) -> RationaleScores:
        """Once it is complete."""
        sequences = [self._finished[place] for place in sorted(self._finished)]
        generations = [Generation(one.ids, decode(one.ids), one.finish or "length", one.rest) for one in sequences]
        n = self.samples
        return RationaleScores(
            [generations[first : first + n] for first in range(0, len(generations), n)],
            self._scores(sequences),
            sum(len(one.ids) for one in generations),
            self.prefill_rows,
        )

    def _scores(self, sequences: Several[Sequence]) -> LabelScores:
        width = max((len(options) for options in self._labels), default=0)
        logprob, logit = (np.full((len(sequences), width), np.nan) for _ in range(2))
        for row, sequence in enumerate(sequences):
            if sequence.tail is not None:
                found = sequence.tail.scores(sequence.logits, sequence.normalisers)
                logprob[row, : len(found[0])], logit[row, : len(found[1])] = found
        labels = [options for options in self._labels for _ in range(self.samples)]
        return LabelScores(
            logprob=logprob.astype(np.float32),
            logit=logit.astype(np.float32),
            label_mass=label_mass(logprob, labels),
            prompt_tokens=sum(map(len, self.prompts)),
            rows=self.prefill_rows + self.step_rows,
            batches=self.passes,
            seconds=self.seconds,
        )
