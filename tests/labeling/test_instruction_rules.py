"""Rules about texts in preference instructions: by hand, and by their laws against an independent implementation."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preftree.engine.errors import PreftreeError
from preftree.labeling import cli
from preftree.labeling.export.instructions import write_instructions
from preftree.labeling.options.export import InstructionOptions
from preftree.labeling.principles.principle import Principle
from tests.labeling.fakes import row
from tests.labeling.released_aggregation import Judged, aggregated
from tests.labeling.salmon_run import PRINCIPLES, salmon_run

pytest.importorskip("pyarrow")

REFUSES = "As an AI language model, I cannot tell."
ENGLISH = "The river flows through the town and reaches the sea in summer."
GERMAN = "Der Fluss strömt durch die Stadt und erreicht das Meer im Sommer."
FRENCH = "La rivière traverse la ville et atteint la mer pendant l'été."
SETTINGS: dict[str, Any] = {"num_principles": "3", "passes": 1, "negate": 0.0, "noise": 0.0, "variance_scaling": False}


def instructions(labels: Path, **changes: Any) -> list[dict[str, Any]]:
    """The rows written, with everything random switched off unless `changes` says otherwise."""
    out = labels.parent / "out.jsonl"
    options = InstructionOptions(labels=str(labels), out=str(out), overwrite=True, **{**SETTINGS, **changes})
    write_instructions(options)
    return [json.loads(line) for line in out.read_bytes().splitlines()]


def record(labels: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((labels.parent / "out.jsonl.run.json").read_text())
    return read


def run_of(tmp_path: Path, *texts: tuple[str, str], scores: Any = None, prompt: str = "Which?") -> Path:
    """Pairs of which A is better by every principle."""
    rows = [row(id=f"row {k}", prompt=prompt, response_a=a, response_b=b) for k, (a, b) in enumerate(texts)]
    return salmon_run(tmp_path / "run", scores or [(1.0, 1.0, 1.0)] * len(texts), rows=rows)


# by hand


def test_a_refusal_phrase_loses(tmp_path: Path) -> None:
    """Catches a look at one response only, a decision where both refuse, and a second phrase ignored."""
    labels = run_of(tmp_path, (REFUSES, "yes"), (REFUSES, REFUSES), ("yes", REFUSES), ("I regret it", "yes"))
    one: dict[str, Any] = {"refusal_phrase": ("As an AI",), "refusal_share": 1.0, "rule_noise": 0.0}
    rows = instructions(labels, **one)
    assert [made["chosen"] for made in rows] == ["b", "a", "a", "a"]
    assert [made["rule"] for made in rows] == ["refusal phrase", None, "refusal phrase", None]
    assert [made["decided_by"] is None for made in rows] == [True, False, True, False]
    assert record(labels)["totals"]["ruled"] == {"refusal phrase": 2}
    assert record(labels)["options"]["refusal_phrase"] == ["As an AI"]
    assert sum(record(labels)["totals"]["decided_by"].values()) == 2
    rows = instructions(labels, **{**one, "refusal_phrase": ("As an AI", "I regret")})
    assert [made["chosen"] for made in rows] == ["b", "a", "a", "b"]
    assert [made["chosen"] for made in instructions(labels, **{**one, "refusal_share": 0.0})] == ["a"] * 4
    assert [made["chosen"] for made in instructions(labels)] == ["a"] * 4


def test_noise_of_rules(tmp_path: Path) -> None:
    """Catches noise of principles in rows that a rule has decided, and the other way round."""
    labels = run_of(tmp_path, (REFUSES, "yes"), ("yes", "no"))
    rules: dict[str, Any] = {"refusal_phrase": ("As an AI",), "refusal_share": 1.0}
    rows = instructions(labels, **rules, rule_noise=1.0, noise=0.0)
    assert [(made["chosen"], made["flipped"]) for made in rows] == [("a", True), ("a", False)]
    rows = instructions(labels, **rules, rule_noise=0.0, noise=1.0)
    assert [(made["chosen"], made["flipped"]) for made in rows] == [("b", False), ("b", True)]


def test_languages(tmp_path: Path) -> None:
    """Catches a language that wins although it is not the prompt's, and a pair kept where neither response is in it."""
    pytest.importorskip("py3langid")
    texts = [(GERMAN, ENGLISH), (ENGLISH, GERMAN), (GERMAN, FRENCH), (ENGLISH, ENGLISH), ("42", GERMAN), ("42", "7")]
    labels = run_of(tmp_path, *texts, prompt=ENGLISH)
    rows = instructions(labels, language=True, rule_noise=0.0)
    assert [(made["id"][-1], made["chosen"], made["rule"]) for made in rows] == [
        ("0", "b", "language"),
        ("1", "a", "language"),
        ("3", "a", None),
        ("4", "a", "language"),
        ("5", "a", None),
    ]
    assert record(labels)["totals"]["left_out"] == {"both responses are in another language than the prompt": 1}
    assert record(labels)["versions"]["py3langid"]
    assert len(instructions(labels)) == 6


