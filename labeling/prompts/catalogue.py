r"""Prompt templates: text files that turn a sample into what a judge reads.

A template file is YAML front matter between two lines of `---`, then the sample in Jinja:

    ---
    description: Which of two answers is better.
    labels: ["1", "2"]              # what the judge answers when the first, the second response is preferred
    values: null                    # one response: a number for each label, where the labels are no numbers
    invert: false                   # true where the judge is asked for the WORSE response, or scores badness
    system: null                    # optional system text
    preamble:                       # one text, or several by name; chosen with --preamble
      base: ...
      detailed: ...
    exemplars: []                   # optional; each with the sample's variables, the label, and for --cot a rationale
    answer: "Preferred response: "  # the judge's answer up to the label
    rationale:                      # optional, for --cot: the judge explains before it answers
      ask: ...                      # what it is told behind the sample
      start: "Explanation:"         # its answer up to the explanation; without a space, for words bring their own
      ending: ...                   # what stands between explanation and label (default: a blank line and `answer`)
      stop: ["\n### Question"]      # optional texts that end an explanation, for models that do not know when to end
    ---
    Question: {{ prompt }}
    ...{{ response_1 }}...{{ response_2 }}

The prompt is the preamble, the exemplars with their answers, the sample, and the started answer. With --fence, every
response, those of exemplars too, is shown between two lines of backticks: three, or one more than the longest run of
backticks in it, so that no response can close its fence. With --cot, `ask` is
added to the sample and `start` takes the place of `answer`; the judge writes, and `ending` is put behind what it wrote.
The sample shows two responses ({{ response_1 }}, {{ response_2 }}) or one ({{ response }}), and may show {{ prompt }},
a {{ principle }} to judge by, and the {{ low }} and {{ high }} end of the labels. It may have {% if %}, {% for %},
filters and whatever else Jinja's sandbox allows: it runs in a process of its own then, for up to 3 seconds a prompt and
in 512 MiB, which costs a tenth of a millisecond a prompt. The other texts are fixed. What differs between the prompts
of one sample belongs last, and long fixed text belongs into the preamble: what prompts begin with together is computed
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.options.methods import PromptOptions
from preftree.labeling.prompts.parse import parse_template
from preftree.labeling.prompts.template import DEFAULT_PREAMBLE, Exemplar, Template, conversation_text
from preftree.labeling.yaml_file import read_text

__all__ = [
    "DEFAULT_PREAMBLE",
    "Exemplar",
    "Template",
    "chosen_template",
    "conversation_text",
    "load_template",
    "parse_template",
    "template_names",
]

TEMPLATE_DIRECTORY = Path(__file__).parents[1] / "templates"


def template_names() -> list[str]:
    """Names of the templates that come with preftree."""
    return sorted(path.stem for path in TEMPLATE_DIRECTORY.glob("*.txt"))


def load_template(name_or_path: str) -> Template:
    """A template by name, or from a file. InputError with file and line for whatever is wrong with it."""
    if name_or_path in template_names():
        path = TEMPLATE_DIRECTORY / f"{name_or_path}.txt"
    else:
        path = Path(name_or_path)
        if not path.is_file():
            known = ", ".join(template_names())
            raise InputError(f"template {name_or_path!r} is neither a file nor one of: {known}")
    return parse_template(read_text(path, f"template {path}"), name_or_path)


def chosen_template(options: PromptOptions, recorded: Mapping[str, Any] | None, default: str) -> Template:
    """The template of `options`, or else `default`; its text as a run recorded it where there is such a record."""
    name = options.template or default
    template = load_template(name) if recorded is None else parse_template(recorded["template"]["source"], name)
    return replace(template, fenced=options.fence)
