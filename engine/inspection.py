"""What is installed, what a model is, and whether its weights are sound: findings for people, one line each."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Literal

from preftree.engine.errors import InputError, ModelError, PreftreeError
from preftree.engine.weights.names import is_draft, num_parameters

if TYPE_CHECKING:
    from preftree.engine.checkpoint import Checkpoint

Status = Literal["", "ok", "failed"]
NEEDED = ("torch", "numpy", "tokenizers", "safetensors", "gguf", "jinja2", "pyarrow")
# Tokens of the longest prompt, and prompts, that a full batch's memory is told for.
_PROMPT_TOKENS, _ROWS_PER_PROMPT = 8192, 64
_GB = 1e9
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json")


@dataclass(frozen=True)
class Finding:
    """status: "" for what is neither right nor wrong."""

    name: str
    detail: str
    status: Status = ""


def software() -> Iterator[Finding]:
    """Versions of what preftree stands on, and the devices that it can run on."""
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", "ok")
    for name in NEEDED:
        try:
            yield Finding(name, version(name), "ok")
        except PackageNotFoundError:
            yield Finding(name, f"is not installed; pip install {name}", "failed")
    try:
        yield Finding("triton", version("triton"), "ok")
    except PackageNotFoundError:
        yield Finding("triton", "is not installed; only GPUs need it")
    yield from _devices()


def default_model() -> Finding:
    """Whether the model that is used where none is named is installed."""
    from preftree.engine.gguf.embedded import embedded_file

    try:
        return Finding("default model", str(embedded_file()), "ok")
    except ModelError as error:
        return Finding("default model", f"{error}; or name a model of yours with --model", "failed")


def _devices() -> Iterator[Finding]:
    import torch

    from preftree.kernels.ops import implementation

    onednn = "with" if torch.backends.mkldnn.is_available() else "without"
    threads = torch.get_num_threads()
    yield Finding("device cpu", f"{threads} thread{'s' if threads > 1 else ''}, {onednn} oneDNN", "ok")
    yield Finding("types on cpu", _cpu_types())
    yield from _compiled_operations()
    if not torch.cuda.is_available():
        yield Finding("device cuda", "none that torch sees")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        about = f"{properties.name}, {properties.total_memory / _GB:.0f} GB, {properties.major}.{properties.minor}"
        try:
            implementation(torch.device("cuda", index), torch.bfloat16)
        except ValueError as error:
            yield Finding(f"device cuda:{index}", f"{about}: {error}", "failed")
        else:
            yield Finding(f"device cuda:{index}", about, "ok")


def _compiled_operations() -> Iterator[Finding]:
    """Those for bfloat16, where the processor has instructions for it."""
    from preftree.kernels import avx512, isa

    if isa.runs("avx512_bf16"):
        obstacle = avx512.obstacle()
        found = f"not compiled, bfloat16 and int8 run at half their speed: {obstacle}" if obstacle else avx512.build()
        yield Finding("kernels on cpu", found, "" if obstacle else "ok")


def _cpu_types() -> str:
    """What "auto" is on the CPU, and the instructions that products in each type run on."""
    from preftree.kernels import isa

    auto = str(isa.default_dtype()).removeprefix("torch.")
    types = [f"{name} ({isa.instructions(name)})" for name in ("float32", "bfloat16")]
    types.append("fp8 (emulated, slow: for figures of its accuracy)")
    types.append(f"no int8: {obstacle}" if (obstacle := isa.int8_obstacle()) else f"int8 ({isa.instructions('int8')})")
    return "; ".join([f"auto is {auto}", *types, *filter(None, [isa.limit()])])


def model_facts(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Architecture, parameters, stored types, context, tokenizer, and the memory that it needs where it would run."""
    from preftree.engine.device import choose_target
    from preftree.engine.precision import name_of

    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    types = ", ".join(f"{name} ({count})" for name, count in checkpoint.weights.stored_types().most_common())
    if checkpoint.revision is not None:
        yield Finding("hub", f"{checkpoint.name} at revision {checkpoint.revision}, in {checkpoint.spec}")
    kind = f"{config.title} reward model" if config.is_reward_model else config.title
    yield Finding("architecture", f"{kind}, {config.num_layers} layers of width {config.hidden_size}")
    if checkpoint.pooling_hint is not None:
        yield Finding("padding", checkpoint.pooling_hint)
    if checkpoint.skipped:
        yield Finding("skipped", _skipped(checkpoint))
    yield Finding("parameters", f"{num_parameters(config):,}")
    yield Finding("stored as", f"{types} in {_counted(len(checkpoint.weights.files), 'file')}")
    yield Finding("context", f"{config.max_context:,} tokens")
    names = [path.name for path in checkpoint.files if path.name in _TOKENIZERS] or [checkpoint.files[0].name]
    about = f"{tokenizer.kind} from {names[0]}, {tokenizer.vocab_size:,} ids, {len(tokenizer.control):,} control tokens"
    yield Finding("tokenizer", about)
    yield from (Finding("assumed", note) for note in checkpoint.notes)
    try:
        target = choose_target(config, None, None, None)
    except InputError as error:
        yield from _dequantised(checkpoint, "the working type")
        yield Finding("memory", str(error), "failed")
        return
    yield from _dequantised(checkpoint, name_of(target.dtype))
    rows = target.batch_tokens
    longest = min(config.max_context, _PROMPT_TOKENS)
    batch = target.memory.batch_bytes(config, rows, rows // _ROWS_PER_PROMPT, longest)
    weights = target.memory.weight_bytes(config)
    where = f"in {target.dtype_name} on {target.device}"
    yield Finding("memory", f"{weights / _GB:.2f} GB of weights {where}, {batch / _GB:.2f} GB for a full batch")
    if target.streams_layers:
        size, share = target.memory.streamed_bytes(config) / _GB, target.memory.compute_share(config, rows)
        found = f"streamed: {size:.2f} GB are copied in every batch, at about {share:.0%} of the speed of resident ones"
        yield Finding("layers", f"{found}, and in every step of --cot, which takes as long as that")
    else:
        yield Finding("layers", "resident")


def model_checks(checkpoint: Checkpoint) -> Iterator[Finding]:
    """That files and tensors are complete, which opening has found, and that every weight is finite: reads them all."""
    from preftree.engine.weights.names import expected_tensors

    expected = expected_tensors(checkpoint.config)
    yield Finding("tensors", f"all {len(expected):,} are there, of the right shapes, and no others", "ok")
    try:
        for name, shape in expected.items():
            checkpoint.weights.tensor(name, shape)
    except ModelError as error:
        yield Finding("weights", str(error), "failed")
    else:
        yield Finding("weights", "all finite", "ok")
    finally:
        checkpoint.weights.close()
    if checkpoint.chat_template is None:
        yield Finding("chat template", "none; prompts are plain text")
        return
    try:
        checkpoint.chat_template.pieces(checkpoint.tokenizer, "user", "system")
    except PreftreeError as error:
        yield Finding("chat template", str(error), "failed")
    else:
        yield Finding("chat template", "renders", "ok")


def _dequantised(checkpoint: Checkpoint, dtype: str) -> Iterator[Finding]:
    """Which matrices become `dtype` out of how many bits, and what else of the model's quantisation is left out."""
    from preftree.engine.weights.quantized.source import QuantizedSource

    source = checkpoint.weights
    if not isinstance(source, QuantizedSource):
        return
    counts = [
        f"{count:,} {'matrix' if count == 1 else 'matrices'} from {title}"
        for title, count in source.dequantized.most_common()
    ]
    kept = f"; activations stay in {dtype}" if source.quantizes_activations else ""
    yield Finding("dequantised", f"{', '.join(counts) or 'no matrix'}, read as {dtype}{kept}")


def _skipped(checkpoint: Checkpoint) -> str:
    """Tensors by what they are of; those of a vision model by the modules that they are in."""
    drafts = sum(is_draft(checkpoint.config, name) for name in checkpoint.skipped)
    found = [f"{_counted(drafts, 'tensor')} of layers that draft tokens"] if drafts else []
    vision = [name for name in checkpoint.skipped if not is_draft(checkpoint.config, name)]
    if vision:
        modules = Counter(name.removeprefix("model.").split(".")[0] for name in vision)
        of = ", ".join(f"{module} ({count:,})" for module, count in sorted(modules.items()))
        found.append(f"{_counted(len(vision), 'tensor')} of the vision model: {of}; only text is read")
    return ", ".join(found)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
