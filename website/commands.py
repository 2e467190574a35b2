"""Pages of commands, from what `preftree COMMAND --help` prints."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping

from preftree.labeling.commands.parser import EPILOG, Command, build_parser
from preftree.labeling.options.option import declared

_CHANGES = "Labels depend on options with *: a run is resumed only with the same values."


def command_pages(commands: Mapping[str, Command]) -> dict[str, str]:
    """Markdown by command."""
    parsers = _parsers(commands)
    return {name: "\n".join(_page(name, command, parsers[name])) + "\n" for name, command in commands.items()}


def commands_index(commands: Mapping[str, Command]) -> str:
    """Markdown that lists the commands."""
    rows = [f"| [{name}]({name}.md) | {cell(command.about)} |" for name, command in commands.items()]
    epilog = f"{EPILOG[0].upper()}{EPILOG[1:]}."
    return "\n".join(["# Commands", "", epilog, "", "| command | what it does |", "|---|---|", *rows, ""])


def cell(text: str) -> str:
    """Text that a table of Markdown shows as it is, but for code between backticks."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if place % 2 else re.sub(r"([*_<\[])", r"\\\1", part) for place, part in enumerate(parts))


def _parsers(commands: Mapping[str, Command]) -> Mapping[str, argparse.ArgumentParser]:
    parser = build_parser(commands)
    (choices,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return choices


def _page(name: str, command: Command, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"# preftree {name}", "", str(parser.description), "", "```text")
    yield from (parser.format_usage().removeprefix("usage: ").strip(), "```")
    known = declared(command.options)
    if any(known[action.dest].labels for action in parser._actions if action.dest in known):
        yield from ("", _CHANGES)
    for group in parser._action_groups:
        shown = [
            action for action in group._group_actions if action.help != argparse.SUPPRESS and action.dest != "help"
        ]
        if shown:
            title = str(group.title)
            yield from ("", f"## {title[0].upper()}{title[1:]}", "", "| option | what it does |", "|---|---|")
        for action in shown:
            changes = action.dest in known and known[action.dest].labels
            yield f"| `{_spelled(action)}`{' *' if changes else ''} | {cell(str(action.help))} |"


def _spelled(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    return " ".join((", ".join(action.option_strings), value)).strip().replace("|", "\\|")
