"""GGUF: tensors equal to those the file was made from, and no header that keeps preftree busy or lies."""

import struct
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.config.hf_config import from_hf
from preftree.engine.errors import ModelError
from preftree.engine.gguf.embedded import PACKAGE
from preftree.engine.gguf.header import TENSOR_TYPES, read_header
from preftree.engine.gguf.tensors import GgufSource
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.safetensors import check_complete
from tests.engine.gguf_files import gguf_name, permute
from tests.engine.refusals import assert_refused
from tests.models import BYTE_CHARACTERS, CONFIG, CONTROL

if TYPE_CHECKING:
    import gguf
else:
    gguf = pytest.importorskip("gguf")

MODEL = from_hf(CONFIG, "test")


def random_tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in expected_tensors(MODEL).items()}


def write(path: Path, kind: str = "F32", change: Callable[[gguf.GGUFWriter], None] | None = None, **keys: Any) -> Path:
    """The tiny model as llama.cpp's converter would write it; `keys` replaces or (None) leaves out metadata."""
    writer = gguf.GGUFWriter(path, keys.pop("architecture", "llama"))
    values: dict[str, Any] = {
        "block_count": MODEL.num_layers,
        "context_length": MODEL.max_context,
        "embedding_length": MODEL.hidden_size,
        "feed_forward_length": MODEL.intermediate_size,
        "attention.head_count": MODEL.num_heads,
        "attention.head_count_kv": MODEL.num_kv_heads,
    } | keys
    for key, value in values.items():
        if isinstance(value, int):
            writer.add_uint32(f"llama.{key}", value)
        elif isinstance(value, str):
            writer.add_string(f"llama.{key}", value)
        elif isinstance(value, float):
            writer.add_float32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", MODEL.norm_eps)
    tokens = [*CONTROL, *BYTE_CHARACTERS, "th", "the"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL)))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    for name, tensor in random_tensors().items():
        heads = MODEL.num_heads if "q_proj" in name else MODEL.num_kv_heads if "k_proj" in name else 0
        stored = permute(tensor, heads) if heads else tensor
        kind_of = gguf.GGMLQuantizationType[kind if stored.ndim == 2 else "F32"]
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(stored, kind_of), raw_dtype=kind_of)
    if change:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def refused(path: Path, named: str) -> None:
    assert_refused(lambda path: open_checkpoint(str(path)), path, named)


def test_header_equals_the_librarys_own(tmp_path: Path) -> None:
    """Catches a key, type, shape or place of a tensor that our reader takes differently."""
    path = write(tmp_path / "a.gguf", "Q8_0")
    ours, theirs = read_header(path), gguf.GGUFReader(str(path))
    metadata_keys = [key for key in theirs.fields if not key.startswith("GGUF.")]
    assert ours.metadata == {key: theirs.fields[key].contents() for key in metadata_keys}
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        place = ours.tensors[tensor.name]
        assert place.shape == tuple(reversed(tensor.shape.tolist()))
        assert (place.begin, place.end) == (tensor.data_offset, tensor.data_offset + tensor.n_bytes)
        assert place.type_number == tensor.tensor_type


def test_block_sizes_are_the_librarys() -> None:
    """Catches a typing error in the table of tensor types."""
    for number, (name, block, size) in TENSOR_TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert kind.name == name
        assert gguf.GGML_QUANT_SIZES[kind] == (block, size)


def test_every_type_that_the_library_dequantises_is_read() -> None:
    """Catches a type of stock files that is left out. NVFP4 needs a second scale, which has no place in a block."""
    known = {kind.name for kind in gguf.quants._type_traits} - {"NVFP4"}
    assert {name for name, _, _ in TENSOR_TYPES.values()} == known | {"F32", "F16"}


@pytest.mark.parametrize("number", TENSOR_TYPES)
def test_lying_shapes_and_truncated_blocks_are_refused(tmp_path: Path, number: int) -> None:
    """Catches a block that is read beyond the end of the file, and one that is shared by two rows."""
    name, block, size = TENSOR_TYPES[number]
    path = tmp_path / f"{name}.gguf"
    for columns, rows, data, named in (
        (block, 2, 2 * size - 1, "'t' ends outside the file"),
        (block, 2**40, 2 * size, "'t' ends outside the file"),
        (block + 1, block, (block + 1) * size, "impossible shape" if block > 1 else "architecture None"),
    ):
        header = struct.pack("<QQ", 1, 0) + key("t", 2, struct.pack("<QQIQ", columns, rows, number, 0))
        start = b"GGUF" + struct.pack("<I", 3) + header
        path.write_bytes(start + bytes(-len(start) % 32 + data))
        refused(path, named)


def test_tensors_equal_the_model_it_was_made_from(tmp_path: Path) -> None:
    """Catches a forgotten or a wrong permutation of q and k rows, and a swapped name."""
    source = GgufSource(write(tmp_path / "a.gguf"))
    assert source.config == MODEL
    check_complete(source, source.config, "test")
    for name, tensor in random_tensors().items():
        assert np.array_equal(source.tensor(name, tensor.shape).numpy(), tensor), name
    source.close()


