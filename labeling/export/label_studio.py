"""Pairs for people to compare: tasks of Label Studio, and the labelling configuration of their project.

A task's data:
    pair_id      id of the pair
    prompt       the conversation, as text
    left, right  the responses; which of them is A is drawn for each pair, against people's lean to one side
    left_is      a or b

What the judge said is not in it: people would follow. `preftree.labeling.calibration.label_studio` reads their answers.
"""

from __future__ import annotations

import json
from typing import BinaryIO

from preftree.labeling.calibration.label_studio import LEFT, LEFT_IS, PAIR_ID, PREFERENCE, RIGHT, TIE
from preftree.labeling.export.comparison import Comparison
from preftree.labeling.export.output import Output
from preftree.labeling.principles.drawing import uniforms
from preftree.labeling.prompts.template import conversation_text

CONFIGURATION = f"""\
<View>
  <Text name="prompt" value="$prompt"/>
  <View style="display: flex; gap: 2em">
    <View style="flex: 1"><Header value="Left"/><Text name="{LEFT}" value="${LEFT}"/></View>
    <View style="flex: 1"><Header value="Right"/><Text name="{RIGHT}" value="${RIGHT}"/></View>
  </View>
  <Header value="Which response is better?"/>
  <Choices name="{PREFERENCE}" toName="prompt" choice="single-radio" showInline="true" required="true">
    <Choice value="Left" alias="{LEFT}" hotkey="1"/>
    <Choice value="Right" alias="{RIGHT}" hotkey="2"/>
    <Choice value="Neither" alias="{TIE}" hotkey="3"/>
  </Choices>
</View>
"""


class Tasks(Output):
    """A JSON array of tasks."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        file.write(b"[")

    def add(self, one: Comparison) -> None:
        super().add(one)
        swapped = uniforms(f"label-studio/{one.id}", 1)[0] < 0.5
        left, right = (one.response_b, one.response_a) if swapped else (one.response_a, one.response_b)
        data = {PAIR_ID: one.id, "prompt": conversation_text(one.prompt), LEFT: left, RIGHT: right}
        task = {"data": {**data, LEFT_IS: "b" if swapped else "a"}}
        before = "\n" if self.pairs == 1 else ",\n"
        self._file.write((before + json.dumps(task, ensure_ascii=False, allow_nan=False)).encode())

    def close(self) -> None:
        self._file.write(b"\n]\n")
