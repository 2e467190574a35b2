"""The embedded model's rationales and the labels behind them, against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.hugging_face import embedded_directory
from preftree import Engine, Sampling
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.types import Pair
from tests.engine.greedy import load, transformers_choices
from tests.labeling.opened import read

PAIRS = Path(__file__).parent.parent / "examples" / "pairs.jsonl"
MAX_ERROR = 1e-3  # nats


@pytest.mark.parametrize(("pairs", "tokens"), [(1, 12), pytest.param(32, 128, marks=pytest.mark.soak)])
def test_rationales_and_labels_are_those_of_transformers(embedded_engine: Engine, pairs: int, tokens: int) -> None:
    """Both orders, token for token; and the labels as a pass over the whole text gives them. Of the shortest pairs."""
    scorer = Judge.load("embedded", weights=False)
    method = Rlaif(load_template("general"), reasoning=Sampling(max_new_tokens=tokens))
    rows = sorted((row for row in read(PAIRS) if isinstance(row, Pair)), key=lambda row: len(str(row)))[:pairs]
    encoded = [scorer.encode(request) for row in rows for request in method.requests(row)]
    endings = [list(one.ending) for one in encoded]
    found = embedded_engine.generate_and_score(
        [one.ids for one in encoded], endings, [one.labels for one in encoded], Sampling(max_new_tokens=tokens)
    )
    directory = embedded_directory()
    for place, (one, (written,)) in enumerate(zip(encoded, found.generations, strict=True)):
        assert transformers_choices(directory, one.ids, written.ids)[:-1] == written.ids
        with torch.inference_mode():
            whole = torch.tensor([one.ids + written.ids + endings[place]])
            logits = load(directory)(whole, logits_to_keep=1).logits[0, -1]
        (first,), (second,) = one.labels
        expected = logits.double().log_softmax(-1)[[first, second]].numpy()
        assert np.abs(found.scores.logprob[place] - expected).max() <= MAX_ERROR
