"""Files of benchmarks of judges: recognised, every row a sample with its gold, or a line that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.prompts import Prompts
from preftree.labeling.types import Message, Pair, Prompt, Rejected, ResponseSet
from tests.labeling.benchmark_answers import JUDGE_BENCH, REWARD_BENCH, REWARD_BENCH_2, RM_BENCH, llmbar
from tests.labeling.fakes import write_rows
from tests.labeling.files import write_parquet
from tests.labeling.opened import info_of, read


def array(path: Path, rows: list[dict[str, Any]]) -> Path:
    """One JSON array, as several benchmarks are published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1))
    return path


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_judge_bench(tmp_path: Path) -> None:
    """Catches sides exchanged, a label read the wrong way round, ids and sources lost."""
    path = write_rows(tmp_path / "in.jsonl", JUDGE_BENCH)
    first, _, third, *_ = read(path)
    kept = {"original_id": 100, "source": "mmlu-pro-law", "response_model": "a-model"}
    assert first == Pair("pair-0", user("How many legs have 0 cats?"), "There are 0.", "There are 1.", "a", kept, 1)
    assert isinstance(third, Pair)
    assert (third.id, third.gold) == ("pair-2", "b")
    assert info_of(path).about == ("JSONL, JudgeBench: response A is response_A, B is response_B, gold is label")


def test_llmbar_takes_subsets_from_folders(tmp_path: Path) -> None:
    """Catches files that cannot be told apart once they are read, and gold of the other side."""
    natural = array(tmp_path / "LLMBar" / "Natural" / "dataset.json", llmbar("Natural"))
    manual = array(tmp_path / "LLMBar" / "Adversarial" / "Manual" / "dataset.json", llmbar("Adversarial/Manual"))
    items = list(Dataset.open([natural, manual]).read())
    assert [item.extra for item in items] == [{"subset": "Natural"}] * 3 + [{"subset": "Adversarial_Manual"}]
    assert [getattr(item, "gold", None) for item in items] == ["a", "b", "b", "a"]
    assert items[1] == Pair("line-2", user("Name fruit 1."), "Apple 1.", "Brick 1.", "b", {"subset": "Natural"}, 2)
    assert "LLMBar: response A is output_1" in info_of(natural).about
    moved = array(tmp_path / "natural.json", llmbar("Natural"))
    assert [item.extra for item in read(moved)] == [{}] * 3


def test_rm_bench_is_nine_pairs_a_row(tmp_path: Path) -> None:
    """Catches a style that goes with another text, ids that two domains share, and fewer rows than are counted."""
    lines, table = array(tmp_path / "in.json", [{**row, "id": 7} for row in RM_BENCH[1:3]]), tmp_path / "in.parquet"
    write_parquet(table, [{**row, "id": 7} for row in RM_BENCH[1:3]])
    for path in (lines, table):
        found = info_of(path)
        assert (found.rows, found.has_gold, found.repeated) == (18, True, frozenset())
        assert "RM-Bench: nine pairs a row" in found.about
        items = list(read(path))
        assert [item.line for item in items] == [1] * 9 + [2] * 9
        kept = {"domain": "math", "chosen_style": "detailed_plain", "rejected_style": "concise"}
        assert items[9 + 3] == Pair(
            "math/7/detailed_plain/concise", user("What is 2 and 2?"), "4, as both are the same.", "5.", "a", kept, 2
        )
        assert len(list(Dataset.open(path).read(limit=4))) == 4


def test_reward_bench_2_is_a_set_with_the_right_responses_first(tmp_path: Path) -> None:
    """Catches responses in another order, and columns that scores need and the output does not have."""
    path = tmp_path / "in.parquet"
    write_parquet(path, REWARD_BENCH_2)
    items = list(read(path))
    assert {type(item) for item in items} == {ResponseSet}
    tied = items[6]
    assert isinstance(tied, ResponseSet)
    assert (tied.id, tied.responses) == ("tied:0", ("Blue 0.", "Blue 1.", "Blue 2.", "Stone 0.", "Stone 1."))
    assert {name: tied.extra[name] for name in ("num_correct", "total_completions", "subset")} == {
        "num_correct": 3,
        "total_completions": 5,
        "subset": "Ties",
    }
    assert "RewardBench 2: responses are chosen, then rejected" in info_of(path).about


def test_prompts_alone(tmp_path: Path) -> None:
    """Catches prompts that are sampled nine times, and rows that are refused for what they need not have."""
    for rows in (RM_BENCH, REWARD_BENCH_2, JUDGE_BENCH, llmbar("Natural")):
        items = list(Prompts.open(write_rows(tmp_path / "in.jsonl", rows)).read())
        assert [type(item) for item in items] == [Prompt] * len(rows)


