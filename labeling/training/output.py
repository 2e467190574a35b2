"""The directory that `preftree train` fills, and its manifest.

preftree.json holds what the model was made of and how it does:

    schema, kind, state    1; "reward model"; "training" or "complete"
    layout                 of its input: conversation, instruction-first or response-first
    template_sha256        of all that is put around the texts, chat template included
    job                    data, base and options: training resumes with the same ones only
    rewards                mean and std on held-out responses, for rewards that are normalised
    held_out, pairs        figures, and how many pairs there were
    pad_token, versions
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.changes import change, flat
from preftree.labeling.data.folder import LocalFolder
from preftree.labeling.judge.reward_model import COMPLETE, KIND, MANIFEST
from preftree.labeling.regular_file import read
from preftree.labeling.terminal import one_line

CHECKPOINTS, TRAINING = "checkpoints", "training"
_SCHEMA = 1


class OutputDirectory:
    """Of a reward model.

    Attributes:
        path: where it is.
        checkpoints: where the trainer keeps its state, until the model is complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS

    def check(self, overwrite: bool, *sources: str) -> None:
        """OutputError where nothing may be written. sources: paths of what the model is made from."""
        for source in sources:
            if Path(source).resolve().is_relative_to(self.path.resolve()):
                raise OutputError(f"{source} is what the reward model is made from; name another --out")
        manifest = self._manifest()
        if manifest is None:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise OutputError(f"{self.path} exists already and is no reward model by preftree; name another --out")
            if not self.path.absolute().parent.is_dir():
                raise OutputError(f"cannot write {self.path}: {self.path.absolute().parent} is no directory")
        elif manifest.get("state") == COMPLETE and not overwrite:
            raise OutputError(f"{self.path} holds a reward model already; name another, or replace it with --overwrite")

    def begin(self, about: Mapping[str, Any], overwrite: bool) -> Path | None:
        """The checkpoint of unfinished training to resume from. about: the manifest.

        OutputError where that is training of another job.
        """
        then, last = self._manifest(), self.last_checkpoint()
        if then is not None and last is not None and not overwrite:
            if changed := _difference(then.get("job"), json.loads(json.dumps(about["job"]))):
                raise OutputError(f"{self.path} holds unfinished training of another job: {changed}; use --overwrite")
            return last
        try:
            if then is not None:
                shutil.rmtree(self.path)
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.write({**about, "state": TRAINING})
        return None

    def last_checkpoint(self) -> Path | None:
        """The newest one that is whole: the trainer writes its state last."""
        found = (path.parent for path in self.checkpoints.glob("checkpoint-*/trainer_state.json"))
        return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def finish(self, about: Mapping[str, Any]) -> None:
        """The model is whole; checkpoints are of no more use."""
        self.write({**about, "state": COMPLETE})
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def write(self, about: Mapping[str, Any]) -> None:
        """The manifest. Raises OutputError."""
        text = json.dumps({"schema": _SCHEMA, "kind": KIND, **about}, indent=2, ensure_ascii=False)
        try:
            LocalFolder(self.path).write(MANIFEST, text.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path / MANIFEST}: {error.strerror or error}") from error

    def _manifest(self) -> dict[str, Any] | None:
        try:
            found = json.loads(read(self.path / MANIFEST))
        except OSError:
            return None
        except ValueError as error:
            raise OutputError(
                f"{self.path / MANIFEST} is broken ({one_line(str(error))}); name another --out"
            ) from None
        return found if isinstance(found, dict) and found.get("kind") == KIND else None


def _difference(then: Any, now: Any) -> str | None:
    """The first entry that is another one, in words."""
    old, new = (dict(flat(one)) for one in (then, now))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            return change(name, old.get(name), new.get(name))
    return None
