"""Rewards from a judge in this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from preftree.engine.errors import InputError
from preftree.labeling.integrations.dropping import dropped
from preftree.labeling.integrations.unscored import Unscored
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.group import Group, GroupLabel
from preftree.labeling.methods.principled import Principled
from preftree.labeling.principles.row_sets import RowSets
from preftree.labeling.serving.judging import Judging
from preftree.labeling.serving.rewards import Reward, reward_of
from preftree.labeling.serving.scorer import Asked, Scorer
from preftree.labeling.types import Label, Response, ResponseSet


class LocalJudge:
    """All that is asked in one call is one trie. Several threads may ask; the engine runs together what waits."""

    def __init__(self, judge: AnyJudge, judging: Judging, drop: float, seed: int) -> None:
        """drop, seed: see `preftree.labeling.integrations.dropping`."""
        self._scorer = Scorer(judge)
        self._judging = judging
        self._drop, self._seed = drop, seed
        self._tokenising = threading.Lock()  # the tokenizer keeps what texts share

    def scored(self, samples: Sequence[Response]) -> list[Reward | Unscored]:
        """The reward of each response on its own."""
        assert self._judging.single is not None
        labels = self._labels(self._judging.single, samples)
        return [
            one if isinstance(one, Unscored) else reward_of(one, sample.response)
            for one, sample in zip(labels, samples, strict=True)
        ]

    def compared(self, samples: Sequence[ResponseSet]) -> list[GroupLabel | Unscored]:
        """Who won against whom among the responses of each prompt."""
        assert self._judging.group is not None
        labels = self._labels(self._judging.group, samples)
        return [one for one in labels if isinstance(one, GroupLabel | Unscored)]

    def _labels(self, method: Method, samples: Sequence[Response | ResponseSet]) -> list[Label | Unscored]:
        found: list[Label | Unscored] = []
        asked: dict[int, Asked] = {}
        with self._tokenising:
            for place, sample in enumerate(samples):
                found.append(Unscored("was not asked"))
                try:
                    asked[place] = self._scorer.prepare(self._with_drops(method, sample.id), sample).asked
                except InputError as error:
                    found[place] = Unscored(str(error))
        answers = self._scorer.label(list(asked.values())) if asked else []
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        faults = [error for error in failed if not isinstance(error, InputError)]
        if faults or len(failed) == len(answers) > 1:
            raise (faults or failed)[0]  # no row's fault, but the judge's: it is closed, or its process has forked
        for place, answer in zip(asked, answers, strict=True):
            found[place] = Unscored(str(answer)) if isinstance(answer, Exception) else answer
        return found

    def _with_drops(self, method: Method, prompt: str) -> Method:
        """The method, with criteria left out for this prompt."""
        if not self._drop:
            return method
        if isinstance(method, Group) and isinstance(method.pairs, Principled):
            return replace(method, pairs=self._fewer(method.pairs, prompt))
        assert isinstance(method, Principled)
        return self._fewer(method, prompt)

    def _fewer(self, method: Principled, prompt: str) -> Principled:
        return replace(method, sets=RowSets(dropped(method.sets.fixed, prompt, self._drop, self._seed)))
