"""A finished run, read again: its record, and the input that it labelled."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from preftree.engine.errors import InputError, OutputError, PreftreeError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.folder import Folder, folder_of
from preftree.labeling.data.inputs import STANDARD_INPUT
from preftree.labeling.data.labels_file import RUN
from preftree.labeling.options.option import Options, declared, defaults
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample

# Of run.json; higher where an older preftree could not read it.
SCHEMA = 1
# The method of labels that `preftree combine` has made of other runs' labels.
PANEL = "panel"

Chosen = TypeVar("Chosen", bound=Options)


def read_run(folder: Folder) -> dict[str, Any]:
    """The record in its run.json. Raises OutputError where there is none."""
    path = folder.place(RUN)
    try:
        run = json.loads(folder.read(RUN))
    except FileNotFoundError:
        raise OutputError(f"no such file: {path}; name a directory that `preftree label` has filled") from None
    except NotADirectoryError:
        raise OutputError(f"{folder} is a file; name a directory that `preftree label` has filled") from None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{path} is no record of a run: {error}") from error
    if isinstance(run, dict) and "settings" in run:
        _rename_settings(run)
    if not isinstance(run, dict) or not {"input", "options", "method", "scorer"} <= run.keys():
        raise OutputError(f"{path} is no record of a run by preftree")
    if run.get("schema", SCHEMA) != SCHEMA:
        schema, by = (one_line(str(found)) for found in (run["schema"], run.get("versions", {}).get("preftree")))
        raise OutputError(f"{path} has schema {schema}, not {SCHEMA}; read it with preftree {by}, which made it")
    return run


def _rename_settings(run: dict[str, Any]) -> None:
    """The record of an earlier preftree, whose null was a default, as it is written today."""
    known, settings = declared(LabelOptions), run.pop("settings")
    given = {name: value for name, value in settings.items() if name in known and value is not None}
    run["options"] = dict.fromkeys(known) | defaults(LabelOptions) | given
    run.get("method", {}).pop("reasoning", None)


def check_format(directory: Folder, record: Mapping[str, Any]) -> None:
    """OutputError for a run without answers: a panel's, or that of an earlier preftree."""
    if record["method"].get("name") == PANEL:
        raise OutputError(
            f"{directory} is a panel that `preftree combine` has made of other runs, without answers of its own; read "
            "it with report, show or export, or make it again with combine --overwrite"
        )
    if "answers" not in record:
        version = record.get("versions", {}).get("preftree", "(an early version)")
        raise OutputError(
            f"{directory} was made by preftree {version}, whose answers this version cannot read; finish it with that "
            "one, or label again: `preftree label` with another --out, or with --overwrite"
        )


def options_again(kind: type[Chosen], run: Mapping[str, Any], **own: Any) -> Chosen:
    """The options of a run, with `own` in the place of some."""
    then = run["options"]
    return kind(**{name: then[name] for name in declared(kind) if name in then} | own)


def finished_run(named: Path | Folder, shards: bool = False, way_out: str = "") -> dict[str, Any]:
    """The record of a run whose labels are there, those of all rows unless `shards` may be. Raises OutputError.

    way_out: another than to wait for the end, for the message.
    """
    directory = folder_of(named)
    run = read_run(directory)
    if run.get("state") != "complete":
        raise OutputError(
            f"{directory} is not finished; `preftree status` says how far it is and how to resume it{way_out}"
        )
    if not shards and (shard := run["options"].get("shard")) is not None:
        raise OutputError(f"{directory} is shard {shard}; join it with the others first: `preftree merge`")
    return run


def labelled_input(run: Mapping[str, Any], moved_to: str | None) -> Dataset:
    """The input that was labelled, where it was then or at `moved_to`. InputError unless it is still the same."""
    paths = moved_to or run["input"]["path"]
    if not moved_to and STANDARD_INPUT in ([paths] if isinstance(paths, str) else paths):
        raise InputError("what was labelled came from standard input; name a file with the same bytes with --input")
    dataset = Dataset.open(paths, run["options"].get("mapping", ()))
    if changed := dataset.difference(run["input"]):
        raise InputError(f"{changed} is not the file that was labelled; name that one with --input")
    return dataset


def samples_again(
    record: Mapping[str, Any], wanted: Collection[str], moved_to: str | None
) -> tuple[dict[str, Sample], str | None]:
    """What was labelled, by id; or nothing and why, where the input is not there any more.

    record: a run.json; empty for labels of an unknown one. Raises PreftreeError for an input that was named.
    """
    if not record:
        return {}, "they are not in the labels; name the directory of a run, which knows its input"
    found: dict[str, Sample] = {}
    try:
        for item in labelled_input(record, moved_to).read():
            if len(found) == len(wanted):
                break
            if not isinstance(item, Rejected) and item.id in wanted:
                found.setdefault(item.id, item)
    except PreftreeError as error:
        if moved_to:
            raise
        return {}, str(error)
    return found, None
