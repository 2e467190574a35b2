"""What a section of the page holds. Texts are plain: the page's template escapes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from preftree.labeling.report.table import Table

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Plot:
    """Attributes:
    svg: an element.
    caption: how to read it.
    """

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Section:
    """Attributes:
    title: heading.
    text: what it says in words.
    tables: figures.
    plots: pictures of them.
    """

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.text or self.tables or self.plots)


def percent(value: float | None) -> str:
    """ "12.3%", a dash for what there is none of."""
    return "–" if value is None else f"{value:.1%}"


def with_interval(share: float, interval: tuple[float, float]) -> str:
    """ "61.3% (44.0% to 76.2%)"."""
    return f"{share:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