def test_language_comes_before_phrases(tmp_path: Path) -> None:
    """Catches the order of the released code turned round."""
    pytest.importorskip("py3langid")
    labels = run_of(tmp_path, (f"{REFUSES} {ENGLISH}", GERMAN), prompt=ENGLISH)
    [made] = instructions(labels, language=True, refusal_phrase=("As an AI",), refusal_share=1.0, rule_noise=0.0)
    assert (made["chosen"], made["rule"]) == ("a", "language")


def test_short_responses_and_markers(tmp_path: Path) -> None:
    """Catches a length measured after the cut, a variance of pairs that are left out, and a blank response written."""
    texts = [("long enough, it is", "x" * 15), (" cut ### Human: more", "x" * 16), ("### nothing is left", "y" * 16)]
    labels = run_of(tmp_path, *texts, scores=[(9.0, -9.0, 5.0), (1.0, 2.0, 3.0), (3.0, 2.0, 1.0)])
    [made] = instructions(labels, min_length=16, cut_at="###")
    assert (made["id"], made["response_a"], made["response_b"]) == ("row 1", "cut", "x" * 16)
    kept = record(labels)
    assert [one["variance"] for one in kept["principles"]] == [1.0, 0.0, 1.0]
    assert kept["totals"]["left_out"] == {
        "a response has fewer than 16 characters": 1,
        "nothing stands before the marker of --cut-at": 1,
    }
    assert (kept["totals"]["pairs"], kept["totals"]["preferences"]) == (3, 1)
    assert len(instructions(labels)) == 3
    assert record(labels)["principles"][2]["variance"] == pytest.approx(8 / 3)


def test_random_order_exchanges_everything(tmp_path: Path) -> None:
    """Catches texts exchanged without scores or verdict, and an order that moves other draws."""
    labels = run_of(tmp_path, *[("better", "worse")] * 30, scores=[(2.0, (1.0, -1.0), 1.0)] * 30)
    chance: dict[str, Any] = {"negate": 0.5, "noise": 0.3}
    straight, mixed = instructions(labels, **chance), instructions(labels, **chance, random_order=True)
    assert {made["swapped"] for made in mixed} == {True, False}
    assert not any(made["swapped"] for made in straight)
    for one, two in zip(straight, mixed, strict=True):
        assert two[f"response_{two['chosen']}"] == one[f"response_{one['chosen']}"]
        sign = -1 if two["swapped"] else 1
        assert two["scores"] == [sign * score for score in one["scores"]]
        assert "-0.0" not in json.dumps(two["scores"])
        same = ("id", "pass", "names", "signs", "principles", "decided_by", "flipped")
        assert [one[name] for name in same] == [two[name] for name in same]


def test_min_score(tmp_path: Path) -> None:
    """Catches a mean that still counts as 0 where orders disagree, and a bound on something else than the mean."""
    labels = run_of(tmp_path, ("x", "y"), ("x", "y"), scores=[((3.0, -1.0), (-5.0, 1.0), 0.5), ((0.0, 1.0), 0.0, 0.0)])
    by_bound = {}
    for bound in (None, 0, 1.0, 2.0):
        try:
            rows = instructions(labels, min_score=bound)
        except PreftreeError:
            rows = []
        by_bound[bound] = [sorted(made["scores"]) for made in rows]
    assert by_bound == {
        None: [[0.0, 0.0, 0.5]],
        0: [[-2.0, 0.5, 1.0], [0.0, 0.0, 0.5]],
        1.0: [[-2.0, 0.0, 1.0]],
        2.0: [[-2.0, 0.0, 0.0]],
    }


# principles of another file


def principles_file(tmp_path: Path, *entries: dict[str, Any]) -> str:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps([{"positive": f"Other {entry['name']}.", **entry} for entry in entries]))
    return str(path)


