"""Weights with one NaN among them, for engines that run on the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from preftree import Engine

if TYPE_CHECKING:
    from preftree.kernels.cuda import PackedLinear


def assert_nan_never_becomes_a_label(engine: Engine, prompts: list[list[int]]) -> None:
    """A GPU's maximum passes over NaN; sums must not. One number of each kind of weight in the first layer, in turn."""
    labels = [[[33], [34]]] * len(prompts)
    for weight in _weights(engine):
        kept = weight.clone()
        weight[(-1,) * weight.ndim] = float("nan")
        scores = engine.score(prompts, labels, prefix_cache=False)
        assert np.isnan(scores.logprob).all()
        assert np.isnan(scores.label_mass).all()
        weight.copy_(kept)
    assert np.isfinite(engine.score(prompts, labels, prefix_cache=False).logprob).all()


def _weights(engine: Engine) -> list[torch.Tensor]:
    provider = engine._model.weights
    with provider.layers() as layers:
        layer = next(layers)
    assert layer.attention_norm is not None
    assert layer.mlp is not None
    mlp = layer.mlp
    packed: list[PackedLinear] = [layer.queries, layer.keys_values, layer.o, mlp.gate_up, mlp.down]
    return [layer.attention_norm, *(linear.weight for linear in packed), provider.final_norm]
