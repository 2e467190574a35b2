"""The record of a run, run.json: all that it takes to make its labels again, and to tell whether it is the same run."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from preftree.labeling.changes import change, flat
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.folder import Folder, folder_of
from preftree.labeling.data.labels_file import RUN
from preftree.labeling.data.selection import count_outside, rows_of, selection_of
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.candidates import SAMPLE
from preftree.labeling.methods.registry import SEVERAL
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.option import declared, defaults
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.command import command_line
from preftree.labeling.runs.recorded import SCHEMA
from preftree.labeling.terminal import count

RUNNING, COMPLETE = "running", "complete"

# What labels depend on, and so must not change between two attempts at a run, nor between its shards.
_COMPARED = ("input", "method", "options", "scorer", "versions")
# What they do not depend on, or what another entry says better: a path or a name is not its content.
_FREE = {
    *("input.path", "input.sha256s", "scorer.model", "scorer.device", "scorer.batch_tokens", "scorer.prefix_cache"),
    *("scorer.model_files", "scorer.devices", "scorer.layers", "scorer.revision"),
    *(f"options.{name}" for name, option in declared(LabelOptions).items() if not option.labels),
}
# What labels depend on and answers do not.
_DERIVED = {
    f"{section}.{name}"
    for name, option in declared(LabelOptions).items()
    if option.derived
    for section in ("options", "method")
} | {"method.calibration.sha256"}
_SHARD, _SEED = "options.shard", "options.seed"
DTYPE, ARITHMETIC = "scorer.dtype", "scorer.arithmetic"
# What earlier versions did not record of a judge: unknown there, not different.
_LATER = {"scorer.instructions", ARITHMETIC}


def manifest(options: LabelOptions | SampleOptions, dataset: Dataset, method: Method, rows: int) -> dict[str, Any]:
    """What is known of a run before its model is loaded."""
    return {
        "schema": SCHEMA,
        "state": RUNNING,
        "versions": versions_with({}),
        "input": dataset.record(),
        "rows": rows,
        "method": {"name": method.name, **method.record()},
        "options": {name: value for name, value in asdict(options).items() if name != "worker"},  # it is of all workers
    }


def with_judge(record: Mapping[str, Any], judge: Mapping[str, Any]) -> dict[str, Any]:
    """`record` and what the scorer says of itself. A dtype of "auto" becomes what it stood for, here and in options;
    the command says it, too.
    """
    scorer = {name: value for name, value in judge.items() if name != "versions"}
    options = {**record["options"], "dtype": scorer.get("dtype") or record["options"]["dtype"]}
    versions = {**record["versions"], **judge.get("versions", {})}
    kind = SampleOptions if record["method"]["name"] == SAMPLE else LabelOptions
    # Only `preftree compare` itself knows the command of a comparison.
    is_compared = record["method"]["name"] == SEVERAL
    command = {} if is_compared else {"command": shlex.join(command_line(kind(**options)))}
    return {**record, **command, "versions": versions, "options": options, "scorer": scorer}


def judge_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a scorer said of itself then, as it says it."""
    return {**record["scorer"], "versions": record["versions"]}


def answers_key(record: Mapping[str, Any]) -> str:
    """A hash of all that answers depend on: that of each shard of a run is the same. record: with its judge."""
    known = json.loads(json.dumps({section: record[section] for section in _COMPARED}))
    entries = sorted((name, value) for section in _COMPARED for name, value in flat(known[section], section))
    asked = [entry for entry in entries if entry[0] not in {*_FREE, *_derived(record), _SHARD}]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def difference(then: Mapping[str, Any], now: Mapping[str, Any], *, shards: bool = False) -> str | None:
    """The first entry by which two runs are not the same, in words; None where there is none.

    Only what both records have come to know is compared, and only what answers depend on. shards: whether they may be
    shards of one run, whose labels are made in one way, too.
    """
    free = _FREE | ({_SHARD} if shards else _derived(then))
    for section in _COMPARED:
        if section not in then or section not in now:
            continue
        old, new = (dict(flat(json.loads(json.dumps(_entries(one, section))), section)) for one in (then, now))
        names = old.keys() & new.keys() if "scorer" not in now and section == "versions" else old.keys() | new.keys()
        names -= _LATER - old.keys()
        # What is computed comes after the reasons that it may have.
        for name in sorted(names - free, key=lambda name: (name == ARITHMETIC, name)):
            if old.get(name) != new.get(name):
                of = _changed_file(then, now) if name in ("input.rows", "input.sha256") else ""
                return change(f"{name}{of}", old.get(name), new.get(name))
    return None if shards else _left_out(then, now)


def write_record(named: Path | Folder, record: Mapping[str, Any]) -> None:
    """Puts run.json in its folder, whole. Raises OSError."""
    folder_of(named).write(RUN, json.dumps(record, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n")


def date(seconds: float) -> str:
    """Seconds since 1970 as "2026-01-31T12:00:00Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def versions_with(judge: Mapping[str, Any]) -> dict[str, str]:
    """Of what answers and labels depend on here. judge: what it says of itself."""
    own = {"preftree": version(), "python": platform.python_version(), "pyarrow": metadata.version("pyarrow")}
    return {**own, **judge.get("versions", {})}


def version() -> str:
    try:
        return metadata.version("preftree")
    except metadata.PackageNotFoundError:
        return "not installed"


def _entries(record: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """What a record says there. A run from before there was an option was made as its default makes one."""
    found: Mapping[str, Any] = record[section]
    if section != "options":
        return found
    kind = SampleOptions if record.get("method", {}).get("name") == SAMPLE else LabelOptions
    known, default = declared(kind), defaults(kind)
    return {**{name: value for name, value in default.items() if known[name].labels}, **found}


def _derived(record: Mapping[str, Any]) -> set[str]:
    """A seed draws rows, which answers do not depend on, and rationales, which they do."""
    return _DERIVED - {_SEED} if record.get("options", {}).get("temperature") else _DERIVED


def _left_out(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A run may grow; one that shrinks would lose labels."""
    if not all({"input", "options"} <= record.keys() for record in (then, now)):
        return None
    old, new = (rows_of(record["input"]["rows"], **selection_of(record["options"])) for record in (then, now))
    lost = count_outside(old, new)
    return f"{lost:,} of its {count(len(old), 'row')} would be left out (--limit, --sample)" if lost else None


def _changed_file(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """ " of b.jsonl": of several files, the first that is not what it was."""
    old, new = (one["input"].get("sha256s", ()) for one in (then, now))
    changed = (place for place, both in enumerate(zip(old, new, strict=False)) if both[0] != both[1])
    return f" of {now['input']['path'][next(changed)]}" if len(old) == len(new) and old != new else ""
