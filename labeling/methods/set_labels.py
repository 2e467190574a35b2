"""Labels under sets of principles, and how good those of a run are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.methods.score_labels import SCORE_FIELDS, DirectLabel
from preftree.labeling.report.intervals import interval_text
from preftree.labeling.report.pairs import PairQuality
from preftree.labeling.report.scores import ScoreQuality
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import ArrowType, Label, PairLabel, Sample

_SETS_SHOWN = 20


@dataclass(frozen=True)
class PrincipledLabel:
    """names: of the sets. labels: under each of them, all of one kind."""

    names: tuple[str, ...]
    labels: tuple[PairLabel | DirectLabel, ...]

    FIELDS: ClassVar[Mapping[str, ArrowType]] = {"set": "string", **PairLabel.COLUMNS, **SCORE_FIELDS}
    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {"sets": [dict(FIELDS)]}

    @property
    def prompt_tokens(self) -> int:
        return sum(label.prompt_tokens for label in self.labels)

    def values(self) -> dict[str, Any]:
        """Of a pair the fields of a score are None, and the other way round."""
        nothing: dict[str, Any] = dict.fromkeys(self.FIELDS)
        return {
            "sets": [
                {name: (nothing | label.values() | {"set": chosen})[name] for name in self.FIELDS}
                for chosen, label in zip(self.names, self.labels, strict=True)
            ]
        }


class PrincipledQuality:
    """Running figures under each set: those of pairs, and those of single responses."""

    def __init__(self, names: Sequence[str], num_values: int) -> None:
        """num_values: see `ScoreQuality`."""
        self._sets = [(name, PairQuality(), ScoreQuality(num_values)) for name in names]

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(label, PrincipledLabel)
        for (_, pairs, singles), of_set in zip(self._sets, label.labels, strict=True):
            (pairs if isinstance(of_set, PairLabel) else singles).add(sample, of_set)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        return {
            "sets": [
                {
                    "name": name,
                    "pairs": pairs.figures() if pairs.pairs else None,
                    "responses": singles.figures() if singles.responses else None,
                }
                for name, pairs, singles in self._sets
            ]
        }

    def lines(self) -> list[tuple[str, str]]:
        texts = []
        for name, pairs, singles in self._sets[:_SETS_SHOWN]:
            if pairs.pairs or singles.responses:
                texts.append(one_line(name))
            if pairs.pairs:
                texts.append(f"  {_of_pairs(pairs)}")
            if singles.responses:
                texts.append(f"  {_of_singles(singles)}")
        if texts and len(self._sets) > _SETS_SHOWN:
            texts.append(f"and {count(len(self._sets) - _SETS_SHOWN, 'set')} more in run.json")
        return [("principles", text) for text in texts]


def _of_pairs(pairs: PairQuality) -> str:
    bias = f"position bias {pairs.position_bias:.1%}, label mass {pairs.mean_label_mass:.3f}"
    if pairs.agreement is None:
        return f"{count(pairs.pairs, 'pair')}: {bias}"
    interval = interval_text(pairs.agreements, pairs.gold_pairs)
    agreement = f"{pairs.agreement:.1%} of {pairs.gold_pairs:,} agree with gold ({interval})"
    return f"{count(pairs.pairs, 'pair')}: {agreement}, {bias}"


def _of_singles(singles: ScoreQuality) -> str:
    figures = singles.figures()
    spread = f"mean score {figures['mean_score']:.3f}, standard deviation {figures['std_score']:.3f}"
    return f"{count(singles.responses, 'response')}: {spread}, label mass {figures['mean_label_mass']:.3f}"
