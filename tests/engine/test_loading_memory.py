"""What loading a model takes at its highest, beside what the weights are in the working type."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.device import choose_target
from preftree.engine.memory import give_back_freed
from preftree.engine.opening import open_weights
from tests.engine.gguf_files import add_byte_tokenizer
from tests.models import SMALL_CONFIG, write_model
from tests.processes import answered, memory_bytes

if TYPE_CHECKING:
    import gguf
else:
    gguf = pytest.importorskip("gguf")

VOCAB, HIDDEN, HEADS, INNER, LAYERS = 50_000, 512, 8, 1024, 1
MOST = 1.3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that is mostly a tied embedding, as small models with large vocabularies are; 28 million numbers."""
    folder = tmp_path_factory.mktemp("large")
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    sizes = {
        "block_count": LAYERS,
        "context_length": 512,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "vocab_size": VOCAB,
    }
    for key, value in sizes.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    add_byte_tokenizer(writer, write_model(folder / "hf", SMALL_CONFIG))
    matrices = {"token_embd": (VOCAB, HIDDEN)}
    vectors = ["output_norm"]
    for layer in range(LAYERS):
        names = {f"attn_{role}": (HIDDEN, HIDDEN) for role in ("q", "k", "v", "output")}
        names |= {"ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
        matrices |= {f"blk.{layer}.{name}": shape for name, shape in names.items()}
        vectors += [f"blk.{layer}.attn_norm", f"blk.{layer}.ffn_norm"]
    kind = gguf.GGMLQuantizationType.Q8_0
    random = np.random.default_rng(1)
    for name, (rows, columns) in matrices.items():
        raw = random.integers(0, 60, (rows, columns // 32 * 34), dtype=np.uint8)  # small bytes: finite scales
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=kind)
    for name in vectors:
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return folder / "model.gguf"


def measure(model: str, dtype: str) -> float:
    """The most that loading a model takes, beside its weights in `dtype`; of a process that does nothing else."""
    checkpoint = open_checkpoint(model)
    target = choose_target(checkpoint.config, "cpu", dtype, None)
    most = 0
    for _ in range(2):  # the first time, libraries make room for themselves
        give_back_freed()
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        before = memory_bytes("VmRSS")
        weights = open_weights(checkpoint.weights, checkpoint.config, target)
        most = memory_bytes("VmHWM") - before
        del weights
    return most / target.memory.weight_bytes(checkpoint.config)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_loading_a_gguf_file_takes_little_more_than_the_weights(model: Path, dtype: str) -> None:
    """Catches a tensor that lies there in float32 beside itself in the working type, and a head packed into a copy."""
    assert answered("-m", "tests.engine.test_loading_memory", model, dtype) <= MOST


if __name__ == "__main__":
    print(measure(*sys.argv[1:]))
