"""Trainers take exports as they are: TRL's trainers make a step, and OpenRLHF's loader reads them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("pyarrow")

from preftree.labeling import cli
from preftree.labeling.export.formats import FORMATS
from preftree.labeling.export.instructions import write_instructions
from preftree.labeling.export.write import write_export
from preftree.labeling.methods.score_labels import DirectLabel, Score
from preftree.labeling.options.export import ExportOptions, InstructionOptions
from preftree.labeling.types import PairLabel
from tests.fork_server import trainers
from tests.labeling.fakes import row
from tests.labeling.labelled_run import labelled_run
from tests.labeling.salmon_run import salmon_run
from tests.models import CONFIG, write_model
from tests.processes import OPENRLHF, ROOT

SYSTEM = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi?"}]
ROWS = [
    row(id="one", prompt="Why?", response_a="Because.", response_b="No."),
    row(id="two", prompt=SYSTEM, response_a="Go.", response_b="Hello. ü"),
]
# As the tests' chat template renders them: the better response of each pair, then the other.
WHY, HI = "<s><|user|>user\nWhy?</s>", "<s><|user|>system\nBe kind.</s><|user|>user\nHi?</s>"
ANSWER = "<|user|>assistant\n"
TEXTS = [
    [f"{WHY}{ANSWER}Because.</s>", f"{WHY}{ANSWER}No.</s>"],
    [f"{HI}{ANSWER}Hello. ü</s>", f"{HI}{ANSWER}Go.</s>"],
]


class Step(NamedTuple):
    """A step of a trainer on an export.

    Attributes:
        trainer: as `export_steps` calls it.
        to: the format.
        options: of the export, and of the name of its file.
    """

    trainer: str
    to: str
    ending: str = ".jsonl"
    options: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Whether its trainer is."""
        return OPENRLHF.is_dir() or not self.trainer.startswith("OpenRLHF")

    def __str__(self) -> str:
        return "-".join((self.trainer, self.to + self.ending, *self.options)).replace(" ", "-")


STEPS = [
    Step("Reward", "trl-reward"),
    Step("Reward", "trl-reward", ".parquet", ("margin",)),
    Step("Reward", "trl-soft"),
    Step("Reward", "ultrafeedback", ".parquet"),
    Step("Reward", "openrlhf"),
    Step("Reward", "instructions"),
    Step("DPO", "trl-dpo"),
    Step("DPO", "trl-dpo", ".parquet", ("direct",)),
    Step("DPO", "ultrafeedback"),
    Step("KTO", "kto"),
    Step("KTO", "kto", ".parquet"),
    Step("OpenRLHF rm", "openrlhf"),
    Step("OpenRLHF rm", "openrlhf", ".parquet"),
    Step("OpenRLHF dpo", "openrlhf"),
]


def runs(directory: Path) -> dict[str, Path]:
    """By method. A is better in the first pair, and B in the second."""
    scores = [DirectLabel(tuple(Score(5.0, one, 5.0, 0.0, 0.9, (1.0,)) for one in both), 1) for both in ((0.5, -0.5),)]
    scores += [DirectLabel(scores[0].scores[::-1], 1)]
    return {
        "rlaif": labelled_run(
            directory / "rlaif", "rlaif", ROWS, [PairLabel(p, p, p, 0.9, 0.9, 1) for p in (0.75, 0.25)]
        ),
        "direct": labelled_run(directory / "direct", "direct", ROWS, scores),
        "salmon": salmon_run(directory / "salmon", [(1.0, 1.0, 1.0), (-1.0, -1.0, -1.0)], rows=ROWS),
    }


def exported(runs: dict[str, Path], step: Step, directory: Path) -> str:
    """The file."""
    out = str(directory / f"{step}{step.ending}")
    if step.to == "instructions":
        settings: dict[str, Any] = {"num_principles": "1", "passes": 1, "negate": 0.0, "noise": 0.0}
        write_instructions(InstructionOptions(labels=str(runs["salmon"]), out=out, to="trl", **settings))
    else:
        run = str(runs["direct" if "direct" in step.options else "rlaif"])
        write_export(ExportOptions(run=run, to=step.to, out=out, margin="margin" in step.options))
    return out


def examples(directory: Path) -> list[str]:
    """The Python of docs/exports.md, with a single step on the CPU, and the files that it reads."""
    text = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    for line in re.findall(r"^preftree (export run --to [\w-]+ --out \w+\.jsonl)$", text, re.MULTILINE):
        assert cli.main([*line.replace("run", str(directory / "rlaif"), 1).split()]) == 0
    blocks: list[str] = re.findall(r"```py\n(.*?)```", text, re.DOTALL)
    here = "max_steps=1, use_cpu=True, bf16=False, report_to=[]"
    return [re.sub(r'(Config\("[\w-]+")', rf"\1, {here}", one) for one in blocks]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[Step, dict[str, Any]]:
    """What came of each step."""
    place = tmp_path_factory.mktemp("trained")
    made, steps = runs(place), [step for step in STEPS if step.is_installed]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        asked = {
            "model": str(write_model(place / "model", CONFIG)),
            "steps": [(step.trainer, exported(made, step, place)) for step in steps],
            "examples": examples(place),
        }
    given = json.dumps(asked)
    found = trainers().answered("tests.labeling.export_steps", imports=[OPENRLHF], given=given, cwd=place)
    return dict(zip(steps, found, strict=True))


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_trainer_takes_an_export_as_it_is(done: dict[Step, dict[str, Any]], step: Step) -> None:
    """Catches columns that a trainer takes for others, a prompt lost or given twice, sides exchanged, and a crash."""
    if not step.is_installed:
        pytest.skip("there is no wheel of OpenRLHF for this Python")
    found = done[step]
    if step.trainer == "KTO":
        assert found["rows"] == [[text, place == 0] for pair in TEXTS for place, text in enumerate(pair)]
    elif step.to == "instructions":
        responses = [[text.split(ANSWER)[1].removesuffix("</s>") for text in pair] for pair in TEXTS]
        shown = [[re.findall(r"## Response\n(.*)\n\n## Criteria", text) for text in pair] for pair in found["rows"]]
        assert shown == [[[response] for response in pair] for pair in responses]
    else:
        assert found["rows"] == TEXTS
    if step.trainer == "OpenRLHF rm":
        assert found["extras"] == [0.5, 0.5]
    elif step.trainer == "OpenRLHF dpo":
        assert found["extras"] == [len(re.sub("<.*?>", ".", text + ANSWER)) for text in (WHY, HI)]
    else:
        assert math.isfinite(found["loss"])
        assert found["loss"] > 0


def test_margins_are_subtracted_where_they_are_asked_for(done: dict[Step, dict[str, Any]]) -> None:
    """Catches a margin that TRL does not read, and one in files that have not asked for it."""
    plain, margin = (done[step]["loss"] for step in STEPS[:2])
    assert margin > plain + 0.1
    assert done[STEPS[2]]["loss"] == pytest.approx(plain, abs=0.01)


def test_every_format_of_a_trainer_is_tried() -> None:
    """Catches a format that no trainer has taken."""
    assert {step.to for step in STEPS} - {"instructions"} == set(FORMATS) - {"soft"}
