"""The GPU benchmark's report and command line: how a call ended, what is shown again, what bad input gets."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import ceilings, plan, report, supervisor, trace
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.clocks import ClockSampler
from benchmarks.gpu.device import Rehearsal
from benchmarks.gpu.models import Models
from benchmarks.gpu.outcome import BELOW, FAILED, LATE
from benchmarks.gpu.report import Report, Section, StepRecord
from benchmarks.gpu.session import NotHereError, Session, Step
from benchmarks.gpu.sizes import FULL, LLAMA, QWEN, REHEARSAL
from benchmarks.gpu.targets import Measured
from benchmarks.gpu.worker import work

# Of 7 minutes: what is left for starting processes and for writing the report.
STARTING_SECONDS = 20


def record(status: str, *measured: Measured, title: str = "") -> StepRecord:
    return StepRecord(title or status, status, note="why", section=Section(lines=["said"], measured=list(measured)))


BAD, GOOD = Measured("idle", "x", 0.4), Measured("idle", "x", 0.01)


@pytest.mark.parametrize(
    ("steps", "planned", "code", "line"),
    [
        ([record("done", GOOD)], ["done"], 0, "**1 steps done**"),
        ([record("done", BAD), record("skipped")], [], BELOW, "1 below target: time that the GPU is idle: 0.4"),
        ([record("done", BAD), record("not finished")], [], LATE, "1 not finished in time: not finished"),
        ([record("done", GOOD)], ["done", "never begun"], LATE, "1 not finished in time: never begun"),
        ([record("running")], [], LATE, "1 not finished in time: running"),
        ([record("not finished"), record("failed")], [], FAILED, "1 failed: failed (why)"),
        ([record("lost")], [], FAILED, "1 failed: lost (why)"),
        ([record("skipped")], [], 0, "1 makes no sense here: skipped (why)"),
    ],
)
def test_late_is_not_failed_and_neither_is_below_target(
    tmp_path: Path, steps: list[StepRecord], planned: list[str], code: int, line: str
) -> None:
    found = Report(tmp_path, False, steps=steps, planned=planned)
    assert found.outcome.exit_code == code
    assert f"- {line}" in found.summary()
    assert Report(tmp_path, True, steps=[record("done", BAD)]).outcome.exit_code == 0  # a rehearsal's figures are none


def test_the_command_ends_with_the_code_of_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the page that --show prints again."""

    def worker(command: list[str], directory: Path, deadline: float) -> int:
        assert command[command.index("--fa3") + 1] == str(Path("fa3.so").resolve())
        found = Report.load(directory)
        found.steps.append(record("done", BAD))
        found.save()
        return 0

    monkeypatch.setattr("benchmarks.gpu.__main__.supervise", worker)
    assert main(["--out", str(tmp_path / "new"), "--fa3", "fa3.so"]) == BELOW


