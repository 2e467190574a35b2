"""AnnotatedPairs 2.0, as Inverse Constitutional AI and Feedback Forensics read it: one JSON object.

    metadata      version, description, dataset_name, default_annotator
    annotators    by id: name, description, type; each principle is one, and so is the verdict over all
    comparisons   id, prompt, response_a, response_b (objects with text), annotations: by annotator id {"pref": "a"} or
                  "b", or null with no_pref_reason: tie, or inconsistent where a principle's orders disagree

An annotator's id is the first 8 digits of its description's MD5, so that the same principle is the same annotator in
files of others. There is no time in it: the same labels give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from preftree.labeling.export.comparison import Comparison
from preftree.labeling.export.output import Output
from preftree.labeling.prompts.template import conversation_text
from preftree.labeling.types import Verdict


class AnnotatedPairs(Output):
    """The object, of which comparisons are written one by one."""

    def __init__(self, file: BinaryIO, run: Mapping[str, Any], dataset: str) -> None:
        """run: its record. dataset: its name."""
        super().__init__()
        self._file = file
        method = run["method"]
        judge = f"Verdict of preftree's method {method['name']}, model {run['scorer'].get('model')}"
        self._default = _id(judge)
        self._annotators = {self._default: {"name": f"preftree {method['name']}", "description": judge, "type": "ai"}}
        self._ids = {}
        for name, description in _principles(method):
            self._ids[name] = _id(description)
            self._annotators[_id(description)] = {"name": name, "description": description, "type": "principle"}
        metadata = {
            "version": "2.0",
            "description": "Pairs annotated by preftree",
            "dataset_name": dataset,
            "default_annotator": self._default,
        }
        head = f'{{"metadata": {_json(metadata)},\n"annotators": {_json(self._annotators)},\n"comparisons": ['
        file.write(head.encode())

    def add(self, one: Comparison) -> None:
        super().add(one)
        annotations = {self._default: _annotation(one.verdict, None)}
        for name, vote in one.votes.items():
            annotations[self._ids[name]] = _annotation(vote.verdict, vote.reason)
        entry = {
            "id": one.id,
            "prompt": conversation_text(one.prompt),
            "response_a": {"text": one.response_a},
            "response_b": {"text": one.response_b},
            "annotations": annotations,
        }
        before = "\n" if self.pairs == 1 else ",\n"
        self._file.write((before + _json(entry)).encode())

    def close(self) -> None:
        self._file.write(b"\n]}\n")


def _annotation(verdict: Verdict | None, reason: str | None) -> dict[str, str | None]:
    if verdict in ("a", "b"):
        return {"pref": verdict}
    return {"pref": None, "no_pref_reason": reason or "tie"}


def _principles(method: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and description of each annotator behind a verdict."""
    for principle in method.get("principles", ()):
        yield principle["name"], principle["positive"]
    for judge in method.get("judges", ()):
        yield judge["name"], f"Judge {judge['name']} of a panel"
    if len(sets := method.get("sets", ())) > 1:
        yield from ((one["name"], " ".join(one["statements"])) for one in sets)


def _id(description: str) -> str:
    return hashlib.md5(description.encode(), usedforsecurity=False).hexdigest()[:8]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
