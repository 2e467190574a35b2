"""A model from GGUF gives the bits of the same model from a Hugging Face directory: weights, settings and tokenizer."""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend

from benchmarks.hugging_face import embedded_directory
from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.engine import Engine
from preftree.engine.errors import ModelError
from preftree.engine.gguf import tensors as gguf_module
from preftree.engine.gguf.header import TENSOR_TYPES, read_header
from preftree.engine.gguf.pretokenizers import PRE_TOKENIZERS
from preftree.engine.tokenizer.sentencepiece import read_sentencepiece
from tests.engine.gguf_files import add_byte_tokenizer, round_through, write_gguf
from tests.engine.sentencepiece_files import NO_PREFIX, library, trained
from tests.engine.test_loading_sentencepiece import texts
from tests.engine.tokenizer_families import BYTES, GPT_4O, LLAMA_3, MAPPED_BYTES, QWEN_2, sequence, split
from tests.models import QWEN3_CONFIG, SMALL_CONFIG, tokenizer_data, write_model

if TYPE_CHECKING:
    import gguf
else:
    gguf = pytest.importorskip("gguf")

QWEN2_CONFIG = SMALL_CONFIG | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
}
CONFIGS = {"llama": SMALL_CONFIG, "qwen2": QWEN2_CONFIG, "qwen3": QWEN3_CONFIG}
PROMPTS = [[7, 9, 30, 31, 200, 7, 9], [7, 9, 30, 31, 90, 4], [7, *range(20, 90)]]


def scores(spec: Path | str, prompts: list[list[int]] = PROMPTS) -> torch.Tensor:
    found = Engine.load(str(spec)).score(prompts, [[[40], [41, 42]]] * len(prompts))
    return torch.cat([torch.as_tensor(found.logprob).flatten(), torch.as_tensor(found.label_mass).flatten()])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_same_bits_as_the_directory(tmp_path: Path, architecture: str, tied: bool) -> None:
    """Catches rows that are permuted where they are not, a bias or head norm left out, and another rope base."""
    config = CONFIGS[architecture] | {"tie_word_embeddings": tied}
    directory = write_model(tmp_path / "hf", config)
    path = write_gguf(tmp_path / "model.gguf", directory)
    assert open_checkpoint(str(path)).config == open_checkpoint(str(directory)).config
    assert torch.equal(scores(path), scores(directory))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"])
