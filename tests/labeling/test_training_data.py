"""What reward models are trained on: which pairs, held out how, and refused why. Nothing is trained here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree.engine.errors import InputError, PreftreeError, UsageError
from preftree.labeling import cli
from preftree.labeling.export.comparison import Selection
from preftree.labeling.judge.reward_encoding import RewardEncoder
from preftree.labeling.judge.reward_model import open_model, reward_encoder
from preftree.labeling.methods.ranking_labels import RankingLabel
from preftree.labeling.methods.score_labels import DirectLabel, Score
from preftree.labeling.options.training import TrainOptions
from preftree.labeling.training import job
from preftree.labeling.training.figures import held_out_figures
from preftree.labeling.training.output import OutputDirectory
from preftree.labeling.training.pairs import PairSource, TrainingPair, source_of
from preftree.labeling.training.rows import Rows, Split, split_rows
from preftree.labeling.types import Message, PairLabel
from tests.labeling.commands import one_error
from tests.labeling.fakes import row
from tests.labeling.labelled_run import labelled_run
from tests.labeling.salmon_run import salmon_run
from tests.models import write_model

SOFT = (0.8, 0.3, 0.5)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "base"))


@pytest.fixture
def encoder(base: str) -> RewardEncoder:
    return reward_encoder(open_model(base))


def soft_run(directory: Path, labels: Sequence[float | None], **changes: Any) -> Path:
    rows = [row(**{"id": f"r{k}", "prompt": f"{k}?", "gold": "a"} | changes) for k in range(len(labels))]
    made = [None if p is None else PairLabel(p, p, p, 0.9, 0.9, 1) for p in labels]
    return labelled_run(directory, "rlaif", rows, made)


def _score(reward: float) -> Score:
    return Score(5.0, reward, 5.0, 0.0, 0.9, (1.0,))


def pairs_of(run: Path, **options: Any) -> tuple[list[TrainingPair], Selection]:
    source = source_of(TrainOptions(run=str(run), model="m", out="o", **options))
    selection = Selection(source.is_soft)
    return list(source.pairs(selection)), selection


def of_prompts(count: int, of_each: int = 2) -> PairSource:
    def pairs(selection: Selection) -> Iterator[TrainingPair]:
        for number in range(count * of_each):
            yield TrainingPair((Message("user", f"{number // of_each}?"),), f"this {number}", "that", 0.7)

    return PairSource(pairs, True, {})


def prompts_of(rows: Rows, encoder: RewardEncoder) -> set[bytes]:
    return {ids.tobytes()[:40] for ids in rows.better}


# pairs


def test_pairs_of_a_run(tmp_path: Path) -> None:
    """Catches p of the other response, ties that are dropped, and gold of the wrong one."""
    run = soft_run(tmp_path / "run", (*SOFT, None))
    pairs, selection = pairs_of(run)
    assert [(one.better, one.p, one.gold) for one in pairs] == [
        *(("this", 0.8, True), ("that", pytest.approx(0.7), False), ("this", 0.5, True)),
    ]
    assert selection.lines() == ["1 pair: no label"]
    pairs, selection = pairs_of(run, labels="hard")
    assert len(pairs) == 2
    assert "1 pair: tie" in selection.lines()


def test_pairs_of_other_methods(tmp_path: Path) -> None:
    """Catches the best and the worst of a ranking alone, and scores taken for probabilities."""
    compared = ((0, 1, 0.9), (0, 2, 0.6), (1, 2, 0.5))
    comparisons = tuple((i, j, PairLabel(p, p, p, 0.9, 0.9, 1)) for i, j, p in compared)
    ranking = RankingLabel(comparisons, (1.0, 0.0, 0.1), 1)
    several = {"id": "x", "prompt": "Which?", "responses": ["one", "two", "three"]}
    pairs, _ = pairs_of(labelled_run(tmp_path / "ranking", "ranking", [several], [ranking]))
    assert [(one.better, one.worse, one.p) for one in pairs] == [
        *(("one", "two", 0.9), ("one", "three", 0.6), ("two", "three", 0.5)),
    ]
    direct = labelled_run(tmp_path / "direct", "direct", [row()], [DirectLabel((_score(-0.5), _score(0.5)), 1)])
    with pytest.raises(UsageError, match="no probabilities; train on verdicts: --labels hard"):
        pairs_of(direct)
    assert [(one.better, one.p) for one in pairs_of(direct, labels="hard")[0]] == [("that", 1.0)]


def test_pairs_of_instructions(tmp_path: Path) -> None:
    """Catches the positive statement of a negated principle, and the response that was not chosen."""
    labels = salmon_run(tmp_path / "run", [(1.0, -2.0, 0.5), (-1.0, 1.0, 3.0)])
    out = tmp_path / "instructions.jsonl"
    assert cli.main(["instructions", str(labels), "--out", str(out), "--noise", "0"]) == 0
    written = [json.loads(line) for line in out.read_text().splitlines()]
    pairs, _ = pairs_of(out, principled=True)
    assert len(pairs) == len(written) == 8
    for pair, line in zip(pairs, written, strict=True):
        assert pair.principles == tuple(line["principles"])
        assert pair.better == line[f"response_{line['chosen']}"]
        assert pair.p == 1.0


# held out


def test_held_out_by_prompt(encoder: RewardEncoder) -> None:
    """Catches a prompt on both sides, another share, and a split that another pair changes."""
    split = split_rows(of_prompts(200), encoder, 0.2, 0, "run")
    held_out, trained = (prompts_of(rows, encoder) for rows in (split.held_out, split.train))
    assert not held_out & trained
    assert len(held_out) + len(trained) == 200
    assert 20 < len(held_out) < 60
    assert len(split.held_out) == 2 * len(held_out)
    more = split_rows(of_prompts(300), encoder, 0.2, 0, "run")
    assert held_out <= prompts_of(more.held_out, encoder)
    assert held_out != prompts_of(split_rows(of_prompts(200), encoder, 0.2, 1, "run").held_out, encoder)


def test_at_least_one_prompt_is_held_out(encoder: RewardEncoder) -> None:
    """Catches a model without figures, or without training data."""
    split = split_rows(of_prompts(2), encoder, 1e-9, 0, "run")
    assert (len(split.held_out), len(split.train)) == (2, 2)
    with pytest.raises(InputError, match=r"no pairs left to train on .* its 2 pairs have 1 different prompt; "):
        split_rows(of_prompts(1), encoder, 0.1, 0, "run")


def test_long_rows_are_counted(base: str) -> None:
    """Catches rows that are cut, or dropped in silence, as TRL does."""
    short = reward_encoder(open_model(base), max_tokens=40)

    def pairs(selection: Selection) -> Iterator[TrainingPair]:
        yield from of_prompts(20).pairs(selection)
        yield TrainingPair((Message("user", "x"),), "this", "that" * 20, 0.7)

    split = split_rows(PairSource(pairs, True, {}), short, 0.2, 0, "run")
    assert split.left_out == ["1 pair: longer than 40 tokens"]
    assert len(split.train) + len(split.held_out) == 40
    with pytest.raises(InputError, match=r"run has no pairs to train on; 40 pairs: longer than 10 tokens"):
        split_rows(of_prompts(20), reward_encoder(open_model(base), max_tokens=10), 0.2, 0, "run")


# figures


def test_figures_by_hand() -> None:
    """Catches a cross-entropy of the other response, ties that count, and gold that is the judge's."""
    ids = [np.zeros(1, np.int32)] * 3
    rows = Rows(ids, ids, [0.9, 0.5, 1.0], [True, None, False])
    figures = held_out_figures(rows, [1.0, 0.0, 2.0, 0.0, -1.0, 0.0])
    sigmoid = [1 / (1 + np.exp(-one)) for one in (1.0, 2.0, -1.0)]
    p = (0.9, 0.5, 1.0)
    entropies = [-q * np.log(s) - (1 - q) * np.log(1 - s) for q, s in zip(p, sigmoid, strict=True)]
    assert figures.cross_entropy == pytest.approx(np.mean(entropies))
    assert figures.floor == pytest.approx((-0.9 * np.log(0.9) - 0.1 * np.log(0.1) + np.log(2)) / 3)
    assert figures.distance == pytest.approx(np.mean(abs(np.subtract(sigmoid, p))))
    assert figures.judge is not None
    assert figures.gold is not None
    assert (figures.judge.right, figures.judge.pairs) == (1, 2)
    assert (figures.gold.right, figures.gold.pairs) == (2, 2)
    assert (figures.mean, figures.std) == pytest.approx((2 / 6, np.std([1, 0, 2, 0, -1, 0])))


