"""`preftree doctor --accuracy`: two types compared on a sample of pairs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from preftree import Engine, InputError, Judge, UsageError, label
from preftree.kernels import isa
from preftree.labeling import cli
from preftree.labeling.judge.accuracy import compare_types
from preftree.labeling.types import Message, Pair
from tests.labeling.commands import one_error
from tests.labeling.fakes import row, write_rows
from tests.models import SMALL_CONFIG, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


def some_pairs(count: int) -> list[Pair]:
    texts = ["a good answer", "rain", "what it does not know", "bread and butter", "no", "the honest one, in short"]
    shown = [(texts[n % 6], texts[(n * n + 1) % 5]) for n in range(count)]
    return [Pair(str(n), (Message("user", f"Question {n}?"),), *both) for n, both in enumerate(shown)]


def test_errors_are_those_of_labels(model: str) -> None:
    """Against what `label` gives in each type: catches prompts that are matched with those of other pairs, a sign, and
    types that are taken for each other."""
    pairs = some_pairs(12)
    found = compare_types(model, pairs, "bf16", "float32")
    assert (found.dtype, found.against, found.pairs) == ("bfloat16", "float32", 12)
    assert min(found.seconds, found.against_seconds) > 0
    values: list[list[dict[str, Any]]] = []
    for dtype in ("bfloat16", "float32"):
        with Judge.load(model, dtype=dtype) as judge:
            values.append([dict(done.label.values()) for done in label(pairs, judge) if done.label])
    masses = [
        abs(one[f"label_mass_{order}"] - other[f"label_mass_{order}"])
        for one, other in zip(*values, strict=True)
        for order in ("first", "second")
    ]
    assert found.mass_errors == pytest.approx(masses, abs=1e-12)
    assert found.flips == sum(one["verdict"] != other["verdict"] for one, other in zip(*values, strict=True))
    assert len(found.margin_errors) == 24
    assert 0 < fmean(found.margin_errors) < 0.1
    assert f"{fmean(found.margin_errors):.4f} nats on average, {max(found.margin_errors):.4f} at most" in found.lines()


def test_verdicts_that_flip(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an engine that prefers A, and B in the first two pairs of one type."""
    score = Engine.score

    def scored(self: Engine, *asked: Any, **options: Any) -> Any:
        found = score(self, *asked, **options)
        found.logprob[0::2] = [-0.5, -2.5]
        found.logprob[1::2] = [-2.5, -0.5]
        if self.dtype == torch.bfloat16:
            found.logprob[:4] = found.logprob[:4, ::-1].copy()
        return found

    monkeypatch.setattr(Engine, "score", scored)
    found = compare_types(model, some_pairs(5), "bfloat16", "float32")
    assert (found.flips, found.margin_errors) == (2, (4.0,) * 4 + (0.0,) * 6)
    assert "2 of 5 flip (40.0%)" in found.lines()


def test_one_model_at_a_time(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a first model that is still in memory when the second is read."""
    opened: list[Engine] = []
    load = Engine.__init__

    def watched(self: Engine, *asked: Any, **options: Any) -> None:
        assert all(engine._parts is None for engine in opened)
        opened.append(self)
        load(self, *asked, **options)

    monkeypatch.setattr(Engine, "__init__", watched)
    compare_types(model, some_pairs(1), "bfloat16")
    assert [engine.dtype for engine in opened] == [torch.bfloat16, torch.float32]
    assert opened[-1]._parts is None


def test_pairs_that_cannot_be_judged(model: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are left out with a word; where none is left, that is the end."""
    far_too_long = some_pairs(1)[0]._replace(response_a="x" * 9000)
    found = compare_types(model, [far_too_long, *some_pairs(2)], "bfloat16")
    assert (found.pairs, len(found.margin_errors)) == (2, 4)
    assert any(said.startswith("left out: 1 pair; of the last one, the prompt") for said in caplog.messages)
    with pytest.raises(InputError, match="no pair can be judged; of the last one, the prompt"):
        compare_types(model, [far_too_long], "bfloat16")


def test_the_same_type_twice(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "auto" may be the very type that it is compared with."""
    for auto, against in ((torch.float32, "float32"), (torch.bfloat16, "bf16")):
        monkeypatch.setattr(isa, "default_dtype", lambda auto=auto: auto)
        with pytest.raises(UsageError, match=r"both types are .*; name another one with --dtype or --against"):
            compare_types(model, some_pairs(1), against=against)


def test_the_command(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first N good pairs; bad rows and others are no pairs."""
    rows: list[Any] = [b"{", row(id="a"), {"prompt": "alone", "response": "x"}, row(id="b"), row(id="c")]
    source = write_rows(tmp_path / "in.jsonl", rows)
    command = ["doctor", model, "--accuracy", str(source), "--dtype", "bfloat16"]
    for options, prompts in (([], 6), (["--limit", "2"], 4), (["--against", "fp16"], 6)):
        assert cli.main([*command, *options]) == 0
        assert f"{prompts} prompts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--accuracy", "FILE", "--dtype", "int4"], 2, "--dtype cannot be 'int4'"),
        (["--accuracy", "FILE", "--against", "double"], 2, "--against cannot be 'double'"),
        (["--accuracy", "FILE", "--dtype", "float32"], 2, "both types are float32"),
        (["--accuracy", "FILE", "--limit", "0"], 2, "--limit must be a whole number, at least 1"),
        (["--limit", "7"], 2, "--limit requires --accuracy"),
        (["--accuracy", "nowhere.jsonl"], 1, "no such file: nowhere.jsonl"),
        (["--accuracy", "SINGLES"], 1, "has no good pair; rows need prompt, response_a and response_b"),
    ],
)
def test_bad_input_is_one_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, said: str
) -> None:
    """Before a weight is read."""
    write_rows(tmp_path / "FILE", [row()])
    (tmp_path / "SINGLES").write_text(json.dumps({"prompt": "x", "response": "y"}) + "\n")
    there = [str(tmp_path / word) if word.isupper() else word for word in options]
    assert cli.main(["doctor", model, *there]) == code
    assert said in one_error(capsys)


def test_accuracy_needs_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--accuracy", "in.jsonl"]) == 2
    assert "--accuracy requires MODEL" in one_error(capsys)
