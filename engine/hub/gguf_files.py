"""Which .gguf of a repository is meant: it may hold one model in many quantizations, and each of them in parts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from preftree.engine.errors import ModelError
from preftree.engine.files import GGUF_PART

ENDING = ".gguf"
# Beside a language model: the part of a vision model that reads images, and statistics for quantization.
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_SHOWN = 20


@dataclass(frozen=True)
class GgufFiles:
    """The .gguf files of a repository.

    Attributes:
        repository: for messages.
        models: by the file that stands for a model (its only one, or the first of its parts), all its files.
    """

    repository: str
    models: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, repository: object, names: Sequence[str]) -> "GgufFiles":
        """names: of all files of the repository."""
        found: dict[str, list[str]] = {}
        for name in sorted(name for name in names if name.lower().endswith(ENDING)):
            path = PurePosixPath(name)
            part = GGUF_PART.fullmatch(path.stem)
            if _NO_MODEL.search(path.name):
                continue
            first = str(path.with_name(f"{part[1]}-00001-of-{part[3]}{path.suffix}")) if part else name
            found.setdefault(first, []).append(name)
        return cls(str(repository), {first: tuple(files) for first, files in found.items()})

    def meant(self, choice: str | None) -> list[str]:
        """The files that stand for the models that may be meant.

        choice: a file name, or what ends it without `.gguf`, such as Q4_K_M; None for any model.
        """
        if choice in self.models:
            return [choice]
        return [name for name, files in self.models.items() if choice is None or _is_meant(name, files, choice)]

    def has_whole(self, choice: str) -> bool:
        """Whether one model is meant, and all its parts are there."""
        found = self.meant(choice)
        part = GGUF_PART.fullmatch(PurePosixPath(found[0]).stem) if len(found) == 1 else None
        return len(found) == 1 and len(self.models[found[0]]) == (int(part[3]) if part else 1)

    def chosen(self, choice: str | None) -> str:
        """The one that is meant. Raises ModelError where that is none, or not clear."""
        found = self.meant(choice)
        if len(found) == 1:
            return found[0]
        if not self.models:
            raise ModelError(
                f"{self.repository} holds no {ENDING} model, so there is no :{choice} of it; leave that out"
            )
        problem = f"several {ENDING} models" + " of that name" * bool(choice) if found else f"no {ENDING} of that name"
        asked = f"{self.repository}:{choice}" if choice else self.repository
        ways = ", ".join(f"{self.repository}:{name}" for name in (found or list(self.models))[:_SHOWN])
        raise ModelError(f"{asked}: the repository holds {problem}; name one: {ways}")


def _is_meant(name: str, files: Sequence[str], choice: str) -> bool:
    """Whether a model is what a user calls `choice`: any file of it, a quantization, or the folder that it is in."""
    path, wanted = PurePosixPath(name), choice.lower()
    if wanted.endswith(ENDING):
        return any(wanted in (one.lower(), PurePosixPath(one).name.lower()) for one in files)
    part = GGUF_PART.fullmatch(path.stem)
    stem = (part[1] if part else path.stem).lower()
    return stem == wanted or stem.endswith((f"-{wanted}", f".{wanted}")) or path.parent.name.lower() == wanted
