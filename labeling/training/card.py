"""The model card of a reward model: README.md, as the Hugging Face hub shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PLAIN = "the conversation, with the response as the assistant's last turn, through the chat template"
_PRINCIPLED = (
    "one message that shows {order} and principles, and a short ending as the assistant's turn, through the chat "
    "template; `preftree.labeling.prompts.reward_input.reward_messages` makes it"
)
_ORDERS = {"instruction-first": "instruction, response", "response-first": "response, instruction"}
_CARD = """---
library_name: transformers
pipeline_tag: text-classification
tags: [reward-model, preftree]
base_model: {base}
---
# {title}

A reward model: one number for a response to a prompt, trained by preftree on {labels} labels of an AI judge. The
difference of the rewards of two responses is the logit of the probability that the first is better.

## Held-out figures

{figures}

{held_out} pairs were held out, all pairs of {share} of the prompts; {train} were trained on. Rewards have no zero of
their own: mean and standard deviation, in `preftree.json` too, are for rewards that are to be normalised.

## Use

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained({title!r}, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained({title!r})
```

- Input: {input}. The ids are those of `tokenizer.apply_chat_template`{closing}.
- The reward is the only logit, without an activation. Servers apply one unless they are told otherwise: with vLLM's
  `/classify`, set `use_activation` to false.
- Batches are padded with {pad}{added}; rewards are read at the last other token.

## Origin

{origin}
"""


def model_card(out: Path, about: Mapping[str, Any], figures: Sequence[tuple[str, str]]) -> str:
    """about: the manifest. figures: names and values."""
    job, pad, layout = about["job"], about["pad_token"], about["layout"]
    data, options = job["data"], job["options"]
    rows = [("| held out | |\n|---|---|"), *(f"| {name} | {value} |" for name, value in figures)]
    judge = data.get("judge", {})
    origin = {
        "base": f"{job['base']['path']}, sha256 `{job['base']['sha256']}`",
        "data": f"method {data['method']}, sha256 `{data.get('labels_sha256', data.get('sha256'))}`",
        "judge": judge.get("model") and f"{judge['model']}, sha256 `{judge['model_sha256']}`",
        "judge's template": judge.get("template") and f"{judge['template']}, sha256 `{judge['template_sha256']}`",
        "input template": f"layout {layout}, sha256 `{about['template_sha256']}`",
        "options": f"`{json.dumps(options)}`",
        "software": ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
    }
    is_plain = layout == "conversation"
    return _CARD.format(
        base=json.dumps(Path(job["base"]["path"]).name),
        title=out.absolute().name,
        labels="hard" if options["labels"] == "hard" or data["method"] == "instructions" else "soft",
        figures="\n".join(rows),
        held_out=f"{about['pairs']['held_out']:,}",
        share=f"{options['held_out']:.0%}",
        train=f"{about['pairs']['train']:,}",
        input=_PLAIN if is_plain else _PRINCIPLED.format(order=_ORDERS[layout]),
        closing="" if is_plain else " for these messages",
        pad=f"`{pad['text']}` (id {pad['id']})",
        added=f", which was added because the base {pad['replaces']}" if pad["replaces"] else "",
        origin="\n".join(f"- {name}: {value}" for name, value in origin.items() if value),
    )