def test_weights_after_the_fact(tmp_path: Path) -> None:
    """Catches weights of the run, statements of the run, and principles drawn that the file does not name."""
    labels = salmon_run(tmp_path / "run", [(1.0, -2.0, 3.0)] * 400)
    named = {"name": "Ethical", "negative": "Never.", "weight": 3}
    path = principles_file(tmp_path, named, {"name": "precise", "negative": "No."})
    rows = instructions(labels, principles=path, num_principles="1", negate=0.5)
    drawn = Counter(made["names"][0] for made in rows)
    assert drawn["ethical"] == pytest.approx(300, abs=35)
    assert drawn["ethical"] + drawn["precise"] == 400
    shown = {(made["names"][0], made["signs"][0]): made["principles"][0] for made in rows}
    assert shown == {
        ("ethical", 1): "Other Ethical.",
        ("ethical", -1): "Never.",
        ("precise", 1): "Other precise.",
        ("precise", -1): "No.",
    }
    kept = record(labels)["principles"]
    assert [(one["name"], one["weight"]) for one in kept] == [("concise", 0.0), ("ethical", 3.0), ("precise", 1.0)]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"name": "polite"}], "has 'polite', which was not judged; known: concise, ethical, precise"),
        ([{"name": "concise", "weight": 0}], "weights.json:1: all weights are 0, so that no principle would decide"),
        ([{"name": "concise"}], "principle 'concise' has no negative statement; use --negate 0, or --principles with"),
        ([{"name": "concise", "negative": "No."}], "weights.json has 1 principle with a weight above 0"),
    ],
)
def test_files_of_weights_that_do_not_fit(tmp_path: Path, entries: list[dict[str, Any]], said: str) -> None:
    """Catches a weight that has no effect, and a draw without end."""
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)])
    with pytest.raises(PreftreeError) as error:
        instructions(labels, principles=principles_file(tmp_path, *entries), num_principles="2", negate=0.1)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_no_negative_is_needed_where_nothing_negates(tmp_path: Path) -> None:
    """Catches an error for a statement that would never be shown."""
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)], [replace(PRINCIPLES[0], negative=None), *PRINCIPLES[1:]])
    path = principles_file(tmp_path, {"name": "ethical", "negative": "No."})
    [made] = instructions(labels, principles=path, num_principles="1", negate=1.0)
    assert made["principles"] == ["No."]


# bad input


def test_the_detector_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Catches a traceback, and a rule that is silently off."""
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)])
    monkeypatch.setitem(sys.modules, "py3langid", None)
    assert cli.main(["instructions", str(labels), "--out", str(tmp_path / "x.jsonl"), "--language"]) == 1
    said = "preftree: --language tells languages with py3langid: pip install 'preftree[language]'\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--refusal-phrase", ""], "--refusal-phrase must be a text, not ''"),
        (["--cut-at", ""], "--cut-at must be a text, not ''"),
        (["--refusal-share", "1"], "--refusal-share requires --refusal-phrase"),
        (["--min-score", "-1"], "--min-score must be a number, at least 0, not '-1'"),
        (["--rule-noise", "2"], "--rule-noise must be a number from 0 to 1"),
        (["--min-length", "x"], "--min-length must be a whole number"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], given: list[str], said: str) -> None:
    """Catches a phrase that every response contains, and an option without effect."""
    assert cli.main(["instructions", "run", "--out", "x.jsonl", *given]) == 2
    assert said in capsys.readouterr().err


# laws

NAMES = [f"principle {number}" for number in range(8)]
LAWS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "number": lambda made: len(made["names"]),
    "first": lambda made: made["names"][0],
    "signs": lambda made: (len(made["signs"]), sum(made["signs"])),
    "decider": lambda made: made["decided_by"],
    "rule": lambda made: made["rule"],
    "noise": lambda made: (made["rule"] is None, made["flipped"]),
    "order": lambda made: made["swapped"],
    "chosen": lambda made: (made["rule"], made["swapped"], made["chosen"]),
    "followed": lambda made: strongest(made) > 0 if made["chosen"] == "a" else strongest(made) < 0,
}
NUMBERS: dict[str, Callable[[dict[str, Any]], float]] = {
    "score of the decider": lambda made: strongest(made),
    "first score": lambda made: made["scores"][0],
}


def strongest(made: dict[str, Any]) -> float:
    """The largest score, negated where its principle is."""
    place = max(range(len(made["scores"])), key=lambda index: abs(made["scores"][index]))
    return float(made["scores"][place] * made["signs"][place])


def judged_pairs() -> list[Judged]:
    """Some refuse, some answer in another language, some are short, some go on after a marker."""
    random = np.random.default_rng(11)
    texts = [(ENGLISH, "en"), (f"{ENGLISH} ### {REFUSES}", "en"), (f"{REFUSES} {ENGLISH}", "en"), (GERMAN, "de")]
    texts += [(FRENCH, "fr"), ("Too short.", "en"), (f"It is true. {ENGLISH}", "en")]
    pairs = []
    for _ in range(60):
        (a, of_a), (b, of_b) = (texts[k] for k in random.choice(7, size=2, p=[0.3, 0.1, 0.2, 0.1, 0.05, 0.05, 0.2]))
        means = random.normal(0.3, np.linspace(0.5, 2, 8))
        both = {
            name: tuple(mean + random.normal(0, 0.5, size=2).round(3)) for name, mean in zip(NAMES, means, strict=True)
        }
        pairs.append(Judged(ENGLISH, a, b, ("en", of_a, of_b), both))
    return pairs


def p_of_chi_square(one: Counter[Any], two: Counter[Any]) -> float:
    """That two samples have one distribution; outcomes that are rare in both count as one."""
    table: dict[Any, list[int]] = {}
    for outcome in one.keys() | two.keys():
        both = (one[outcome], two[outcome])
        into = table.setdefault(outcome if sum(both) >= 10 else "rare", [0, 0])
        into[:] = [into[0] + both[0], into[1] + both[1]]
    found = np.array(list(table.values()), dtype=float)
    expected = found.sum(axis=1, keepdims=True) * found.sum(axis=0) / found.sum()
    statistic = torch.tensor(((found - expected) ** 2 / expected).sum())
    return float(torch.special.gammaincc(torch.tensor((len(found) - 1) / 2, dtype=torch.float64), statistic / 2))


def p_of_kolmogorov_smirnov(one: list[float], two: list[float]) -> float:
    """The asymptotic one, with Stephens' correction."""
    places = np.sort(one + two)
    gap = np.abs(
        np.searchsorted(np.sort(one), places, side="right") / len(one)
        - np.searchsorted(np.sort(two), places, side="right") / len(two)
    ).max()
    size = np.sqrt(len(one) * len(two) / (len(one) + len(two)))
    z = (size + 0.12 + 0.11 / size) * gap
    k = np.arange(1, 101)
    return float(min(1, 2 * ((-1.0) ** (k - 1) * np.exp(-2 * k**2 * z**2)).sum())) if z > 0.2 else 1.0