def test_same_bits_as_the_rounded_directory(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a chunk that begins in the middle of a block, and a type that is dequantised in another precision."""
    monkeypatch.setattr(gguf_module, "CHUNK", 1000)
    directory = write_model(tmp_path / "hf", SMALL_CONFIG)
    path = write_gguf(tmp_path / "model.gguf", directory, kind)
    round_through(directory, kind)
    assert torch.equal(scores(path), scores(directory))


@pytest.mark.parametrize("number", TENSOR_TYPES)
def test_dequantised_in_chunks_as_by_the_library_at_once(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a K-quant row that is cut at the wrong place: each block has a scale of its own."""
    monkeypatch.setattr(gguf_module, "CHUNK", 1024)
    kind = gguf.GGMLQuantizationType(number)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    columns = 2048 // block
    random = np.random.default_rng(1)
    try:
        raw = gguf.quants.quantize(random.standard_normal((3, 2048), dtype=np.float32), kind).view(np.uint8)
    except NotImplementedError:
        raw = random.integers(0, 64, (3, columns * size), dtype=np.uint8)  # small bytes: finite scales
    flat = gguf_module.dequantise(raw.reshape(-1, size), number)
    if kind.name not in ("F32", "F16"):
        assert np.array_equal(flat.reshape(3, -1), gguf.quants.dequantize(raw, kind))
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    writer.add_tensor("x", raw, raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    source = gguf_module.GgufSource.__new__(gguf_module.GgufSource)
    source._open = {}
    got = source._floats(read_header(tmp_path / "k.gguf").tensors["x"])
    assert np.array_equal(got, flat.reshape(3, columns * block))


def test_embedded_model_has_the_same_bits_both_ways(embedded_checkpoint: Checkpoint, embedded_engine: Engine) -> None:
    """Catches a GGUF file that says something else than the same weights in a directory: SmolLM2, from both."""
    engine = Engine.load(str(embedded_directory()), dtype="float32")
    checkpoint = engine.checkpoint
    assert checkpoint.config == embedded_checkpoint.config
    assert checkpoint.chat_template is not None
    assert embedded_checkpoint.chat_template is not None
    prompts = []
    for text in ("Which is better, 1 or 2?\n\nAnswer:", "naïve 漢字 10 <|im_end|>"):
        pieces = checkpoint.chat_template.pieces(checkpoint.tokenizer, text, "Be brief.")
        assert pieces == embedded_checkpoint.chat_template.pieces(embedded_checkpoint.tokenizer, text, "Be brief.")
        prompts.append(checkpoint.tokenizer.encode(pieces))
        assert prompts[-1] == embedded_checkpoint.tokenizer.encode(pieces)
    labels = [[[33], [34, 35]]] * 2
    ours, theirs = engine.score(prompts, labels), embedded_engine.score(prompts, labels)
    assert np.array_equal(ours.logprob, theirs.logprob)
    assert np.array_equal(ours.label_mass, theirs.label_mass)


def llama3_factors(factor: float, dims: int, theta: float) -> np.ndarray:
    """As `LlamaModel.generate_extra_tensors` in llama.cpp's convert_hf_to_gguf.py."""
    factors = []
    for frequency in 1.0 / (theta ** (np.arange(0, dims, 2, dtype=np.float32) / dims)):
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4.0:
            factors.append(1.0)
        elif wavelength > 8192 / 1.0:
            factors.append(factor)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_scaling_is_recognised(tmp_path: Path, factor: float) -> None:
    """Catches Llama 3.1 and 3.2 files whose baked factors are left out, or taken with float32's rounding."""
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 8192
    heads = {"hidden_size": 384, "num_attention_heads": 6, "rope_theta": 500000.0, "max_position_embeddings": 131072}
    directory = write_model(tmp_path / "hf", SMALL_CONFIG | heads | {"rope_scaling": scaling})
    factors = llama3_factors(factor, 64, 500000.0)
    assert 1.0 < factors[len(factors) // 2] < factor or len(set(factors)) > 2
    path = write_gguf(tmp_path / "a.gguf", directory, tensors={"rope_freqs.weight": factors})
    assert open_checkpoint(str(path)).config == open_checkpoint(str(directory)).config
    assert torch.equal(scores(path), scores(directory))
    for wrong in (factors * 1.01, np.sort(factors)[::-1].copy(), factors[:-1], factors * np.nan, -factors):
        path = write_gguf(tmp_path / "b.gguf", directory, tensors={"rope_freqs.weight": wrong})
        with pytest.raises(ModelError, match=r"rope_freqs\.weight is not Llama 3's"):
            open_checkpoint(str(path))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"attention.sliding_window": 4096}, "attention.sliding_window is not supported"),
        ({"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, "longrope"),
        ({"attention.value_length": 8}, "differs from the head size"),
        ({"rope.scaling.attn_factor": 1.5}, "rope.scaling.attn_factor is not supported"),
    ],
)
def test_what_would_change_the_numbers_is_refused(tmp_path: Path, more: dict[str, Any], named: str) -> None:
    """Catches metadata that is passed over."""
    directory = write_model(tmp_path / "hf", SMALL_CONFIG)
    with pytest.raises(ModelError, match=named):
        open_checkpoint(str(write_gguf(tmp_path / "a.gguf", directory, more=more)))


TEKKEN = GPT_4O.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")
DIGITS = sequence({"type": "Digits", "individual_digits": True}, BYTES)
DEEPSEEK_3 = (
    "\\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
)
# As the models' own tokenizer.json has them.
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("gpt-2",), BYTES),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), DIGITS),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx", "chatglm-bpe", "glm4"),
        sequence(split(LLAMA_3), MAPPED_BYTES),
    ),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), sequence(split(QWEN_2), MAPPED_BYTES)),
    "qwen35": sequence(
        split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        MAPPED_BYTES,
    ),
    "tekken": sequence(split(TEKKEN), MAPPED_BYTES),
    **dict.fromkeys(("gpt-4o", "llama4"), sequence(split(GPT_4O), MAPPED_BYTES)),
    "seed-coder": sequence(
        split(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        MAPPED_BYTES,
    ),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), sequence(*map(split, DEEPSEEK_3), MAPPED_BYTES)),
}


def test_every_pre_tokenizer_has_a_model() -> None:
    """Catches one that nobody has compared; "default" is llama.cpp's, and no model's."""
    assert OWN.keys() == PRE_TOKENIZERS.keys() - {"default"}


