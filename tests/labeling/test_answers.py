"""Answers as Parquet parts: to the bit, found when damaged, joined when many, and each row once."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.answers import answers as answers_module
from preftree.labeling.answers import part as parts_module
from preftree.labeling.answers import writer as writer_module
from preftree.labeling.answers.answers import ANSWERED, MISSING, REJECTED, Answers, look, merged
from preftree.labeling.answers.entry import Entry, entries_of, table_of
from preftree.labeling.answers.part import Attempt, Part, write_part
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.data.folder import Folder, LocalFolder
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import Answer, RequestScores
from tests.labeling.fakes import FakeUsage

parquet = pytest.importorskip("pyarrow.parquet")

RUN = "f" * 16


def entry(number: int, value: float = -0.5) -> Entry:
    return Entry(number, f"id {number}", None, (RequestScores.single((value, -1.0), 0.9, 7),) * 2, -number)


def opened(directory: Path) -> AnswerWriter:
    return AnswerWriter(directory, RUN, Answers.open(directory, RUN))


def written(directory: Path, *groups: Sequence[Entry]) -> Answers:
    """A part for each group, all of one attempt."""
    writer = opened(directory)
    for group in groups:
        writer.add(group)
        writer.commit(FakeUsage(prompt_tokens=writer._committed + len(group)))
    return writer.answers


def numbers_of(answers: Answers) -> list[int]:
    return [entry.number for entry in answers.entries()]


def test_answers_survive_to_the_bit(tmp_path: Path) -> None:
    """Catches a float that loses its last bit, a rationale that loses its text, and answers of two requests mixed."""
    draw = random.Random(0)
    floats = [draw.uniform(-30, 0) * 10 ** draw.randrange(-12, 3) for _ in range(300)] + [-0.0, 5e-324, 0.1 + 0.2]
    scores = [RequestScores.single((one, two), two, 7) for one, two in zip(floats, reversed(floats), strict=True)]
    rationale = Rationale('text "with\n\x00\u2028 all', 9, True)
    scores.append(RequestScores((Answer((-0.5,), 0.25, rationale), Answer((-1.5,), 0.75, None)), 3))
    entries = [
        Entry(0, "a", None, tuple(scores)),
        Entry(1, None, "broken JSON: é"),
        Entry(2, "no requests"),
        Entry(4, "nan", None, (RequestScores.single((float("nan"), float("-inf")), 0.0, 1),)),
        Entry(5, "one", None, (RequestScores.single((-1.0, -2.0, -3.0), 0.5, 2),)),
    ]
    assert repr(list(written(tmp_path / "answers", entries).entries())) == repr(entries)
    table = table_of(entries)
    for lines in (1, 2, 7):
        assert repr(list(entries_of(table.to_batches(lines)))) == repr(entries), "rows that end in another batch"


def explained(number: int, ids: tuple[int, ...] | None) -> Entry:
    answer = Answer((-0.5, -1.0), 0.9, Rationale("text", 3, False, ids))
    return Entry(number, f"id {number}", None, (RequestScores((answer, answer), 7),), -number)


def test_token_ids_of_rationales_survive(tmp_path: Path) -> None:
    """Catches ids that are lost where parts are joined, and a rationale of no tokens taken for one without ids."""
    entries = [explained(0, (5, 0, 70_000)), explained(1, ()), explained(2, None), entry(3), Entry(4, "bad", "broken")]
    answers = written(tmp_path / "answers", entries[1:2], entries[:1], entries[2:], entries[3:4])
    assert repr(list(answers.entries())) == repr(entries)
    joined = writer_module._one_of(answers.parts)
    assert repr(list(merged([joined]))) == repr(entries)
    assert repr(list(entries_of(table_of(entries).to_batches(2)))) == repr(entries)


def test_parts_without_token_ids(tmp_path: Path) -> None:
    """Catches a column where no rationale is, and answers of an earlier version that cannot be read."""
    [without, of_old] = written(tmp_path / "answers", [entry(0)], [explained(1, None)]).parts
    for part in (without, of_old):
        assert "rationale_ids" not in parquet.read_schema(part.path).names
    assert list(merged([of_old])) == [explained(1, None)]


def test_parts_are_read_by_anything_that_reads_parquet(tmp_path: Path) -> None:
    """Catches columns renamed, and a header that nobody finds."""
    [part] = written(tmp_path / "answers", [entry(3), Entry(4, "bad", "broken")]).parts
    [first, _, last] = parquet.read_table(part.path).to_pylist()
    assert first == {
        "row": 3,
        "id": "id 3",
        "text": -3,
        "reason": None,
        "request": 0,
        "answer": 0,
        "logprobs": [-0.5, -1.0],
        "label_mass": 0.9,
        "prompt_tokens": 7,
        "rationale": None,
        "rationale_tokens": None,
        "rationale_cut": None,
    }
    assert (last["row"], last["reason"], last["request"]) == (4, "broken", None)
    assert b'"format": 2' in parquet.read_schema(part.path).metadata[b"preftree"]


def test_states(tmp_path: Path) -> None:
    """Catches rows of another shard that are counted, and a rejection that outlives a later answer."""
    answers = written(tmp_path / "answers", [entry(9), entry(10), Entry(11, "x", "bad")], [Entry(13, "y", "bad")])
    assert answers.states(np.arange(10, 15)).tolist() == [ANSWERED, REJECTED, MISSING, REJECTED, MISSING]
    again = written(tmp_path / "answers", [entry(11)])
    assert again.states(np.arange(10, 12)).tolist() == [ANSWERED, ANSWERED]
    assert [found.reason for found in again.entries()] == [None, None, None, "bad"]


def test_rows_in_any_order_come_out_in_that_of_the_input(tmp_path: Path) -> None:
    """Catches parts that overlap read one after the other, and a row in two parts counted twice."""
    draw = random.Random(1)
    numbers = list(range(200))
    draw.shuffle(numbers)
    groups = [[entry(number) for number in numbers[start : start + 17]] for start in range(0, 200, 17)]
    answers = written(tmp_path / "answers", *groups, [entry(5, -7.0), entry(150, -7.0)])
    assert numbers_of(answers) == list(range(200))
    values = {found.number: found.scores[0].answers[0].logprob[0] for found in answers.entries()}
    assert {number for number, value in values.items() if value == -7.0} == {5, 150}, "the later part counts"


def test_two_parts_of_one_number(tmp_path: Path) -> None:
    """Catches answers that depend on which of two workers' parts is listed, or opened, first."""
    folder = LocalFolder(tmp_path)
    attempts = [Attempt(name, 0.0, 1.0, 1, {}) for name in ("one", "two")]
    rejected = Entry(5, "id 5", "bad")
    made = [
        write_part(folder, 1, RUN, [entry(3), entry(5, -7.0)], attempts[:1]),
        write_part(folder, 1, RUN, [rejected, entry(9)], attempts[1:]),
    ]
    last = max(made, key=lambda part: part.name)
    for parts in (made, made[::-1], [*Answers.open(tmp_path).parts]):
        answers = Answers(tuple(sorted(parts, key=lambda part: part.order)))
        assert [found for found in merged(parts) if found.number == 5] == [[entry(5, -7.0), rejected][made.index(last)]]
        assert answers.states(np.arange(5, 6)).tolist() == [[ANSWERED, REJECTED][made.index(last)]]


