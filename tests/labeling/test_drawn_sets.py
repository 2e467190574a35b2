"""Principles drawn for each row by weight and by the row's tags: what is drawn, what is asked, what is recorded."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import PreftreeError
from preftree.labeling import cli
from preftree.labeling.methods.principled import Principled
from preftree.labeling.methods.registry import columns_of, open_method
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.principles.sets import GUARDS
from preftree.labeling.types import Message, Pair, RequestScores, Response
from tests.labeling.fakes import row, write_rows
from tests.models import SMALL_CONFIG, write_model

PROMPT = (Message("user", "Which?"),)
NAMES = ("kind", "brief", "exact", "never", "sound")
WEIGHTS = (3, 1, 4, 0, 2)
TAGS: dict[str, list[str]] = {"exact": ["reasoning", "form"], "sound": ["reasoning"], "never": ["harm"]}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "pool.json"
    entries = [
        {"name": name, "positive": f"Be {name}.", "negative": f"Do not be {name}.", "weight": weight, "tags": []}
        | ({"tags": TAGS[name]} if name in TAGS else {})
        for name, weight in zip(NAMES, WEIGHTS, strict=True)
    ]
    path.write_text(json.dumps(entries))
    return str(path)


def method(file: str, draw: int = 2, **options: Any) -> Principled:
    opened = open_method(JudgeOptions(input="x", method="principled", principles=file, draw=draw, **options))
    assert isinstance(opened, Principled)
    return opened


def response(number: int, tag: Any = None) -> Response:
    return Response(str(number), PROMPT, "this", {} if tag is None else {"tag": tag})


def names(chosen: Principled, sample: Response | Pair) -> tuple[str, ...]:
    assert chosen.sets.draw is not None
    return tuple(principle.name for principle in chosen.sets.draw.drawn(sample))


def shares(chosen: Principled, tag: Any = None) -> dict[str, float]:
    """How often each principle is the first of a row."""
    counts = Counter(names(chosen, response(number, tag))[0] for number in range(3000))
    return {name: counts[name] / 3000 for name in NAMES}


def near(shares: dict[str, float], *weights: float) -> bool:
    expected = [weight / sum(weights) for weight in weights]
    return all(abs(one - two) <= 4 * math.sqrt(two / 3000) for one, two in zip(shares.values(), expected, strict=True))


def test_principles_are_drawn_by_weight(file: str) -> None:
    """Catches weights that are ignored, a principle twice in a row, and one of weight 0."""
    chosen = method(file)
    assert near(shares(chosen), *WEIGHTS)
    draws = [names(chosen, response(number)) for number in range(500)]
    assert all(len(set(one)) == 2 for one in draws)
    again, other = method(file), method(file, draw_seed=1)
    assert near(shares(other), *WEIGHTS)
    assert [names(other, response(number)) for number in range(500)] != draws
    assert [names(again, response(number)) for number in range(500)] == draws


def test_boosts_follow_the_tags_of_a_row(file: str) -> None:
    """Catches a boost of every row, one that replaces the weight, and tags of a list of which one counts."""
    chosen = method(file, boost=("reasoning=128", "harm=5", "form=10"))
    assert near(shares(chosen), *WEIGHTS)
    assert near(shares(chosen, "other"), *WEIGHTS)
    assert near(shares(chosen, "reasoning"), 3, 1, 4 + 128, 0, 2 + 128)
    assert near(shares(chosen, "harm"), 3, 1, 4, 5, 2)
    assert near(shares(chosen, ["harm", "form", "harm", None]), 3, 1, 14, 5, 2)
    elsewhere = method(file, boost=("harm=5",), tag_column="kind")
    assert near(shares(elsewhere, "harm"), *WEIGHTS)
    assert [column.path for column in columns_of(elsewhere)] == [("kind",)], "answers depend on it"
    assert columns_of(method(file)) == ()


def test_what_is_asked(file: str) -> None:
    """Catches orders of one pair under different principles, and common principles that are drawn beside themselves."""
    chosen = method(file, draw=3, guard=True, add_principle=("not kind",))
    for number in range(50):
        pair = Pair(str(number), PROMPT, "this", "that")
        drawn = names(chosen, pair)
        assert not {"kind", "never"} & set(drawn)
        first, second = chosen.requests(pair)
        statements = [f"Be {name}." for name in drawn]
        assert first.user.partition("\n- ")[2] == second.user.partition("\n- ")[2]
        assert "\n- ".join([*statements, "Do not be kind."]) in first.user
        assert first.user.count("\n- ") == 3 + 1 + len(GUARDS)
        assert first.title == " + ".join([*drawn, "not kind", *GUARDS, ""])[:-3] + ", A first"
        assert chosen.requests(response(number))[0].user.endswith(first.user.partition("\n- ")[2])


def test_what_is_recorded(file: str) -> None:
    """Catches a set for every draw in the figures, names of another row, and a record that draws differently."""
    chosen = method(file, boost=("harm=5",), guard=True)
    score = RequestScores.single(tuple([-1.0] * 10), 0.5, 10)
    labels = [chosen.aggregate(response(number), [score]) for number in range(20)]
    assert {label.names for label in labels} == {("2 of 5 + " + " + ".join(GUARDS),)}
    for number, label in enumerate(labels):
        [of_set] = label.values()["sets"]
        assert of_set["principles"] == list(names(chosen, response(number)))
        assert set(of_set) == {*chosen.columns["sets"][0]}  # type: ignore[index]
    record = json.loads(json.dumps(chosen.record()))
    options = JudgeOptions(input="x", method="principled", principles="gone.json", draw=2, boost=["harm=5"])  # type: ignore[arg-type]
    assert open_method(options, record) == chosen
    under = open_method(JudgeOptions(input="x", method="principled", principles=file))
    assert "draw" not in under.record()
    assert "principles" not in under.columns["sets"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"draw": 5}, "--draw is 5, and 4 principles can be drawn"),
        ({"draw": 4, "add_principle": ("sound",)}, "--draw is 4, and 3 principles can be drawn"),
        (
            {"boost": ("haste=3",)},
            "--boost haste: no principle to draw has this tag; their tags are form, harm, reason",
        ),
        ({"boost": ("harm=1", "harm=2")}, "--boost names a tag twice"),
        ({"boost": ("harm",)}, "--boost must be TAG=WEIGHT with a weight above 0, such as reasoning=128, not 'harm'"),
        ({"boost": ("harm=0",)}, "--boost must be TAG=WEIGHT"),
        ({"boost": ("=3",)}, "--boost must be TAG=WEIGHT"),
        ({"boost": ("harm=inf",)}, "--boost must be TAG=WEIGHT"),
        ({"under": (("concise",),)}, "--draw excludes --under"),
        ({"draw": None, "boost": ("harm=3",)}, "--boost requires --draw"),
        ({"tag_column": "kind"}, "--tag-column requires --boost"),
        ({"principles": None}, "--draw requires --principles"),
    ],
)
def test_draws_that_cannot_be(file: str, options: dict[str, Any], said: str) -> None:
    """Catches an endless draw, and an option without effect."""
    with pytest.raises(PreftreeError) as error:
        open_method(JudgeOptions(**{"input": "x", "method": "principled", "principles": file, "draw": 2, **options}))
    assert said in str(error.value)


def test_a_run(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches tags that do not reach the draw, labels that depend on other rows, a misspelt column found late."""
    parquet = pytest.importorskip("pyarrow.parquet")
    model = write_model(tmp_path / "small", SMALL_CONFIG)
    rows = [row(id=f"{n}", tag=["harm", None, "x"][n % 3]) for n in range(9)]
    rows += [{"id": "single", "prompt": "Which?", "response": "this", "tag": "harm"}]
    source = write_rows(tmp_path / "in.jsonl", rows)
    half = write_rows(tmp_path / "half.jsonl", rows[4:])
    command = ["score", "--model", str(model), "--principles", file, "--draw", "2", "--boost", "harm=1e6", "--quiet"]
    found = {}
    for path in (source, half):
        out = tmp_path / f"out of {path.stem}"
        assert cli.main([*command, str(path), "--out", str(out)]) == 0
        found[path] = {one["id"]: one["sets"] for one in parquet.read_table(out / "labels.parquet").to_pylist()}
    assert found[half].items() <= found[source].items()
    for one in rows:
        [of_set] = found[source][one["id"]]
        assert of_set["set"] == "2 of 5"
        assert (of_set["principles"][0] == "never") == (one.get("tag") == "harm")
    assert cli.main(["show", str(tmp_path / "out of in"), "3"]) == 0
    assert f"answer, {' + '.join(found[source]['3'][0]['principles'])}, A first" in capsys.readouterr().out
    assert cli.main([*command, str(source), "--out", str(tmp_path / "out of in")]) == 0, "nothing has changed"
    capsys.readouterr()
    assert cli.main([*command, str(source), "--out", str(tmp_path / "x"), "--tag-column", "kind"]) == 2
    assert "has no column kind for --boost; name another with --tag-column; it has tag" in capsys.readouterr().err
