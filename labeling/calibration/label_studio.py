"""Gold that people gave in Label Studio: tasks of `preftree export --to label-studio`, exported as JSON or JSON-MIN.

    JSON      a task a row: its `data`, and `annotations` with `was_cancelled` and `result`, of which the entry
              `from_name` = "preference" has `value` {"choices": ["left"]}
    JSON-MIN  an annotation a row, the task's data in it: `annotation_id`, `preference` "left"

`preference` may also be a Pairwise tag, whose value is {"selected": "left"}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from preftree.labeling.data.row import BadRow, quoted
from preftree.labeling.types import Verdict

PAIR_ID, LEFT_IS, PREFERENCE = "pair_id", "left_is", "preference"
LEFT, RIGHT, TIE = "left", "right", "tie"
# What is left and right, by what is left.
_SIDES: dict[Any, tuple[Verdict, Verdict]] = {"a": ("a", "b"), "b": ("b", "a")}


def is_annotated(row: Mapping[str, Any]) -> bool:
    """Whether a row is Label Studio's."""
    return isinstance(row.get("annotations"), list) or "annotation_id" in row


def votes_of(row: Mapping[str, Any]) -> tuple[str, list[Verdict]]:
    """The id of the pair, and what each annotator said of it; skipped tasks are left out. Raises BadRow."""
    data = row["data"] if isinstance(row.get("data"), dict) else row
    name, left = data.get(PAIR_ID), data.get(LEFT_IS)
    if not isinstance(name, str) or left not in _SIDES:
        raise BadRow(
            f"bad task: it has no {PAIR_ID} and {LEFT_IS}, which say which response was shown where; tasks come from "
            "`preftree export --to label-studio`"
        )
    shown: dict[str, Verdict] = dict(zip((LEFT, RIGHT), _SIDES[left], strict=True)) | {TIE: "tie"}
    found = []
    for said in map(_chosen, _preferences(row)):
        if said not in shown:
            raise BadRow(f"bad {PREFERENCE}: must be {', '.join(shown)}, found {quoted(said)}")
        found.append(shown[said])
    return name, found


def majority(votes: Sequence[Verdict]) -> Verdict:
    """The response that more than half of the annotators prefer, else a tie."""
    better: tuple[Verdict, Verdict] = ("a", "b")
    return next((side for side in better if 2 * votes.count(side) > len(votes)), "tie")


def _preferences(row: Mapping[str, Any]) -> Iterator[Any]:
    """The value of each annotation that has one."""
    if isinstance(row.get("annotations"), list):
        for annotation in row["annotations"]:
            if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
                raise BadRow("bad task: an annotation has no result; export it as JSON or JSON-MIN")
            if not annotation.get("was_cancelled"):
                results = [one for one in annotation["result"] if isinstance(one, dict)]
                yield from (one.get("value") for one in results if one.get("from_name") == PREFERENCE)
    elif row.get(PREFERENCE) not in (None, []):
        yield row[PREFERENCE]


def _chosen(value: Any) -> str:
    """In whatever it is wrapped."""
    while not isinstance(value, str):
        if isinstance(value, dict):
            value = value.get("choices", value.get("selected"))
        elif isinstance(value, list) and len(value) == 1:
            value = value[0]
        else:
            raise BadRow(f"bad {PREFERENCE}: must be one choice, found {quoted(value)}")
    return value
