"""Tensors from safetensors: the right ones, and no file that lies."""

import json
import pickle
import re
import weakref
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from preftree.engine.config.hf_config import from_hf
from preftree.engine.engine import Engine
from preftree.engine.errors import InputError, ModelError
from preftree.engine.weights import safetensors
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.reader import Reader
from preftree.engine.weights.resident import ResidentWeights
from preftree.engine.weights.safetensors import CPU, SafetensorsSource, check_complete
from tests.models import CONFIG, QWEN3_CONFIG

MODEL = from_hf(CONFIG, "test")
QWEN3 = from_hf(QWEN3_CONFIG, "test")
NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"


def resave(directory: Path, **changes: Any) -> None:
    """Rewrite model.safetensors with tensors changed (dots as __), or removed where the value is None."""
    path = directory / "model.safetensors"
    tensors = load_file(path) | {name.replace("__", "."): value for name, value in changes.items()}
    save_file({name: value for name, value in tensors.items() if value is not None}, str(path))


def header_file(path: Path, header: str | bytes, data: bytes = b"", length: int | None = None) -> None:
    raw = header.encode() if isinstance(header, str) else header
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)


def line(begin: int, end: int, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [begin, end]} | changes


def read_all(directory: Path) -> None:
    source = SafetensorsSource(directory)
    check_complete(source, MODEL, str(directory))
    for name, shape in expected_tensors(MODEL).items():
        source.tensor(name, shape)


def refused(directory: Path, named: str) -> None:
    """Opening, checking and reading everything ends in one line that matches `named`."""
    with pytest.raises(ModelError) as error:
        read_all(directory)
    assert "\n" not in str(error.value)
    assert str(directory) in str(error.value)
    assert re.search(named, str(error.value)), str(error.value)


def test_names_and_shapes_are_those_of_transformers() -> None:
    """Catches a tensor that is forgotten, misnamed or transposed in `expected_tensors`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    variants: list[dict[str, Any]] = [{}, {"tie_word_embeddings": True}, {"head_dim": 16}]
    for base, changes in product((CONFIG, QWEN3_CONFIG), variants):
        config = base | changes
        with torch.device("meta"):
            theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).state_dict()
        if config["tie_word_embeddings"]:
            del theirs["lm_head.weight"]
        assert expected_tensors(from_hf(config, "test")) == {k: tuple(v.shape) for k, v in theirs.items()}


def test_one_file_and_shards_give_the_same_tensors(model_dir: Path) -> None:
    """Catches a shard that is skipped, and a dtype that is changed on the way."""
    tensors = load_file(model_dir / "model.safetensors")
    tensors[NORM] = tensors[NORM].to(torch.bfloat16)
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].half()
    save_file(tensors, str(model_dir / "model.safetensors"))
    whole = SafetensorsSource(model_dir)
    got = {name: whole.tensor(name, shape) for name, shape in expected_tensors(MODEL).items()}
    whole.close()
    (model_dir / "model.safetensors").unlink()
    halves = [dict(list(tensors.items())[i::2]) for i in range(2)]
    for i, half in enumerate(halves):
        save_file(half, str(model_dir / f"part{i}.safetensors"))
    weight_map = {name: f"part{i}.safetensors" for i, half in enumerate(halves) for name in half}
    (model_dir / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    shards = SafetensorsSource(model_dir)
    check_complete(shards, MODEL, "test")
    assert len(shards.files) == 3
    for name, shape in expected_tensors(MODEL).items():
        other = shards.tensor(name, shape)
        assert other.dtype == got[name].dtype == tensors[name].dtype
        assert torch.equal(other, got[name])
        assert torch.equal(other, tensors[name])


def test_tensors_outlive_the_source_and_the_file(model_dir: Path) -> None:
    """Catches a view of the mapped file, which a truncated or replaced file would turn into a crash."""
    source = SafetensorsSource(model_dir)
    tensor = source.tensor(EMBEDDING, expected_tensors(MODEL)[EMBEDDING])
    source.close()
    (model_dir / "model.safetensors").write_bytes(b"")
    assert tensor.isfinite().all()
    assert tensor.data_ptr() % 64 == 0  # equal bits need equal alignment; offsets in the file have none


class Operations(TorchDispatchMode):
    """Records every tensor operation: its name, and the device of its result."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.seen.append((func.overloadpacket.__name__, result.device.type))
        return result


