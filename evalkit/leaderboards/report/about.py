"""What a run was made of, as HTML: protocol, data sets, methods, versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.leaderboards.site.markup import e, fact_list, plural, scroll_table
from evalkit.leaderboards.site.sections import protocol_facts
from evalkit.protocols.schema import Protocol
from evalkit.protocols.table.export import MISSING
from evalkit.protocols.table.table import Table
from evalkit.records.record import Record

SHOWN_HASH = 16  # hexadecimal digits of a hash; the records have all
FROM = {
    "outputs": "given images (outputs)",
    "data set": "the data set's own",
    "checkpoint": "network with published weights",
    "trained": "network trained here",
    "classical": "code of evalkit",
    "code": "code of evalkit, nothing was measured on images",
}


def set_up(protocol: Protocol | None, table: Table, records: Sequence[Record]) -> str:
    """Protocol, data sets, methods, and what else the records say of how they came about."""
    facts = (
        protocol_facts(protocol) if protocol else [("Protocol", [table.protocol]), ("Convention", [table.convention])]
    )
    columns: dict[str, list[str]] = {}
    for column in table.columns:
        columns.setdefault(column.convention, []).append(column.head)
    measures = [f"in convention {convention}: {', '.join(heads)}" for convention, heads in columns.items()]
    parts = [fact_list([*facts, ("Columns", measures)])]
    datasets, methods = {}, []
    for record in records:
        data, method = record.dataset, record.method
        key = tuple(str(data.get(k)) for k in ("name", "split", "layout", "pairs", "expected", "content_hash"))
        split, layout = (e(str(data.get(k) or MISSING)) for k in ("split", "layout"))
        datasets[key] = (
            f'<tr><th scope="row">{e(str(data["name"]))}</th><td class="text">{split}</td>'
            f'<td class="text">{layout}</td><td>{_count(data.get("pairs"))}</td><td>{_count(data.get("expected"))}</td>'
            f"<td>{_hash(data.get('content_hash'))}</td></tr>"
        )
        weights = dict(method.get("weights") or {})
        files = "<br>".join(f"{e(str(name))} {_hash(value)}" for name, value in weights.items()) or MISSING
        origin = str(method.get("filled_from") or "")
        methods.append(
            f'<tr><th scope="row">{e(str(method["name"]))}</th><td class="text">{e(str(data["name"]))}</td>'
            f'<td class="text">{e(FROM.get(origin, origin) or MISSING)}</td>'
            f'<td class="text">{files}</td><td class="text">{e(_options(record)) or MISSING}</td>'
            f"<td>{record.images}</td><td>{_hash(record.images and method.get('fused_hash'))}</td></tr>"
        )
    if records:
        heads = ["Data set", "Split", "Layout", "Pairs", "Expected", "Content"]
        parts.append("<article><h3>Data sets</h3>" + scroll_table(heads, datasets.values(), "Data sets", heads[1:3]))
        heads = ["Method", "Data set", "Images from", "Weights", "Recorded options", "Images", "Their hash"]
        parts.append("</article><article><h3>Methods</h3>" + scroll_table(heads, methods, "Methods", heads[1:5]))
        parts.append(
            f"<p>Hashes are the first {SHOWN_HASH} digits of SHA-256; of several files, of all of them together. The "
            "records have all digits. A command line is not recorded.</p></article>"
        )
    else:
        parts.append("<p>The run has no records.</p>")
    return "".join(parts)


def _options(record: Record) -> str:
    """What else a record says of how it came about, in the order of its fields."""
    known = {"name", "filled_from", "weights", "fused_hash", "split", "layout", "pairs", "expected", "content_hash"}
    more = {k: v for k, v in {**record.method, **record.dataset}.items() if k not in known}
    said = _flat(more | {"seed": record.seeds})
    return "; ".join(key if value == "True" else f"{key}: {value}" for key, value in said.items())


def versions(records: Sequence[Record]) -> str:
    """What the records were measured with; records of one set of versions together."""
    if not records:
        return "<p>The run has no records.</p>"
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(repr(sorted(_flat(record.provenance).items())), []).append(record)
    parts = []
    for group in groups.values():
        if len(groups) > 1:
            who = [f"{r.method['name']} on {r.dataset['name']}" for r in group]
            parts.append(f"<h3>{plural(len(group), 'record')}</h3><p>{e(', '.join(who))}</p>")
        facts = [(name, [value]) for name, value in _flat(group[0].provenance).items()]
        times = sorted(r.started for r in group)[0], sorted(r.finished for r in group)[-1]
        parts.append(fact_list([("measured", [" to ".join(dict.fromkeys(times))]), *facts]))
    return "".join(parts)


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested values under names such as "packages numpy"; what is empty or not so is left out."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name} {key}".strip()).items()}
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return {} if value in (None, False, "", []) else {name.replace("_", " "): shown}


def _hash(value: Any) -> str:
    return f"<code>{e(str(value)[:SHOWN_HASH])}</code>" if value else MISSING


def _count(value: Any) -> str:
    return MISSING if value is None else str(int(value))
