"""Names of the Hugging Face hub with the commits that they stand for, so that a run stays with one state of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from preftree.engine.hub.model import pinned_model
from preftree.labeling.data.hub_dataset import HubDataset
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.runs import LabelOptions


def pinned(options: LabelOptions | SampleOptions, previous: Mapping[str, Any] | None) -> LabelOptions | SampleOptions:
    """The options of a run with names of the hub as "org/name@COMMIT"; paths stay as they are.

    Args:
        options: as a user gives them.
        previous: the record of the run that is resumed, whose commits still hold.

    Raises:
        PreftreeError: there is no such model or data set.
    """
    then = previous["options"] if previous else {}
    names = pinned_inputs(options.input, previous, options.offline)
    model = pinned_model(options.model, then.get("model"), options.offline)
    if model == options.model and names == _names(options.input):
        return options
    return replace(options, model=model, input=names)


def pinned_inputs(given: str | Sequence[str], previous: Mapping[str, Any] | None, offline: bool) -> tuple[str, ...]:
    """The inputs of a run, see `pinned`."""
    inputs, before = _names(given), _names(previous["options"].get("input", ()) if previous else ())
    return tuple(
        _pinned_input(name, then_named, offline) for name, then_named in zip_longest(inputs, before[: len(inputs)])
    )


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _pinned_input(name: str, before: str | None, offline: bool) -> str:
    found = HubDataset.parse(name)
    return name if found is None else str(found.pinned(before, offline))
