"""Benchmarks of judges: the columns of their published files, and how they become this project's own.

RewardBench 1 is a set of preferences with a column `subset`, see `preftree.labeling.data.shapes`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from preftree.labeling.data.row import PAIR_FIELDS, SEVERAL_FIELDS, BadRow, name_of, quoted
from preftree.labeling.data.shapes import PREFERENCE, Row, Shape

TIES = "ties"
STYLES = ("concise", "detailed_plain", "detailed_markdown")
CHOSEN_STYLE, REJECTED_STYLE = "chosen_style", "rejected_style"
LLMBAR_COLUMNS = ("input", "output_1", "output_2", "label")

_AUTO_J_LABELS = {"0": "a", "1": "b", "2": "tie"}
_TIES_ID = re.compile(r"(ref|tied):\d+", re.ASCII)


def _llmbar(row: Row) -> dict[str, Any]:
    """label: 1 or 2, the better output."""
    label = row.get("label")
    if isinstance(label, bool) or label not in (1, 2, "1", "2"):
        raise BadRow(f"bad gold: label must be 1 or 2, found {quoted(label)}")
    sides = {"response_a": row.get("output_1"), "response_b": row.get("output_2")}
    return {"prompt": row.get("input"), **sides, "gold": "ab"[int(label) - 1]}


def _judge_bench(row: Row) -> dict[str, Any]:
    """label: "A>B" or "B>A"."""
    gold = {"A>B": "a", "B>A": "b"}
    label = row.get("label")
    if not isinstance(label, str) or label not in gold:
        raise BadRow(f'bad gold: label must be "A>B" or "B>A", found {quoted(label)}')
    sides = {"response_a": row.get("response_A"), "response_b": row.get("response_B")}
    return {"prompt": row.get("question"), **sides, "gold": gold[label]}


def _auto_j(row: Row) -> dict[str, Any]:
    """label: 0 for the first response, 1 for the second, 2 for a tie."""
    label = row.get("label")
    verdict = None if isinstance(label, bool | list | dict) else _AUTO_J_LABELS.get(str(label))
    if label is not None and verdict is None:
        raise BadRow(f"bad gold: label must be 0, 1, 2 (a tie) or null, found {quoted(label)}")
    sides = {"response_a": row.get("response 1"), "response_b": row.get("response 2")}
    return {"prompt": row.get("prompt"), **sides, "gold": verdict}


def is_ties(subset: str) -> bool:
    """Whether a subset of RewardBench 2 is the one where several responses are right."""
    return subset.lower() == TIES


def _reward_bench_2(row: Row) -> dict[str, Any]:
    """The right responses come first; `num_correct` says how many there are."""
    chosen, rejected, subset = row.get("chosen"), row.get("rejected"), row.get("subset")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(side, list) or not side:
            found = "an empty one" if side == [] else name_of(side)
            raise BadRow(f"wrong type: {name} must be a list of strings, found {found}")
    assert isinstance(chosen, list)
    assert isinstance(rejected, list)
    if not isinstance(subset, str):
        raise BadRow(f"wrong type: subset must be a string, found {name_of(subset)}")
    counts = {"num_correct": len(chosen), "total_completions": len(chosen) + len(rejected)}
    for name, count in counts.items():
        if row.get(name) != count or isinstance(row.get(name), bool):
            raise BadRow(f"bad count: {name} is {quoted(row.get(name))}, and the row has {count}")
    _check_right_ones(subset, len(chosen), row.get("id"))
    return {"prompt": row.get("prompt"), "responses": chosen + rejected}


def _check_right_ones(subset: str, number: int, identity: Any) -> None:
    """BadRow where the number of right responses is not what the subset asks for."""
    if not is_ties(subset):
        if number != 1:
            raise BadRow(f"bad gold: chosen must hold one response outside the subset Ties, found {number}")
        return
    if not isinstance(identity, str) or not _TIES_ID.fullmatch(identity):
        raise BadRow(f'bad id: in the subset Ties it must read "ref:1" or "tied:1", found {quoted(identity)}')
    is_reference = identity.startswith("ref")
    if is_reference != (number == 1):
        wanted = "one response" if is_reference else "two responses or more"
        raise BadRow(f"bad gold: chosen of {quoted(identity)} must hold {wanted}, found {number}")


def _is_in_styles(side: Any) -> bool:
    return isinstance(side, list) and len(side) == len(STYLES) and all(isinstance(text, str) for text in side)


def _is_rm_bench(row: Row) -> bool:
    return _is_in_styles(row.get("chosen")) and _is_in_styles(row.get("rejected")) and "num_correct" not in row


def _nine_pairs(row: Row, line: int) -> Sequence[dict[str, Any]]:
    """Each chosen with each rejected response. A row that has no three of each is left whole, for `_rm_bench`.

    Ids get the domain in front, or the subset where there is none: a prompt's number is unique in its domain only.
    """
    if not _is_rm_bench(row):
        return (dict(row),)
    group, name = row.get("domain", row.get("subset")), str(f"line-{line}" if row.get("id") is None else row["id"])
    if isinstance(group, str) and not name.startswith(group):
        name = f"{group}/{name}"
    return [
        {
            **row,
            "id": f"{name}/{chosen_style}/{rejected_style}",
            "chosen": chosen,
            "rejected": rejected,
            CHOSEN_STYLE: chosen_style,
            REJECTED_STYLE: rejected_style,
        }
        for chosen_style, chosen in zip(STYLES, row["chosen"], strict=True)
        for rejected_style, rejected in zip(STYLES, row["rejected"], strict=True)
    ]


def _rm_bench(row: Row) -> dict[str, Any]:
    """One of the nine pairs, or a row that was left whole."""
    sides = {name: row.get(name) for name in ("chosen", "rejected")}
    for name, side in sides.items():
        if CHOSEN_STYLE not in row and not _is_in_styles(side):
            found = quoted(side) if isinstance(side, list) else name_of(side)
            raise BadRow(f"wrong type: {name} must be a list of three strings, one a style, found {found}")
    texts = {"response_a": sides["chosen"], "response_b": sides["rejected"]}
    return {"prompt": row.get("prompt"), **texts, "gold": "a"}


BENCHMARKS = (
    Shape(
        "RewardBench 2",
        ("prompt", "chosen", "rejected", "num_correct", "total_completions"),
        may=("subset",),
        fields=SEVERAL_FIELDS,
        convert=_reward_bench_2,
        sides="responses are chosen, then rejected; num_correct of them are right",
        keeps=("num_correct", "total_completions", "subset"),
        narrows=PREFERENCE,
    ),
    Shape(
        "RM-Bench",
        ("prompt", "chosen", "rejected"),
        fields=PAIR_FIELDS,
        convert=_rm_bench,
        sides="nine pairs a row, response A is one of chosen, B one of rejected, gold is A",
        gold="chosen",
        narrows=PREFERENCE,
        is_one=_is_rm_bench,
        split=_nine_pairs,
    ),
    Shape(
        "JudgeBench",
        ("question", "response_A", "response_B", "label"),
        fields=PAIR_FIELDS,
        convert=_judge_bench,
        sides="response A is response_A, B is response_B, gold is label",
        gold="label",
        id="pair_id",
    ),
    Shape(
        "LLMBar",
        LLMBAR_COLUMNS,
        fields=PAIR_FIELDS,
        convert=_llmbar,
        sides="response A is output_1, B is output_2, gold is label",
        gold="label",
        is_one=lambda row: "instruction" not in row,
    ),
    Shape(
        "Auto-J pairs",
        ("prompt", "response 1", "response 2"),
        may=("label",),
        fields=PAIR_FIELDS,
        convert=_auto_j,
        sides="response A is response 1, B is response 2, gold is label, 2 a tie",
        gold="label",
    ),
)
