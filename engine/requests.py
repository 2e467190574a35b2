"""What callers hand in, checked: prompts and labels as token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.engine.planning.forced_tail import ForcedTail
from preftree.engine.planning.lookups import Labels
from preftree.engine.planning.trie import TokenIds

Prompts = Sequence[Sequence[int]]
# Of a prompt of which nothing is read but its end: a reward.
NO_LABELS: Labels = ()


def checked_prompts(prompts: Sequence[Sequence[int]], labels: Sequence[Labels], config: ModelConfig) -> list[TokenIds]:
    """The prompts as arrays; labels are looked at, too. InputError names the first thing that is wrong."""
    if not len(prompts):
        raise InputError("there are no prompts to score")
    if len(prompts) != len(labels):
        raise InputError(f"there are {len(prompts)} prompts but labels for {len(labels)}")
    return [
        _checked_prompt(index, prompt, options, config)
        for index, (prompt, options) in enumerate(zip(prompts, labels, strict=True))
    ]


def _checked_prompt(index: int, prompt: Sequence[int], labels: Labels, config: ModelConfig) -> TokenIds:
    ids, longest = _measured_prompt(index, prompt, labels, config)
    if longest > config.max_context:
        what = "tokens with its longest label" if len(labels) else "tokens"
        raise InputError(f"prompt {index} has {longest:,} {what}, the model's context is {config.max_context:,}")
    return ids


def _measured_prompt(index: int, prompt: Sequence[int], labels: Labels, config: ModelConfig) -> tuple[TokenIds, int]:
    """The prompt as an array, and how many tokens it has with its longest label."""
    ids = _token_ids(f"prompt {index}", prompt, config)
    _check_labels(index, labels, config)
    return ids, len(ids) + _longest_tail(labels)


def _longest_tail(labels: Labels) -> int:
    """Tokens of the longest label that are run after a prompt: all but its last."""
    return max((len(label) for label in labels), default=1) - 1


def too_long(prompts: Sequence[Sequence[int]], labels: Sequence[Labels], config: ModelConfig) -> list[int]:
    """Places of the prompts that exceed the model's context with their longest label. InputError for other faults."""
    asked = enumerate(zip(prompts, labels, strict=True))
    return [
        index
        for index, (prompt, options) in asked
        if _measured_prompt(index, prompt, options, config)[1] > config.max_context
    ]


def check_reads_labels(config: ModelConfig) -> None:
    """InputError for a reward model."""
    if config.is_reward_model:
        raise InputError(
            "this is a reward model, which gives no logits; use `preftree reward`, in Python Engine.reward"
        )


def check_reads_rewards(config: ModelConfig) -> None:
    """InputError for a language model."""
    if not config.is_reward_model:
        raise InputError(
            "this is a language model, which gives no reward; use `preftree label`, in Python Engine.score"
        )


def _check_labels(index: int, labels: Labels, config: ModelConfig) -> None:
    if config.is_reward_model and not len(labels):
        return
    check_reads_labels(config)
    if not len(labels):
        raise InputError(f"prompt {index} has no labels")
    for label in labels:
        if not _is_usual(label, config):
            _token_ids(f"a label of prompt {index}", label, config)


def _token_ids(name: str, tokens: Sequence[int], config: ModelConfig) -> TokenIds:
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise InputError(f"{name} must be a non-empty list of token ids")
    ids = ids.astype(np.int64)
    if ids.view(np.uint64).max() >= config.vocab_size:  # where negative ids are the largest
        raise InputError(f"{name} has token ids outside 0 to {config.vocab_size - 1}")
    return ids


def _is_usual(label: Sequence[int], config: ModelConfig) -> bool:
    """Whether it is plainly right, as nearly all are: said faster than an array is made of a token or two."""
    return (
        isinstance(label, list)
        and len(label) > 0
        and all(type(token) is int and 0 <= token < config.vocab_size for token in label)
    )


def checked_starts(prompts: Sequence[Sequence[int]], config: ModelConfig) -> list[TokenIds]:
    """Prompts to be continued, as arrays."""
    return [_token_ids(f"prompt {index}", prompt, config) for index, prompt in enumerate(prompts)]


def checked_tails(endings: Sequence[Sequence[int]], labels: Sequence[Labels], config: ModelConfig) -> list[ForcedTail]:
    """What comes after the continuations of each prompt."""
    tails = []
    for index, (ending, options) in enumerate(zip(endings, labels, strict=True)):
        ids = _token_ids(f"the ending of prompt {index}", ending, config)
        _check_labels(index, options, config)
        tails.append(ForcedTail.build(ids, options))
    return tails


def checked_continuations(
    continuations: Sequence[Sequence[Sequence[int]]], prompts: int, sampling: Sampling, config: ModelConfig
) -> list[list[TokenIds]]:
    """Those of each prompt as arrays; one may be empty. prompts: how many there are."""
    if len(continuations) != prompts:
        raise InputError(f"there are {prompts} prompts, but continuations of {len(continuations)}")
    return [_checked_given(index, given, sampling, config) for index, given in enumerate(continuations)]


def _checked_given(
    index: int, given: Sequence[Sequence[int]], sampling: Sampling, config: ModelConfig
) -> list[TokenIds]:
    if len(given) != sampling.n:
        raise InputError(f"prompt {index} has {len(given)} continuations, but n is {sampling.n}")
    name, most = f"a continuation of prompt {index}", sampling.max_new_tokens
    if (longest := max(map(len, given))) > most:
        raise InputError(f"{name} has {longest:,} tokens, but max_new_tokens is {most:,}")
    return [_token_ids(name, one, config) if len(one) else np.empty(0, np.int64) for one in given]


def continuation_tokens(labels: Sequence[Labels]) -> list[int]:
    """Rows that the labels of each prompt add: an upper bound, since labels may share their beginnings."""
    return [sum(len(label) - 1 for label in options) for options in labels]


def rope_variants_of(prompts: Sequence[TokenIds], labels: Sequence[Labels], config: ModelConfig) -> list[int]:
    """What each prompt's rotary embedding is made for: the prompt with its longest label, so that all its labels are
    scored with the same one. See `RopeConfig.rope_variant`."""
    longest = (len(ids) + _longest_tail(options) for ids, options in zip(prompts, labels, strict=True))
    return [config.rope_variant(length) for length in longest]
