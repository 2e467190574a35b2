"""What answers were computed on: recorded in each part, so that answers of different hardware are noticed."""

from __future__ import annotations

import platform
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.part import Attempt
from preftree.labeling.terminal import count

# Of what a judge says of itself. A thread more or less is no other kind: `arithmetic` is a hash of computed bits.
_RECORDED = ("device", "device_name", "dtype", "instructions", "threads", "arithmetic")


def host_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """This machine and the judge on it. record: with `scorer` and `versions`, as run.json has them."""
    scorer = record.get("scorer", {})
    return {
        "node": socket.gethostname(),
        "machine": platform.machine(),
        **{name: scorer.get(name) for name in _RECORDED},
        "versions": dict(record.get("versions", {})),
    }


def kind_of(host: Mapping[str, Any]) -> str:
    """What two hosts must share for their bits to be the same, in words: device, type, arithmetic, versions."""
    device = str(host.get("device") or "").partition(":")[0]
    named = (host.get("device_name"), host.get("dtype"), host.get("instructions"))
    arithmetic = f"arithmetic {host['arithmetic']}" if host.get("arithmetic") else None
    versions = [f"{name} {version}" for name, version in sorted(host.get("versions", {}).items())]
    return ", ".join(str(part) for part in (device, host.get("machine"), *named, arithmetic, *versions) if part)


def differences(kinds: Sequence[str]) -> list[str]:
    """Of each kind, what not all of them share."""
    parts = [kind.split(", ") for kind in kinds]
    shared = set(parts[0]).intersection(*parts[1:])
    return [", ".join(part for part in kind if part not in shared) or "as the others" for kind in parts]


def check_hardware(attempts: Iterable[Attempt], is_strict: bool) -> str | None:
    """How the hosts of these attempts differ, in words; None where they are of one kind, or unknown.

    Raises OutputError instead where `is_strict`.
    """
    rows: Counter[str] = Counter()
    for attempt in attempts:
        if attempt.host:
            rows[kind_of(attempt.host)] += attempt.rows
    if len(rows) < 2:
        return None
    own = differences(list(rows))
    said = "; ".join(
        f"{what} ({count(rows_of_kind, 'row')})" for what, rows_of_kind in zip(own, rows.values(), strict=True)
    )
    if is_strict:
        raise OutputError(
            f"answers come from {len(rows):,} kinds of hardware or software: {said}; --same-hardware asks for one: "
            "judge the rows again on machines of one kind (another --out), or leave the option out"
        )
    return f"answers come from {len(rows):,} kinds of hardware or software, whose bits may differ: {said}"
