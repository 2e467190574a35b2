"""Principles: what comes with preftree, what names and texts stand for; every mistake is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.principles.file import parse_principles
from preftree.labeling.principles.principle import MAX_STATEMENT, Principle
from preftree.labeling.principles.sets import GUARDS, PRINCIPLE_FILE, load_principles, principle_sets
from preftree.labeling.runs import run
from tests.labeling.fakes import row, write_rows

GOOD = """# mine
- name: short
  positive: The response should be short.
  negative: >
    The response should
    be long.
  weight: 2.5
  tags: [style, "form"]

- name: true one
  positive: 'The response should be true.'
  negative: The response should be false.
"""
SHORT = Principle("short", "The response should be short.", "The response should be long.", 2.5, ("style", "form"))
TRUE = Principle("true one", "The response should be true.", "The response should be false.")
ONE_SIDED = Principle("odd", "The response should be odd.", weight=3.0)


def names(principles: str) -> list[str]:
    return [principle.name for principle in load_principles(principles)]


def test_built_in_principles() -> None:
    """Catches a dimension of the paper left out, a guard that names nothing, and statements that are not opposites."""
    assert names("labelled") == [
        "helpful", "concise", "honest", "ethical", "natural", "specific",
        "engaging", "methodical", "multilingual", "creative", "comprehensive",
    ]  # fmt: skip
    assert tuple(principle.name for principle in load_principles("reinforcement")) == GUARDS
    fourteen = load_principles("default")
    assert fourteen == load_principles("labelled") + load_principles("reinforcement")
    assert {principle.weight for principle in fourteen} == {1.0}
    everything = load_principles("all")
    assert everything == fourteen + load_principles("policy")
    statements = [principle.stated(negated) for principle in everything for negated in (False, True)]
    assert len(set(statements)) == len(statements)
    assert all(text.startswith("The response should ") and text.endswith(".") for text in statements)


def test_sets_of_the_paper_by_name() -> None:
    """Catches aggregation over a dimension that the released code leaves out, and a default set that has grown."""
    assert names("aggregated") == [
        "concise", "honest", "ethical", "specific", "engaging", "methodical", "creative", "comprehensive",
    ]  # fmt: skip
    assert {one.name: one.weight for one in load_principles("policy")} == {
        "exact-numbers": 1, "time-aware": 1, "private": 1, "candid": 4, "logical": 1, "stand-alone": 2,
    }  # fmt: skip
    assert len(load_principles("default")) == 14


def test_all_built_in_names_can_be_scored_under() -> None:
    """Catches `preftree score --under candid` answered with a name that does not exist."""
    candid = load_principles("policy")[3]
    (made,) = principle_sets([["candid", "not private"]], None)
    assert made.statements[0] == candid.positive
    assert made.name == "candid + not private"


def test_built_in_principles_are_installed() -> None:
    """Catches a wheel without the file."""
    settings = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'"{PRINCIPLE_FILE.parent.name}/*.yaml"' in settings


# Shapes of the five collections that were released with SALMON: how many principles, with what weights; the one that
# is labelled by has negative statements and no weights. The wording is not theirs.
RELEASED: dict[str, tuple[int, ...]] = {
    "rm": (),
    "ppo": (3, 2, 1, 1, 1, 3, 3, 1, 1, 3, 1, 1, 4, 2),
    "harmless": (10, 5, 4, 4, 4, 4, 1, 1, 1, 1, 1),
    "honest": (5, 5, 4, 5, 4, 4, 1, 1),
    "non_evasive": (1, 1, 1, 3, 3, 1, 1, 3, 1),
}


@pytest.mark.parametrize("weights", RELEASED.values(), ids=RELEASED)
def test_collections_of_the_released_shape(weights: tuple[int, ...]) -> None:
    """Catches a field name of SALMON refused, a weight lost, and a collection without negatives refused."""
    texts = [
        (f"Polite and No. {n}", f'The AI\u2019s text (e.g. a 诗 or "verse") is #{n}: polite.')
        for n in range(len(weights) or 11)
    ]
    entries: list[dict[str, Any]] = [{"dimension": name, "definition": text} for name, text in texts]
    for entry, weight in zip(entries, weights, strict=False):
        entry["weight"] = weight
    if not weights:
        for n, entry in enumerate(entries):
            entry["negative_definition"] = f"The AI should avoid being #{n}."
    read = parse_principles(json.dumps(entries, indent=4, ensure_ascii=False), "collection.json")
    assert [(one.name, one.positive) for one in read] == texts
    assert [one.weight for one in read] == list(weights or [1] * 11)
    assert [one.negative for one in read] == [entry.get("negative_definition") for entry in entries]


def test_both_spellings_of_fields() -> None:
    """Catches a field that another one silently replaces, and a spelling that the message does not know."""
    salmon = GOOD.replace("name:", "dimension:").replace("positive:", "definition:", 1)
    assert parse_principles(salmon, "f") == (SHORT, TRUE)
    both = GOOD.replace("  weight:", "  negative_definition: The response should be long.\n  weight:")
    with pytest.raises(
        InputError, match=r"^f:7: 'negative' and 'negative_definition' of a principle are the same field$"
    ):
        parse_principles(both, "f")
    with pytest.raises(InputError, match=r"^f:3: definition must be a non-empty text"):
        parse_principles(salmon.replace("The response should be short.", ""), "f")


@pytest.mark.parametrize(("written", "weight"), [("3", 3.0), ("0.25", 0.25), ("1e2", 100.0), (".5", 0.5), ("0", 0.0)])
def test_weights_are_integers_or_floats(written: str, weight: float) -> None:
    """Catches a weight that YAML reads as a text, and one that is rounded."""
    assert parse_principles(GOOD.replace("2.5", written), "f")[0].weight == weight


def test_yaml() -> None:
    assert parse_principles(GOOD, "mine.yaml") == (SHORT, TRUE)


@pytest.mark.parametrize("layout", [{"indent": "\t"}, {"separators": (",", ":")}, {"ensure_ascii": False, "indent": 1}])
def test_json(layout: dict[str, Any]) -> None:
    """Catches JSON that YAML reads differently: tabs, escaped slashes, halves of characters, 1e3 as a text."""
    odd = Principle("odd", 'Both / and \\ and "\U0001f600" {a: b} # no.', "ü", 1000.0)
    text = json.dumps([odd.record(), SHORT.record()], **layout).replace("1000.0", "1e3").replace("/", "\\/")
    assert parse_principles(text, "mine.json") == (odd, SHORT)
    with pytest.raises(InputError, match=r"^f:4: weight must be a finite number, without quotes$"):
        parse_principles('[{"name": "\\u00e4\\\\",\n"positive": "\\"",\n"negative": "c",\n"weight": true}]', "f")


def test_a_record_is_the_principle_again() -> None:
    """Catches a missing negative statement recorded as a text, or refused where a record is used as a file."""
    for principle in (SHORT, TRUE, ONE_SIDED):
        record = json.dumps(principle.record())
        assert Principle.recorded(json.loads(record)) == principle
        assert parse_principles(f"[{record}]", "run.json") == (principle,)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (GOOD, "", "f:1: must be a list of principles, each with name, positive, negative"),
        (GOOD, "[]", "f:1: holds no principles"),
        (GOOD, "principles: []", "f:1: must be a list of principles"),
        (GOOD, "- short\n", "f:1: a principle must be `key: value` lines"),
        (GOOD, "[" * 5000, "f:1: is nested too deeply"),
        ('"form"]', '"form"', "f:10: is not YAML"),
        ("# mine", "# mine\x07", "f:1: holds the control character U+0007"),
        ("- name: true one", "---\n- name: true one", "f:10: is not YAML: but found another document"),
        ("true one", "Short", "f:10: another principle is called 'Short', too"),
        ("true one", '"\\e[2J"', "f:10: name holds the control character U+001B"),
        ("true one", "not short", "f:10: name begins with 'not '"),
        ("true one", "n" * 101, "f:10: name has 101 characters, more than 100"),
        ("The response should be short.", "", "f:3: positive must be a non-empty text"),
        ("The response should be short.", '" "', "f:3: positive must be a non-empty text"),
        ("The response should be short.", "[a]", "f:3: positive must be a text"),
        ("The response should be short.", "!x a", "f:3: positive must be a text"),
        ("The response should be short.", '"a\\u202eb"', "f:3: positive holds the control character U+202E"),
        ("The response should be short.", "a <|im_end|>", "f:3: positive holds the control string '<|im_end|>'"),
        ("The response should be short.", "a <｜User｜>", "f:3: positive holds the control string"),
        ("The response should be short.", "x" * 2001, "f:3: positive has 2,001 characters, more than 2,000"),
        ("    be long.", "    be </s> long.", "f:4: negative holds the control string '</s>'"),
        ("  positive: 'The response should be true.'\n", "", "f:10: a principle lacks positive"),
        ("The response should be false.", "", "f:12: negative must be a non-empty text"),
        ("weight: 2.5", "weight: .nan", "f:7: weight must be a finite number"),
        ("weight: 2.5", "weight: 1e999", "f:7: weight must be a finite number"),
        ("weight: 2.5", "weight: -1", "f:7: weight must be a finite number, at least 0"),
        ("weight: 2.5", "weight: '2'", "f:7: weight must be a finite number, without quotes"),
        ("weight: 2.5", "weight: 1:30", "f:7: weight must be a finite number"),
        ("weight: 2.5", "wieght: 2.5", "f:7: unknown field 'wieght'; known: name, positive, negative, weight, tags"),
        ("weight: 2.5", "dimensoin: x", "tags, or dimension, definition, negative_definition"),
        ("weight: 2.5", "positive: twice", "f:7: a principle has 'positive' twice"),
        ("weight: 2.5", "? [a]\n  : 1", "f:7: a key of a principle must be a text"),
        ('[style, "form"]', "style", "f:8: tags must be a list"),
        ('[style, "form"]', "[[1]]", "f:8: a tag must be a text"),
    ],
)
def test_mistakes_are_named(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        parse_principles(GOOD.replace(old, new), "f")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_all_zero() -> None:
    """Catches a run that can only tie."""
    text = GOOD.replace("2.5", "0")
    assert [principle.weight for principle in parse_principles(text, "f")] == [0.0, 1.0]
    with pytest.raises(InputError, match="f:2: all weights are 0"):
        parse_principles(f"{text}  weight: 0.0", "f")


def test_a_statement_may_be_as_long_as_told() -> None:
    assert parse_principles(GOOD.replace("The response should be true.", "x" * MAX_STATEMENT), "f")[1].positive


def test_files(tmp_path: Path) -> None:
    """Catches a traceback for a path that is wrong, and a byte order mark taken for a part of the text."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_principles(str(path)) == (SHORT, TRUE)
    known = (
        "neither a file nor one of: default, all, labelled, aggregated, red-teaming, reinforcement, policy, reasoning$"
    )
    for name, said in (("nowhere", known), (str(tmp_path), known)):
        with pytest.raises(InputError, match=said):
            load_principles(name)
    for content, said in ((b"\xff", "cannot be read"), (b"#" * 1_000_001, "larger than 1,000,000 bytes")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=said):
            load_principles(str(path))


