"""How far log-probabilities of labels are from those of float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.workloads import JudgePrompt


@dataclass(frozen=True)
class Accuracy:
    """Differences from preftree in float32.

    Attributes:
        max_nats: largest difference of a label's log-probability.
        mean_nats: their mean.
        mean_margin_nats: mean difference of margins, the log-probability of the first label minus the second's.
        flipped_prompts: share of prompts whose likelier label is another one.
        flipped_pairs: share of pairs whose preferred response is another one, by the mean of its probabilities.
    """

    max_nats: float
    mean_nats: float
    mean_margin_nats: float
    flipped_prompts: float
    flipped_pairs: float


def accuracy(theirs: np.ndarray, reference: np.ndarray, prompts: Sequence[JudgePrompt]) -> Accuracy:
    """theirs, reference: [prompts, 2 labels] log-probabilities in nats."""
    theirs, reference = theirs.astype(np.float64), reference.astype(np.float64)
    errors, margins = np.abs(theirs - reference), (_margin(theirs), _margin(reference))
    return Accuracy(
        max_nats=float(errors.max()),
        mean_nats=float(errors.mean()),
        mean_margin_nats=float(np.abs(margins[0] - margins[1]).mean()),
        flipped_prompts=float(np.mean((margins[0] > 0) != (margins[1] > 0))),
        flipped_pairs=float(np.mean(_prefers_a(margins[0], prompts) != _prefers_a(margins[1], prompts))),
    )


def _margin(logprobs: np.ndarray) -> np.ndarray:
    margin: np.ndarray = logprobs[:, 0] - logprobs[:, 1]
    return margin


def _prefers_a(margin: np.ndarray, prompts: Sequence[JudgePrompt]) -> np.ndarray:
    """[pairs] bool. The first label is that of the response shown first, which is A in order 0 and B in order 1."""
    first = 1 / (1 + np.exp(-margin))
    order = np.array([prompt.order for prompt in prompts])
    pair = np.array([prompt.pair for prompt in prompts])
    probability = np.where(order == 0, first, 1 - first)
    return np.array([probability[pair == number].mean() > 0.5 for number in np.unique(pair)])
