"""One pass over labels.parquet for everything that the page shows beyond the figures. Constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from preftree.labeling.report.batch import LabelBatch, batches_of
from preftree.labeling.report.html.tallies import Directions, Histogram, Places, Share
from preftree.labeling.report.notable import Notable

# Lower ends of how much longer the longer response is, as a share of the shorter one.
LONGER_BY = (0.0, 0.1, 0.25, 0.5, 1.0)


@dataclass
class Survey:
    """What plots and lists of rows are made of.

    Attributes:
        rows: labelled rows.
        p: of response A, by row; by judgement where a row has none.
        gap: position gap, by judgement.
        mass: the smallest label mass, by row.
        reward: of scored responses, from -1 to 1.
        directions: by principle or set; of all judgements under "".
        agreement: with gold.
        agreement_same: with gold, of rows whose orders prefer the same response.
        longer: verdicts for the longer response, by how much longer it is; see `LONGER_BY`.
        strengths: Bradley-Terry strengths by place.
        notable: rows worth reading.
    """

    rows: int = 0
    p: Histogram = field(default_factory=lambda: Histogram(0.0, 1.0))
    gap: Histogram = field(default_factory=lambda: Histogram(-1.0, 1.0))
    mass: Histogram = field(default_factory=lambda: Histogram(0.0, 1.0))
    reward: Histogram = field(default_factory=lambda: Histogram(-1.0, 1.0))
    directions: dict[str, Directions] = field(default_factory=dict)
    agreement: Share = field(default_factory=Share)
    agreement_same: Share = field(default_factory=Share)
    longer: list[Share] = field(default_factory=lambda: [Share() for _ in LONGER_BY])
    strengths: Places = field(default_factory=Places)
    notable: Notable = field(default_factory=Notable)

    @classmethod
    def of(cls, path: Path) -> Survey:
        """Of the labels in a file. Raises OutputError where it cannot be read."""
        found = cls()
        for batch in batches_of(path):
            found.add(batch)
        return found

    def add(self, batch: LabelBatch) -> None:
        """More rows, in the order of the file."""
        if not len(batch):
            return
        self.rows += len(batch)
        self._add_judgements(batch)
        self._add_agreement(batch)
        self._add_lengths(batch)
        for name in ("reward", "reward_a", "reward_b"):
            if (reward := batch.numbers(name)) is not None:
                self.reward.add(reward)
        if (mass := batch.mass) is not None:
            self.mass.add(mass)
        for strengths in batch.lists("strengths") or ():
            self.strengths.add(sorted(strengths, reverse=True))
        if "id" in batch.table.column_names:
            self.notable.add(batch)

    def _add_judgements(self, batch: LabelBatch) -> None:
        judged, p_a = batch.judgements, batch.numbers("p_a")
        if p_a is not None:
            self.p.add(p_a)
        if judged is None:
            return
        if p_a is None:
            self.p.add(judged.p)
        self.gap.add(judged.gap)
        self.directions.setdefault("", Directions()).add(judged.p_first, judged.p_second)
        for index, name in enumerate(judged.names):
            if name:
                mine = judged.name == index
                counts = self.directions.setdefault(name, Directions())
                counts.add(judged.p_first[mine], judged.p_second[mine])

    def _add_agreement(self, batch: LabelBatch) -> None:
        judged, right = batch.judgements, batch.right
        if right is None:
            return
        self.agreement.add(right)
        if judged is not None and judged.names == ("",):
            self.agreement_same.add(right[judged.row[judged.agree]])

    def _add_lengths(self, batch: LabelBatch) -> None:
        lengths, verdict = batch.lists("response_chars"), batch.texts("verdict")
        if lengths is None or verdict is None:
            return
        pairs = [pair if pair and len(pair) == 2 else (0, 0) for pair in lengths]
        a, b = np.array(pairs, dtype=float).T
        decided = (a != b) & np.isin(verdict, ("a", "b"))
        longer_by = np.abs(a - b) / np.maximum(np.minimum(a, b), 1.0)
        bin_of = np.searchsorted(LONGER_BY, longer_by, side="right") - 1
        chose_longer = (verdict == np.where(a > b, "a", "b")).astype(float)
        for index, share in enumerate(self.longer):
            share.add(chose_longer[decided & (bin_of == index)])
