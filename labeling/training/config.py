"""Options as TRL's RewardConfig, and fields of it that are set by name."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.options.training import TrainOptions
from preftree.labeling.terminal import one_line
from preftree.labeling.values import suggestion

# What an option says already, by field.
_OURS = {
    "output_dir": "--out",
    "per_device_train_batch_size": "--batch-size",
    "per_device_eval_batch_size": "--batch-size",
    "num_train_epochs": "--epochs",
    "learning_rate": "--lr",
    "seed": "--seed",
    "max_length": "--max-tokens",
    "report_to": "--report",
    "use_cpu": "--device",
}
# What is decided by then: the model is loaded, rows are token ids.
_FIXED = (
    *(
        "model_init_kwargs",
        "trust_remote_code",
        "chat_template_path",
        "eos_token",
        "pad_token",
        "remove_unused_columns",
    ),
    *("dataset_num_proc", "label_names", "resume_from_checkpoint", "disable_tqdm", "auto_find_batch_size"),
)
_LR_LORA, _LR_FULL = 1e-4, 1e-5
# Shares of all steps.
_LOG, _CHECKPOINT = 0.01, 0.1


def reward_config(options: TrainOptions, directory: Path) -> Any:
    """A trl.RewardConfig. directory: for checkpoints. UsageError for a field that is unknown or has a bad value."""
    from trl import RewardConfig

    known = [field.name for field in fields(RewardConfig) if field.init]
    own = _own_fields(options, directory)
    chosen = dict(_assignment(text, known) for text in options.settings)
    try:
        return RewardConfig(**own | chosen)
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"--set: RewardConfig refuses this: {one_line(str(error))}") from None


def check_device(device: str) -> bool:
    """Whether to train on a GPU; the first one that is visible. InputError where it is not there."""
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("preftree train runs in a single process; start it without torchrun")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise InputError("--device cuda: torch sees no GPU; use --device cpu")
    if has_gpu and device != "cpu" and torch.cuda.device_count() > 1:
        raise InputError(
            f"{torch.cuda.device_count()} GPUs are visible and training runs on one; set CUDA_VISIBLE_DEVICES=0"
        )
    return has_gpu and device != "cpu"


def _own_fields(options: TrainOptions, directory: Path) -> dict[str, Any]:
    on_gpu = check_device(options.device)
    return {
        "output_dir": str(directory),
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.batch_size,
        "num_train_epochs": options.epochs,
        "learning_rate": options.lr or (_LR_FULL if options.full else _LR_LORA),
        "seed": options.seed,
        "max_length": None,  # TRL would drop longer rows in silence
        "report_to": options.report or "none",
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        "gradient_checkpointing": on_gpu,
        "dataloader_pin_memory": on_gpu,
        "disable_tqdm": True,
        "logging_steps": _LOG,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps",
        "eval_steps": _CHECKPOINT,
        "save_strategy": "steps",
        "save_steps": _CHECKPOINT,
        "save_total_limit": 1,
    }


def _assignment(text: str, known: list[str]) -> tuple[str, Any]:
    """A field and its value: JSON, or else a text."""
    name, is_there, value = text.partition("=")
    if not is_there:
        raise UsageError(f"--set must be FIELD=VALUE, not {one_line(text)!r}")
    if name in _OURS:
        raise UsageError(f"--set {name}: use {_OURS[name]}")
    if name in _FIXED:
        raise UsageError(f"--set {name}: preftree decides this itself")
    if name not in known:
        raise UsageError(f"--set: RewardConfig has no field {name!r}; {_near(name, known)}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _near(name: str, known: list[str]) -> str:
    near = suggestion(name, known)
    return near if near.startswith("did") else "see TRL's documentation"
