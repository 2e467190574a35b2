"""Split GGUF files: any part opens the model, and parts that do not belong together open none."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.weights.names import expected_tensors
from tests.engine.gguf_files import write_gguf
from tests.models import SMALL_CONFIG, write_model

OTHER = SMALL_CONFIG | {"num_hidden_layers": 2, "num_attention_heads": 12}


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The small model in three files."""
    write_gguf(tmp_path / "judge.gguf", write_model(tmp_path / "hf", SMALL_CONFIG), split=12)
    found = sorted(tmp_path.glob("judge-*.gguf"))
    assert [path.name for path in found] == [f"judge-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    return found


def test_any_part_opens_the_whole_model(tmp_path: Path, parts: list[Path]) -> None:
    """Catches a tensor read from the wrong part, and a fingerprint that misses some of them."""
    whole = open_checkpoint(str(write_gguf(tmp_path / "judge.gguf", tmp_path / "hf")))
    opened = [open_checkpoint(str(path)) for path in parts]
    for checkpoint in opened:
        assert checkpoint.files == tuple(parts)
        assert (checkpoint.name, checkpoint.config) == ("judge", whole.config)
        assert [name for name, _, _ in checkpoint.file_states()] == [path.name for path in parts]
        for name, shape in expected_tensors(whole.config).items():
            assert checkpoint.weights.tensor(name, shape).equal(whole.weights.tensor(name, shape)), name
        checkpoint.weights.close()
    assert len({checkpoint.fingerprint() for checkpoint in opened}) == 1
    before = opened[0].fingerprint()
    data = bytearray(parts[2].read_bytes())
    data[-1] ^= 1
    parts[2].write_bytes(data)
    assert opened[0].fingerprint() != before


def without_the_second(parts: list[Path]) -> None:
    parts[1].unlink()


def second_twice(parts: list[Path]) -> None:
    shutil.copy(parts[1], parts[2])


def under_another_name(parts: list[Path]) -> None:
    parts[1].rename(parts[1].with_name("judge.gguf"))


def of_five(parts: list[Path]) -> None:
    parts[1].rename(parts[1].with_name("judge-00002-of-00005.gguf"))


def of_another_model(parts: list[Path]) -> None:
    folder = parts[0].parent / "other"
    folder.mkdir()
    write_gguf(folder / "judge.gguf", write_model(folder / "hf", OTHER), split=8)
    shutil.copy(folder / "judge-00003-of-00003.gguf", parts[2])


def truncated(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[2].read_bytes()[:-100])


def with_tensors_of_the_first(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[2].read_bytes().replace(b"blk.2.", b"blk.0."))


def with_another_count_of_tensors(parts: list[Path]) -> None:
    for path in parts:
        data = bytearray(path.read_bytes())
        data[data.index(b"split.tensors.count") + len("split.tensors.count") + 4] = 7
        path.write_bytes(data)


def with_a_count_that_is_none(parts: list[Path]) -> None:
    path = parts[0]
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"split.count" + bytes([2, 0, 0, 0, 3, 0]), b"split.count" + bytes([3, 0, 0, 0, 255, 255]))
    )
    assert path.read_bytes() != data


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (without_the_second, r"00002-of-00003\.gguf: is missing; download all 3 parts"),
        (second_twice, r"00003-of-00003\.gguf: says that it is part 1, counted from 0"),
        (under_another_name, r"judge\.gguf: is one of 3 parts; give it back its name"),
        (of_five, r"00002-of-00005\.gguf: is one of 3 parts; give it back its name"),
        (of_another_model, r"00003-of-00003\.gguf: is a part of another model \(split\.tensors\.count differs"),
        (truncated, r"00003-of-00003\.gguf: tensor .* ends outside the file"),
        (with_tensors_of_the_first, r"00003-of-00003\.gguf: tensor 'blk\.0\..* is also in judge-00001-of-00003\.gguf"),
        (with_a_count_that_is_none, r"split\.count is -1, which is no number of parts"),
        (with_another_count_of_tensors, r"00001-of-00003\.gguf: the parts hold 30 tensors instead of 7"),
    ],
)
def test_parts_that_do_not_belong_together(parts: list[Path], harm: Callable[[list[Path]], None], named: str) -> None:
    """Catches a model of two halves, and a traceback where one is missing."""
    harm(parts)
    found = sorted(path for path in parts[0].parent.glob("judge*.gguf"))
    messages = []
    for path in found:
        try:
            open_checkpoint(str(path))
        except ModelError as error:
            messages.append(str(error))
    assert len(messages) == len(found)
    assert any(re.search(named, message) for message in messages), messages
    assert not any("\n" in message for message in messages)
