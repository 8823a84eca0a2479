"""What a protocol would run, what is missing and where to get it; nothing is run, nothing is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.data.pairs import layout_tree
from evalkit.protocols.plan import (
    FoundSet,
    Settings,
    each_root,
    find_checkpoints,
    find_outputs_root,
    find_set,
    place_data,
    plan_datasets,
    plan_methods,
)
from evalkit.protocols.same_data import unknown_pairs
from evalkit.protocols.schema import protocol, published_values, rows_of
from evalkit.protocols.table.blank import expected_rows
from evalkit.protocols.tasks import Job, Key, Trained, tasks_of
from evalkit.protocols.use import DatasetUse

Report = dict[str, Any]


def plan_report(
    name: str,
    data_root: str | os.PathLike[str] | Iterable[Path] | None = None,
    *,
    outputs: str | os.PathLike[str] | None = None,
    image_name: str = "",
    checkpoints: str | os.PathLike[str] | None = None,
    methods: Iterable[str] | None = None,
    datasets: Iterable[str] | None = None,
) -> Report:
    """What `reproduce` would do with the same arguments, as a JSON-able dict.

    Without a data root it says what one would have to hold. Keys: protocol, source, title, task, convention, published
    and empty (printed numbers and cells left empty), data_root, datasets (name, split, expected, found, unknown,
    missing, layout, source), rows (method, dataset, from, missing, train), metrics (name, definition or missing),
    training, downstream, left_open, decisions, cells (total, would_run, comparable).

    Args:
        name: of the protocol, e.g. "smfnet-table1".
        data_root: folder with the data sets, or several; the environment variable EVALKIT_DATA when not given; none at
            all where it is empty.
        outputs: fused images, OUTPUTS/<method>/<dataset>/<stem>.png.
        image_name: how they are called, where not so, e.g. "{stem}_fused" or "{dataset}/{method}/{stem}".
        checkpoints: folder with the authors' weights.
        methods: rows; those of the protocol, and every folder of `outputs`, when not given.
        datasets: those of the protocol when not given.

    Raises:
        UnknownNameError: protocol, method or data set, with the nearest names.
        DataError: a folder that is named does not exist.
    """
    planned = protocol(name)
    root = None
    if data_root != ():
        planned, root = place_data(planned, data_root)
    task = tasks_of(planned)[0]
    output_root = find_outputs_root(outputs or planned.place("outputs"))
    weights = find_checkpoints(checkpoints or planned.place("checkpoints"))
    uses = plan_datasets(planned, datasets, False, task.needs.labels)
    sources = task.needs.labels is not None
    rows = plan_methods(planned, methods, output_root, None, sources, uses, image_name)
    sets = {dataset: find_set(planned.card(dataset), use, root, task.pairs) for dataset, use in uses.items()}
    settings = Settings(Path(), output_root, weights, root=root, name=image_name)
    job = Job(planned, uses, rows, published_values(planned), root, False, settings)
    entries, metrics = task.plan(job, sets), task.metrics(planned)
    ready = [(entry["dataset"], entry["method"]) for entry in entries if not entry["missing"]]
    if task.needs.data:
        ready = [(dataset, method) for dataset, method in ready if not sets[dataset].missing]
    if isinstance(task, Trained):  # networks trained on a part of the images fill no cell of the table
        ready = [(dataset, method) for dataset, method in ready if whole(sets[dataset])]
    would_run = task.cells(job, ready, metrics)
    beside = {key for key in would_run if key[2] not in task.not_timed}
    if planned.paper and task.needs.data:
        beside = {key for key in beside if _of_paper(key, sets)}
    expected = {row.key for row in expected_rows(planned, uses, rows)}
    printed = rows_of(planned)
    return {
        "protocol": planned.name,
        "source": planned.source,
        "title": planned.title,
        "task": planned.task,
        "convention": planned.convention,
        "published": sum(bool(row.printed) for row in printed),
        "empty": sum(not row.printed for row in printed),
        "data_root": ", ".join(map(str, each_root(root))) or None,
        "datasets": [_describe(uses[dataset], available, bool(planned.paper)) for dataset, available in sets.items()],
        "rows": entries,
        "metrics": metrics,
        "training": planned.training,
        "downstream": planned.downstream,
        "left_open": list(planned.left_open),
        "decisions": list(planned.decisions),
        "cells": {"total": len(expected | would_run), "would_run": len(would_run), "comparable": len(beside)},
    }


def whole(available: FoundSet) -> bool:
    """Whether all pairs are there that the paper, or the data set's card, counts."""
    return available.use.pairs is None or len(available.pairs.pairs) >= available.use.pairs


def _of_paper(key: Key, sets: Mapping[str, FoundSet]) -> bool:
    """Whether a cell is of pairs that the paper measured, as far as their names and count say."""
    available = sets.get(key[0].partition(" · ")[0])
    return available is None or (whole(available) and not unknown_pairs(available.use, available.card))


def _describe(stated: DatasetUse, available: FoundSet, paper: bool) -> Report:
    """What is to be said about a data set; `stated` is the use as the protocol has it, which may be a paper's."""
    return {
        "name": available.card.name,
        "split": available.use.split,
        "expected": available.use.pairs,
        "expected_by": "paper" if stated.pairs else "data set" if available.use.pairs else None,
        "found": None if available.missing else len(available.pairs.pairs),
        "unknown": unknown_pairs(available.use, available.card) if paper else "",
        "missing": available.missing,
        "layout": layout_tree(available.card),
        "source": available.card.source,
    }


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
    apart = cells["would_run"] - cells["comparable"]
    other = f", {apart} of them beside no printed number (other data, or a time)" if apart else ""
    lines += [
        "",
        f"{cells['would_run']} of {cells['total']} cells would be measured{other}; nothing was run or written.",
    ]
    return "\n".join(lines)


def _dataset_lines(entry: Report) -> list[str]:
    split = f", split {entry['split']}" if entry["split"] else ""
    expected = f"{entry['expected']} pairs" if entry["expected"] else "an unknown number of pairs"
    by = {"data set": " (the data set's count; the paper states none)"}.get(entry["expected_by"] or "", "")
    lines = [f"  {entry['name']}{split}: {expected} expected{by}"]
    if not entry["missing"]:
        same = entry["expected"] in (None, entry["found"]) and not entry["unknown"]
        lines[0] += f", {entry['found']} found" + ("" if same else ": not compared with the published values")
        return [*lines, f"    {entry['unknown']}"] if entry["unknown"] else lines
    lines.append(f"    missing: {entry['missing']}")
    lines += [f"    {line}" for line in entry["layout"].splitlines()]
    return [*lines, f"    get it from: {entry['source']}"]


def _row_lines(rows: list[Report]) -> list[str]:
    """Rows by where their images come from, then the missing values by reason."""
    sources: dict[tuple[str, str], list[str]] = {}
    missing = []
    for row in rows:
        if row["from"]:
            sources.setdefault((row["method"], row["from"]), []).append(row["dataset"])
        own = row["missing"].replace(f"/{row['method']}/{row['dataset']}", "/<method>/<dataset>")
        missing.append(row | {"missing": own})
    lines = [f"  {method}: {source} on {', '.join(filter(None, sets))}" for (method, source), sets in sources.items()]
    return lines + _grouped(missing, "method")


def _grouped(entries: list[Report], key: str) -> list[str]:
    """`names: reason` for what is missing; names with the same reason are put together."""
    by_reason: dict[str, dict[str, None]] = {}
    for entry in entries:
        if entry["missing"]:
            by_reason.setdefault(entry["missing"], {})[entry[key]] = None
    return [f"  – {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
