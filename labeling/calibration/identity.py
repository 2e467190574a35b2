"""What a calibration is about: a judge, and how it was asked. Which rows it was asked about is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from preftree.labeling.changes import flat
from preftree.labeling.options.inputs import InputOptions
from preftree.labeling.options.option import declared, defaults
from preftree.labeling.options.runs import LabelOptions

CALIBRATION = "calibration"
# Of the judge: not where it ran, nor which bits it computed there, but which model it was, in which type, how prompted.
_SCORER = ("model_sha256", "dtype", "rendering")
_ROWS = {*declared(InputOptions), "shard", "seed"}  # rationales of another seed are of the same distribution
_OPTIONS = [name for name, one in declared(LabelOptions).items() if one.labels and name not in _ROWS]
_DEFAULTS = json.loads(json.dumps({name: defaults(LabelOptions)[name] for name in _OPTIONS}))


def judged_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names and values. Options that have their default are left out: a later version may have more of them.

    record: a run.json, or of it at least `method`, `options` and `scorer`; {} for an empty one, of labels without.
    """
    if not record:
        return {}
    options = {name: record["options"].get(name, default) for name, default in _DEFAULTS.items()}
    asked = {
        "method": {name: value for name, value in record["method"].items() if name != CALIBRATION},
        "options": options,
        "scorer": {name: record["scorer"].get(name) for name in _SCORER},
    }
    kept = json.loads(json.dumps(asked))  # a list of run.json may be a tuple here
    kept["options"] = {name: value for name, value in kept["options"].items() if value != _DEFAULTS[name]}
    return dict(flat(kept))
