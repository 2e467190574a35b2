"""Links out of docs/: what they lead to is on the website, too, below repository/."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]+)")


def linked(page: str, markdown: str) -> Iterator[str]:
    """The paths in the repository of what a page, named by its own path there, links to."""
    for target in _LINK.findall(_without_code(markdown)):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def closure(pages: dict[str, str]) -> set[str]:
    """All outside docs/ that these pages, by path in the repository, link to, directly or by others."""
    found: set[str] = set()
    waiting = dict(pages)
    while waiting:
        page, markdown = waiting.popitem()
        for path in linked(page, markdown):
            if path in found or path.startswith("docs/") or not (ROOT / path).exists():
                continue
            found.add(path)
            waiting.update({path: content(path)} if path.endswith(".md") or (ROOT / path).is_dir() else {})
    return found


def content(path: str) -> str:
    """The Markdown of a page outside docs/; a folder has a list of its files."""
    if not (ROOT / path).is_dir():
        return (ROOT / path).read_text(encoding="utf-8")
    names = sorted(child.name for child in (ROOT / path).iterdir() if child.is_file() and child.name[0] not in "._")
    return f"# {path}\n\n" + "".join(f"- [{name}]({path.rpartition('/')[2]}/{name})\n" for name in names)


def place(path: str) -> str:
    """Where a file of the repository is on the website."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" + (".md" if (ROOT / path).is_dir() else "")


def rewritten(uri: str, markdown: str) -> str:
    """The Markdown with its links as they are on the website."""
    path = uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"
    if not (ROOT / path).exists():
        path = path.removesuffix(".md")  # the list of a folder

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
        if not (ROOT / target).exists():
            return match[1]
        return posixpath.relpath(place(target), posixpath.dirname(uri) or ".")

    return _LINK.sub(moved, markdown)


def _without_code(markdown: str) -> str:
    return re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
