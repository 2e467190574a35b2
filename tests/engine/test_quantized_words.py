"""AWQ and GPTQ against scalar arithmetic, vectors of the libraries, and transformers on the dequantised model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from preftree import Engine
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.quantized.awq import read_awq
from preftree.engine.weights.quantized.gptq import read_gptq
from preftree.engine.weights.quantized.scheme import Scheme, Stored
from tests.engine.packed_files import AWQ_ORDER, by_awq, by_gptq, from_words
from tests.engine.quantized_files import Quantiser, quantise
from tests.engine.test_architectures import LABELS, exact_logprobs, prompts_of, save

pytestmark = pytest.mark.usefixtures("one_thread")

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
# As GPTQModel writes it: how it was made, and which modules are left as they were.
META = {
    "lm_head": False,
    "pack_dtype": "int32",
    "meta": {"quantizer": ["gptqmodel:7.7.0"]},
    "dynamic": {"-:.*head": {}},
}
CASES: dict[str, tuple[dict[str, Any], Quantiser]] = {
    "gptq": (GPTQ, by_gptq(4, 32)),
    "gptq, act-order": (GPTQ | {"desc_act": True}, by_gptq(4, 32, order=True)),
    "gptq, asymmetric": (GPTQ | {"sym": False}, by_gptq(4, 32, symmetric=False)),
    "gptq_v2, 2 bits, asymmetric": (
        GPTQ | META | {"bits": 2, "sym": False, "checkpoint_format": "gptq_v2", "format": "gptq_v2"},
        by_gptq(2, 32, symmetric=False, less_one=False),
    ),
    "gptq, 3 bits, asymmetric, act-order": (
        GPTQ | {"bits": 3, "sym": False, "desc_act": True, "checkpoint_format": "gptq"},
        by_gptq(3, 32, symmetric=False, order=True),
    ),
    "gptq, 8 bits by row": (GPTQ | {"bits": 8, "group_size": -1}, by_gptq(8, -1)),
    "gptq, symmetric zeros of the second version": (GPTQ, by_gptq(4, 32, less_one=False)),
    "awq": (AWQ, by_awq(32)),
    "awq by row": (AWQ | {"group_size": -1, "version": "GEMM"}, by_awq(-1)),
    "awq, as GPTQModel writes it": (
        AWQ | META | {"zero_point": False, "format": "gemm", "sym": True, "desc_act": False},
        by_awq(32, symmetric=True),
    ),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "plain"
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    save(directory, {"model_type": "qwen3", "tie_word_embeddings": False, **sizes})
    return directory


@pytest.mark.parametrize("name", CASES)
def test_a_directory_is_the_dequantised_model(plain: Path, tmp_path: Path, name: str) -> None:
    """Catches another order of packed numbers, a scale or zero point of another group, and parts that are exchanged."""
    from transformers import AutoModelForCausalLM

    fields, quantiser = CASES[name]
    values = quantise(shutil.copytree(plain, tmp_path / "quantised"), fields, quantiser)
    checkpoint = open_checkpoint(str(tmp_path / "quantised"))
    original = load_file(plain / "model.safetensors")
    for tensor, shape in expected_tensors(checkpoint.config).items():
        read = checkpoint.weights.tensor(tensor, shape)
        assert torch.equal(read, values.get(tensor, original[tensor])), tensor
        if tensor in values:
            assert 0 < (read - original[tensor]).abs().max() < 0.6, "quantised, and not beyond recognition"
    checkpoint.weights.close()
    whole = shutil.copytree(plain, tmp_path / "dequantised")
    save_file(original | values, whole / "model.safetensors", {"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float64).eval()
    prompts = prompts_of(3)
    scores = Engine.load(str(tmp_path / "quantised"), dtype="float32").score(prompts, [LABELS] * 3).logprob
    np.testing.assert_allclose(scores, [exact_logprobs(model, prompt) for prompt in prompts], atol=1e-4)


def words(rows: int, columns: int) -> torch.Tensor:
    numbers = [(2654435761 * place + 12345) % (1 << 32) for place in range(rows * columns)]
    return torch.tensor(numbers).view(rows, columns).to(torch.int32)


def summary(values: torch.Tensor) -> tuple[list[int], list[int], int]:
    flat = values.flatten().long()
    return values[0, :8].tolist(), values[-1, -8:].tolist(), int((flat * (torch.arange(len(flat)) % 97 + 1)).sum())


# By AutoAWQ 0.2.9's dequantize_gemm and GPTQModel 7.7.0's dequantize_weight, after its conversion of the first version
# of the format, from `words`, scales of 1 to 5, and for the second version columns in another order.
RECORDED = {
    "awq": ([0, 4, -8, -4, 0, 4, -8, -4], [-12, 20, -12, 16, -16, 12, -20, 8], -17624),
    "2 gptq": ([-1, 0, 1, -2, -2, -2, 1, -2], [12, 4, 8, 8, 12, 12, 8, 12], -5160),
    "2 gptq_v2": ([0, 1, 2, -9, -9, -1, 2, -9], [2, -2, -4, -4, 2, 2, -4, 0], 6936),
    "3 gptq": ([-1, 5, -2, -2, 1, -2, -2, -2], [-4, 8, 0, 8, 0, 16, 16, 16], -15130),
    "3 gptq_v2": ([0, 6, -1, -12, -3, -1, -1, -12], [-2, 4, 4, 12, 0, 8, 20, 20], -12782),
    "4 gptq": ([-1, -7, -10, -7, -10, -10, -10, -10], [8, -24, 36, 8, -4, 8, 28, 4], -15592),
    "4 gptq_v2": ([0, -6, -9, -30, -39, -9, -9, -39], [-10, -26, 40, 12, -16, -10, 32, 8], 34918),
    "8 gptq": ([-1, -10, -58, -58, 31, 44, 181, 140], [136, -84, 52, 560, 264, 132, -16, 332], 795591),
    "8 gptq_v2": ([0, -9, -57, -579, -312, 45, 182, 15], [42, -68, 56, 564, 106, 40, -12, 336], 1140049),
}


@pytest.mark.parametrize("name", RECORDED)
def test_values_are_the_librarys(name: str) -> None:
    """Catches a layout that preftree and these tests agree on, and nobody else does; zero points that borrow, too."""
    parts = {".scales": (torch.arange(64) % 5 + 1).view(2, 32).half()}
    if name == "awq":
        scheme = scheme_of(AWQ | {"group_size": 16})
        parts |= {".qweight": words(32, 4), ".qzeros": words(2, 4)}
    else:
        bits, layout = int(name[0]), name[2:]
        scheme = scheme_of(GPTQ | {"group_size": 16, "bits": bits, "sym": False, "checkpoint_format": layout})
        parts |= {".qweight": words(bits, 32), ".qzeros": words(2, bits)}
        if layout == "gptq_v2":
            parts[".g_idx"] = (torch.arange(32) * 7 % 32 // 16).to(torch.int32)
    assert summary(scheme.dequantized(parts, (32, 32), 0, 32)) == RECORDED[name]


def scheme_of(fields: dict[str, Any]) -> Scheme:
    scheme = (read_awq if fields["quant_method"] == "awq" else read_gptq)(fields).scheme_of(
        "model.layers.0.mlp.up_proj"
    )
    assert scheme is not None
    return scheme


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_rows_of_any_matrix_are_those_of_scalar_arithmetic(data: st.DataObject) -> None:
    """Catches slices that begin inside a word, groups of the wrong columns, and shapes that only squares forgive."""
    bits = data.draw(st.sampled_from((0, 2, 3, 4, 8)))  # 0: awq
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    unit = {0: 8, 2: 16, 3: 32, 4: 8, 8: 4}[bits]
    rows, groups = unit * data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    size = (unit if bits else 1) * data.draw(st.integers(1, 3))
    columns = groups * size
    ordered, v2 = data.draw(st.booleans()), data.draw(st.booleans())

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(-(1 << 31), 1 << 31, shape, generator=generator).to(torch.int32)

    parts = {".scales": torch.randn(groups, rows, generator=generator).half()}
    group_of = [column // size for column in range(columns)]
    if bits:
        layout = "gptq_v2" if v2 else "gptq"
        changes = {"bits": bits, "group_size": size, "sym": False, "desc_act": ordered, "checkpoint_format": layout}
        scheme = scheme_of(GPTQ | changes)
        parts |= {".qweight": draw(columns * bits // 32, rows), ".qzeros": draw(groups, rows * bits // 32)}
        if ordered:
            group_of = torch.randint(0, groups, (columns,), generator=generator).tolist()
            parts[".g_idx"] = torch.tensor(group_of, dtype=torch.int32)
    else:
        scheme = scheme_of(AWQ | {"group_size": size})
        parts |= {".qweight": draw(columns, rows // 8), ".qzeros": draw(groups, rows // 8)}
    scheme.check({suffix: stored(part) for suffix, part in parts.items()}, (rows, columns))
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, min(rows, first + 12)))
    read = scheme.dequantized(parts, (rows, columns), first, last)
    numbers, zeros = awq_numbers(parts) if not bits else gptq_numbers(parts, bits, v2)
    for row in range(first, last):
        scales = parts[".scales"][:, row].tolist()
        for column, group in enumerate(group_of):
            expected = (numbers[row][column] - zeros[row][group]) * scales[group]
            assert read[row - first, column] == expected, (row, column)


Numbers = list[list[int]]


def gptq_numbers(parts: dict[str, torch.Tensor], bits: int, v2: bool) -> tuple[Numbers, Numbers]:
    """Numbers and zero points by row of the matrix."""
    lines = parts[".qzeros"].tolist()
    if not v2 and bits != 3:
        one = int("".join(["0" * (bits - 1) + "1"] * (32 // bits)), 2)
        lines = [[(word + one) % (1 << 32) for word in line] for line in lines]
    zeros = [from_words(line, bits) for line in lines]
    if not v2 and bits == 3:
        zeros = [[(zero + 1) % 8 for zero in line] for line in zeros]
    numbers = [from_words(line, bits) for line in parts[".qweight"].T.tolist()]
    return numbers, [list(line) for line in zip(*zeros, strict=True)]


def awq_numbers(parts: dict[str, torch.Tensor]) -> tuple[Numbers, Numbers]:
    by_row = []
    for suffix in (".qweight", ".qzeros"):
        lines = [from_words(line, 4) for line in parts[suffix].tolist()]
        places = [first + AWQ_ORDER.index(row) for first in range(0, len(lines[0]), 8) for row in range(8)]
        by_row.append([[line[place] for line in lines] for place in places])
    return by_row[0], by_row[1]


def stored(part: torch.Tensor) -> Stored:
    names = {torch.int32: "I32", torch.float16: "F16"}
    return Stored(names[part.dtype], tuple(part.shape))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (GPTQ | {"bits": 5}, "bits is 5; of gptq, preftree reads 2, 3, 4, 8"),
        (GPTQ | {"bits": True}, "bits is True"),
        (GPTQ | {"bits": "4"}, "bits is '4'"),
        (GPTQ | {"group_size": 0}, "group_size is 0"),
        (GPTQ | {"group_size": -2}, "group_size is -2"),
        (GPTQ | {"sym": "yes"}, "sym is 'yes'"),
        (GPTQ | {"desc_act": None}, "desc_act is None"),
        (GPTQ | {"checkpoint_format": "marlin"}, "checkpoint_format 'marlin' is not supported"),
        (GPTQ | {"checkpoint_format": "gptq", "format": "gptq_v2"}, "contradict each other"),
        (GPTQ | {"is_marlin_format": True}, "is_marlin_format True is not supported"),
        (GPTQ | {"rotation": "hadamard"}, "rotation 'hadamard' is not supported"),
        (GPTQ | {"pack_dtype": "int16"}, "pack_dtype 'int16' is not supported"),
        (GPTQ | {"pack_dtype": ["int32"]}, "pack_dtype"),
        (GPTQ | {"dynamic": {"+:.*down.*": {"bits": 8}}}, r"for the modules '\+:\.\*down"),
        (GPTQ | {"dynamic": [1]}, "dynamic is"),
        (AWQ | {"bits": 3}, "bits is 3; of awq, preftree reads 4"),
        (AWQ | {"version": "gemv"}, "version 'gemv' is not supported; preftree reads gemm"),
        (AWQ | {"version": "gemv_fast"}, "version 'gemv_fast' is not supported"),
        (AWQ | {"backend": "llm-awq"}, "version 'llm-awq' is not supported"),
        (AWQ | {"q_group_size": 1.5}, "q_group_size is 1.5"),
    ],
)
def test_settings_that_cannot_be_followed(fields: dict[str, Any], complaint: str) -> None:
    """Catches a layout read as another one, which gives labels that look like any others."""
    with pytest.raises(ModelError, match=complaint):
        scheme_of(fields)


def test_settings_of_some_modules_that_change_nothing() -> None:
    """Catches checkpoints refused for modules that are left as they were, or for settings that all modules have."""
    scheme_of(GPTQ | {"dynamic": {"-:.*gate.*": {}, "+:.*up.*": {"bits": 4, "group_size": 32}, ".*down.*": {}}})


LIES: list[tuple[str, Callable[[torch.Tensor], torch.Tensor] | None, str]] = [
    (".scales", None, r"\.scales' is missing"),
    (".qzeros", None, r"\.qzeros' is missing"),
    (".g_idx", None, r"\.g_idx' is missing"),
    (".scales", lambda part: part[:1].contiguous(), r"\.scales is F16 of shape \(1, "),
    (".scales", lambda part: part.to(torch.float8_e4m3fn), r"\.scales is F8_E4M3"),
    (".qzeros", lambda part: part.T.contiguous(), r"\.qzeros is I32 of shape"),
    (".qweight", lambda part: part.long(), r"\.qweight is I64"),
    (".qweight", lambda part: part[:, :-1].contiguous(), r"\.qweight is I32 of shape"),
    (".g_idx", lambda part: part[1:].contiguous(), r"\.g_idx is I32 of shape"),
    (".g_idx", lambda part: part - 1, r"up_proj.*\.g_idx names groups -1 to 0, but there are 0 to 1"),
    (".scales", lambda part: part * torch.inf, "holds NaN or infinity"),
]


@pytest.mark.parametrize(
    ("name", "suffix", "change", "complaint"),
    [
        (name, *lie)
        for name in ("gptq, act-order", "awq")
        for lie in LIES
        if (name, lie[0]) != ("awq", ".g_idx")  # it has none
    ],
)
def test_lying_tensors(
    plain: Path, tmp_path: Path, name: str, suffix: str, change: Callable[[torch.Tensor], torch.Tensor] | None,
    complaint: str,
) -> None:  # fmt: skip
    """Catches sizes that are believed until an index leaves a tensor, or that leave a part of a matrix unread."""
    fields, quantiser = CASES[name]
    quantise(shutil.copytree(plain, tmp_path / "quantised"), fields, quantiser)
    path = tmp_path / "quantised" / "model.safetensors"
    tensors, tensor = load_file(path), "model.layers.1.mlp.up_proj" + suffix
    tensors[tensor] = torch.zeros(0) if change is None else change(tensors[tensor])
    if change is None:
        del tensors[tensor]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match=complaint) as error:
        Engine.load(str(tmp_path / "quantised"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "shape", "complaint"),
    [
        (GPTQ | {"group_size": 48}, (64, 64), "64 columns are no multiple of the group size 48"),
        (GPTQ | {"bits": 3}, (40, 64), "40 rows are no multiple of 32"),
        (GPTQ, (4, 64, 64), r"a stack of matrices, here \(4, 64, 64\)"),
        (AWQ, (4, 64, 64), r"a stack of matrices, here \(4, 64, 64\)"),
        (AWQ, (12, 64), "12 rows are no multiple of 8"),
    ],
)
def test_sizes_that_do_not_divide(fields: dict[str, Any], shape: tuple[int, ...], complaint: str) -> None:
    """Catches a last group or word that is taken for a whole one."""
    anything = Stored("I32", (1, 1))
    with pytest.raises(ModelError, match=complaint):
        scheme_of(fields).check(dict.fromkeys((".qweight", ".qzeros", ".scales"), anything), shape)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_biases_that_the_model_has_not(plain: Path, tmp_path: Path, value: float) -> None:
    """Catches AutoGPTQ's zero biases refused, and others left out."""
    quantise(shutil.copytree(plain, tmp_path / "quantised"), *CASES["gptq"])
    path = tmp_path / "quantised" / "model.safetensors"
    bias = {"model.layers.1.mlp.up_proj.bias": torch.tensor([*[0.0] * 95, value]).half()}
    save_file(load_file(path) | bias, path, {"format": "pt"})
    if not value:
        open_checkpoint(str(tmp_path / "quantised"))
    else:
        with pytest.raises(ModelError, match=r"up_proj\.bias' is unknown to"):
            open_checkpoint(str(tmp_path / "quantised"))
