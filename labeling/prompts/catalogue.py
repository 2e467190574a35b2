r"""Prompt templates: text files that turn a sample into what a judge reads.

A template file is YAML front matter between two lines of `---`, then the sample in Jinja:

    ---
    description: Which of two answers is better.
    labels: ["1", "2"]              # what the judge answers when the first, the second response is preferred
    values: null                    # one response: a number for each label, where the labels are no numbers
    invert: false                   # true where the judge is asked for the WORSE response, or scores badness
    system: null                    # optional system text
    bos: null                       # true, false: a beginning-of-sequence token or none (default: the model's choice)
    preamble:                       # optional: one text, or several by name; chosen with --preamble
      base: ...
      detailed: ...
    exemplar_heading: null          # optional: stands before each exemplar; may show its {{ number }}
    exemplars: []                   # optional; each with the variables shown, the label, and for --cot a rationale
    sample_heading: null            # optional: stands before the sample where exemplars come before it
    seam: "\n\n"                    # white space between sample and answer (default: a blank line)
    answer: "Preferred response: "  # the judge's answer up to the label
    rationale:                      # optional, for --cot: the judge explains before it answers
      ask: ...                      # optional: what it is told after the sample
      start: "Explanation:"         # its answer up to the explanation; without a space, for words bring their own
      ending: ...                   # what stands between explanation and label (default: a blank line and `answer`)
      stop: ["\n### Question"]      # optional texts that end an explanation, for models that do not know when to end
    ---
    Question: {{ prompt }}
    ...{{ response_1 }}...{{ response_2 }}

The prompt is the preamble, the exemplars with their answers, the sample, and the started answer, with a blank line
between them but for the seam before each answer. A chat template puts the judge's turn in place of the last seam, and
its own BOS in front. With --fence, every response, those of exemplars too, is shown between two lines of backticks:
three, or one more than the longest run of backticks in it, so that no response can close its fence. With --cot, `ask`
is added to the sample and `start` replaces `answer`; the judge writes, and `ending` is put after what it wrote.

Variables:
    prompt: in the sample.
    response_1, response_2, or response: in the sample, which must show two responses or one.
    principle, principle_name: what to judge by, its statement and its name; in sample, `answer` and `rationale`.
    low, high: the first and the last label; there, too.
    row.title, row.info.title, row["odd name"]: another column of the row, or a field of it; there, too. It holds a
        text or a number; a row without it is rejected. Of TL;DR comparisons subreddit and title are there.
    number: of the exemplar, in headings; a sample's is the next one.

Prompt and responses are not for `answer` and `rationale`, where the judge would seem to say what they say; `system`,
`preamble` and `stop` are fixed texts, for all prompts share them. An exemplar has every variable that is shown but low
and high, as `prompt:` or `row.title:`.

What shows variables may have {% if %}, {% for %}, filters and whatever else Jinja's sandbox allows: it runs in a
process of its own then, for up to 3 seconds a prompt and in 512 MiB, which costs a tenth of a millisecond a prompt.
What differs between the prompts of one sample belongs last, such as the principle, and long fixed text belongs into the
preamble: what prompts begin with together is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.options.methods import PromptOptions
from preftree.labeling.prompts.answering import Exemplar
from preftree.labeling.prompts.parse import parse_template
from preftree.labeling.prompts.template import DEFAULT_PREAMBLE, Template, conversation_text
from preftree.labeling.values import known_names
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
            known = known_names(name_or_path, template_names())
            raise InputError(f"template {name_or_path!r} is neither a file nor one of: {known}")
    return parse_template(read_text(path, f"template {path}"), name_or_path)


def chosen_template(options: PromptOptions, recorded: Mapping[str, Any] | None, default: str) -> Template:
    """The template of `options`, or else `default`; its text as a run recorded it where there is such a record."""
    name = options.template or default
    template = load_template(name) if recorded is None else parse_template(recorded["template"]["source"], name)
    return replace(template, fenced=options.fence)
