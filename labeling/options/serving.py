"""Of `preftree serve`."""

from __future__ import annotations

from typing import ClassVar

from preftree.labeling.options.methods import (
    DRAWN,
    ChoiceOptions,
    DirectOptions,
    PrincipledOptions,
    RankingOptions,
    RewardOptions,
    RlaifOptions,
    RubricOptions,
)
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.options.option import Options, option, options
from preftree.labeling.values import Each, number, one_of, path, size, some_text, text, whole


@options
class QueueOptions(Options):
    """How requests wait."""

    SECTION: ClassVar[str] = "queue"

    window: int = option(
        "milliseconds for which a request waits for others to share a batch", whole(0), "MS", default=20
    )
    batch_requests: int = option(
        "requests that share a batch at most; fewer where their unique tokens fill a forward pass",
        whole(1),
        "N",
        default=1024,
    )
    queue_tokens: int = option(
        "prompt tokens that may wait; requests beyond them get 503 and Retry-After", whole(1), "N", default=1_000_000
    )
    deadline: float = option(
        "seconds after which a request that has no answer gets 504",
        number(lambda value: value > 0, "a number above 0"),
        "S",
        default=60.0,
    )
    body_limit: int = option(
        "largest body of a request in bytes, or such as 4MiB; larger ones get 413", size, "SIZE", default=4 * 1024**2
    )


@options
class ListenOptions(Options):
    """Where the server listens, and to whom."""

    SECTION: ClassVar[str] = "network"

    host: str = option("address to listen at; any but a loopback address is open to others", default="127.0.0.1")
    port: int = option("port to listen at; 0 takes a free one", whole(0, 65_535), "N", default=5000)
    token_file: str | None = option(
        "file with the token that requests must bring as Authorization: Bearer TOKEN", path, "FILE", default=None
    )


@options
class ProtocolOptions(Options):
    """How texts that trainers rendered are taken apart."""

    SECTION: ClassVar[str] = "protocols"

    strip: tuple[str, ...] = option(
        "a text such as <|im_end|> to take away from the end of responses and from both ends of prompts in "
        "/get_reward, /classify and /v1/embeddings; give it again for another",
        Each(text),
        "TEXT",
        default=(),
    )
    split: str | None = option(
        "in /classify and /v1/embeddings, the text between prompt and response; the last one counts (default: what the "
        "judge's chat template puts there)",
        metavar="TEXT",
        default=None,
    )


@options
class ServeOptions(
    ProtocolOptions,
    QueueOptions,
    ListenOptions,
    RewardOptions,
    PrincipledOptions,
    RankingOptions,
    RubricOptions,
    DirectOptions,
    RlaifOptions,
    ChoiceOptions,
    ModelOptions,
):
    """`preftree serve`."""

    method: str = option(
        "direct (a score for each response), rubric (a score by weighted criteria), principled (under principles of "
        "your choice; compares responses, too), rlaif (compares responses), or reward (--model is a reward model)",
        one_of("direct", "rubric", "principled", "rlaif", "reward"),
        "NAME",
        default="direct",
    )
    rubric_column: str | None = option(
        "rubric: the field of a request with its criteria, rubric (of /reward) or label (of /reward and /get_reward)",
        some_text,
        "FIELD",
        excludes="rubric",
        default=None,
    )
    seed: int = option("seed of sampled rationales", whole(0), "N", requires=DRAWN, default=0)
    comparisons: int | None = option(
        "prompts of /compare, two for each pair of responses (default: all pairs)",
        whole(4),
        "N",
        default=None,
        kw_only=False,
    )
