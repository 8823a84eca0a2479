"""A data set's check as text for a reader."""

from __future__ import annotations

from pathlib import Path

from evalkit.data.check import DataReport, LabelReport, SplitReport

SHOWN = 8  # lines of a long list; the JSON has all


def report_text(report: DataReport) -> str:
    """What was found of a data set, a few lines per split."""
    if not report.present:
        return f"{report.dataset}: not here"
    lines = [f"{report.dataset}: {report.where} (layout: {report.layout})"]
    for split in report.splits:
        lines += [f"  {line}" for line in _split_lines(split)]
    if report.reason:
        lines.append(f"  problem: {report.reason}")
    return "\n".join(lines)


def _split_lines(split: SplitReport) -> list[str]:
    name = split.split or "all"
    if split.reason:
        return [f"{name}: problem: {split.reason}"]
    expected = f" of {split.expected}" if split.expected is not None and split.pairs != split.expected else ""
    lines = [f"{name}: {split.pairs}{expected} pairs, content {(split.content_hash or 'unknown')[:16]}"]
    lines.append(f"  sizes: {_counts(split.sizes)}")
    lines += [f"  {role}: {_counts(modes)}" for role, modes in split.modes.items()]
    lines += [f"  labels {kind}: {_label_text(label)}" for kind, label in split.labels.items()]
    for role, groups in split.duplicates.items():
        shown = _some(["=".join(group) for group in groups])
        lines.append(f"  duplicates, {role}: {len(groups)} groups of equal files: {shown}")
    passed_over = [f"{n} {kind}" for n, kind in ((split.hidden_files, "hidden"), (split.other_files, "other")) if n]
    if passed_over:
        lines.append(f"  passed over: {', '.join(passed_over)} files or folders")
    problems = split.problems()
    lines += [f"  problem: {line}" for line in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  problem: ... and {len(problems) - SHOWN} more (--json lists all)")
    return lines if problems else [*lines, "  no problems"]


def _label_text(label: LabelReport) -> str:
    text = f"{label.present} files"
    if label.missing:
        text += f", {len(label.missing)} missing"
    if label.counts:
        text += f" ({_counts(label.counts)})"
    for depth, files in label.depths.items():
        text += f"; {len(files)} {depth}: {_some([Path(file).name for file in files])}"
    return text


def _counts(counts: dict[str, int]) -> str:
    return _some([f"{value} {count}x" for value, count in counts.items()])


def _some(parts: list[str]) -> str:
    return ", ".join(parts[:SHOWN]) + (f", ... {len(parts) - SHOWN} more" if len(parts) > SHOWN else "")
