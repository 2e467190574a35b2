"""labels.parquet made of columns has the bytes of one that is made row by row."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import compute, parquet

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import Answers
from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.part import Attempt, write_part
from preftree.labeling.calibration.artefact import Calibration
from preftree.labeling.calibration.scores import Figure, Scores
from preftree.labeling.calibration.temperature import Temperature
from preftree.labeling.data import batches as batches_module
from preftree.labeling.data import ids as ids_module
from preftree.labeling.data.folder import LocalFolder
from preftree.labeling.data.label_table import LabelTable
from preftree.labeling.data.plain import NOT_BLANK, PlainRows
from preftree.labeling.data.selection import RowRange, count_outside, rows_of, windows_of
from preftree.labeling.grid import all_on_grid, on_grid
from preftree.labeling.methods.probability import probabilities, probability
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.prompts import imitation as imitation_module
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.joining import StaleAnswers
from preftree.labeling.runs.labels import labels_file
from preftree.labeling.types import Rejected, RequestScores

ROWS = 2500
_TEXTS = (
    *("Yes.", " no ", "### Response 1", "preferred response:", "Größe ß", "ﬁne", "ſo", "漢字", "a\0b", "x" * 300),
    *("line\n### response 2\nmore", "K", " \u2028 text"),
)
_ODD_TEXTS = ("", " \t", "\x1c\x85", None)


def text(draw: random.Random, odd: float) -> str | None:
    return draw.choice(_ODD_TEXTS) if draw.random() < odd else f"{draw.choice(_TEXTS)} {draw.random()}"


def table(draw: random.Random, odd: float, with_ids: str) -> pa.Table:
    """Rows with columns of every kind, a few of them bad."""
    few = [draw.random() for _ in range(ROWS)]
    ids: dict[str, Any] = {
        "text": [text(draw, odd) for _ in range(ROWS)],
        "number": [None if one < odd else n for n, one in enumerate(few)],
        "repeated": [f"row {n if n > 900 or one > odd else 7}" for n, one in enumerate(few)],
    }
    golds = ("a", "b", "tie", None, *(("A", "model_b", "0", "?") if odd else ()))
    strings = list(map(str, few))
    return pa.table(
        ({"id": ids[with_ids]} if with_ids else {})
        | {name: [text(draw, odd) for _ in range(ROWS)] for name in ("prompt", "response_a", "response_b")}
        | {
            "gold": [draw.choice(golds) for _ in range(ROWS)],
            "wide": [None if one < 0.2 else one * 1e300 for one in few],
            "not finite": pa.array([math.nan if one < 0.2 else one for one in few], pa.float32()),
            "long": pa.array([int(one * 2**63) for one in few], pa.uint64()),
            "short": pa.array([int(one * 100) for one in few], pa.int8()),
            "truth": [None if one < 0.1 else one < 0.5 for one in few],
            "list": [[str(one)] * int(4 * one) for one in few],
            "struct": [{"a": one, "b": None} for one in few],
            "day": pa.array([int(1e4 * one) for one in few], pa.date32()),
            "bytes": list(map(str.encode, strings)),
            "category": pa.array([one[:3] for one in strings]).dictionary_encode(),
            "nothing": pa.nulls(ROWS),
            "status": pa.array(strings, pa.large_string()),
        }
    )


def entries(job: Job, draw: random.Random, odd: float) -> list[Entry]:
    """Answers about the rows: ties, ones that are sure, and a few that are bad or missing."""
    found = []
    for number, item in zip(job.rows.tolist(), job.items(), strict=True):
        digest = job.digest(item)
        if isinstance(item, Rejected):
            found.append(Entry(number, item.id, item.reason, text=digest))
        elif draw.random() < odd:
            found.append(Entry(number, item.id, "too long: 9 tokens", text=digest))
        else:
            tie = (-1.0, -1.0)
            sure = (-1e-300, -800.0)
            drawn = (-draw.expovariate(1), -draw.expovariate(0.2))
            bad = (math.nan, -1.0)
            scores = [
                RequestScores.single(bad if draw.random() < odd else draw.choice((tie, sure, drawn, drawn)), 0.5, 9)
                for _ in range(2)
            ]
            found.append(Entry(number, item.id, None, scores, digest))
    return found


def write_answers(folder: Path, job: Job, draw: random.Random, odd: float) -> Answers:
    """In parts that overlap; rows that are in several have other answers in the earlier ones."""
    out, last = LocalFolder(folder), entries(job, draw, odd)
    out.make()
    attempt = Attempt("a", 0.0, 1.0, len(last), {})
    early = [entry._replace(scores=entry.scores[::-1]) for entry in last if draw.random() < 0.3]
    write_part(out, 1, "0", early, [attempt])
    parts = [last[: ROWS // 3], last[ROWS // 3 :: 2], last[ROWS // 3 + 1 :: 2]]
    for sequence, part in enumerate(filter(None, parts), 2):
        write_part(out, sequence, "0", part, [attempt])
    return Answers.open(out)


def labels(job: Job, answers: Answers, out: Path) -> bytes:
    out.mkdir()
    labels_file(out, job, answers)
    return (out / "labels.parquet").read_bytes()


_CALIBRATED = {"template": "summarization", "calibration": "cal.json"}


@pytest.mark.parametrize(
    ("odd", "options", "with_ids"),
    [
        (0.0, {}, "number"),
        (0.0, {"fence": True, "limit": 1500, "sample": 700}, ""),
        (0.02, _CALIBRATED, "repeated"),
        (0.02, {}, "text"),
        (0.02, {"limit": 1500, "sample": 700}, "number"),
        (0.3, {}, ""),
        (0.02, {"mapping": ("prompt=status", "id=prompt")}, "text"),
    ],
)
def test_columns_have_the_bytes_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: float, options: dict[str, Any], with_ids: str
) -> None:
    """Catches any value, null or order of a column, and any reason, that depends on how labels are made."""
    draw = random.Random(f"{odd} {options} {with_ids}")
    source = tmp_path / "in.parquet"
    parquet.write_table(table(draw, odd, with_ids), source, row_group_size=999)
    if "calibration" in options:
        scores = Scores(*[Figure(0.0, 0.0, 0.0)] * 3)
        calibration = Calibration("temperature", Temperature(0.7, None), 9, scores, None, {})
        options = {**options, "calibration": str(tmp_path / "cal.json")}
        Path(options["calibration"]).write_text(calibration.text())
    chosen = LabelOptions(input=str(source), out=str(tmp_path), **options)
    job = Job.of(chosen, open_method(chosen))
    answers = write_answers(tmp_path / "answers", job, draw, odd)
    info = job.dataset.info
    in_columns: list[int] = []
    plain_batch = LabelTable.plain_batch

    def noted(made: LabelTable, rows: PlainRows, *others: Any) -> Any:
        in_columns.append(len(rows))
        return plain_batch(made, rows, *others)

    monkeypatch.setattr(LabelTable, "plain_batch", noted)
    made = labels(job, answers, tmp_path / "columns")
    assert in_columns
    monkeypatch.setattr(batches_module.ArrowRows, "plain", None)
    in_columns.clear()
    assert Job.of(chosen, job.method).dataset.info == info
    assert labels(job, answers, tmp_path / "rows") == made
    assert not in_columns


def test_missing_and_stale_answers_are_named(tmp_path: Path) -> None:
    """Catches answers about another text, or none at all, that become labels, and another row than the first named."""
    source = tmp_path / "in.parquet"
    parquet.write_table(table(random.Random(1), 0.0, "text"), source)
    chosen = LabelOptions(input=str(source), out=str(tmp_path))
    job = Job.of(chosen, open_method(chosen))
    found = entries(job, random.Random(2), 0.0)
    attempt = Attempt("a", 0.0, 1.0, ROWS, {})
    for number, changed in enumerate(([], [found[1200]._replace(text=5)], [found[1200]._replace(text=None)])):
        folder = LocalFolder(tmp_path / f"{number}")
        folder.make()
        write_part(folder, 1, "0", sorted([*found[:1200], *changed, *found[1201:1300]]), [attempt])
        with pytest.raises(StaleAnswers if changed else OutputError, match=r"row 1,201 "):
            labels(job, Answers.open(folder), tmp_path / f"out {number}")


def test_probabilities_have_the_bits_of_one() -> None:
    """Catches an exponential whose bits depend on how many there are, and a zero with a sign."""
    values = np.concatenate([np.random.default_rng(0).normal(0, 9, 5000), [0.0, -0.0, 800.0, -800.0, 1e-320]])
    alone = [probability(value) for value in values.tolist()]
    assert probabilities(values).tobytes() == np.array(alone).tobytes()
    assert probabilities(values.reshape(5, -1)).tobytes() == np.array(alone).tobytes()
    gaps = (values - values[::-1]) / 2e3
    assert all_on_grid(gaps).tobytes() == np.array([on_grid(gap) + 0.0 for gap in gaps.tolist()]).tobytes()


def test_white_space_is_that_of_python() -> None:
    """Catches a row that is blank in one way and not in the other."""
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    found = compute.match_substring_regex(pa.array(characters), NOT_BLANK).to_pylist()
    assert found == [bool(character.strip()) for character in characters]


def test_characters_that_fold_to_ascii_are_known() -> None:
    """Catches an imitated line that is not looked for, because it is spelled with a ligature."""
    characters = [chr(code) for code in range(128, 0x110000) if not 0xD800 <= code < 0xE000]
    pattern = f"[{imitation_module._FOLDED_TO_ASCII}]"
    found = compute.match_substring_regex(pa.array(characters), pattern).to_pylist()
    assert found == [any(map(str.isascii, character.casefold())) for character in characters]


def test_ids_that_are_used_twice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a repeated id that is missed, or one too many, where hashes go through files."""
    ids = [f"id {n % 900}" for n in range(1000)] + ["other"] * 3
    expected = frozenset(hash(one) for one in [*(f"id {n}" for n in range(100)), "other"])
    for in_memory in (10_000, 64):
        monkeypatch.setattr(ids_module, "_IN_MEMORY", in_memory)
        hashes = ids_module.IdHashes()
        for start in range(0, len(ids), 50):
            hashes.add(ids[start : start + 50])
        assert hashes.repeated() == expected
        assert bool(hashes._files) == (in_memory == 64)


def test_rows_of_a_range_take_no_memory() -> None:
    """Catches a range of row numbers that is not what an array of them would be."""
    rows = rows_of(1000, limit=900, shard="2/3")
    array = np.arange(300, 600)
    assert isinstance(rows, RowRange)
    assert (len(rows), rows.tolist(), rows[-1]) == (300, array.tolist(), 599)
    assert np.asarray(rows[10:20]).tolist() == array[10:20].tolist()
    for side in ("left", "right"):
        wanted = [0, 299, 300, 450, 599, 600, 1000]
        assert rows.searchsorted(wanted, side).tolist() == array.searchsorted(wanted, side).tolist()
    assert np.concatenate([*windows_of(RowRange(5, 200_000))]).tolist() == list(range(5, 200_000))
    for others in (rows_of(1000, limit=400), np.arange(250, 400)):
        assert count_outside(rows, others) == 200 == count_outside(array, others)
