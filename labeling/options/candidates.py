"""Of `preftree sample`."""

from __future__ import annotations

from typing import ClassVar

from preftree.engine.errors import UsageError
from preftree.engine.generation import Sampling
from preftree.labeling.options.inputs import InputOptions
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.options.option import Options, option, options
from preftree.labeling.options.runs import RunOptions
from preftree.labeling.values import Each, OneOrEach, fraction, number, size, switch, text, whole

_MAX_SAMPLES = 256  # more rationales of hundreds of tokens for each prompt are a mistake


@options
class CandidateOptions(Options):
    """How responses are drawn from a policy."""

    SECTION: ClassVar[str] = "sampling"

    n: int = option("responses to each prompt", whole(1, _MAX_SAMPLES), "N", labels=True, default=2)
    temperature: float = option(
        "sampling temperature; 0 is greedy decoding",
        number(lambda value: value == 0 or 0.01 <= value <= 100, "0 (the most probable) or from 0.01 to 100"),
        "T",
        labels=True,
        default=0.7,
    )
    top_k: int | None = option(
        "sample from the K most probable tokens",
        whole(1, 1 << 30),
        "K",
        labels=True,
        requires=("temperature",),
        default=None,
    )
    top_p: float = option(
        "nucleus sampling: from the most probable tokens that sum to P",
        fraction,
        "P",
        labels=True,
        requires=("temperature",),
        default=1.0,
    )
    max_tokens: int = option("token limit of a response", whole(1, 1 << 27), "N", labels=True, default=768)
    stop: tuple[str, ...] = option(
        "a text that ends a response and is no part of it; give it again for another",
        Each(text),
        "TEXT",
        labels=True,
        default=(),
    )
    seed: int = option("sampling seed", whole(0), "N", labels=True, requires=("temperature",), default=0)

    @property
    def sampling(self) -> Sampling:
        """How responses are drawn. Raises UsageError."""
        if self.temperature == 0 and self.n > 1:
            raise UsageError(f"--n {self.n} responses are all the same at --temperature 0; use --n 1, or a temperature")
        return Sampling(
            max_new_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p if self.top_p < 1 else None,
            n=self.n,
            stop=self.stop,
            seed=self.seed,
        )


@options
class SampleOptions(CandidateOptions, RunOptions, ModelOptions, InputOptions):
    """`preftree sample`. What FILE is made of is kept in the run directory FILE.run."""

    input: str | tuple[str, ...] = option(
        "whatever `preftree label` takes, with or without responses (those that are there are left out, and gold with "
        "them): each row has prompt, a string or chat messages, and may have id; other columns pass through",
        OneOrEach(text),
        "PROMPTS",
        flag="",
    )
    out: str = option(
        "JSONL to write, which `preftree label` reads; answers are kept in the directory FILE.run, and the same "
        "command resumes there",
        metavar="FILE",
    )
    kv_memory: int | None = option(
        "memory of the KV cache, such as 4GB (default: all spare)", size, "SIZE", default=None
    )
    allow_low_mass: bool = option("responses have no labels", switch, default=True)

    @property
    def directory(self) -> str:
        """Of the run."""
        return f"{self.out}.run"