def test_another_device_gets_the_file_itself(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a copy on the host before the one to the device, and a check for NaN that brings a tensor back."""
    checked: list[torch.Tensor] = []

    def check(tensor: torch.Tensor, name: str, origin: str) -> torch.Tensor:
        checked.append(tensor)
        return tensor

    monkeypatch.setattr(safetensors, "check_finite", check)
    source = SafetensorsSource(model_dir)
    shape = expected_tensors(MODEL)[EMBEDDING]
    for device in ("meta", "cpu"):
        with Operations() as operations:
            tensor = source.tensor(EMBEDDING, shape, torch.device(device))
        assert (tensor.device.type, tensor.shape) == (device, shape)
        assert checked.pop() is tensor
        assert [name for name, _ in operations.seen if name in ("clone", "_to_copy", "copy_")] == ["_to_copy"]
        assert operations.seen[-1] == ("_to_copy", device)


class FakeSource:
    """A TensorSource on any device, of which a reader may hold one tensor of those that it fuses at a time."""

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    def __init__(self) -> None:
        self.read: list[tuple[str, str]] = []
        self._given: list[weakref.ref[torch.Tensor]] = []

    def names(self) -> frozenset[str]:
        return frozenset(expected_tensors(QWEN3))

    def stored_types(self) -> Counter[str]:
        return Counter(F16=len(self.names()))

    def tensor(
        self, name: str, shape: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        assert expected_tensors(QWEN3)[name] == shape
        assert dtype == torch.bfloat16, "a tensor as stored stays beside its converted copy"
        assert all(tensor() is None for tensor in self._given), "a matrix stays beside the one that it is fused into"
        self.read.append((name, device.type))
        tensor = torch.empty(shape, dtype=dtype, device=device)
        if "k_proj" in name or "v_proj" in name or "gate_proj" in name or "up_proj" in name:
            self._given.append(weakref.ref(tensor))
        return tensor

    def close(self) -> None:
        pass


OPERATIONS: Any = SimpleNamespace(
    pack_linear=lambda weight, bias: weight,
    pack_gated=lambda weight, bias: weight,
    pack_head=lambda weight: weight,
)


def test_weights_go_to_the_device_one_by_one() -> None:
    """Catches a tensor read twice or on the host, and matrices of a layer held beside the one they are fused into."""
    source = FakeSource()
    resident = ResidentWeights(Reader(source, QWEN3, torch.device("meta"), torch.bfloat16, OPERATIONS))
    assert sorted(source.read) == sorted((name, "meta") for name in expected_tensors(QWEN3))
    with resident.layers() as layers:
        layer = list(layers)[-1]
    assert layer.kv.shape == (2 * QWEN3.kv_size, QWEN3.hidden_size)
    assert layer.mlp is not None
    assert layer.mlp.gate_up.shape == (2 * QWEN3.intermediate_size, QWEN3.hidden_size)
    assert layer.q_norm is not None
    assert layer.q_norm.shape == (QWEN3.head_dim,)
    held = [resident.embedding, resident.head, resident.final_norm, *vars(layer).values(), *vars(layer.mlp).values()]
    for tensor in (value for value in held if isinstance(value, torch.Tensor)):
        assert (tensor.device.type, tensor.dtype) == ("meta", torch.bfloat16)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_become_what_is_asked_for(
    model_dir: Path, stored: torch.dtype, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a slice that is left out or comes twice, and NaN that only a later slice holds."""
    monkeypatch.setattr(safetensors, "SLICE", 1000)
    embedding = load_file(model_dir / "model.safetensors")[EMBEDDING].to(stored)
    resave(model_dir, **{EMBEDDING.replace(".", "__"): embedding})
    got = SafetensorsSource(model_dir).tensor(EMBEDDING, tuple(embedding.shape), CPU, dtype)
    assert got.dtype == dtype
    assert torch.equal(got, embedding.to(dtype))
    embedding[-1, -1] = torch.nan
    resave(model_dir, **{EMBEDDING.replace(".", "__"): embedding})
    with pytest.raises(ModelError, match=f"{EMBEDDING} holds NaN"):
        SafetensorsSource(model_dir).tensor(EMBEDDING, tuple(embedding.shape), CPU, dtype)


def test_symlinked_files_work(model_dir: Path, tmp_path: Path) -> None:
    """Catches a refusal of the Hugging Face cache, whose snapshots are links to blobs."""
    blob = tmp_path / "blob"
    (model_dir / "model.safetensors").rename(blob)
    (model_dir / "model.safetensors").symlink_to(blob)
    check_complete(SafetensorsSource(model_dir), MODEL, "test")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickled_weights_are_refused_by_name(model_dir: Path, name: str) -> None:
    """Catches a pickle being opened, or a message that does not say why the model is refused."""
    (model_dir / "model.safetensors").rename(model_dir / name)
    refused(model_dir, rf"holds pickled weights \({name}\), which preftree never opens; convert them")


def test_a_header_as_long_as_a_pickle_begins(tmp_path: Path) -> None:
    """Catches a file that is taken for a pickle because its first byte, of the header's length, is that of one."""
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(2)}, path)
    whole = path.read_bytes()
    header = whole[8 : 8 + int.from_bytes(whole[:8], "little")].ljust(0x80)
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[-8:])
    assert SafetensorsSource(tmp_path).names() == {"a"}


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_renamed_pickle_is_refused(model_dir: Path, writer: str, tmp_path: Path) -> None:
    """Catches a pickle that hides behind the name model.safetensors."""
    path = model_dir / "model.safetensors"
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    else:
        torch.save({"a": torch.ones(2)}, path)
    refused(model_dir, "pickled weights")


