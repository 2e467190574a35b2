"""Two steps of TRL's GRPOTrainer or RLOOTrainer with preftree's rewards; run as a module, with a model and a judge.

Prints a JSON object: what the trainer called the functions with, what it got, and its logs.
"""

import json
import sys
import tempfile
from typing import Any

import trl
from datasets import Dataset

from preftree.integrations.trl import AsyncRewardFunction, RewardFunction


class Recorded(RewardFunction):
    """Keeps the last call, and every answer."""

    calls: list[dict[str, Any]]

    def __call__(self, *args: Any, **named: Any) -> list[float | None]:
        found = super().__call__(*args, **named)
        self.calls.append({name: named[name] for name in ("prompts", "completions", "id")} | {"rewards": found})
        return found


def main(kind: str, model: str, judge: str) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("Which way is north?", "Name a colour.")]
    trainer_class, config_class = getattr(trl, f"{kind}Trainer"), getattr(trl, f"{kind}Config")
    direct = Recorded(judge, dtype="float32", name="direct")
    direct.calls = []
    compared = AsyncRewardFunction(judge, dtype="float32", compare=True, name="compared")
    with tempfile.TemporaryDirectory() as out:
        trainer = trainer_class(
            model=model,
            reward_funcs=[direct, compared],
            train_dataset=Dataset.from_dict({"prompt": prompts, "id": ["north", "colour"]}),
            args=config_class(
                output_dir=out,
                max_steps=2,
                per_device_train_batch_size=4,
                num_generations=2,
                max_completion_length=8,
                logging_steps=1,
                log_completions=True,
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
                seed=0,
            ),
        )
        trainer.train()
    print(json.dumps({"calls": direct.calls, "logs": trainer.state.log_history}))


if __name__ == "__main__":
    main(*sys.argv[1:])