def test_show_prints_the_page_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Report(tmp_path, False, {"device": "NVIDIA H200"}, [record("done", GOOD)]).save()
    assert main(["--show", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# GPU evidence: NVIDIA H200")
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8").startswith(shown.rstrip("\n"))


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "{}", '{"steps": 3, "earlier": []}', '{"steps": [{"title": 1}]}']
)
def test_show_of_a_missing_or_damaged_report_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    if text is not None:
        (tmp_path / "gpu.json").write_text(text, encoding="utf-8")
    assert main(["--show", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith(f"benchmarks.gpu: no report in {tmp_path}: ")
    assert shown.out == ""


def test_a_call_that_asks_for_some_steps_continues_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch a second call that costs the first one's figures, and figures that pass for another device's."""
    facts = {"device": "NVIDIA H200", "commit": "abc"}
    first = record("done", BAD, title="first")
    first.section.data["rate"] = 1
    Report(tmp_path, False, facts, [first, record("failed", title="again")]).save()
    monkeypatch.setattr("benchmarks.gpu.__main__.supervise", lambda *arguments: 1)
    assert main(["--out", str(tmp_path), "--only", "tests"]) == 1
    second = Report.load(tmp_path)
    second.facts["device"] = "NVIDIA H100"
    second.steps.append(record("done", GOOD, title="again"))
    second.save()
    found = Report.load(tmp_path)
    assert {step.title: step.status for step in found.all_steps} == {"first": "done", "again": "done"}
    assert found.all_steps[1].note == "why; earlier call on NVIDIA H200, abc"
    assert found.data("first") == {"rate": 1}
    assert found.outcome.exit_code == 0
    assert "| 0.4 | x | missed by 700% | - | 1 of 2 |" in found.summary()
    assert main(["--out", str(tmp_path)]) == 1  # a call for everything starts anew
    assert Report.load(tmp_path).all_steps == []
    (tmp_path / "gpu.json").write_text("{", encoding="utf-8")
    assert main(["--out", str(tmp_path), "--only", "tests"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("is replaced: gpu.json is damaged or of another version")


def test_steps_are_chosen_by_group_or_by_title() -> None:
    steps = plan.steps(FULL)
    extra = {step.group for step in steps if step.is_extra}
    assert {"tests", "decode", "tune", "flex", "budgets", "linear", "experts"} <= extra
    assert not any(step.is_extra for step in plan.chosen(steps, []))
    for name in extra:
        groups = {step.group for step in plan.chosen(steps, [name]) if step.title != ceilings.TITLE}
        assert name in groups
    assert [step.title for step in plan.chosen(steps, ["tune"])] == [ceilings.TITLE, "Launch settings"]
    by_title = [step.title for step in plan.chosen(steps, ["engine, llama-3-8b, 22"])]
    assert by_title == [ceilings.TITLE, f"Engine, {LLAMA}, 22 prompts a pair"]
    with pytest.raises(ValueError, match="no step goes by --only 'tset'; groups are smoke, compile, ceilings"):
        plan.chosen(steps, ["tests", "tset"])


def test_an_unknown_group_is_refused_before_a_device_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Report(tmp_path, False).save()
    assert main(["--out", str(tmp_path), "--only", "tset", "--worker", str(time.time())]) == supervisor.TOLD
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.gpu: no step goes by --only 'tset'; groups are ")


def test_a_first_call_fits_seven_minutes_and_begins_with_what_matters_most() -> None:
    steps = [step for step in plan.steps(FULL) if not step.is_extra]
    assert [step.group for step in steps[:4]] == ["smoke", "compile", "ceilings", "engine"]
    assert steps[0].seconds <= 20
    assert sum(step.seconds for step in steps) <= 7 * 60 - STARTING_SECONDS
    titles, seconds = set(), float(STARTING_SECONDS)
    for step in steps:
        seconds += step.seconds
        if seconds <= 5 * 60:
            titles.add(step.title)
    wanted = {f"Engine, {QWEN}, options 270+30", f"Engine, {QWEN}, options 120+180", f"Same bits, {LLAMA}"}
    wanted |= {f"Engine, {shape}, 22 prompts a pair" for shape in (QWEN, LLAMA)}
    assert wanted | {f"Attention, {LLAMA}, paths of 2,000", f"Attention, {QWEN}, paths of 2,000"} <= titles
    assert len({step.title for step in plan.steps(FULL)}) == len(plan.steps(FULL))


def say(session: Session) -> Section:
    return Section(lines=["fine"])


def refuse(session: Session) -> Section:
    raise NotHereError("not on this device")


def session_of(directory: Path) -> Session:
    device = Rehearsal()
    sampler = ClockSampler(lambda: (1980.0, 2619.0, 650.0, None), "a test", period=0.01)
    found = Report(directory, is_rehearsal=True)
    return Session(device, REHEARSAL, found, Models(device, REHEARSAL), time.time() + 60, clocks=sampler)


def test_every_step_has_its_clocks(tmp_path: Path) -> None:
    assert work(session_of(tmp_path), [Step("one", 1, say), Step("two", 1, refuse)]) == 0
    found = Report.load(tmp_path)
    clocks = {"sm": [1980, 1980], "memory": [2619, 2619], "power": [650, 650]}
    assert [step.clocks for step in found.steps] == [clocks, clocks]
    assert "| one | done | 0.0 | sm 1980/1980 MHz, memory 2619/2619 MHz, power 650/650 W |" in found.summary()
    assert found.planned == ["one", "two"]


def test_a_full_disk_stops_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one line says so once; figures stay in memory, and the last chance to see them is the worker's."""
    session = session_of(tmp_path)
    session.report.save()
    before = (tmp_path / "gpu.json").read_text(encoding="utf-8")

    def full(path: Path, text: str, **named: Any) -> int:
        with open(path, "w") as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    def writing(session: Session) -> Section:
        (session.report.directory / "trace.json.gz").write_text("long", encoding="utf-8")
        return Section()

    monkeypatch.setattr(Path, "write_text", full)
    assert work(session, [Step("one", 1, say), Step("writes", 1, writing), Step("two", 1, say)]) == 0
    assert [step.status for step in session.report.steps] == ["done", "failed", "done"]
    assert "No space left on device" in session.report.steps[1].note
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("benchmarks.gpu")]
    said = f"benchmarks.gpu: cannot write the report to {tmp_path} (No space left on device); the steps go on"
    assert lines == [said]
    assert not session.report.is_saved
    assert (tmp_path / "gpu.json").read_text(encoding="utf-8") == before
    assert not list(tmp_path.glob("*.tmp"))


def test_half_a_trace_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(trace: object, file: Any) -> None:
        file.write("{")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        trace.write_gzip({"traceEvents": []}, tmp_path / "trace.json.gz", most_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_cannot_write_does_not_count_as_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report on the disk is that of a step long past; its file is touched instead."""
    began = time.time() - 1000
    found = Report(tmp_path, True, steps=[StepRecord("long past", "running", began=began, limit=60)])
    found.save()
    monkeypatch.setattr(report, "_replace", lambda path, text: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    found.try_save()
    assert supervisor._last_sign(tmp_path, found.steps[0]) > time.time() - 100
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["steps"][0]["title"] == "long past"
