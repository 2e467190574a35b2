"""A decoder-only transformer in plain PyTorch, one prompt at a time: what the engine's log-probabilities should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.random_model import RandomSource
from benchmarks.workloads import JudgePrompt
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.weights.names import expected_tensors


class Oracle:
    """Llama's and Qwen3's forward pass on the CPU in a dtype of choice, without sharing, batches or a K/V cache."""

    def __init__(self, config: ModelConfig, source: RandomSource, dtype: torch.dtype) -> None:
        self._config, self._dtype = config, dtype
        self._weights = {name: source.tensor(name, shape).to(dtype) for name, shape in expected_tensors(config).items()}

    @torch.no_grad()
    def score(self, prompts: Sequence[JudgePrompt]) -> np.ndarray:
        """Log-probabilities of labels of one token each: [prompts, labels] float64."""
        rows = []
        for prompt in prompts:
            logits = self._last_logits(torch.tensor(prompt.ids))
            logprob = logits.double().log_softmax(-1)
            rows.append([float(logprob[token]) for (token,) in prompt.labels])
        return np.array(rows)

    def _last_logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Of the token after `ids`: [vocab]."""
        hidden = self._weights["model.embed_tokens.weight"][ids]
        for layer in range(self._config.num_layers):
            name = f"model.layers.{layer}"
            hidden = hidden + self._attention(name, self._norm(hidden, f"{name}.input_layernorm"))
            hidden = hidden + self._mlp(name, self._norm(hidden, f"{name}.post_attention_layernorm"))
        head = "model.embed_tokens" if self._config.tie_embeddings else "lm_head"
        return F.linear(self._norm(hidden[-1:], "model.norm"), self._weights[f"{head}.weight"])[0]

    def _attention(self, name: str, x: torch.Tensor) -> torch.Tensor:
        config = self._config
        heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        q, k, v = (
            F.linear(x, self._weights[f"{name}.self_attn.{part}_proj.weight"]).view(len(x), count, config.head_dim)
            for part, count in zip("qkv", heads, strict=True)
        )
        if f"{name}.self_attn.q_norm.weight" in self._weights:
            q, k = self._norm(q, f"{name}.self_attn.q_norm"), self._norm(k, f"{name}.self_attn.k_norm")
        q, k = self._rotated(q), self._rotated(k)
        k, v = (part.repeat_interleave(config.group_size, dim=1) for part in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) * config.head_dim**-0.5
        hidden = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        mixed = torch.einsum("hqk,khd->qhd", weights, v).reshape(len(x), config.q_size)
        return F.linear(mixed, self._weights[f"{name}.self_attn.o_proj.weight"])

    def _mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = (self._weights[f"{name}.mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))
        return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._config.norm_eps)
        return scaled.to(x.dtype) * self._weights[f"{name}.weight"]

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary embedding of x [rows, heads, size], the two halves of a head as real and imaginary parts."""
        half = self._config.head_dim // 2
        frequency = self._config.rope.theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(len(x), dtype=torch.float64)[:, None] * frequency
        cos, sin = (part.to(self._dtype)[:, None] for part in (angle.cos(), angle.sin()))
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