# what is refused


@pytest.fixture
def command(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a run of soft labels; that trainers are there is taken for granted."""
    monkeypatch.setattr(job, "check_packages", lambda report: None)
    run = soft_run(tmp_path / "run", SOFT)
    return ["train", str(run), "--model", base, "--out", str(tmp_path / "rm")]


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(command) in (1, 2)
    return one_error(capsys)


def test_runs_that_cannot_be_trained_on(
    command: list[str], tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback, and hours of training on nothing."""

    def train(run: Path, *options: str) -> str:
        return refused(["train", str(run), *command[2:], *options], capsys)

    assert "no such file" in train(tmp_path / "nowhere")
    unfinished = soft_run(tmp_path / "unfinished", SOFT)
    record = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(record | {"state": "running"}))
    assert "is not finished; `preftree status`" in train(unfinished)
    assert "all labels are ties (2 pairs)" in train(soft_run(tmp_path / "ties", (0.5, 0.5)))
    assert "no pairs to train on; 2 pairs: tie" in train(tmp_path / "ties", "--labels", "hard")
    single = {"id": "x", "prompt": "Which?", "response": "this"}
    scores = labelled_run(tmp_path / "single", "direct", [single], [DirectLabel((_score(0.5),), 1)])
    assert "no pairs to train on; 1 pair: nothing compared" in train(scores, "--labels", "hard")
    pair = labelled_run(tmp_path / "rubric", "rubric", [row()], [DirectLabel((_score(0.5), _score(0.1)), 1)])
    assert "labels of method rubric are scores and no probabilities; train on verdicts: --labels hard" in train(pair)
    assert "is a file; name the directory of a run" in train(Path(base, "config.json"))
    assert "is a directory" in train(tmp_path / "run", "--principled")
    assert "no preference under principles" in train(tmp_path / "run.in.jsonl", "--principled")
    assert not (tmp_path / "rm").exists()


