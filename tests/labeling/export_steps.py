"""A step of each trainer on exported files, in one process: to import the trainers takes seconds.

Run as a module in a directory with the files, with TRL and OpenRLHF on the path, and a JSON object on standard input:
`model`, `steps` (a list of [trainer, file]) and `examples` (Python to run). Prints a JSON list: of each step, the texts
that the trainer tokenized, and the loss.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import trl
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

# What a trainer has tokenized, a text for each entry; KTO's label beside it.
TOKENIZED = {
    "Reward": (("chosen_ids",), ("rejected_ids",)),
    "DPO": (("prompt_ids", "chosen_ids"), ("prompt_ids", "rejected_ids")),
    "KTO": (("prompt_ids", "completion_ids"),),
}


def trl_step(kind: str, file: str, model: str, tokenizer: Any) -> dict[str, Any]:
    """A step of TRL's trainer of this kind on all rows, which are loaded as its documentation loads them."""
    rows = load_dataset("parquet" if file.endswith(".parquet") else "json", data_files=file, split="train")
    cls = AutoModelForSequenceClassification if kind == "Reward" else AutoModelForCausalLM
    options = {"num_labels": 1} if kind == "Reward" else {}
    with tempfile.TemporaryDirectory() as out:
        trainer = getattr(trl, f"{kind}Trainer")(
            model=cls.from_pretrained(model, pad_token_id=tokenizer.pad_token_id, **options),
            processing_class=tokenizer,
            train_dataset=rows,
            args=getattr(trl, f"{kind}Config")(
                output_dir=out,
                max_steps=1,
                per_device_train_batch_size=len(rows),
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                seed=0,
            ),
        )
        loss = trainer.train().training_loss
    texts = [
        [tokenizer.decode([token for name in names for token in row[name]]) for names in TOKENIZED[kind]]
        + [row["label"] for _ in range(kind == "KTO")]
        for row in trainer.train_dataset
    ]
    return {"rows": texts, "loss": loss}


def openrlhf_step(is_dpo: bool, file: str, _: str, tokenizer: Any) -> dict[str, Any]:
    """OpenRLHF's loader and collator as its train_rm and train_dpo call them; its trainers need DeepSpeed on GPUs.

    extras: of train_rm the margins, of train_dpo how many tokens the prompts have.
    """
    from openrlhf.datasets import RewardDataset
    from openrlhf.datasets.utils import blending_datasets

    keys = SimpleNamespace(prompt_key=None, chosen_key="chosen", rejected_key="rejected", apply_chat_template=True)
    strategy = SimpleNamespace(args=SimpleNamespace(data=keys), print=lambda *_: None, is_rank_0=lambda: False)
    rows = blending_datasets(file, None, strategy)
    loader = RewardDataset(rows, tokenizer, 512, strategy, is_dpo=is_dpo, num_processors=None)
    chosen, chosen_mask, rejected, rejected_mask, extras = loader.collate_fn([*loader])
    texts = [
        [tokenizer.decode(ids[mask.bool()]) for ids, mask in both]
        for both in zip(zip(chosen, chosen_mask, strict=True), zip(rejected, rejected_mask, strict=True), strict=True)
    ]
    return {"rows": texts, "extras": extras}


def main(model: str, asked: Sequence[tuple[str, str]], examples: Sequence[str]) -> None:
    """Each step and each example in turn."""
    tokenizer = AutoTokenizer.from_pretrained(model, pad_token="<s>")
    steps = {kind: partial(trl_step, kind) for kind in TOKENIZED}
    steps |= {"OpenRLHF rm": partial(openrlhf_step, False), "OpenRLHF dpo": partial(openrlhf_step, True)}
    done = [steps[trainer](file, model, tokenizer) for trainer, file in asked]
    for example in examples:
        exec(compile(example, "example", "exec"), {})
    print(json.dumps(done))


if __name__ == "__main__":
    given = json.load(sys.stdin)
    main(given["model"], given["steps"], given["examples"])
