"""How rewards of a reward model are spread, whether long responses get more, and how its verdicts do on pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import Floats, Mask, column, flattened, is_numbers, known, numbers, sizes
from preftree.labeling.report.pairs import LENGTHS, PairFigures
from preftree.labeling.report.spread import Spread
from preftree.labeling.terminal import count

FIELDS = ("reward", "reward_a", "reward_b", "rewards")


def are_rewards(kinds: Mapping[str, Any]) -> bool:
    """Whether columns of these types are labels of a reward model: a judge's scores have no normalised rewards."""
    return any(
        is_numbers(kinds.get(name), depth) and is_numbers(kinds.get(f"normalized_{name}"), depth)
        for name, depth in zip(FIELDS, (0, 0, 0, 1), strict=True)
    )


class RewardFigures:
    """Running figures over responses with rewards, and over the pairs among the rows."""

    def __init__(self) -> None:
        self.pairs = PairFigures()
        self._rewards = Spread(1)
        self._with_length = Spread(2)

    @property
    def gold(self) -> Agreement:
        return self.pairs.gold

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        self.pairs.add(batch)
        for rewards, chars in _by_kind(batch):
            self._rewards.add(rewards[:, None])
            if chars is not None and len(chars) == len(rewards):
                self._with_length.add(np.stack([rewards, chars], axis=1))

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count. length_correlation: of rewards and characters."""
        number = self._rewards.count
        return {
            "responses": number,
            "mean_reward": float(self._rewards.mean[0]) if number else None,
            "std_reward": math.sqrt(float(self._rewards.products[0, 0]) / number) if number else None,
            "length_correlation": self._length_correlation(),
            **self.pairs.figures(),
        }

    def _length_correlation(self) -> float | None:
        if not self._with_length.count:
            return None
        found = float(self._with_length.correlations()[0, 1])
        return None if math.isnan(found) else found

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text; figures that have nothing to stand on are left out."""
        lines = self.pairs.lines() if self.pairs.pairs else []
        lines += [("reward", text) for text in self._texts()]
        if (correlation := self._length_correlation()) is not None:
            lines.append(("length", f"correlation of reward and characters {correlation:+.3f}"))
        return lines

    def briefly(self) -> list[str]:
        """For a terminal: pairs, and how rewards are spread."""
        return self.pairs.briefly() + self._texts()

    def _texts(self) -> list[str]:
        figures = self.figures()
        if not figures["responses"]:
            return []
        spread = f"mean {figures['mean_reward']:+.3f}, standard deviation {figures['std_reward']:.3f}"
        return [f"{spread}, of {count(figures['responses'], 'response')}"]


def _by_kind(batch: Any) -> Iterator[tuple[Floats, Floats | None]]:
    """Rewards of single responses, of pairs and of lists, with the characters of each response where they are known."""
    single, a, b = (None if (one := column(batch, name)) is None else numbers(one, name) for name in FIELDS[:3])
    if single is not None:
        yield single[known(single)], _chars(batch, known(single))
    if a is not None and b is not None:
        of_pairs = known(a, b)
        yield np.stack([a, b], axis=1)[of_pairs].ravel(), _chars(batch, of_pairs)
    if (several := column(batch, "rewards")) is not None:
        yield numbers(flattened(several)[1], "rewards"), _chars(batch, sizes(several) > 0)


def _chars(batch: Any, rows: Mask) -> Floats | None:
    import pyarrow as pa

    lengths = column(batch, LENGTHS)
    return None if lengths is None else numbers(flattened(lengths.filter(pa.array(rows)))[1], LENGTHS)
