"""The promise: a pair's label is the same bits whatever else is in the run, and a swap flips it exactly.

`assert_bit_exact` is the promise as code. The last test hands it an engine that breaks the promise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from preftree.engine.model.model import Model
from preftree.engine.planning.plan import Plan
from preftree.kernels import cpu
from preftree.labeling import cli
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.pipeline import label_samples
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.runs.run import run_label
from preftree.labeling.types import Message, Pair, PairLabel
from tests.models import SMALL_CONFIG, write_model
from tests.processes import printed

WORDS = "a good answer is short and the honest one says what it does not know about rain or bread".split()  # noqa: SIM905


def make_pairs(count: int) -> list[Pair]:
    """Pairs of many lengths, some that share a prompt, one of identical responses."""
    generator = torch.Generator().manual_seed(7)

    def text(longest: int) -> str:
        length = int(torch.randint(3, longest, (1,), generator=generator))
        return " ".join(WORDS[i] for i in torch.randint(0, len(WORDS), (length,), generator=generator))

    pairs: list[Pair] = []
    for number in range(count):
        prompt = pairs[-1].prompt if number % 4 == 3 else (Message("user", text(40)),)
        first = text(60)
        pairs.append(Pair(str(number), prompt, first, first if number == 5 else text(60)))
    return pairs


Labels = dict[str, PairLabel]
OpenScorer = Callable[..., Judge]


def label(scorer: Judge, pairs: Sequence[Pair], template: str = "general") -> Labels:
    method = Rlaif(load_template(template))
    labelled = label_samples(pairs, method, scorer)
    return {item.item.id: item.label for item in labelled if isinstance(item.label, PairLabel) and item.item.id}


def assert_bit_exact(load_judge: OpenScorer, pairs: Sequence[Pair]) -> None:
    everything = label(load_judge(), pairs)
    assert len(everything) == len(pairs)
    for pair in pairs[:3]:
        assert label(load_judge(), [pair])[pair.id] == everything[pair.id], "alone"
    assert label(load_judge(), pairs[::-1]) == everything, "another order"
    assert label(load_judge(), pairs[:4]).items() <= everything.items(), "the first few"
    for batch_tokens in (1, 300, 100_000):
        assert label(load_judge(batch_tokens=batch_tokens), pairs) == everything, f"batches of {batch_tokens}"
    assert label(load_judge(prefix_cache=False), pairs) == everything, "no prefix cache"
    warm = load_judge()
    label(warm, pairs[4:])
    assert label(warm, pairs) == everything, "a warm prefix cache"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG)


@pytest.fixture
def load_judge(model: Path) -> OpenScorer:
    return lambda **options: Judge.load(str(model), **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_labels_are_bit_exact(model: Path, dtype: str) -> None:
    assert_bit_exact(lambda **options: Judge.load(str(model), dtype=dtype, **options), make_pairs(8))


def test_labels_of_the_embedded_model_are_bit_exact(embedded_scorer: OpenScorer) -> None:
    """The real shapes: 9 heads on 3, 30 layers, a vocabulary of 49,152. Two of the pairs share a prompt."""
    pairs = make_pairs(4)[1:]
    everything = label(embedded_scorer(), pairs)
    assert label(embedded_scorer(), [pairs[0]])[pairs[0].id] == everything[pairs[0].id]
    assert label(embedded_scorer(batch_tokens=500), pairs[::-1]) == everything
    assert label(embedded_scorer(prefix_cache=False), pairs[1:]).items() <= everything.items()


@pytest.mark.parametrize("template", ["general", "harmlessness"])
def test_swapping_the_responses_flips_the_label_exactly(load_judge: OpenScorer, template: str) -> None:
    pairs = make_pairs(12)
    labels = label(load_judge(), pairs, template)
    swapped = label(load_judge(), [pair.swap() for pair in pairs], template)
    for key, straight in labels.items():
        assert swapped[key].p_a == 1 - straight.p_a
        assert swapped[key].p_a_first == 1 - straight.p_a_second
        assert swapped[key].verdict == {"a": "b", "b": "a", "tie": "tie"}[straight.verdict]


def test_identical_responses_tie_exactly(load_judge: OpenScorer) -> None:
    assert label(load_judge(), make_pairs(6))["5"].p_a == 0.5


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    with path.open("w") as file:
        for pair in make_pairs(8):
            row = {"id": pair.id, "prompt": pair.prompt[0].content, "note": [1, {"a": None}]}
            file.write(json.dumps(row | {"response_a": pair.response_a, "response_b": pair.response_b}) + "\n")
    return path


def test_two_processes_write_the_same_bytes(model: Path, rows: Path, tmp_path: Path) -> None:
    """Catches whatever depends on hash seeds, addresses or time. One of them is that of the tests."""
    command = ["label", str(rows), "--model", str(model), "--dtype", "float32", "--quiet", "--out"]
    assert cli.main([*command, str(tmp_path / "one")]) == 0
    printed("-m", "preftree", *command, tmp_path / "two", own={"PYTHONHASHSEED": "1"})
    one, two = ((tmp_path / name / "labels.parquet").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_run_that_runs_out_of_memory_writes_the_same_bytes(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches rows that are rejected, lost or scored otherwise where a batch had to be halved in mid-run."""
    refused = []
    runs = Model.final_hidden

    def final_hidden(model: Model, plan: Plan, *others: Any) -> torch.Tensor:
        if plan.num_rows > 1200:
            refused.append(plan.num_rows)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return runs(model, plan, *others)

    def labels(name: str) -> bytes:
        summary = run_label(LabelOptions(input=str(rows), out=str(tmp_path / name), model=str(model), quiet=True))
        assert summary.ok == 8
        return Path(summary.labels).read_bytes()

    expected = labels("roomy")
    monkeypatch.setattr(Model, "final_hidden", final_hidden)
    assert labels("tight") == expected
    assert refused


def test_a_variant_engine_is_caught(load_judge: OpenScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inverse: sums split by how many tiles run together, as a kernel tuned for occupancy would split them."""
    exact = cpu.linear

    def variant(x: torch.Tensor, packed: cpu.PackedLinear, row_block: int | None = None) -> torch.Tensor:
        return exact(x, packed, row_block) if variant.tiles % 2 else exact(x * 3, packed, row_block) / 3  # type: ignore[attr-defined]

    attention = cpu.tree_attention

    def counting(queries, kv, groups, out, **options):  # type: ignore[no-untyped-def]
        variant.tiles = sum(tile.rows for run in groups for tile in run.tiles)  # type: ignore[attr-defined]
        attention(queries, kv, groups, out, **options)

    variant.tiles = 1  # type: ignore[attr-defined]
    monkeypatch.setattr(cpu, "linear", variant)
    monkeypatch.setattr(cpu, "tree_attention", counting)
    with pytest.raises(AssertionError):
        assert_bit_exact(load_judge, make_pairs(8))
