"""Plots by matplotlib as SVG elements for a page: coloured by its style sheet, as wide as its layout has it."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from markupsafe import Markup

from preftree.engine.errors import InputError

# matplotlib wants colours, the page has variables, which differ in the dark: each stands for one while a plot is drawn.
INK, FAINT, MAIN, SECOND, THIRD = "#010101", "#010102", "#010103", "#010104", "#010105"
_VARIABLES = {INK: "--ink", FAINT: "--faint", MAIN: "--main", SECOND: "--second", THIRD: "--third"}
WIDTH = 360 / 72  # inches: a point is a pixel on a phone

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "preftree",
    "text.parse_math": False,  # names come from data and may have dollar signs
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.5,
    "text.color": INK,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.dpi": 72,
    "savefig.facecolor": "none",
}


@contextmanager
def drawing(height: float, **axes: Any) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, as `Figure.subplots` has them. height: in inches. Draw and save inside the context."""
    with _matplotlib().rc_context(_STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots(**axes)


def svg_of(figure: Any, name: str, description: str) -> Markup:
    """A figure as an SVG element.

    name: unique in the page; ids begin with it. description: for those who cannot see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    head, _, inner = text[text.index("<svg") :].partition(">")
    (box,) = re.findall(r'viewBox="[\d. -]+"', head)
    inner = re.sub(r"<(metadata|style)\b.*?</\1>", "", inner, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', inner))
    inner = re.sub(r"<[^>]+>", lambda tag: _own(tag[0], name, used), inner)
    return Markup(f'<svg class="plot" role="img" aria-label="{escape(description)}" {box}>{inner}')


def _own(tag: str, name: str, used: set[str]) -> str:
    """A tag with ids of this plot alone, colours of the page and its font. Attributes hold no text from data."""
    tag = re.sub(r'\s+id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", tag)
    tag = re.sub(r'(url\(|href=")#', rf"\1#{name}-", tag)
    tag = re.sub(r"font: (?:[\w-]+ )*([\d.]+px) [^;\"]*", r"font-size: \1", tag)
    return re.sub(r"#0101\d\d", lambda found: f"var({_VARIABLES[found[0]]})", tag)


def _matplotlib() -> Any:
    """Raises InputError where it is not installed."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it speaks of its font cache
    try:
        import matplotlib
    except ImportError:
        raise InputError("--html draws its plots with matplotlib: pip install 'preftree[report]'") from None
    return matplotlib