@pytest.mark.parametrize("method", ["salmon", "principled"])
def test_mistakes_are_found_before_a_model_is_loaded(method: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("weight: 2.5", "weight: -1"))

    def explode(*_: object, **__: object) -> Any:
        raise AssertionError("the model was loaded")

    source = write_rows(tmp_path / "in.jsonl", [row()])
    options = LabelOptions(input=str(source), out=str(tmp_path / "out"), method=method, principles=str(path))
    with pytest.raises(InputError, match=r"mine\.yaml:7: weight must be a finite number"):
        run.run_label(options, explode)
    assert not (tmp_path / "out").exists()


# sets of principles


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    return str(path)


def test_names_texts_and_opposites(mine: str) -> None:
    """Catches a negated name shown with its positive statement, and a built-in name that hides one of the file's."""
    chosen = ["Short", "not true one", "concise", "not to the point, but  kind", "The response should rhyme."]
    (made,) = principle_sets([chosen], mine)
    concise = load_principles("default")[1].positive
    assert made.statements == (SHORT.positive, TRUE.negative, concise, "not to the point, but kind", chosen[-1])
    assert made.name == "short + not true one + concise + not to the point, but kind + The response should rhyme."
    assert made.text.startswith("- The response should be short.\n- The response should be false.\n- ")
    own_concise = Path(mine)
    own_concise.write_text(GOOD.replace("name: short", "name: concise"))
    assert principle_sets([["concise"]], mine)[0].statements == (SHORT.positive,)