def test_tensors_go_to_the_device_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a check for NaN on the host, which has seen the tensor before."""
    checked: list[torch.Tensor] = []

    def check(tensor: torch.Tensor, name: str, origin: str) -> torch.Tensor:
        checked.append(tensor)
        return tensor

    monkeypatch.setattr("preftree.engine.weights.conversion.check_finite", check)
    source = GgufSource(write(tmp_path / "a.gguf"))
    name = "model.layers.0.self_attn.q_proj.weight"
    tensor = source.tensor(name, (32, 32), torch.device("meta"))
    assert [(part.device.type, part.numel()) for part in checked] == [("meta", 32 * 32)]
    assert (tensor.device.type, tensor.shape, tensor.dtype) == ("meta", (32, 32), torch.float32)


def test_transformers_reads_the_same(tmp_path: Path) -> None:
    """Catches a mistake that the test's own writer shares: transformers' un-permute of the same file, quantised."""
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    path = write(tmp_path / "a.gguf", "Q8_0")
    heads = {"num_attention_heads": MODEL.num_heads, "num_key_value_heads": MODEL.num_kv_heads}
    processor, source = LlamaTensorProcessor(heads), GgufSource(path)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(str(path)).tensors}
    for name, shape in expected_tensors(MODEL).items():
        tensor = theirs[gguf_name(name)]
        expected = processor.process(gguf.quants.dequantize(tensor.data, tensor.tensor_type), tensor.name).weights
        assert np.array_equal(source.tensor(name, shape).numpy(), expected), name


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_quantised_types_come_close(tmp_path: Path, kind: str) -> None:
    """Catches blocks read with the wrong layout."""
    source = GgufSource(write(tmp_path / "a.gguf", kind))
    for name, tensor in random_tensors().items():
        got = source.tensor(name, tensor.shape)
        assert got.dtype == torch.float32
        assert np.abs(got.numpy() - tensor).max() <= (0.5 if kind.startswith("Q4") else 0.02), name


def test_embedded_model_equals_the_dequantised_file(embedded_checkpoint: Checkpoint) -> None:
    """Catches weights that lose bits or the row order: against the library and transformers' un-permute."""
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    distribution = metadata.distribution(PACKAGE)
    file = next(file for file in distribution.files or () if str(file).endswith(".gguf"))
    by_name = {tensor.name: tensor for tensor in gguf.GGUFReader(str(distribution.locate_file(file))).tensors}
    shapes = expected_tensors(embedded_checkpoint.config)
    processor = LlamaTensorProcessor({"num_attention_heads": 9, "num_key_value_heads": 3})
    for theirs, ours in (
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.29.attn_k.weight", "model.layers.29.self_attn.k_proj.weight"),
        ("blk.3.attn_v.weight", "model.layers.3.self_attn.v_proj.weight"),
        ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight"),
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ):
        weights = gguf.quants.dequantize(by_name[theirs].data, by_name[theirs].tensor_type)
        expected = processor.process(weights, theirs).weights
        assert np.array_equal(embedded_checkpoint.weights.tensor(ours, shapes[ours]).numpy(), expected), ours


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"architecture": "falcon"}, "architecture 'falcon'"),
        ({"block_count": None}, "llama.block_count is missing"),
        ({"block_count": 3}, "model.layers.2.* missing"),
        ({"block_count": 10**9}, "num_layers|num_hidden_layers"),
        ({"attention.head_count": 0}, "head_count"),
        ({"attention.head_count_kv": 3}, "num_kv_heads"),
        ({"rope.dimension_count": 4}, "rope.dimension_count"),
        ({"expert_count": 8}, "llama.expert_used_count is missing"),
        ({"rope.scaling.type": "ntk", "rope.scaling.factor": 4.0}, "'ntk'"),
        ({"vocab_size": 7}, "tokenizer has ids up to 260"),
    ],
)
def test_unsupported_metadata_is_refused(tmp_path: Path, keys: dict[str, Any], named: str) -> None:
    """Catches a model that would load and compute something else."""
    refused(write(tmp_path / "a.gguf", **keys), named)


def test_linear_scaling_is_read_and_other_factors_are_refused(tmp_path: Path) -> None:
    """Catches a scaling that is left out."""

    def add_factors(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_factors_long.weight", np.ones(4, dtype=np.float32))

    refused(write(tmp_path / "a.gguf", change=add_factors), "rope factors by tensor are not supported")
    keys: dict[str, Any] = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0, "rope.freq_base": 1e5}
    rope = GgufSource(write(tmp_path / "b.gguf", **keys)).config.rope
    assert (rope.kind, rope.factor, rope.theta) == ("linear", 4.0, 1e5)


