"""TRL's reward trainer with soft labels. The only module that imports TRL; imported when training begins.

TRL minimises -log s(D), where s is the sigmoid and D the reward of the preferred response minus that of the other.
RLAIF (Lee et al. 2023) minimises the cross-entropy with the judge's probability p,

    -p log s(D) - (1-p) log s(-D)  =  -log s(D) + (1-p) D,

whose minimum is at D = logit(p). A margin is no such label: with it the minimum is at infinity, as with hard labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from preftree.labeling.training.stopping import NotFiniteError

Report = Callable[[int, int, dict[str, float]], None]
"""Progress: receives the steps done, all steps, and figures, where some were logged."""


class PreferenceCollator(DataCollatorForPreference):
    """TRL's, which drops the probabilities."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        return batch | {"p": torch.tensor([example["p"] for example in examples])}


class SoftRewardTrainer(RewardTrainer):
    """Cross-entropy with soft labels; a column "p" is the probability of the chosen response."""

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["chosen_ids", "rejected_ids", "p"]

    def _send_telemetry(self) -> None:
        """Nothing leaves this machine unless --report asks for it."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        p = inputs.pop("p")
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        chosen, rejected = torch.chunk(outputs.logits.squeeze(-1), chunks=2)  # as TRL splits them
        loss = loss + ((1 - p) * (chosen - rejected)).mean()
        if not torch.isfinite(loss):
            raise NotFiniteError(f"the loss is not finite at step {self.state.global_step + 1}")
        return (loss, outputs) if return_outputs else loss


class _Watch(TrainerCallback):
    """Reports progress, and stops before gradients that are not finite spoil the weights and the next checkpoint."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        gradients = [weight.grad for name, weight in model.named_parameters() if "score" in name]
        if not all(torch.isfinite(one).all() for one in gradients if one is not None):
            raise NotFiniteError(f"a gradient is not finite at step {state.global_step + 1}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._report(state.global_step, state.max_steps, {})

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self._report(state.global_step, state.max_steps, logs or {})


def trainer_of(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Any],
    config: RewardConfig,
    peft_config: Any,
    report: Report,
) -> SoftRewardTrainer:
    """rows: tables of `Rows.columns`, to train on and held out. peft_config: None to train all weights."""
    train, held_out = map(Dataset, rows)
    trainer = SoftRewardTrainer(
        model=model,
        args=config,
        data_collator=PreferenceCollator(pad_token_id=tokenizer.pad_token_id),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=[_Watch(report)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