def test_truncated_file_is_refused_anywhere(model_dir: Path) -> None:
    """Catches a broken download: in the length, in the header, at its end, in the data."""
    path = model_dir / "model.safetensors"
    whole = path.read_bytes()
    header_end = 8 + int.from_bytes(whole[:8], "little")
    for size in (0, 4, 8, 100, header_end, header_end + 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(model_dir, "truncated|broken JSON")


@pytest.mark.parametrize(
    ("header", "data", "named"),
    [
        (f'{{"a": {json.dumps(line(0, 8))}, "a": {json.dumps(line(8, 16))}}}', 16, "appears twice"),
        (json.dumps({"a": line(0, 8), "a ": line(0, 8)}).replace("a ", "a"), 8, "appears twice"),
        (json.dumps({"a": line(0, 8), "b": line(4, 12)}), 12, "invalid offset for tensor `b`"),
        (json.dumps({"a": line(0, 8), "b": line(12, 20)}), 20, "invalid offset for tensor `b`"),
        (json.dumps({"a": line(0, 8)}), 12, "truncated"),
        (json.dumps({"a": line(0, 800, shape=[200])}), 8, "truncated"),
        (json.dumps({"a": line(0, 8, shape=[3])}), 8, "invalid shape"),
        (json.dumps({"a": line(8, 0)}), 8, "invalid offset"),
        (json.dumps({"a": line(0, 8, shape=[2**61, 2**61])}), 8, "overflow"),
        (json.dumps({"a": line(0, 0, shape=[2**40, 2**40, 0])}), 0, "overflow"),
        (json.dumps({"a": line(0, 8, shape=[-2])}), 8, "integer `-2`"),
        (json.dumps({"a": line(0, 8, shape=[True])}), 8, "boolean `true`"),
        (json.dumps({"a": line(0, 8, dtype=["F32"])}), 8, "invalid type"),
        (json.dumps({"a": line(0, 8, dtype="EVIL")}), 8, "`EVIL`"),
        (json.dumps({"a": ["F32", [2], [0, 8]]}), 8, "malformed"),
        (json.dumps({"a": line(0, 8, dtype={"F32": None})}), 8, "malformed"),
        (json.dumps({"a": 7}), 8, "integer `7`"),
        ("[1, 2]", 0, "no JSON object"),
        ("[" * 100_000, 0, "broken JSON"),
        (b"\xff\xfe{}", 0, "broken JSON"),
    ],
)
def test_lying_header_is_refused(model_dir: Path, header: str | bytes, data: int, named: str) -> None:
    """Catches what the library accepts (duplicates), and errors of its own."""
    header_file(model_dir / "model.safetensors", header, bytes(data))
    refused(model_dir, named)


@pytest.mark.parametrize("length", [0, 1, 101, 2**40, 2**64 - 1])
def test_absurd_header_length_is_refused(model_dir: Path, length: int) -> None:
    """Catches an allocation of what a crafted length asks for."""
    header_file(model_dir / "model.safetensors", "{}" + " " * 90, b"", length)
    refused(model_dir, "truncated or no safetensors file")


@pytest.mark.parametrize(
    "shard", ["../evil.safetensors", "/etc/evil.safetensors", "a/b.safetensors", "..\\e.safetensors", "x.bin", 3, ""]
)
def test_weight_map_stays_inside_the_directory(model_dir: Path, shard: object) -> None:
    """Catches an index that makes preftree open a file elsewhere, or a pickle."""
    save_file({"a": torch.ones(2)}, str(model_dir.parent / "evil.safetensors"))
    (model_dir / "model.safetensors").unlink()
    (model_dir / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    refused(model_dir, "no safetensors file in the same directory")


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ({"weight_map": {}}, "weight_map is missing or empty"),
        ({}, "weight_map is missing or empty"),
        ({"weight_map": {"a": "gone.safetensors"}}, "gone.safetensors: no such file"),
        ({"weight_map": {"a": "part.safetensors", "b": "part.safetensors"}}, "tensor 'b' is not in part"),
    ],
)
def test_index_must_match_its_shards(model_dir: Path, index: dict[str, Any], named: str) -> None:
    """Catches a shard that was not downloaded, and an index of another model."""
    (model_dir / "model.safetensors").unlink()
    save_file({"a": torch.ones(2)}, str(model_dir / "part.safetensors"))
    (model_dir / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(model_dir, named)


def test_missing_and_unknown_tensors_are_named(model_dir: Path) -> None:
    """Catches a model that runs with a tensor left out or ignored (a bias, an adapter)."""
    resave(model_dir, model__norm__weight=None)
    refused(model_dir, "tensor 'model.norm.weight' is missing")
    bias = {"model__layers__0__self_attn__q_proj__bias": torch.ones(32)}
    resave(model_dir, model__norm__weight=torch.ones(32), **bias)
    refused(model_dir, "q_proj.bias' is unknown to a Llama model")


def test_old_rotary_buffers_are_harmless(model_dir: Path) -> None:
    """Catches a refusal of Llama checkpoints from before 2023, which stored the frequencies."""
    resave(model_dir, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    check_complete(SafetensorsSource(model_dir), MODEL, "test")


def test_tied_head_must_repeat_the_embedding(model_dir: Path) -> None:
    """Catches a trained head that is thrown away in silence because config.json says tied."""
    tied = from_hf(CONFIG | {"tie_word_embeddings": True}, "test")
    with pytest.raises(ModelError, match="differs from"):
        check_complete(SafetensorsSource(model_dir), tied, "test")
    same = load_file(model_dir / "model.safetensors")[EMBEDDING].clone()
    resave(model_dir, lm_head__weight=same)
    check_complete(SafetensorsSource(model_dir), tied, "test")


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        (torch.ones(33), r"shape \(33,\)"),
        (torch.ones(32, 1), r"shape \(32, 1\)"),
        (torch.ones(32, dtype=torch.float64), "dtype F64"),
        (torch.ones(32, dtype=torch.int8), "dtype I8"),
        *(
            (torch.full((32,), float(bad)).to(dtype), "NaN or infinity")
            for bad in ("nan", "inf", "-inf")
            for dtype in (torch.float32, torch.float16, torch.bfloat16)
        ),
    ],
)
def test_bad_tensor_is_named(model_dir: Path, tensor: torch.Tensor, named: str) -> None:
    """Catches NaN (which the library accepts) and a shape that would broadcast."""
    if tensor.is_floating_point() and not tensor.isfinite().all():
        tensor[:-1] = 1  # one bad value among good ones
    resave(model_dir, model__norm__weight=tensor)
    refused(model_dir, rf"tensor {NORM} (has|holds) {named}")


