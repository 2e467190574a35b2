"""Pairs as token ids, some of them held out by prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preftree.engine.errors import InputError
from preftree.labeling.export.comparison import Selection
from preftree.labeling.judge.reward_encoding import RewardEncoder
from preftree.labeling.terminal import count
from preftree.labeling.training.pairs import PairSource, TrainingPair
from preftree.labeling.types import Message

TokenIds = NDArray[np.int32]


@dataclass
class Rows:
    """Pairs for a reward model.

    Attributes:
        better: token ids of each pair's preferred response in its conversation.
        worse: those of the other response.
        p: the judge's probability that the preferred response is better, from 0.5.
        gold: whether a human prefers it, too; None where that is not known, or a tie.
    """

    better: list[TokenIds] = field(default_factory=list)
    worse: list[TokenIds] = field(default_factory=list)
    p: list[float] = field(default_factory=list)
    gold: list[bool | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.p)

    def add(self, better: TokenIds, worse: TokenIds, p: float, gold: bool | None) -> None:
        """One more pair."""
        self.better.append(better)
        self.worse.append(worse)
        self.p.append(p)
        self.gold.append(gold)

    def texts(self) -> list[list[int]]:
        """Token ids: of each pair the preferred response, then the other."""
        return [ids.tolist() for both in zip(self.better, self.worse, strict=True) for ids in both]

    def columns(self, is_soft: bool) -> Any:
        """A pyarrow.Table as TRL's RewardTrainer takes it, and a column "p": of verdicts it is 1."""
        import pyarrow as pa

        ids = pa.list_(pa.int32())
        return pa.table(
            {
                "chosen_ids": pa.array(self.better, ids),
                "rejected_ids": pa.array(self.worse, ids),
                "p": pa.array(self.p if is_soft else [1.0] * len(self), pa.float32()),
            }
        )


@dataclass(frozen=True)
class Split:
    """All rows.

    Attributes:
        train: to train on.
        held_out: to measure on; of other prompts.
        left_out: pairs that are in neither, a line for each reason.
    """

    train: Rows
    held_out: Rows
    left_out: Sequence[str]


def split_rows(source: PairSource, encoder: RewardEncoder, share: float, seed: int, name: str) -> Split:
    """Read all pairs. InputError where there is nothing to train on, or nothing to hold out.

    Held out are the prompts whose hash with the seed is below `share`, and at least the one with the lowest: a prompt
    stays where it is whatever else is in the data.
    """
    selection = Selection(source.is_soft)
    every, places = Rows(), []
    for pair, better, worse in _encoded(source.pairs(selection), encoder, selection):
        every.add(better, worse, pair.p, pair.gold)
        places.append(_place(pair.prompt, seed))
    if not len(every):
        raise InputError(f"{name} has no pairs to train on; {'; '.join(selection.lines()) or 'no rows'}")
    if max(every.p) == 0.5:
        raise InputError(f"{name}: all labels are ties ({len(every):,} pairs), so there is nothing to learn")
    lowest = min(places)
    parts = Rows(), Rows()
    for place, row in zip(places, zip(every.better, every.worse, every.p, every.gold, strict=True), strict=True):
        parts[place < share or place == lowest].add(*row)
    if not len(parts[0]):
        raise InputError(
            f"{name} has no pairs left to train on beside those held out: its {count(len(every), 'pair')} have "
            f"{count(len(set(places)), 'different prompt')}; label more prompts, or change --held-out"
        )
    return Split(*parts, selection.lines())


def _encoded(
    pairs: Iterable[TrainingPair], encoder: RewardEncoder, selection: Selection
) -> Iterator[tuple[TrainingPair, TokenIds, TokenIds]]:
    for pair in pairs:
        try:
            better, worse = (
                np.array(encoder.encode(pair.prompt, text, pair.principles), np.int32)
                for text in (pair.better, pair.worse)
            )
        except InputError as error:
            selection.leave_out(str(error))
            continue
        yield pair, better, worse


def _place(prompt: Sequence[Message], seed: int) -> float:
    """From 0 to 1, by the text of the prompt."""
    key = json.dumps([seed, *map(list, prompt)])
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