def test_parts_that_follow_on_one_another_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches memory that grows with the number of parts."""
    answers = written(tmp_path / "answers", *([entry(n), entry(n + 1)] for n in range(0, 20, 2)))
    open_parts: list[str] = []
    most = 0
    batches = Part.batches

    def noted(part: Part, lines: int, schema: Any) -> Iterator[Any]:
        nonlocal most
        open_parts.append(part.name)
        most = max(most, len(open_parts))
        yield from batches(part, lines, schema)
        open_parts.remove(part.name)

    monkeypatch.setattr(Part, "batches", noted)
    assert numbers_of(answers) == list(range(20))
    assert most == 1


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "renamed"])
def test_a_damaged_part_costs_its_rows(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    """Catches numbers that are not those written, damage that ends in a traceback, and whole parts thrown away."""
    directory = tmp_path / "answers"
    parts = written(directory, [entry(0), entry(1)], [entry(2)], [entry(3)]).parts
    path = parts[1].path
    data = bytearray(path.read_bytes())
    if harm == "flipped":
        data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes({"cut": data[:-5], "empty": b""}.get(harm, data)))
    if harm == "renamed":
        path = path.rename(directory / "part-copy.parquet")
    assert [where for where, _ in Answers.open(directory, RUN).damaged] == [path]
    writer = opened(directory)
    assert numbers_of(writer.answers) == [0, 1, 3]
    assert f"{path} is damaged" in caplog.text
    assert (directory / f"{path.name}.damaged").exists()
    writer.add([entry(2)])
    writer.commit(FakeUsage())
    assert numbers_of(Answers.open(directory, RUN)) == [0, 1, 2, 3]
    assert not Answers.open(directory, RUN).damaged


def test_a_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    directory = tmp_path / "answers"
    [part] = written(directory, [entry(n) for n in range(5)]).parts
    good = part.path.read_bytes()
    for place in range(0, len(good), 37):
        part.path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert Answers.open(directory).damaged, place


def test_parts_of_another_run_and_another_format_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches answers about other rows taken for those of this run."""
    directory = tmp_path / "answers"
    written(directory, [entry(0)])
    with pytest.raises(OutputError, match=r"part-000001-\w+\.parquet belongs to another run; move it out of"):
        Answers.open(directory, "e" * 16)
    monkeypatch.setattr(parts_module, "FORMAT", 3)
    with pytest.raises(OutputError, match="has format 2 of answers, this preftree reads 3; finish"):
        Answers.open(directory, RUN)