@pytest.mark.parametrize(
    ("name", "stored", "value", "dtype", "fits"),
    [
        (EMBEDDING, torch.float32, 65504, "float16", True),
        (EMBEDDING, torch.float32, 65520, "float16", False),
        (EMBEDDING, torch.bfloat16, -70000, "float16", False),
        (EMBEDDING, torch.float32, 3.4e38, "bfloat16", False),
        (EMBEDDING, torch.float32, -3.38e38, "bfloat16", True),
        (EMBEDDING, torch.float32, 3.4e38, "float32", True),
        (NORM, torch.float32, 1e5, "float16", True),  # on a CPU, norms stay float32
        ("model.layers.1.self_attn.v_proj.weight", torch.float32, 1e5, "float16", False),
        ("model.layers.1.self_attn.o_proj.weight", torch.float32, 1e5, "float16", False),
        (EMBEDDING, torch.float32, -1e5, "float16", False),
    ],
)
def test_weights_beyond_the_range_of_16_bits(
    model_dir: Path, name: str, stored: torch.dtype, value: float, dtype: str, fits: bool
) -> None:
    """Catches weights that become infinite on the way, for whose labels a row would be blamed."""
    tensor = load_file(model_dir / "model.safetensors")[name].to(stored)
    tensor[-1] = value
    resave(model_dir, **{name.replace(".", "__"): tensor})
    if fits:
        Engine.load(str(model_dir), dtype=dtype)
        return
    others = {"float16": "bfloat16 or float32", "bfloat16": "float32"}[dtype]
    range_of = re.escape({"float16": "(65,504)", "bfloat16": "(3.38953e+38)"}[dtype])
    said = f"^tensor {name} holds values beyond {dtype}'s range {range_of}; use dtype {others}$"
    with pytest.raises(InputError, match=said):
        Engine.load(str(model_dir), dtype=dtype)


def test_empty_directory_says_what_is_missing(tmp_path: Path, edit_json: Callable[..., None]) -> None:
    """Catches a bare FileNotFoundError."""
    refused(tmp_path, "neither model.safetensors nor")
