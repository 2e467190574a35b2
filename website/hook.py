"""What mkdocs calls while it builds the website: it adds the pages that are generated, and moves links."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

from preftree.labeling.commands.table import COMMANDS
from website.api import api_pages
from website.commands import command_pages, commands_index
from website.repository import ROOT, closure, content, place, rewritten

_PROJECT = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_config(config: Any) -> None:
    """Makes the navigation: pages by section as docs/index.md lists them, then those that are generated."""
    sections = re.split(r"^## ", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    listed = {section.partition("\n")[0]: re.findall(r"\]\(([\w-]+\.md)\)", section) for section in sections}
    made = {
        "Commands": ["commands/index.md", *(f"commands/{name}.md" for name in COMMANDS)],
        "Python API": [f"api/{page}.md" for page in api_pages()],
        "Project": [place(path) for path in _PROJECT],
    }
    config.nav = ["index.md", *({title: pages} for title, pages in (listed | made).items())]


def on_files(files: Files, config: Any) -> None:
    """Adds generated pages, and what pages link to outside docs/."""
    pages = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    made = {f"api/{name}.md": text for name, text in api_pages().items()}
    made |= {f"commands/{name}.md": text for name, text in command_pages(COMMANDS).items()}
    made["commands/index.md"] = commands_index(COMMANDS)
    for path in sorted(closure(pages | {path: content(path) for path in _PROJECT}) | set(_PROJECT)):
        if path.endswith(".md") or (ROOT / path).is_dir():
            made[place(path)] = content(path)
        else:
            files.append(File.generated(config, place(path), abs_src_path=str(ROOT / path)))
    for uri, text in made.items():  # those that the navigation lacks are reached by links
        files.append(File.generated(config, uri, content=text, inclusion=InclusionLevel.NOT_IN_NAV))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Moves links that lead out of docs/."""
    return rewritten(page.file.src_uri, markdown)
