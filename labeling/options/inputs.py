"""Which rows are labelled."""

from __future__ import annotations

from typing import ClassVar

from preftree.labeling.options.option import Options, option, options
from preftree.labeling.values import Each, OneOrEach, text, whole


@options
class InputOptions(Options):
    """Which rows are labelled."""

    SECTION: ClassVar[str] = "rows"

    input: str | tuple[str, ...] = option(
        "files, patterns, folders of files, URLs (s3://, hf://, ...), data sets of the Hugging Face hub "
        "(org/name:split) or - for standard input: JSONL, JSON arrays or CSV (plain, gzip or zstd), Parquet, Arrow, or "
        "a dataset saved to disk; each row has prompt (a string or chat messages) "
        "and response_a and response_b, or response, or responses (a list), and may have id and gold (a, b or tie), or "
        "the columns of preference data such as chosen and rejected; other columns pass through",
        OneOrEach(text),
        "INPUT",
        flag="",
    )
    limit: int | None = option(
        "the first N rows only; a finished run may be run again with more",
        whole(1),
        "N",
        labels=True,
        derived=True,
        default=None,
    )
    sample: int | None = option(
        "N rows that --seed draws; a larger sample, or the whole, resumes the run",
        whole(1),
        "N",
        labels=True,
        derived=True,
        default=None,
    )
    mapping: tuple[str, ...] = option(
        "take COLUMN for a field, such as response_a=output or prompt=info.post; give it again for another",
        Each(text),
        "FIELD=COLUMN",
        "map",
        labels=True,
        default=(),
    )
