"""What was run, from run.json: model, template, hashes, device, types, throughput."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from preftree.labeling.options.option import defaults
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.html.section import Section
from preftree.labeling.report.table import Table
from preftree.labeling.terminal import count, one_line

_SHOWN_ELSEWHERE = {
    *("input", "model", "out", "method", "template", "device", "devices", "dtype", "overwrite", "quiet", "force_new"),
}
_MAX_CHARS = 200

Rows = Iterator[tuple[str, str]]


def job(record: Mapping[str, Any]) -> Section:
    """record: a run.json; what it lacks is left out."""
    rows = tuple((name, _brief(value)) for part in _PARTS for name, value in part(record))
    return Section("What was run", tables=(Table(rows),) if rows else ())


def _input(record: Mapping[str, Any]) -> Rows:
    found = record.get("input", {})
    paths = found.get("path", ())
    for path in [paths] if isinstance(paths, str) else paths:
        yield "input", path
    if "sha256" in found:
        yield "input SHA-256", found["sha256"]


def _method(record: Mapping[str, Any]) -> Rows:
    method = record.get("method", {})
    if "name" in method:
        yield "method", method["name"]
    for owner, of in (
        (method, ""),
        (method.get("pair") or {}, " of pairs"),
        (method.get("single") or {}, " of responses"),
    ):
        if template := owner.get("template"):
            yield f"template{of}", template.get("name", "")
            yield f"template{of} SHA-256", template.get("sha256", "")
    if principles := method.get("principles"):
        yield "principles", ", ".join(str(one.get("name", "")) for one in principles)
    if calibration := method.get("calibration"):
        source = calibration["source"]
        yield "calibration", f"{source['method']}, of {count(source['pairs'], 'gold pair')}"
        yield "calibration SHA-256", calibration["sha256"]
    for judge in method.get("judges", ()):
        slope = "" if judge.get("slope") is None else f", logits times {judge['slope']:.3f}"
        yield "judge", f"{judge['name']}: weight {judge['weight']:.3f}{slope}"
    for name in ("principle_set", "aggregate", "comparisons"):
        if method.get(name):
            yield name.replace("_", " "), str(method[name])


def _judge(record: Mapping[str, Any]) -> Rows:
    scorer = record.get("scorer", {})
    device, dtype, instructions = (scorer.get(name) for name in ("device", "dtype", "instructions"))
    if several := scorer.get("devices"):
        device = ", ".join(several)
    where = f"{device} ({name})" if (name := scorer.get("device_name")) else device
    values = {
        "model": scorer.get("model"),
        "model SHA-256": scorer.get("model_sha256"),
        "device": where,
        "threads": scorer.get("threads"),
        "type": f"{dtype} ({instructions})" if dtype and instructions else dtype,
        "prompts as": {"chat": "chat template", "plain": "plain text"}.get(scorer.get("rendering")),
    }
    yield from ((name, str(value)) for name, value in values.items() if value is not None)


def _options(record: Mapping[str, Any]) -> Rows:
    """Those that were chosen."""
    default = defaults(LabelOptions)
    chosen = {
        name: value
        for name, value in record.get("options", {}).items()
        if name not in _SHOWN_ELSEWHERE and value not in (None, [], ()) and value != default.get(name)
    }
    if chosen:
        yield "options", ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in chosen.items())
    for name in ("command", "started", "finished"):
        if value := record.get(name):
            yield name, value if isinstance(value, str) else " ".join(map(str, value))


def _totals(record: Mapping[str, Any]) -> Rows:
    totals = record.get("totals", {})
    if "ok" in totals:
        yield "rows", f"{totals['ok']:,} labelled, {totals.get('rejected', 0):,} rejected"
    for reason, number in totals.get("rejected_by_reason", {}).items():
        yield "rejected", f"{number:,}: {reason}"
    if totals.get("unique_tokens") and totals.get("sharing"):
        tokens = f"{totals['prompt_tokens']:,} in prompts, {totals['unique_tokens']:,} unique"
        yield "tokens", f"{tokens}: sharing {totals['sharing']:.2f}x"
    if totals.get("rationales"):
        cut = totals.get("cut_rationales", 0)
        yield "rationales", f"{totals['rationales']:,}, {totals['generated_tokens']:,} tokens; {cut:,} cut off"
    if totals.get("unique_tokens_per_second"):
        prompt, unique = totals["prompt_tokens_per_second"], totals["unique_tokens_per_second"]
        rates = f"{prompt:,.0f} prompt tokens/s, {unique:,.0f} unique tokens/s"
        yield "throughput", f"{rates} over {totals.get('seconds', 0):,.1f} s in the engine"


def _versions(record: Mapping[str, Any]) -> Rows:
    if versions := record.get("versions"):
        yield "versions", ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))


def _brief(text: str) -> str:
    line = one_line(str(text))
    return line if len(line) <= _MAX_CHARS else f"{line[:_MAX_CHARS]}…"


_PARTS = (_input, _method, _judge, _options, _totals, _versions)
