"""How large everything is: on a GPU, and in a rehearsal, where it only has to run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from preftree.engine.config.model_config import ModelConfig, RopeConfig

QWEN, LLAMA, SMOL = "Qwen3-0.6B", "Llama-3-8B", "SmolLM2-135M"

_FULL_SHAPES = {
    QWEN: ModelConfig(
        architecture="qwen3",
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_layers=28,
        num_heads=16,
        num_kv_heads=8,
        head_dim=128,
        norm_eps=1e-6,
        rope=RopeConfig(theta=1e6),
        max_context=40960,
        tie_embeddings=True,
    ),
    LLAMA: ModelConfig(
        architecture="llama",
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        norm_eps=1e-5,
        rope=RopeConfig(theta=5e5),
        max_context=8192,
        tie_embeddings=False,
    ),
    SMOL: ModelConfig(
        architecture="llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        norm_eps=1e-5,
        rope=RopeConfig(theta=1e5),
        max_context=8192,
        tie_embeddings=True,
    ),
}


@dataclass(frozen=True)
class Sizes:
    """shapes: of the models, by name. copy_bytes: of a buffer that is copied on the device, upload_bytes: of one
    that is copied to it. matrices: rows, inputs and outputs of products that may stand for the matrix rate.

    rows: of element-wise kernels, linear layers and attention. head_rows: final rows in the label head. row_blocks:
    candidates for a linear layer's block. paths: tokens of a prompt in attention. text_divisor: prompts are that much
    shorter than real ones. batch_budgets: rows of a batch at which labels must have the same bits, throughput_budgets:
    at which rates are compared. bits_pairs: for the comparison of bits. most_pairs: in a workload. run_seconds: that a
    timed run should take. window: of one repetition of a timing, in seconds. padded_sizes: prompts in a padded batch of
    the peer. decoded: tokens of a continuation.
    """

    shapes: dict[str, ModelConfig]
    copy_bytes: int
    upload_bytes: int
    matrices: tuple[tuple[int, int, int], ...]
    rows: int
    head_rows: tuple[int, ...]
    row_blocks: tuple[int, ...]
    paths: tuple[int, ...]
    text_divisor: int
    batch_budgets: tuple[int, ...]
    throughput_budgets: tuple[int, ...]
    bits_pairs: int
    most_pairs: int
    run_seconds: float
    window: float
    padded_sizes: tuple[int, ...]
    decoded: int


FULL = Sizes(
    shapes=_FULL_SHAPES,
    copy_bytes=2 << 30,
    upload_bytes=512 << 20,
    matrices=((8192, 8192, 8192), (16384, 4096, 28672), (8192, 14336, 4096), (16384, 8192, 8192)),
    rows=16384,
    head_rows=(256, 1024, 4096),
    row_blocks=(1024, 2048, 4096, 8192, 16384),
    paths=(1000, 2000, 4000),
    text_divisor=1,
    batch_budgets=(3000, 10_000, 40_000),
    throughput_budgets=(8192, 16384, 32768, 65536),
    bits_pairs=32,
    most_pairs=2048,
    run_seconds=1.5,
    window=0.02,
    padded_sizes=(16, 32, 64),
    decoded=128,
)


def _tiny(config: ModelConfig) -> ModelConfig:
    """The same kind of model; small enough for a test."""
    return replace(
        config,
        vocab_size=300,
        hidden_size=48,
        intermediate_size=64,
        num_layers=2,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
    )


REHEARSAL = Sizes(
    shapes={name: _tiny(config) for name, config in _FULL_SHAPES.items()},
    copy_bytes=1 << 16,
    upload_bytes=1 << 10,
    matrices=((64, 64, 64), (32, 48, 64)),
    rows=256,
    head_rows=(32,),
    row_blocks=(128, 256),
    paths=(100,),
    text_divisor=10,
    batch_budgets=(100, 300),
    throughput_budgets=(128,),
    bits_pairs=2,
    most_pairs=4,
    run_seconds=0.02,
    window=1e-4,
    padded_sizes=(2, 4),
    decoded=6,
)
