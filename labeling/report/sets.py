"""How good labels under sets of principles are, set by set."""

from __future__ import annotations

from typing import Any

from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import column, flattened
from preftree.labeling.report.pairs import PairFigures, gold_of, pair_chars, pair_columns
from preftree.labeling.report.scores import ScoreFigures
from preftree.labeling.terminal import count, one_line

_OF_PAIRS = ("p_a", "verdict", "p_a_first", "p_a_second", "label_mass_first", "label_mass_second")
FIELDS = ("set", *_OF_PAIRS, "score", "reward", "entropy", "label_mass")
_SETS_SHOWN = 20


class SetFigures:
    """Running figures under each set: those of pairs, and those of single responses."""

    def __init__(self) -> None:
        self.gold = Agreement()
        self._sets: dict[str, tuple[PairFigures, ScoreFigures]] = {}

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        import pyarrow as pa

        rows, entries = flattened(column(batch, "sets"))
        encoded = column(entries, "set").cast("string").dictionary_encode()
        gold, chars = gold_of(batch), pair_chars(batch)
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            mask = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False) == code
            some, mine = entries.filter(pa.array(mask)), rows[mask]
            pairs, singles = self._sets.setdefault(name, (PairFigures(), ScoreFigures()))
            of_pairs = pair_columns(some, None if gold is None else gold[mine], None if chars is None else chars[mine])
            pairs.add_columns(of_pairs)
            singles.add_scores(some)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        return {
            "sets": [
                {
                    "name": name,
                    "pairs": pairs.figures() if pairs.pairs else None,
                    "responses": singles.figures() if singles.responses else None,
                }
                for name, (pairs, singles) in self._sets.items()
            ]
        }

    def lines(self) -> list[tuple[str, str]]:
        texts = []
        for name, (pairs, singles) in list(self._sets.items())[:_SETS_SHOWN]:
            if under := pairs.briefly() + singles.briefly():
                texts += [one_line(name), *(f"  {text}" for text in under)]
        if texts and len(self._sets) > _SETS_SHOWN:
            texts.append(f"and {count(len(self._sets) - _SETS_SHOWN, 'set')} more in run.json")
        return [("principles", text) for text in texts]

    def briefly(self) -> list[str]:
        """The figures on one line for each set."""
        return [
            f"{one_line(name)}: {text}"
            for name, (pairs, singles) in list(self._sets.items())[:_SETS_SHOWN]
            for text in pairs.briefly() + singles.briefly()
        ]