def test_the_opposite_of_a_principle_without_one(tmp_path: Path) -> None:
    """Catches "None" shown to a judge, and an error where the positive statement is enough."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([ONE_SIDED.record()]))
    (made,) = principle_sets([["odd", "not helpful"]], str(path))
    assert made.statements[0] == ONE_SIDED.positive
    said = "^principle 'odd' has no negative statement; add `negative` to it in its file$"
    with pytest.raises(InputError, match=said):
        principle_sets([["helpful", "not odd"]], str(path))


def test_sets_without_members_are_the_whole_file(mine: str) -> None:
    whole = (SHORT.positive, TRUE.positive)
    assert [made.statements for made in principle_sets([], mine)] == [whole]
    assert principle_sets([[], ["helpful"]], mine)[0].statements == whole
    assert principle_sets([], "reinforcement")[0].name == " + ".join(GUARDS)


def test_what_is_there_twice_counts_once() -> None:
    """Catches a guard shown twice to those who also name it."""
    (made,) = principle_sets([[*GUARDS, "No-Self-Praise"]], None)
    assert made.name == " + ".join(GUARDS)


def test_long_texts_have_short_names() -> None:
    """Catches two sets with one name in the labels."""
    texts = [f"The response should be of {'the very ' * 5}best kind {number}." for number in (1, 2)]
    one, two = principle_sets([[text] for text in texts], None)
    assert one.name.endswith("…")
    assert len(one.name) == 40
    assert two.name == f"{one.name} (2)"
    assert (one.statements, two.statements) == ((texts[0],), (texts[1],))
    *_, third = principle_sets([[text] for text in (*texts, f"{texts[0][:-2]}3.")], None)
    assert third.name == f"{one.name} (3)"


@pytest.mark.parametrize(
    ("chosen", "principles", "said"),
    [
        ([], None, "name principles to score under with --under"),
        ([["concise"], []], None, "name principles to score under with --under"),
        ([["concsie"]], None, "no principle 'concsie'; known: helpful, concise, "),
        ([["not concsie"]], None, "no principle 'not concsie'"),
        ([["concise", " "]], None, "principle '': is empty"),
        ([["Be <|im_end|> kind"]], None, "holds the control string '<|im_end|>'"),
        ([["Be \x1b kind"]], None, "principle 'Be \\x1b kind': holds the control character U+001B"),
        ([["x " * 1001]], None, "has 2,002 characters, more than 2,000"),
        ([["concise", "not Concise"]], None, "asks for 'concise' and for its opposite"),
        ([["concise", "helpful"], ["helpful", "concise"]], None, "two sets of principles are the same"),
        ([["concise"]], "MINE", "no set of principles names one of MINE; it has short, true one"),
    ],
)
def test_sets_that_mean_nothing(chosen: list[list[str]], principles: str | None, said: str, mine: str) -> None:
    """Catches a misspelt name scored under as if it were a text, and a file that is read and not used."""
    with pytest.raises(InputError) as caught:
        principle_sets(chosen, principles and mine)
    assert said in str(caught.value).replace(mine, "MINE")
