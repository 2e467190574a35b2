"""Answers of many rows as NumPy arrays, where each row has as many as the method asks for and nothing is odd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AnswerArrays:
    """Of rows whose requests have one answer each, without a rationale.

    Attributes:
        logprobs: by row, request and label; finite.
        label_mass: by row and request.
        prompt_tokens: by row and request.
        texts: by row, digest of what was judged, see `preftree.labeling.answers.entry.Entry`.
    """

    logprobs: Any
    label_mass: Any
    prompt_tokens: Any
    texts: Any

    def only(self, where: Any) -> AnswerArrays:
        """Some of the rows. where: a NumPy array of bools."""
        return AnswerArrays(self.logprobs[where], self.label_mass[where], self.prompt_tokens[where], self.texts[where])


def answer_arrays(table: Any, numbers: Any, requests: int, labels: int) -> tuple[AnswerArrays, Any]:
    """The answers of those rows that have them as they should be, and which rows these are (a NumPy array of bools).

    Args:
        table: lines in the order of rows, each row in one part, see `preftree.labeling.answers.lines`.
        numbers: of rows, ascending: a NumPy array.
        requests: of each row.
        labels: of each answer.
    """
    import numpy as np

    table = table.combine_chunks()
    rows, columns = table.column("row").to_numpy(), _columns(table, labels)
    first = rows.searchsorted(numbers)
    has_all = rows.searchsorted(numbers, side="right") - first == requests
    lines = first[has_all][:, None] + np.arange(requests)
    logprobs, mass = columns.logprobs[lines], columns.label_mass[lines]
    total = mass
    for label in range(labels):
        total = total + logprobs[:, :, label]
    is_as_asked = columns.is_plain[lines] & (columns.request[lines] == np.arange(requests)) & np.isfinite(total)
    good = is_as_asked.all(axis=1)
    where = has_all.copy()
    where[has_all] = good
    tokens, texts = columns.prompt_tokens[lines], columns.texts[lines[:, 0]]
    return AnswerArrays(logprobs, mass, tokens, texts).only(good), where


@dataclass(frozen=True)
class _Columns:
    """Of lines. is_plain: whether a line is an answer, the only one of its request, with so many labels."""

    is_plain: Any
    request: Any
    logprobs: Any
    label_mass: Any
    prompt_tokens: Any
    texts: Any


def _columns(table: Any, labels: int) -> _Columns:
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    def numbers(name: str) -> Any:
        return table.column(name).fill_null(-1).to_numpy()

    def is_there(name: str) -> Any:
        return table.column(name).is_valid().to_numpy()

    lists = table.column("logprobs")
    lengths = compute.list_value_length(lists).fill_null(-1).to_numpy()
    is_plain = (
        (lengths == labels)
        & (numbers("answer") == 0)
        & is_there("text")
        & is_there("label_mass")
        & is_there("prompt_tokens")
        & ~is_there("reason")
        & ~is_there("rationale")
    )
    logprobs = np.full((len(lengths), labels), np.nan)
    fits = lengths == labels
    logprobs[fits] = compute.list_flatten(lists.filter(pa.array(fits))).to_numpy().reshape(-1, labels)
    label_mass = table.column("label_mass").to_numpy()
    return _Columns(is_plain, numbers("request"), logprobs, label_mass, numbers("prompt_tokens"), numbers("text"))
