"""From per-image scores to a record: means where every image has a value, named missing values elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from evalkit.data.hashes import combine_hashes
from evalkit.data.images import is_jpeg, named_jpeg
from evalkit.data.pairs import PairSet
from evalkit.methods.arithmetic import FLOAT32
from evalkit.metrics.evaluate import Scores
from evalkit.protocols.measure import Hashes
from evalkit.protocols.plan import Row
from evalkit.protocols.schema import Protocol
from evalkit.protocols.use import DatasetUse
from evalkit.records.record import Record, made_here


def summarise(
    protocol: Protocol,
    pairs: PairSet,
    use: DatasetUse,
    row: Row,
    names: Mapping[str, str],
    measured: Mapping[str, Scores],
    hashes: Hashes,
    started: str,
) -> Record:
    """The record of one method on one data set. A mean stands for every pair of the data set or is a missing value.

    Args:
        protocol: of the table.
        pairs: the data set's pairs, and what has no partner.
        use: the protocol's of this data set.
        row: the method, and where its images come from.
        names: column -> full name of the metric.
        measured: stem -> scores by column.
        hashes: content hashes of the sources and of the row's fused images.
        started: when the run began, as `now` writes it.
    """
    failures = {} if row.reason else find_failures(pairs, row, measured)
    expected = len(pairs.pairs) + len({stem for _, stem in pairs.unpaired})
    scores, missing = {}, {}
    for metric in names:
        undefined = {stem: s.missing[metric] for stem, s in measured.items() if metric in s.missing}
        if reason := row.reason or explain(failures | undefined, expected):
            missing[metric] = reason
        else:
            scores[metric] = math.fsum(s[metric] for s in measured.values()) / len(measured)
    arithmetic = getattr(row.fuser, "arithmetic", FLOAT32)
    return Record(
        status="incomplete" if missing else "complete",
        protocol={"name": protocol.name, "hash": protocol.hash},
        method={
            "name": row.method,
            "filled_from": row.filled_from,
            "weights": row.fuser.weights if row.fuser else {},
            "recoloured": getattr(row.fuser, "recoloured", getattr(row.fuser, "recolour", False)),
            "fused_hash": combine_hashes(
                (pair.stem, hashes[row.fused[pair.stem]]) for pair in pairs.pairs if pair.stem in row.fused
            ),
        }
        | ({"card": protocol.rows[row.method]} if row.fuser and row.method in protocol.rows else {})
        | ({"recipe": row.recipe, "pretrained": row.pretrained} if row.recipe else {})
        | ({"named": row.named} if row.named else {})
        | ({"arithmetic": arithmetic.name} if arithmetic.name else {})
        | ({"saved": f"JPEG, {made}"} if (made := _made_jpeg(pairs, row)) else {})
        | ({"jpeg": jpeg} if (jpeg := _count_jpeg(pairs, row)) else {}),
        dataset={
            "name": pairs.dataset,
            "split": pairs.split,
            "layout": pairs.layout,
            "pairs": len(pairs.pairs),
            "expected": use.pairs,
            **({"selected": pairs.selected} if pairs.selected else {}),
            "content_hash": combine_hashes((p.stem, hashes[p.infrared], hashes[p.visible]) for p in pairs.pairs),
        },
        convention=protocol.convention,
        metrics=list(names.values()),
        images=len([stem for stem in measured if stem not in failures]),
        scores=scores,
        missing=missing,
        failures=[{"image": stem, "reason": reason} for stem, reason in failures.items()],
        provenance=made_here(getattr(row.fuser, "device", "cpu")),
        started=started,
        finished=now(),
    )


def find_failures(pairs: PairSet, row: Row, measured: Mapping[str, Scores]) -> dict[str, str]:
    """Images that could not be measured at all, with the reason.

    Args:
        pairs: the data set's pairs, and what has no partner.
        row: whose `not_fused` says why an image is not there.
        measured: stem -> scores.

    Returns:
        Stem -> reason; an image that lacks some metrics only is not among them.
    """
    failures = {stem: f"no {role} image" for role, stem in pairs.unpaired}
    for pair in pairs.pairs:
        scores = measured.get(pair.stem)
        if scores is None:
            failures[pair.stem] = row.not_fused.get(pair.stem, "no fused image")
        elif len(scores.missing) == len(scores) and len(set(scores.missing.values())) == 1:
            failures[pair.stem] = next(iter(scores.missing.values()))
    return failures


def explain(failures: Mapping[str, str], count: int) -> str:
    """One sentence for the images that have no value; empty when there are none."""
    if not failures:
        return ""
    by_reason: dict[str, list[str]] = {}
    for stem, reason in failures.items():
        by_reason.setdefault(reason, []).append(stem)
    parts = [
        f"{reason} ({', '.join(stems[:5])}{', ...' if len(stems) > 5 else ''})" for reason, stems in by_reason.items()
    ]
    others = len(parts) - 3
    more = f"; and {others} more reason{'s' if others > 1 else ''}, see records/" if others > 0 else ""
    return f"no value for {len(failures)} of {count} images: {'; '.join(parts[:3])}{more}"


def _made_jpeg(pairs: PairSet, row: Row) -> str:
    """The program and quality of the JPEGs that fused images passed through here, or nothing."""
    return getattr(row.fuser, "jpeg", "") if any(named_jpeg(pair.infrared) for pair in pairs.pairs) else ""


def _count_jpeg(pairs: PairSet, row: Row) -> int:
    """How many of the fused images are JPEG files, whatever their names say."""
    count = 0
    for pair in pairs.pairs if not row.reason else ():
        try:
            with open(row.fused[pair.stem], "rb") as file:
                count += is_jpeg(file.read(2))
        except (KeyError, OSError):  # told elsewhere
            continue
    return count


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