@pytest.mark.parametrize("pre", OWN)
def test_pre_tokenizers_are_those_of_the_models(pre: str) -> None:
    """Catches a regex with a typing error: words of hard texts, against those of the models' own tokenizer.json."""
    ours, theirs = (
        Backend.from_str(json.dumps(tokenizer_data(pre_tokenizer=found))).pre_tokenizer
        for found in (PRE_TOKENIZERS[pre], OWN[pre])
    )
    for text in (
        *texts(200),
        "I'LL  say: HTTPServer's 12345 naïve e\u0301te\u0301\r\n\r\n//x\t.foo かな漢字カナ ½ ١٢٣",
    ):
        assert ours.pre_tokenize_str(text) == theirs.pre_tokenize_str(text), repr(text)


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_every_pre_tokenizer_opens(tmp_path: Path, pre: str) -> None:
    """Catches a regex that the library refuses, and a vocabulary that does not give its text back."""
    directory = write_model(tmp_path / "hf")
    path = write_gguf(tmp_path / "a.gguf", directory, tokenizer=partial(add_byte_tokenizer, pre=pre))
    tokenizer = open_checkpoint(str(path)).tokenizer
    for text in ("the 1234 cats' naïve café…\n\n\tx_y  z <s>", "it's 漢字 😀"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.adds_bos is (pre in ("llama-bpe", "llama3", "llama-v3", "tekken"))


def add_sentencepiece(model: Path, **flags: bool) -> Callable[[Any, Path], None]:
    def add(writer: Any, directory: Path) -> None:
        pieces = read_sentencepiece(model)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(list(pieces.texts))
        writer.add_token_scores(list(pieces.scores))
        writer.add_token_types(list(pieces.kinds))
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        for name, flag in flags.items():
            writer.add_bool(f"tokenizer.ggml.{name}", flag)

    return add


def test_scored_vocabulary_equals_sentencepiece(tmp_path: Path) -> None:
    """Catches scores, bytes or the prefix space of a Llama 2 or Mistral file that get lost."""
    model = trained(tmp_path / "tokenizer.model")
    theirs = library(model)
    directory = write_model(tmp_path / "hf", SMALL_CONFIG | {"vocab_size": theirs.vocab_size()})
    path = write_gguf(tmp_path / "a.gguf", directory, tokenizer=add_sentencepiece(model))
    tokenizer = open_checkpoint(str(path)).tokenizer
    for text in texts(200):
        assert tokenizer.encode(tokenizer.plain(text)) == theirs.encode(text, add_bos=True), repr(text)
        assert tokenizer.encode([2, text]) == [2, *theirs.encode(text)], repr(text)
        assert not {0, 1, 2} & set(tokenizer.encode(text))
    flags = {"add_bos_token": False, "add_space_prefix": False}
    path = write_gguf(tmp_path / "b.gguf", directory, tokenizer=add_sentencepiece(model, **flags))
    tokenizer = open_checkpoint(str(path)).tokenizer
    assert tokenizer.encode(tokenizer.plain("the")) == library(model, NO_PREFIX).encode("the")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tokenizer.ggml.model": "t5"}, "the GGUF tokenizer 't5' is not supported"),
        ({"tokenizer.ggml.scores": [1.0]}, "another number of pieces than of scores"),
        ({"tokenizer.ggml.scores": None}, "tokenizer.ggml.scores is missing"),
        ({"tokenizer.ggml.token_type": [1]}, "token_type does not fit"),
    ],
)
def test_broken_vocabularies_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    """Catches a traceback for a vocabulary whose lists do not belong together."""
    model = trained(tmp_path / "tokenizer.model")
    directory = write_model(tmp_path / "hf", SMALL_CONFIG | {"vocab_size": library(model).vocab_size()})
    path = write_gguf(tmp_path / "a.gguf", directory, tokenizer=add_sentencepiece(model))
    source = gguf_module.GgufSource(path)
    source._metadata |= changes
    with pytest.raises(ModelError, match=named) as error:
        source.tokenizer()
    assert re.match(re.escape(str(path)), str(error.value))


@pytest.mark.parametrize("kind", [3, 0, 300, -1, "x"])
def test_kinds_that_sentencepiece_does_not_know(tmp_path: Path, kind: Any) -> None:
    """Catches a traceback for a piece of no kind, and a refusal where the file marks <unk> as a control token."""
    model = trained(tmp_path / "tokenizer.model")
    directory = write_model(tmp_path / "hf", SMALL_CONFIG | {"vocab_size": library(model).vocab_size()})
    source = gguf_module.GgufSource(write_gguf(tmp_path / "a.gguf", directory, tokenizer=add_sentencepiece(model)))
    source._metadata["tokenizer.ggml.token_type"][0] = kind
    tokenizer = source.tokenizer()
    assert tokenizer.vocab_size == library(model).vocab_size()
    assert tokenizer.encode("the 漢字 <unk>") == library(model).encode("the 漢字 <unk>")
