"""What a protocol would run, what is missing and where to get it; nothing is run, nothing is written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evalkit.data.card import Card, load_card
from evalkit.data.pairs import PairSet, find_pairs, layout_tree
from evalkit.errors import DataError, EvalkitError
from evalkit.methods.registry import method_cards
from evalkit.metrics.registry import column_card
from evalkit.protocols.plan import (
    TRAINED_ON_IMAGES,
    find_checkpoints,
    find_data_root,
    find_outputs_root,
    find_row,
    plan_datasets,
    plan_methods,
    use_of,
)
from evalkit.protocols.schema import DatasetUse, Protocol, protocol, rows_of
from evalkit.protocols.table.blank import expected_rows
from evalkit.protocols.tasks import parts

Report = dict[str, Any]


def plan_report(
    name: str,
    data_root: str | os.PathLike[str] | None = None,
    *,
    outputs: str | os.PathLike[str] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    methods: Iterable[str] | None = None,
    datasets: Iterable[str] | None = None,
) -> Report:
    """What `reproduce` would do with the same arguments, as a JSON-able dict.

    Without a data root it says what one would have to hold. Keys: protocol, source, title, task, convention, published
    and empty (printed numbers and cells left empty), data_root, datasets (name, split, expected, found, missing,
    layout, source), rows (method, dataset, from, missing, train), metrics (name, definition or missing), training,
    downstream, left_open, decisions, cells (total, would_run).

    Raises:
        UnknownNameError: protocol, method or data set, with the nearest names.
        DataError: a folder that is named does not exist.
    """
    chosen = protocol(name)
    output_root, weights = find_outputs_root(outputs), find_checkpoints(checkpoints)
    uses = plan_datasets(chosen, datasets, sample=False)
    rows = plan_methods(chosen, methods, output_root, sample=False)
    named = data_root is not None or bool(os.environ.get("EVALKIT_DATA"))
    root = find_data_root(data_root) if named else None
    found = {dataset: _find(dataset, use, root, chosen) for dataset, use in uses.items()}
    planned = [
        _plan_row(chosen, method, dataset, found[dataset][0], output_root, weights)
        for method in rows
        for dataset in uses
    ]
    metrics = _metrics(chosen)
    expected = {row.key for row in expected_rows(chosen, uses, rows)}
    ready = [(row["dataset"], row["method"]) for row in planned if not row["missing"]]
    if chosen.task != "complexity":
        ready = [(dataset, method) for dataset, method in ready if not found[dataset][1]["missing"]]
    would_run = {(*pair, metric["name"]) for pair in ready for metric in metrics if not metric["missing"]}
    if chosen.kind in TRAINED_ON_IMAGES:  # a column per class, a block per network
        would_run = {row.key for row in expected_rows(chosen, uses, rows) if (row.dataset, row.method) in ready}
    printed = rows_of(chosen)
    return {
        "protocol": chosen.name,
        "source": f"{chosen.paper} {chosen.table}",
        "title": chosen.title,
        "task": chosen.task,
        "convention": chosen.convention,
        "published": sum(bool(row.printed) for row in printed),
        "empty": sum(not row.printed for row in printed),
        "data_root": str(root) if root else None,
        "datasets": [entry for _, entry in found.values()],
        "rows": planned,
        "metrics": metrics,
        "training": chosen.training,
        "downstream": chosen.downstream,
        "left_open": list(chosen.left_open),
        "decisions": list(chosen.decisions),
        "cells": {"total": len(expected | would_run), "would_run": len(would_run)},
    }


def _find(
    dataset: str, use: DatasetUse, root: Path | None, chosen: Protocol
) -> tuple[tuple[Card, DatasetUse, PairSet], Report]:
    """A data set as far as it is there, and what is to be said about it."""
    card = load_card(dataset)
    stated, use = use.pairs, use_of(use, card)
    pairs, missing = PairSet(card.name, use.split, Path(), "", ()), ""
    if root is None:
        missing = "no data root is named: give --data-root DIR (or set EVALKIT_DATA)"
    else:
        try:
            pairs = find_pairs(card, root, use.split)
            if chosen.kind == "saliency":
                from evalkit.downstream.images import labelled

                pairs = labelled(pairs, "salient")
        except EvalkitError as error:
            missing = str(error).splitlines()[0]
    return (card, use, pairs), {
        "name": dataset,
        "split": use.split,
        "expected": use.pairs,
        "expected_by": "paper" if stated else "data set" if use.pairs else None,
        "found": None if missing else len(pairs.pairs),
        "missing": missing,
        "layout": layout_tree(card),
        "source": card.source,
    }


def _plan_row(
    chosen: Protocol,
    method: str,
    dataset: str,
    found: tuple[Card, DatasetUse, PairSet],
    outputs: Path | None,
    checkpoints: Path | None,
) -> Report:
    entry = {"method": method, "dataset": dataset, "from": "", "missing": "", "train": ""}
    if chosen.kind == "complexity":
        from evalkit.protocols.cost import missing as why_not_counted

        reason = why_not_counted(method_cards().get(method))
        return entry | {"from": "" if reason else "network", "missing": reason}
    card, use, pairs = found
    try:
        if chosen.kind == "saliency":  # the rows are networks for salient objects: there is nothing to fuse
            from evalkit.downstream.saliency.maps import find_maps

            row = find_maps(method, chosen, card, pairs, outputs, checkpoints)
            return entry | {"from": row.filled_from, "missing": row.hole}
        row = find_row(method, card, pairs, use, outputs, checkpoints, chosen.ablations.get(method, ""))
    except DataError as error:  # two fused images of one stem
        return entry | {"missing": str(error)}
    train = _train(chosen, method) if row.hole else ""
    missing = "; ".join(filter(None, [row.hole, train, *_extras(chosen)]))
    return entry | {"from": row.filled_from, "missing": missing, "train": train}


def _extras(chosen: Protocol) -> list[str]:
    """What has to be installed for the networks that judge the fused images."""
    if chosen.kind not in TRAINED_ON_IMAGES:
        return []
    from evalkit.downstream.environment import missing

    return [missing(part) for part in parts(chosen)]


def _train(chosen: Protocol, method: str) -> str:
    """How a row could be trained instead: by the recipe of its network, or of the network it is an ablation of."""
    from evalkit.training.find_recipe import trainable

    variant = chosen.ablations.get(method, "")
    network = chosen.paper if variant else method
    if network not in trainable():
        return ""
    named = f" --variant {shlex.quote(variant)}" if variant else ""
    return f"or train it with `evalkit train {network} --recipe paper{named}` and fuse with its weights"


def _metrics(chosen: Protocol) -> list[Report]:
    """Every metric: how the convention defines it, or why it is a column of holes."""
    if chosen.kind == "fusion":
        from evalkit.protocols.fusion import metrics_of

        wanted, undefined = metrics_of(chosen)
        defined = [{"name": name, "definition": d.choice, "missing": ""} for name, d in wanted.items()]
        return defined + [{"name": name, "definition": "", "missing": reason} for name, reason in undefined.items()]
    if chosen.kind == "complexity":
        from evalkit.protocols.table.blank import COST_UNITS

        return [
            {
                "name": name,
                "definition": chosen.units.get(name, COST_UNITS.get(name, "")),
                "missing": "" if name in COST_UNITS else f"evalkit does not measure {name}",
            }
            for name in chosen.metrics
        ]
    cards = [(name, column_card(name)) for name in chosen.metrics]
    return [{"name": name, "definition": card.definition if card else "", "missing": ""} for name, card in cards]


def report_text(report: Report) -> str:
    """The report as a person reads it."""
    numbers = f"{report['published']} published numbers"
    if report["empty"]:
        numbers += f", {report['empty']} cells left empty"
    lines = [f"{report['protocol']} · {report['source']} · {report['title']}", f"task {report['task']}; {numbers}"]
    lines += ["", f"data sets ({'data root ' + report['data_root'] if report['data_root'] else 'no data root named'})"]
    for entry in report["datasets"]:
        lines += _dataset_lines(entry)
    if not report["datasets"]:
        lines.append("  none: the paper names none, or the table needs none")
    lines += ["", "rows", *_row_lines(report["rows"])]
    lines += ["", f"metrics (convention {report['convention']})"]
    lines += [f"  {m['name']}: {m['definition'] or 'as the paper'}" for m in report["metrics"] if not m["missing"]]
    lines += _grouped(report["metrics"], "name")
    for title in ("training", "downstream"):
        if report[title]:
            lines += ["", f"{title} as the paper states it", *(f"  {k}: {v}" for k, v in report[title].items())]
    for title, key in (("left open by the paper", "left_open"), ("decisions", "decisions")):
        if report[key]:
            lines += ["", title, *(f"  - {sentence}" for sentence in report[key])]
    cells = report["cells"]
    lines += ["", f"{cells['would_run']} of {cells['total']} cells would be measured; nothing was run or written."]
    return "\n".join(lines)


def _dataset_lines(entry: Report) -> list[str]:
    split = f", split {entry['split']}" if entry["split"] else ""
    expected = f"{entry['expected']} pairs" if entry["expected"] else "an unknown number of pairs"
    by = {"data set": " (the data set's count; the paper states none)"}.get(entry["expected_by"] or "", "")
    lines = [f"  {entry['name']}{split}: {expected} expected{by}"]
    if not entry["missing"]:
        same = entry["expected"] in (None, entry["found"])
        lines[0] += f", {entry['found']} found" + ("" if same else ": not compared with the published values")
        return lines
    lines.append(f"    missing: {entry['missing']}")
    lines += [f"    {line}" for line in entry["layout"].splitlines()]
    return [*lines, f"    get it from: {entry['source']}"]


def _row_lines(rows: list[Report]) -> list[str]:
    """Rows by where their images come from, then the holes by reason."""
    sources: dict[tuple[str, str], list[str]] = {}
    holes = []
    for row in rows:
        if row["from"]:
            sources.setdefault((row["method"], row["from"]), []).append(row["dataset"])
        own = row["missing"].replace(f"/{row['method']}/{row['dataset']}", "/<method>/<dataset>")
        holes.append(row | {"missing": own})
    lines = [f"  {method}: {what} on {', '.join(filter(None, sets))}" for (method, what), sets in sources.items()]
    return lines + _grouped(holes, "method")


def _grouped(entries: list[Report], key: str) -> list[str]:
    """`names: reason` for what is missing; names with the same reason are put together."""
    by_reason: dict[str, dict[str, None]] = {}
    for entry in entries:
        if entry["missing"]:
            by_reason.setdefault(entry["missing"], {})[entry[key]] = None
    return [f"  – {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