ALL_RULES: dict[str, Any] = {
    "num_principles": "geometric",
    "passes": 4,
    "negate": 0.5,
    "noise": 0.1,
    "variance_scaling": True,
    "refusal_phrase": ("As an AI language model",),
    "language": True,
    "min_length": 16,
    "cut_at": "###",
    "random_order": True,
}


@pytest.fixture(scope="module")
def judged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = judged_pairs()
    rows = [
        row(id=f"row {k}", prompt=pair.prompt, response_a=pair.a, response_b=pair.b) for k, pair in enumerate(pairs)
    ]
    principles = [Principle(name, f"Be {name}.", f"Do not be {name}.") for name in NAMES]
    scores = [[pair.scores[name] for name in NAMES] for pair in pairs]
    return salmon_run(tmp_path_factory.mktemp("judged") / "run", scores, principles, rows)


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    return [made for seed in range(50) for made in aggregated(judged_pairs(), NAMES, seed)]


def p_values(made: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> dict[str, float]:
    found = {name: p_of_chi_square(Counter(map(law, made)), Counter(map(law, wanted))) for name, law in LAWS.items()}
    for name, number in NUMBERS.items():
        found[name] = p_of_kolmogorov_smirnov([*map(number, made)], [*map(number, wanted)])
    return found


def test_the_laws_of_the_released_code(judged_run: Path, expected: list[dict[str, Any]]) -> None:
    """Catches any rule, probability or order of rules that is not that of the released aggregation."""
    pytest.importorskip("py3langid")
    made = [one for seed in range(50) for one in instructions(judged_run, **ALL_RULES, seed=seed)]
    assert len(made) == pytest.approx(len(expected), rel=0.01)
    assert {one["rule"] for one in made} == {None, "language", "refusal phrase"}
    found = p_values(made, expected)
    assert min(found.values()) > 0.01, found


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"rule_noise": 0.1}, "noise"),
        ({"refusal_share": 1.0}, "rule"),
        ({"random_order": False}, "order"),
        ({"variance_scaling": False}, "score of the decider"),
        ({"cut_at": None}, "rule"),
        ({"min_length": 0}, "rule"),
        ({"min_score": 0.0}, "first score"),
        ({"negate": 0.4}, "signs"),
    ],
)
def test_other_laws_are_told_apart(
    judged_run: Path, expected: list[dict[str, Any]], change: dict[str, Any], law: str
) -> None:
    """Catches a comparison that passes whatever is compared."""
    pytest.importorskip("py3langid")
    made = [one for seed in range(25) for one in instructions(judged_run, **ALL_RULES | change, seed=seed)]
    assert p_values(made, expected)[law] < 1e-4