def test_bases_that_cannot_be_trained(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a model that is trained on text without turns, and one that cannot be trained at all."""
    bare = write_model(tmp_path / "bare")
    settings = bare / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("chat_template", "no_template"))
    for model, reason in (
        ("nowhere", "no such file"),
        (str(bare), "no chat template"),
        ("embedded", "cannot be trained"),
    ):
        command[3] = model
        assert reason in refused(command, capsys)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--full", "--lora-rank", "4"], "--full excludes --lora-rank"),
        (["--layout", "response-first"], "--layout requires --principled"),
        (["--held-out", "0"], "--held-out must be a number above 0 and below 1"),
        (["--held-out", "1"], "--held-out must be a number above 0 and below 1"),
        (["--lr", "0"], "--lr must be a number above 0"),
        (["--report", "paper"], "--report cannot be 'paper'"),
    ],
)
def test_options_that_cannot_be(
    command: list[str], options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an option that is dropped in silence."""
    assert reason in refused([*command, *options], capsys)


def test_directories_that_are_taken(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a directory of something else that is emptied."""
    (tmp_path / "rm").mkdir()
    (tmp_path / "rm" / "thesis.txt").write_text("mine")
    for options in ([], ["--overwrite"]):
        assert "rm exists already and is no reward model by preftree" in refused([*command, *options], capsys)
    command[5] = str(tmp_path / "no" / "rm")
    assert "is no directory" in refused(command, capsys)
    assert (tmp_path / "rm" / "thesis.txt").read_text() == "mine"
    for source in command[1], command[3]:
        command[5] = source
        assert f"{source} is what the reward model is made from" in refused([*command, "--overwrite"], capsys)
    assert Path(command[1], "run.json").exists()


def test_a_checkpoint_that_is_not_whole_is_not_resumed(tmp_path: Path) -> None:
    """Catches training that cannot be resumed because it ended while it was saved."""
    for step, is_whole in ((9, True), (10, True), (11, False)):
        (tmp_path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
        if is_whole:
            (tmp_path / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    last = OutputDirectory(tmp_path).last_checkpoint()
    assert last is not None
    assert last.name == "checkpoint-10"


def test_gold_taken_for_labels_is_said(
    tmp_path: Path, encoder: RewardEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches soft labels that are none."""
    options = TrainOptions(run="run", model="m", out="o")
    ids = [np.zeros(1, np.int32)]

    def warned(p: float) -> bool:
        caplog.clear()
        split = Split(Rows(ids, ids, [p], [None]), Rows(), ())
        job._warn(job._Job(options, "", encoder, of_prompts(1), split, OutputDirectory(Path())))
        return "as gold labels are" in caplog.text

    assert warned(1.0)
    assert not warned(0.9)


def test_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a command that installs something else."""
    from preftree.labeling.training import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in ("trl", "wandb") else "there")
    with pytest.raises(PreftreeError, match=r"needs trl: pip install 'preftree\[train\]'"):
        packages.check_packages(None)
    monkeypatch.setattr(packages, "NEEDED", ())
    with pytest.raises(PreftreeError, match="pip install wandb"):
        packages.check_packages("wandb")
