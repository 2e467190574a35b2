"""llama.cpp's vocabulary files, and what its tokenizers make of its texts: `models/ggml-vocab-*` in its repository."""

import sys
from pathlib import Path

import pytest

from preftree.engine.errors import ModelError
from preftree.engine.gguf.parts import read_parts
from preftree.engine.gguf.tokenizer import read_tokenizer

# Put there by hand, each with the .gguf.inp and .gguf.out beside it.
FOLDER = Path(sys.prefix) / "data" / "llama.cpp" / "models"
VOCABULARIES = sorted(FOLDER.glob("ggml-vocab-*.gguf"))
SEPARATOR = "\n__ggml_vocab_test__\n"


def cases_of(path: Path) -> list[tuple[str, list[int]]]:
    """Texts, and their token ids without special tokens."""
    texts = path.with_name(f"{path.name}.inp").read_text(encoding="utf-8").split(SEPARATOR)
    ids = path.with_name(f"{path.name}.out").read_text(encoding="utf-8").splitlines()
    return [(text, [*map(int, line.split())]) for text, line in zip(texts, ids, strict=False)]


@pytest.mark.soak
@pytest.mark.parametrize("path", VOCABULARIES or [None], ids=lambda path: "none" if path is None else path.stem)
def test_ids_are_those_of_llama_cpp(path: Path | None) -> None:
    """Catches a pre-tokenizer whose regular expression is not the one that the name in the file stands for."""
    if path is None:
        pytest.skip(f"no vocabulary of llama.cpp is in {FOLDER}")
    try:
        tokenizer = read_tokenizer(read_parts(path).metadata, None, None)
    except ModelError as error:
        pytest.skip(f"not read: {error}")
    cases = cases_of(path)
    assert len(cases) > 20
    found = [(text, [int(token) for token in tokenizer.encode(tokenizer.plain(text))]) for text, _ in cases]
    assert found == cases
