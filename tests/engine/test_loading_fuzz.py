"""Readers of foreign files under random harm: a model that opens, or one line that names the file. Nothing else."""

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.quantization import quantization_of
from preftree.engine.errors import ModelError
from preftree.engine.files import naming, parse_json
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.sentencepiece import BOS, EOS, SentencePieceBackend, read_sentencepiece
from preftree.engine.tokenizer.tokenizer import Tokenizer
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.quantized.formats import format_of
from preftree.engine.weights.quantized.source import QuantizedSource
from preftree.engine.weights.safetensors import SafetensorsSource
from preftree.engine.weights.safetensors_check import read_entries
from tests.engine.gguf_files import write_gguf
from tests.engine.quantized_files import INT4_CONFIG, in_int4, quantise
from tests.engine.sentencepiece_files import trained
from tests.models import CONFIG, QWEN3_CONFIG, tokenizer_data, write_model
from tests.stopwatch import within

UNIGRAM_NFKC = {"model_type": "unigram", "hard_vocab_limit": False, "normalization_rule_name": "nmt_nfkc"}
MODEL = from_hf(CONFIG, "test")
SECONDS = 5.0  # for one file, on a machine that has other things to do


def harmed(whole: bytes, count: int, seed: int, head: int) -> Iterator[bytes]:
    """`whole` with bits flipped, bytes set to extremes, cut, or with parts doubled or taken out; mostly in its head."""
    rng = random.Random(seed)
    for _ in range(count):
        raw = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(max(1, min(head, len(raw) - 8)))
            kind = rng.randrange(6)
            if not raw:
                break
            if kind == 0:
                raw[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                raw[at] = rng.choice((0, 1, 127, 128, 255, 34, 91, 123))
            elif kind == 2:
                raw[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\0" * 7 + b"\x7f", b"\1" + bytes(7)))
            elif kind == 3:
                del raw[at : at + rng.randrange(1, 9)]
            elif kind == 4:
                raw[at:at] = raw[at : at + rng.randrange(1, 9)]
            elif rng.random() < 0.2:
                del raw[at:]
        yield bytes(raw)


def problem(read: Callable[[], object]) -> str:
    """The one line of a ModelError; empty where there is none. Anything else is raised."""
    try:
        read()
    except ModelError as error:
        return str(error)
    return ""


def opens_or_says_why(path: Path, read: Callable[[], object]) -> None:
    with within(SECONDS):
        line = problem(read)
    assert "\n" not in line
    assert path.name in line or not line


def read_everything(spec: Path) -> None:
    checkpoint = open_checkpoint(str(spec))
    for name, shape in expected_tensors(checkpoint.config).items():
        checkpoint.weights.tensor(name, shape)
    checkpoint.tokenizer.encode("the naïve <s> text")
    checkpoint.weights.close()


def harm_and_read(path: Path, read: Callable[[], object], count: int, seed: int = 0, head: int = 1 << 30) -> None:
    for raw in harmed(path.read_bytes(), count, seed, head):
        path.write_bytes(raw)
        opens_or_says_why(path, read)


def open_sentencepiece(path: Path) -> None:
    pieces = read_sentencepiece(path)
    with naming(path):
        tokenizer = Tokenizer(
            SentencePieceBackend(pieces, {}, prefix_once=True), pieces.role(*BOS), pieces.role(*EOS), None
        )
    ids = tokenizer.encode("the naïve <s> text")
    assert not set(ids) & set(tokenizer.control.values())


def fuzz_directory(directory: Path, name: str, count: int, seed: int, is_quantised: bool = False) -> None:
    write_model(directory)
    if is_quantised:
        quantise(directory, INT4_CONFIG, in_int4)
    opened = partial(read_everything, directory)
    for raw in harmed((directory / name).read_bytes(), count, seed, 1 << 30):
        (directory / name).write_bytes(raw)
        opens_or_says_why(directory, opened)


FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_harmed_directories(tmp_path: Path, name: str) -> None:
    """Catches an exception of another class, a hang, or two lines, for a file that was damaged on its way."""
    fuzz_directory(tmp_path / "model", name, 40, seed=1)


def test_harmed_quantised_weights(tmp_path: Path) -> None:
    """As above, where every matrix is made up of three tensors."""
    fuzz_directory(tmp_path / "model", "model.safetensors", 40, seed=1, is_quantised=True)


def test_harmed_gguf(tmp_path: Path) -> None:
    """As above; most of the harm is in the header."""
    path = write_gguf(tmp_path / "model.gguf", write_model(tmp_path / "hf"))
    harm_and_read(path, partial(read_everything, path), 100, head=9000)


def test_harmed_safetensors_headers(tmp_path: Path) -> None:
    """As above, for the header alone: most of what is harmed there is still JSON."""
    path = write_model(tmp_path / "hf") / "model.safetensors"
    harm_and_read(path, partial(read_entries, path), 300, head=2500)


def test_harmed_tokenizer_models(tmp_path: Path) -> None:
    """As above; whatever opens keeps its control tokens out of texts."""
    path = trained(tmp_path / "tokenizer.model")
    harm_and_read(path, partial(open_sentencepiece, path), 60)
    path = trained(tmp_path / "unigram.model", **UNIGRAM_NFKC)
    rules = path.stat().st_size - 100_000  # of the file's 250,000 bytes, most are those of the normaliser
    harm_and_read(path, partial(open_sentencepiece, path), 60, head=9000)
    harm_and_read(path, partial(open_sentencepiece, path), 60, head=rules)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
def test_much_harm(tmp_path: Path, seed: int) -> None:
    """All of the above, a hundred times."""
    for name in FILES:
        fuzz_directory(tmp_path / name, name, 300, seed)
        fuzz_directory(tmp_path / "quantised" / name, name, 300, seed, is_quantised=True)
    gguf = write_gguf(tmp_path / "model.gguf", write_model(tmp_path / "hf"))
    harm_and_read(gguf, partial(read_everything, gguf), 1000, seed, 9000)
    safetensors = tmp_path / "hf" / "model.safetensors"
    harm_and_read(safetensors, partial(read_entries, safetensors), 3000, seed, 2500)
    model = trained(tmp_path / "tokenizer.model", **(UNIGRAM_NFKC if seed % 2 else {}))
    harm_and_read(model, partial(open_sentencepiece, model), 600, seed)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
EXTREMES = st.sampled_from(
    [0, -1, 1, 3, 10**9, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "1", [], {}, True]
)
ROPE = st.dictionaries(
    st.sampled_from(["rope_type", "type", "factor", "rope_theta", "short_factor", "original_max_position_embeddings"]),
    VALUES | EXTREMES | st.sampled_from(["linear", "dynamic", "yarn", "longrope", "llama3"]),
)


def changed(base: dict[str, Any]) -> Any:
    keys = [*base, "head_dim", "sliding_window", "layer_types", "rope_scaling", "rope_parameters", "attention_bias"]
    return st.dictionaries(st.sampled_from(keys), VALUES | EXTREMES | ROPE, max_size=4).map(lambda more: base | more)


@settings(max_examples=150, deadline=2000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(changed(CONFIG) | changed(QWEN3_CONFIG))
def test_any_value_in_a_config(config: dict[str, Any]) -> None:
    """Catches a TypeError, an OverflowError or an endless list for a value that no author ever wrote."""
    found: list[ModelConfig] = []
    line = problem(lambda: found.append(from_hf(config, "config.json")))
    assert "\n" not in line
    assert line.startswith("config.json: ") or found[0].num_layers <= 1024


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, item in items:
        if key != "vocab":
            yield from paths(item, (*here, key))


def put(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


QUANTIZATIONS: list[dict[str, Any]] = [
    {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3", "scale_fmt": "ue8m0"},
    {"quant_method": "gptq", "bits": 4, "group_size": 8, "sym": False, "desc_act": True, "dynamic": {}},
    {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm", "zero_point": True, "pack_dtype": "int32"},
    {"quant_method": "mxfp4", "modules_to_not_convert": []},
    INT4_CONFIG | {"kv_cache_scheme": None, "sparsity_config": {}, "ignore": ["lm_head"]},
]
ANY_QUANTIZATION = st.sampled_from(QUANTIZATIONS).flatmap(
    lambda base: st.tuples(st.just(base), st.sampled_from([path for path in paths(base) if path]), VALUES | EXTREMES)
)


@pytest.fixture(scope="module")
def packed_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_model(tmp_path_factory.mktemp("models") / "packed")
    quantise(directory, INT4_CONFIG, in_int4)
    return directory


@settings(max_examples=300, deadline=2000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(ANY_QUANTIZATION)
def test_any_value_in_a_quantization_config(packed_dir: Path, change: tuple[Any, tuple[Any, ...], Any]) -> None:
    """Catches a TypeError for a setting that no author ever wrote, and one that is followed into a wrong shape."""
    base, path, value = change
    fields = json.loads(json.dumps(base))
    put(fields, path, value)

    def read() -> None:
        quantization = quantization_of({"quantization_config": fields})
        assert quantization is not None
        shapes = expected_tensors(MODEL)
        source = QuantizedSource(SafetensorsSource(packed_dir), format_of(quantization), shapes, str(packed_dir))
        for name in source.names() & shapes.keys():
            source.tensor(name, shapes[name])

    assert "\n" not in problem(read)


PATHS = [path for path in paths(tokenizer_data()) if path]


@settings(max_examples=150, deadline=2000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), VALUES | EXTREMES)
def test_any_value_in_a_tokenizer_json(path: tuple[Any, ...], value: Any) -> None:
    """Catches a panic of the library, which is no Exception, and a KeyError of ours."""
    data = json.loads(json.dumps(tokenizer_data()))
    put(data, path, value)
    text = json.dumps(data)
    line = problem(
        lambda: Tokenizer(JsonBackend(parse_json(text, "tokenizer.json")), "<s>", "</s>", None).encode("the <s> text")
    )
    assert "\n" not in line
