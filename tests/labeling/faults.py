"""Runs that meet faults, in a process that forks them: `python -m tests.labeling.faults DIR MOMENTS SEED`.

A fault is a kill, a disk that is full or broken, a torn or flipped part, an input that is edited for a while, or a
processor with other arithmetic. Prints one JSON object: how many there were of each kind, how runs ended, and how often
labels were not the bytes of an undisturbed run.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from preftree.engine.errors import PreftreeError
from preftree.labeling.answers.answers import ANSWERS
from preftree.labeling.data.atomic import Draft
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_label
from tests.labeling.fakes import open_fake_method
from tests.labeling.killing import LoggingScorer, prepared

DONE, REFUSED, CRASHED, KILLED = "done", "refused", "crashed", "killed"
_CODES = {0: DONE, 1: REFUSED, 2: CRASHED}


class Here(LoggingScorer):
    """A judge that says what its processor computes."""

    arithmetic = "0" * 16

    def describe(self, before: Any = None) -> dict[str, Any]:
        return {**super().describe(before), "arithmetic": self.arithmetic}


class Elsewhere(Here):
    """A processor that computes other bits."""

    arithmetic = "f" * 16

    def _score_one(self, prompt: bytes) -> Any:
        return super()._score_one(prompt + b"!")


class Faults:
    """One input, and the runs that label it under faults.

    Attributes:
        found: counts by kind of fault and by end.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.found: Counter[str] = Counter(other_bytes=0, crashed=0)
        self._draw = random.Random(seed)
        self._directory = directory
        self._source, self._whole, self._seconds = prepared(directory, padding=20_000)
        self._good = self._source.read_bytes()
        self._edited = self._good.replace(b"this", b"that")

    def meet(self) -> None:
        """One fault, in the run at hand or in a new one."""
        kind = self._draw.choice((self._kill, self._broken_disk, self._torn_part, self._edit, self._other_processor))
        self.found[kind.__name__.strip("_")] += 1
        kind()
        self._look()

    def end(self) -> None:
        """The run at hand comes to its end undisturbed."""
        end = self._ended(self._begun())
        assert end == DONE, f"{end}: {self._said()}"
        self._look()

    @property
    def _out(self) -> Path:
        return self._directory / f"run {self.found['runs']}"

    def _kill(self) -> None:
        child = self._begun()
        time.sleep(self._moment())
        os.kill(child, signal.SIGKILL)
        self._ended(child)

    def _broken_disk(self) -> None:
        """At one of the first files that are written."""
        name, code = self._draw.choice(("seal", "publish")), self._draw.choice((errno.ENOSPC, errno.EIO))
        left = self._draw.randrange(20)

        def breaks() -> None:
            method: Callable[[Draft], None] = getattr(Draft, name)

            def broken(draft: Draft) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise OSError(code, os.strerror(code))
                method(draft)

            setattr(Draft, name, broken)

        self._ended(self._begun(breaks))

    def _torn_part(self) -> None:
        parts = sorted((self._out / ANSWERS).glob("part-*.parquet"))
        if parts:
            part = self._draw.choice(parts)
            data = bytearray(part.read_bytes())
            place = self._draw.randrange(len(data))
            data[place] ^= 1 << self._draw.randrange(8)
            part.write_bytes(bytes(data[:place] if self._draw.random() < 0.5 else data))
        self._kill()

    def _edit(self) -> None:
        """For a while, and the process may be killed meanwhile."""
        child = self._begun()
        time.sleep(self._moment())
        self._source.write_bytes(self._edited)
        time.sleep(self._moment() / 2)
        if self._draw.random() < 0.5:
            os.kill(child, signal.SIGKILL)
        self._source.write_bytes(self._good)
        self._ended(child)

    def _other_processor(self) -> None:
        is_there = (self._out / "run.json").exists()
        if is_there:
            end = self._ended(self._begun(scorer=Elsewhere))
            assert end == REFUSED, end

    def _said(self) -> str:
        """The last refusal."""
        said = self._out.with_suffix(".said")
        return said.read_text() if said.exists() else ""

    def _moment(self) -> float:
        return self._draw.uniform(0, 1.1 * self._seconds)

    def _begun(self, prepare: Callable[[], None] = lambda: None, scorer: type[Here] = Here) -> int:
        """The id of a process that labels."""
        child = os.fork()
        if child:
            return child
        code = 2
        try:
            prepare()
            self._label(scorer)
            code = 0
        except PreftreeError as error:
            code = 1
            self._out.with_suffix(".said").write_text(str(error))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _label(self, scorer: type[Here]) -> None:
        import pyarrow as pa

        pa.set_cpu_count(1)
        options = LabelOptions(input=str(self._source), out=str(self._out), quiet=True)

        def load(*_: object, weights: bool = True) -> Any:
            return scorer(self._out.with_suffix(".log"))

        run_label(options, load, open_fake_method)

    def _ended(self, child: int) -> str:
        status = os.waitpid(child, 0)[1]
        end = KILLED if os.WIFSIGNALED(status) else _CODES[os.WEXITSTATUS(status)]
        self.found[end] += 1
        return end

    def _look(self) -> None:
        """At what is there: a run is over when it is complete, or began with the edited input, which it insists on."""
        labels, record = self._out / "labels.parquet", self._out / "run.json"
        if not record.exists():
            return
        run = json.loads(record.read_bytes())
        is_other = run["input"]["sha256"] != sha256(self._good).hexdigest()
        if labels.exists() and not is_other:
            self.found["other_bytes"] += labels.read_bytes() != self._whole
        self.found["runs"] += is_other or run["state"] == "complete"
        self.found["other_inputs"] += is_other


def main(directory: Path, moments: int, seed: int) -> dict[str, int]:
    faults = Faults(directory, seed)
    for _ in range(moments):
        faults.meet()
    faults.end()
    return dict(faults.found)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
