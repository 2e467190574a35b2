"""`preftree train`: from the labels of a run to a reward model that has been read back and compared."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import InputError, ModelError, OutputError
from preftree.labeling.judge.reward_encoding import RewardEncoder
from preftree.labeling.judge.reward_model import open_model, reward_encoder
from preftree.labeling.options.option import declared
from preftree.labeling.options.training import FittingOptions, TrainingDataOptions, TrainOptions
from preftree.labeling.prompts.reward_input import PLAIN
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.manifest import version
from preftree.labeling.terminal import count, one_line
from preftree.labeling.training.config import reward_config
from preftree.labeling.training.output import OutputDirectory
from preftree.labeling.training.packages import check_packages, hushed, versions
from preftree.labeling.training.pairs import PairSource, source_of
from preftree.labeling.training.rows import Split, split_rows

if TYPE_CHECKING:
    from preftree.labeling.training.base_model import BaseModel
    from preftree.labeling.training.figures import HeldOut

_LOGGER = logging.getLogger("preftree")
# What is not part of a job: a path is not its content, and where it runs is not what is computed.
_FREE = ("run", "device", "report")


@dataclass(frozen=True)
class _Job:
    """All that is known before a trainer is loaded."""

    options: TrainOptions
    base_sha256: str
    encoder: RewardEncoder
    source: PairSource
    split: Split
    out: OutputDirectory


def train(options: TrainOptions) -> Result:
    """Fills `out`. Raises PreftreeError."""
    job = _opened(options)
    about = _about(job)
    with hushed(), _explained(job.out):
        config = reward_config(options, job.out.checkpoints)
        last = job.out.begin(about, options.overwrite)
        _warn(job)
        base, trained = _fitted(job, config, last)
        figures = _saved(job, base, trained)
    about |= {
        "pad_token": asdict(base.pad),
        "held_out": figures.record(),
        "rewards": {"mean": figures.mean, "std": figures.std},
    }
    _write_card(job.out.path, about, figures)
    job.out.finish(about)
    return Result(_lines(job, figures), {"reward_model": str(job.out.path)} | about)


def _opened(options: TrainOptions) -> _Job:
    out = OutputDirectory(Path(options.out))
    out.check(options.overwrite, options.run, options.model)
    source = source_of(options)
    checkpoint = open_model(options.model)
    if checkpoint.revision is not None:
        assert checkpoint.spec is not None
        options = replace(options, model=checkpoint.spec)
    if not Path(options.model).is_dir():
        raise ModelError(f"{options.model} cannot be trained; name the Hugging Face directory that it was made from")
    layout = options.layout if options.principled else PLAIN
    encoder = reward_encoder(checkpoint, layout, options.max_tokens)
    check_packages(options.report)
    split = split_rows(source, encoder, options.held_out, options.seed, options.run)
    return _Job(options, checkpoint.fingerprint(), encoder, source, split, out)


def _about(job: _Job) -> dict[str, Any]:
    names = [*declared(TrainingDataOptions), *declared(FittingOptions)]
    options = {name: getattr(job.options, name) for name in names if name not in _FREE}
    base = {"path": job.options.model, "sha256": job.base_sha256}
    return {
        "layout": job.encoder.layout,
        "template_sha256": job.encoder.template_sha256,
        "job": {"data": job.source.record, "base": base, "options": options},
        "pairs": {"train": len(job.split.train), "held_out": len(job.split.held_out)},
        "versions": {"preftree": version(), **versions()},
    }


def _warn(job: _Job) -> None:
    p = job.split.train.p
    if job.source.is_soft and set(p) <= {0.5, 1.0}:
        _LOGGER.warning(
            f"every label of {job.options.run} is 0 or 1, as gold labels are and a judge's probabilities are not; "
            "training continues, as with --labels hard"
        )
    for reason in job.split.left_out:
        _LOGGER.info(f"left out: {reason}")


def _fitted(job: _Job, config: Any, last: Path | None) -> tuple[BaseModel, Any]:
    """The base, and the model after training. last: the checkpoint to resume from."""
    from preftree.labeling.training.base_model import load_base, lora_config
    from preftree.labeling.training.progress import TrainingProgress
    from preftree.labeling.training.trainer import trainer_of

    parts = job.split.train, job.split.held_out
    base = load_base(job.options, parts[0].better[0].tolist())
    if base.pad.replaces:
        _LOGGER.info(f"pad token {base.pad.text} is added: the base {base.pad.replaces}")
    if last is not None:
        _LOGGER.info(f"resumes from step {last.name.rpartition('-')[2]}")
    with TrainingProgress(job.options.quiet) as progress:
        rows = [part.columns(job.source.is_soft) for part in parts]
        trainer = trainer_of(base.model, base.tokenizer, rows, config, lora_config(job.options), progress)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    return base, trainer.accelerator.unwrap_model(trainer.model)


def _saved(job: _Job, base: BaseModel, trained: Any) -> HeldOut:
    from preftree.labeling.training.artefact import save_model, verified_rewards
    from preftree.labeling.training.figures import held_out_figures

    device = trained.device.type
    saved = save_model(trained, base, Path(job.options.model), job.out.path, job.options.dtype)
    held_out = job.split.held_out
    encoder = reward_encoder(open_model(str(job.out.path)), job.encoder.layout)
    if encoder.template_sha256 != job.encoder.template_sha256:
        raise ModelError(f"{job.out.path}: its chat template is not that of the base; do not use it")
    return held_out_figures(held_out, verified_rewards(job.out.path, saved, held_out, device).tolist())


def _write_card(out: Path, about: Mapping[str, Any], figures: HeldOut) -> None:
    from preftree.labeling.training.card import model_card

    try:
        (out / "README.md").write_text(model_card(out, about, figures.lines()), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {out / 'README.md'}: {error.strerror or error}") from error


@contextmanager
def _explained(out: OutputDirectory) -> Iterator[None]:
    """What ends training, with what is left and the way out."""
    from preftree.labeling.training.stopping import NotFiniteError, is_out_of_memory

    try:
        yield
    except KeyboardInterrupt:
        last = out.last_checkpoint()
        raise KeyboardInterrupt(f"interrupted; the same command resumes from {last}" if last else "") from None
    except NotFiniteError as error:
        last = out.last_checkpoint()
        kept = f"{last} is the last checkpoint" if last else "there is no checkpoint yet"
        raise InputError(f"{error}; {kept}; use a lower --lr and another --out, or --overwrite") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        way_out = "use a smaller --batch-size with --set gradient_accumulation_steps=N, or a smaller --max-tokens"
        raise InputError(f"out of memory in training ({one_line(str(error))[:120]}); {way_out}") from None


def _lines(job: _Job, figures: HeldOut) -> list[str]:
    trained, held_out = len(job.split.train), len(job.split.held_out)
    lines = [("trained", f"{count(trained, 'pair')}; {held_out:,} of other prompts held out")]
    lines += [*figures.lines(), ("reward model", one_line(str(job.out.path)))]
    return aligned(lines).split("\n")