def test_many_small_parts_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a run that opens thousands of files to resume, and rows, totals or order lost when parts are joined."""
    monkeypatch.setattr(writer_module, "_SMALL_PARTS", 8)
    directory = tmp_path / "answers"
    answers = written(directory, *([entry(number)] for number in range(50)))
    assert len(answers.parts) <= 9
    assert len(list(directory.iterdir())) == len(answers.parts)
    assert numbers_of(Answers.open(directory, RUN)) == list(range(50))
    assert Answers.open(directory, RUN).usage()["prompt_tokens"] == 50
    written(directory, [entry(7, -7.0)], [entry(50)])
    again = Answers.open(directory, RUN)
    assert again.usage()["prompt_tokens"] == 52, "of both attempts"
    assert [attempt.rows for attempt in again.attempts()] == [50, 2]
    assert {found.number: found for found in again.entries()}[7] == entry(7, -7.0)


def test_large_parts_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a part that grows until one flipped bit costs the whole run."""
    monkeypatch.setattr(writer_module, "_SMALL_PARTS", 4)
    first = written(tmp_path / "answers", [entry(0)]).parts[0].size
    monkeypatch.setattr(writer_module, "_SMALL_BYTES", 3 * first)
    answers = written(tmp_path / "answers", *([entry(number)] for number in range(1, 40)))
    assert max(part.size for part in answers.parts) < 6 * first
    assert numbers_of(answers) == list(range(40))


def test_killed_while_parts_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches rows that are lost, or that count twice, when the process ends between new part and old ones."""
    monkeypatch.setattr(writer_module, "_SMALL_PARTS", 4)
    directory = tmp_path / "answers"

    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("part-"):
            raise MemoryError(path)
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(MemoryError):
            written(directory, *([entry(number)] for number in range(9)))
    answers = Answers.open(directory, RUN)
    assert len(answers.parts) == 6, "five and what they were joined to"
    assert numbers_of(answers) == list(range(5))
    assert answers.usage()["prompt_tokens"] == 5
    assert numbers_of(written(directory, [entry(5)])) == list(range(6))


def test_an_attempt_is_forgotten_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches answers about rows of a file that changed, kept in a part that was joined with earlier ones."""
    monkeypatch.setattr(writer_module, "_SMALL_PARTS", 4)
    directory = tmp_path / "answers"
    written(directory, [entry(0)], [entry(1)])
    writer = opened(directory)
    for number in range(2, 20):
        writer.add([entry(number)])
        writer.commit(FakeUsage())
    writer.add([entry(20)])
    writer.forget_attempt()
    writer.commit(FakeUsage())
    assert numbers_of(Answers.open(directory, RUN)) == [0, 1]


def test_parts_of_shards_are_copied(tmp_path: Path) -> None:
    """Catches a copy that overwrites another shard's part of the same number, and totals of one shard alone."""
    shards = [written(tmp_path / f"shard {n}", [entry(2 * n), entry(2 * n + 1)]) for n in range(3)]
    writer = opened(tmp_path / "answers")
    writer.take_over(part for shard in reversed(shards) for part in shard.parts)
    assert numbers_of(Answers.open(tmp_path / "answers", RUN)) == list(range(6))
    assert writer.answers.usage()["prompt_tokens"] == 6
    assert len(list((tmp_path / "shard 1").iterdir())) == 1


def test_a_draft_of_a_killed_process_goes(tmp_path: Path) -> None:
    """Catches a file that is half there and taken for a part, or that stays for ever."""
    directory = tmp_path / "answers"
    written(directory, [entry(0)])
    (directory / ".part-000002-0123456789abcdef.parquet.01234567.tmp").write_bytes(b"PAR1")
    assert numbers_of(opened(directory).answers) == [0]
    assert len(list(directory.iterdir())) == 1


def test_a_look_at_a_run_whose_parts_are_joined_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches `preftree status` that fails because a file it has listed is gone, or that waits for ever."""
    directory = tmp_path / "answers"
    first = written(directory, [entry(0)], [entry(1)]).parts[0]
    looks = 0

    def gone(folder: Folder, name: str) -> Part:
        nonlocal looks
        looks += 1
        if looks <= times:
            raise FileNotFoundError(first.path)
        return parts_module.open_part(folder, name)

    monkeypatch.setattr(answers_module, "open_part", gone)
    times = 2
    answers, found = look(directory, RUN, np.arange(3))
    assert (found.tolist(), len(answers.parts)) == ([ANSWERED, ANSWERED, MISSING], 2)
    looks, times = 0, 1000
    with pytest.raises(OutputError, match="its files come and go; try again"):
        look(directory, RUN, np.arange(3))