BAD: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    (JUDGE_BENCH, {"label": "A"}, 'bad gold: label must be "A>B" or "B>A", found "A"'),
    (JUDGE_BENCH, {"label": ["A>B"]}, 'bad gold: label must be "A>B" or "B>A", found ["A>B"]'),
    (JUDGE_BENCH, {"response_A": None}, "wrong type: response_a must be a string, found null"),
    (llmbar("Natural"), {"label": 3}, "bad gold: label must be 1 or 2, found 3"),
    (llmbar("Natural"), {"label": None}, "bad gold: label must be 1 or 2, found null"),
    (RM_BENCH, {"chosen": ["x", "y"]}, "wrong type: chosen must be a list of three strings, one a style, found ["),
    (RM_BENCH, {"rejected": None}, "wrong type: rejected must be a list of three strings, one a style, found null"),
    (REWARD_BENCH_2, {"chosen": ["x", "y"]}, "bad count: num_correct is 1, and the row has 2"),
    (
        REWARD_BENCH_2,
        {"chosen": ["x", "y"], "num_correct": 2, "total_completions": 5},
        "bad gold: chosen must hold one response outside the subset Ties, found 2",
    ),
    (REWARD_BENCH_2, {"num_correct": None}, "bad count: num_correct is null, and the row has 1"),
    (REWARD_BENCH_2, {"rejected": []}, "wrong type: rejected must be a list of strings, found an empty one"),
    (REWARD_BENCH_2, {"subset": None}, "wrong type: subset must be a string, found null"),
    (
        REWARD_BENCH_2,
        {"subset": "Ties"},
        'bad id: in the subset Ties it must read "ref:1" or "tied:1", found "0"',
    ),
    (
        REWARD_BENCH_2,
        {"subset": "Ties", "id": "tied:9"},
        'bad gold: chosen of "tied:9" must hold two responses or more',
    ),
]


@pytest.mark.parametrize(("rows", "changes", "reason"), BAD)
def test_bad_rows(tmp_path: Path, rows: list[dict[str, Any]], changes: dict[str, Any], reason: str) -> None:
    """Catches a row that is guessed at, or that takes the others with it."""
    bad, *good = rows
    first, *others = read(write_rows(tmp_path / "in.jsonl", [{**bad, **changes}, *good]))
    assert isinstance(first, Rejected)
    assert first.reason.startswith(reason)
    assert not any(isinstance(item, Rejected) for item in others)


def test_lists_of_strings_that_are_no_benchmark(tmp_path: Path) -> None:
    """Catches a file of RewardBench 2 without its counts that is read as conversations, row by bad row."""
    rows = [
        {name: row[name] for name in ("id", "prompt", "chosen", "rejected", "subset")} for row in REWARD_BENCH_2[:4]
    ]
    with pytest.raises(InputError, match="RewardBench 2 has num_correct and total_completions beside it") as error:
        info_of(write_rows(tmp_path / "in.jsonl", rows))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("row", [JUDGE_BENCH[0], RM_BENCH[0], REWARD_BENCH_2[0], llmbar("Natural")[0]])
def test_a_single_row(tmp_path: Path, row: dict[str, Any]) -> None:
    """Catches a file that is too short to be recognised."""
    assert not any(isinstance(item, Rejected) for item in read(write_rows(tmp_path / "in.jsonl", [row])))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    """Catches a file without labels that is taken for a benchmark."""
    rows = [{name: value for name, value in row.items() if name != "label"} for row in JUDGE_BENCH]
    with pytest.raises(InputError, match="no columns that are known"):
        info_of(write_rows(tmp_path / "in.jsonl", rows))


def test_reward_bench_is_still_pairs(tmp_path: Path) -> None:
    first, *_ = read(write_rows(tmp_path / "in.jsonl", REWARD_BENCH))
    assert isinstance(first, Pair)
    assert (first.id, first.gold, first.extra["subset"]) == ("0", "a", "alpacaeval-easy")


@pytest.mark.parametrize(("label", "gold"), [(0, "a"), (1, "b"), (2, "tie"), ("2", "tie"), (None, None), (3, ...)])
def test_auto_j(tmp_path: Path, label: object, gold: object) -> None:
    """Catches a tie refused as a number, and sides exchanged."""
    entry = {"scenario": "s", "label": label, "prompt": "Why?", "response 1": " So.", "response 2": " No."}
    path = write_rows(tmp_path / "in.jsonl", [entry])
    [pair] = read(path)
    if gold is ...:
        assert isinstance(pair, Rejected)
        assert pair.reason == "bad gold: label must be 0, 1, 2 (a tie) or null, found 3"
    else:
        assert isinstance(pair, Pair), pair
        assert (pair.response_a, pair.response_b, pair.gold) == (" So.", " No.", gold)
        assert dict(pair.extra) == {"scenario": "s"}
    assert "Auto-J pairs: response A is response 1" in info_of(path).about
