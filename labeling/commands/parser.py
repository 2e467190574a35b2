"""The command line, generated from the classes of `preftree.labeling.options`; no other module declares a flag."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from preftree.engine.errors import UsageError
from preftree.labeling.commands.config import read_config
from preftree.labeling.commands.examples import EXAMPLES
from preftree.labeling.options.commands import ConfigOptions, JsonOptions
from preftree.labeling.options.option import Option, Options, declared, defaults, spelled
from preftree.labeling.result import Result
from preftree.labeling.values import Bare, Each, suggestion, switch

_WITHOUT_COMMAND = ("-h", "--help", "--version")
_WIDTH = 78  # what argparse uses of a terminal of 80 columns
EPILOG = "exit codes: 0 done, 1 failure, 2 wrong usage, 3 done but some rows were rejected, 130 interrupted"

JSON = "--json"


class Command(NamedTuple):
    """A command.

    Attributes:
        about: what it does, for people.
        options: what it takes.
        run: does it.
        hides: options that have no flag here.
        config: whose names a `--config` file may have; None where there is no such flag.
        presets: values that nobody can choose.
    """

    about: str
    options: type[Options]
    run: Callable[[Any], Result]
    hides: Collection[str] = ()
    config: type[Options] | None = None
    presets: Mapping[str, Any] = {}


def parse(commands: Mapping[str, Command], argv: Sequence[str]) -> tuple[Command, Options]:
    """The command and its options: of the command line, else of the --config file, else the defaults.

    Raises UsageError, and SystemExit after --help and --version.
    """
    if argv and argv[0] not in (*commands, *_WITHOUT_COMMAND):
        what = "option" if argv[0].startswith("-") else "command"
        meant = suggestion(argv[0], _WITHOUT_COMMAND if what == "option" else commands)
        raise UsageError(f"there is no {what} {argv[0]!r}; {meant}; see preftree --help")
    args, surplus = build_parser(commands, argv[:1]).parse_known_args(argv)
    given = vars(args)
    name = given.pop("command")
    given.pop("json", None)
    command = commands[name]
    known = declared(command.options)
    help_of = f"see preftree {name} --help"
    if surplus:
        raise UsageError(f"{_unknown(surplus, command)}; {help_of}")
    config = given.pop("config", None)
    read = read_config(config, command.config) if config and command.config else {}
    values = {**{option: value for option, value in read.items() if option in known}, **given, **command.presets}
    if missing := known.keys() - values.keys() - defaults(command.options).keys():
        names = ", ".join(spelled(option, known[option]) for option in known if option in missing)
        raise UsageError(f"the following arguments are required: {names}; {help_of}")
    return command, command.options(**values)


def build_parser(commands: Mapping[str, Command], filled: Collection[str] | None = None) -> argparse.ArgumentParser:
    """The whole command line; no option may be shortened, so that new ones break nobody's script.

    filled: commands that get their options (default: all), which takes longer than all the rest of a start.
    """
    description = "AI preference labels for pairs of responses, offline."
    parser = _Parser(
        prog="preftree",
        description=description,
        epilog=_ending(next(iter(commands))),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the version and exit"
    )
    each = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, command in commands.items():
        if filled is None or name in filled:
            _add_command(each, name, command)
        else:
            each.add_parser(name, help=command.about)
    return parser


def _ending(command: str) -> str:
    """What help texts end with."""
    return f"example:\n  preftree {command} {EXAMPLES.get(command, '')}\n\n{_wrapped(EPILOG)}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def _add_command(commands: Any, name: str, command: Command) -> None:
    known, default = _shown(command), defaults(command.options)
    usage = [_in_usage(one, option, one in default) for one, option in known.items()]
    parser = commands.add_parser(
        name,
        help=command.about,
        description=_wrapped(f"{command.about[0].upper()}{command.about[1:]}."),
        usage=" ".join(("preftree", name, *filter(None, usage), "[options]")),
        epilog=_ending(name),
        formatter_class=_Formatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    groups = {Options.SECTION: parser}
    if command.config:
        _add_option(parser, "config", declared(ConfigOptions)["config"], None)
    parser.add_argument(JSON, action="store_true", help=declared(JsonOptions)["json"].help)
    for one, option in known.items():
        if option.flag == "":
            # What a config file may have need not be on the command line.
            may_lack = one in default or command.config is not None
            number = ("*" if may_lack else "+") if isinstance(option.kind, Each) else "?" if may_lack else None
            parser.add_argument(one, nargs=number, metavar=option.metavar, help=option.help)
            continue
        owners: Any = reversed(command.options.__mro__)
        found = (owner.SECTION for owner in owners if one in getattr(owner, "__dataclass_fields__", ()))
        section = option.section or next(found)
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        _add_option(groups[section], one, option, default.get(one))


def _in_usage(name: str, option: Option, may_lack: bool) -> str:
    """What the usage line shows of an option: what must be given, and every positional argument."""
    if option.flag != "":
        return "" if may_lack else f"{spelled(name, option)} {option.metavar}"
    shown = f"{option.metavar} ..." if isinstance(option.kind, Each) else str(option.metavar)
    return f"[{shown}]" if may_lack else shown


def _add_option(to: Any, name: str, option: Option, default: Any) -> None:
    flag, kind = spelled(name, option), option.kind
    if option.switches:
        group = to.add_mutually_exclusive_group()
        for value, about in option.switches.items():
            group.add_argument(f"--{value}", dest=name, action="store_const", const=value, help=about)
    elif kind is switch:
        flags = {True: flag, False: f"--no-{flag[2:]}"}
        to.add_argument(flags[not default], dest=name, action="store_const", const=not default, help=option.help)
        to.add_argument(flags[default], dest=name, action="store_const", const=default, help=argparse.SUPPRESS)
    else:
        many: dict[str, Any] = {"nargs": "?", "const": kind.value} if isinstance(kind, Bare) else {}
        if isinstance(kind, Each):
            kind, many = kind.item, {"action": "append"}
        if isinstance(kind, Each):
            kind, many = kind.item, {"action": "append", "nargs": "+"}
        about = option.help if default in (None, ()) else f"{option.help} (default: {default})"
        to.add_argument(flag, dest=name, type=_argument(kind), metavar=option.metavar, help=about, **many)


def _argument(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def made(value: str) -> Any:
        try:
            return kind(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return made


def _unknown(surplus: Sequence[str], command: Command) -> str:
    flag = next((word.partition("=")[0] for word in surplus if word.startswith("-")), None)
    if flag is None:
        return f"unexpected argument {surplus[0]!r}"
    known = _shown(command)
    flags = [f"--{value}" for option in known.values() for value in option.switches]
    flags += [spelled(name, option) for name, option in known.items() if option.flag != "" and not option.switches]
    flags += [JSON, *(["--config"] if command.config else [])]
    flags += [f"--no-{spelled(name, option)[2:]}" for name, option in known.items() if option.kind is switch]
    near = suggestion(flag, flags)
    return f"there is no option {flag}" + (f"; {near}" if near.startswith("did") else "")


def _shown(command: Command) -> dict[str, Option]:
    return {name: option for name, option in declared(command.options).items() if name not in command.hides}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Breaks lines at spaces, never inside an option such as --max-error."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line, too. The parsers of the commands are of the same class."""

    def error(self, message: str) -> NoReturn:
        said = message.removeprefix("argument ").replace(": ", " ", 1) if message.startswith("argument ") else message
        raise UsageError(f"{said}; see {self.prog} --help")


class _Version(argparse.Action):
    """Looks the version up only when asked: the look-up is slower than all the rest of the start."""

    def __call__(self, *_: Any) -> None:
        from importlib import metadata

        try:
            print(f"preftree {metadata.version('preftree')}")
        except metadata.PackageNotFoundError:
            print("preftree (not installed)")
        sys.exit()