def test_other_tensor_types_and_unknown_tensors_are_named(tmp_path: Path) -> None:
    """Catches a KeyError for a quantisation preftree does not read, and a bias that is ignored."""

    def whole_numbers(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("extra.weight", np.ones((1, 32), np.int32))

    def bias(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("blk.0.attn_q.bias", np.ones(32, dtype=np.float32))

    refused(write(tmp_path / "a.gguf", change=whole_numbers), "'extra.weight' has type number 26; preftree reads F32, ")
    refused(write(tmp_path / "b.gguf", change=bias), "layers.0.self_attn.q_proj.bias' is unknown")


def test_truncated_anywhere_is_refused_quickly(tmp_path: Path) -> None:
    """Catches a broken download, cut in every part of the file."""
    path = write(tmp_path / "a.gguf")
    whole = path.read_bytes()
    for size in [0, 3, 4, 8, 20, *range(24, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path, "truncated|is empty|is no GGUF")


STRING, ARRAY, U32 = 8, 9, 4


def key(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (struct.pack("<QQ", 0, 2**63), "ends outside the file"),
        (struct.pack("<QQ", 2**63, 0), "ends outside the file"),
        (struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**63), "ends outside the file"),
        (struct.pack("<QQ", 0, 1) + key("a", STRING, struct.pack("<Q", 2**64 - 1)), "'a' ends outside"),
        (struct.pack("<QQ", 0, 1) + key("a", ARRAY, struct.pack("<IQ", U32, 2**40)), "'a' has 1099511627776 items"),
        (struct.pack("<QQ", 0, 1) + key("a", ARRAY, struct.pack("<IQ", U32, 2**21)), "'a' ends outside"),
        (struct.pack("<QQ", 0, 1) + key("a", ARRAY, struct.pack("<IQ", STRING, 2**21)), "'a' ends outside"),
        (struct.pack("<QQ", 0, 1) + key("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 50), "array of type 9"),
        (struct.pack("<QQ", 0, 1) + key("a", 99, b""), "unknown type 99"),
        (struct.pack("<QQ", 0, 2) + key("a", U32, bytes(4)) * 2, "'a' appears twice"),
        (struct.pack("<QQ", 0, 1) + key("a", STRING, struct.pack("<Q", 2) + b"\xff\xfe"), "not UTF-8"),
        (struct.pack("<QQ", 0, 1) + key("general.alignment", U32, struct.pack("<I", 0)), "alignment"),
        (struct.pack("<QQ", 1, 0) + key("t", 9, b""), "9 dimensions"),
        (struct.pack("<QQ", 1, 0) + key("t", 1, struct.pack("<QIQ", 2**62, 0, 0)), "'t' ends outside"),
        (struct.pack("<QQ", 1, 0) + key("t", 1, struct.pack("<QIQ", 1, 0, 2**63)), "'t' ends outside"),
        (struct.pack("<QQ", 1, 0) + key("t", 2, struct.pack("<QQIQ", 31, 1, 8, 0)), "impossible shape"),
        (struct.pack("<QQ", 2, 0) + key("t", 1, struct.pack("<QIQ", 1, 0, 0)) * 2, "'t' appears twice"),
    ],
)
def test_crafted_header_is_refused_quickly(tmp_path: Path, body: bytes, named: str) -> None:
    """Catches the hang of the library's reader, endless allocation, and numbers that overflow."""
    path = tmp_path / "evil.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + body + bytes(64))
    refused(path, named)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Catches an old, a big-endian or a foreign file under the name .gguf."""
    path = tmp_path / "a.gguf"
    for content, named in (
        (b"GGML" + bytes(100), "is no GGUF file"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(100), "GGUF version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(100), "big-endian"),
    ):
        path.write_bytes(content)
        refused(path, named)


def test_nan_in_a_tensor_is_named(tmp_path: Path) -> None:
    """Catches a damaged block scale."""
    path = write(tmp_path / "a.gguf")
    place = read_header(path).tensors["output_norm.weight"]
    damaged = bytearray(path.read_bytes())
    damaged[place.begin : place.begin + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match=r"model\.norm\.weight holds NaN"):
        GgufSource(path).tensor("model.norm.weight", (32,))


def test_checkpoint_brings_tokenizer(tmp_path: Path) -> None:
    """Catches a vocabulary, digit rule or BOS setting that gets lost between the file and the tokenizer."""
    checkpoint = open_checkpoint(str(write(tmp_path / "tiny.gguf")))
    tokenizer = checkpoint.tokenizer
    assert (checkpoint.name, checkpoint.chat_template) == ("tiny", None)
    assert tokenizer.control == {token: i for i, token in enumerate(CONTROL)}
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.adds_bos) == (0, 1, True)
    assert tokenizer.encode(tokenizer.plain("the")) == [0, 260]
    assert tokenizer.decode(tokenizer.encode("the 10 ä\n")) == "the 10 ä\n"


@pytest.mark.parametrize(("field", "value"), [("add_tokenizer_model", "t5"), ("add_tokenizer_pre", "chameleon")])
def test_other_tokenizers_are_refused(tmp_path: Path, field: str, value: str) -> None:
    """Catches a vocabulary that would be cut by the wrong rules."""

    def change(writer: gguf.GGUFWriter) -> None:
        for data in writer.kv_data:
            data.pop(f"tokenizer.ggml.{field.removeprefix('add_tokenizer_')}", None)
        getattr(writer, field)(value)

    refused(write(tmp_path / "a.gguf", change=change), f"'{value}' is not supported; preftree reads")
