"""Commands on what there is to label with: `templates`, `doctor`."""

from __future__ import annotations

import argparse
from typing import Any

from preftree.labeling.commands.arguments import FAILURE, OK, add_command


def add_templates(commands: Any) -> None:
    parser = add_command(commands, "templates", _templates, "the prompt templates that come with preftree")
    parser.add_argument("name", nargs="?", metavar="NAME|FILE", help="show this one whole")


def _templates(args: argparse.Namespace) -> int:
    from preftree.labeling.prompts.listing import template_lines

    for line in template_lines(args.name):
        print(line)
    return OK


def add_doctor(commands: Any) -> None:
    about = "what is installed, and whether a model is fit to label with; fails if anything is wrong"
    parser = add_command(commands, "doctor", _doctor, about)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="embedded, a Hugging Face directory, or a .gguf")


def _doctor(args: argparse.Namespace) -> int:
    from preftree.labeling.judge.doctor import Doctor

    doctor = Doctor(args.model)
    for line in doctor.lines():
        print(line, flush=True)
    return FAILURE if doctor.failed else OK
