"""Writing the report of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from evalkit.data.pairs import DataRoot
from evalkit.errors import EvalkitError
from evalkit.files.names import several
from evalkit.files.write import write_text
from evalkit.leaderboards.marks import significance_marks
from evalkit.leaderboards.rank import chosen_names
from evalkit.leaderboards.report import about, panels, sections
from evalkit.leaderboards.report.figures import Gallery, draw, steps
from evalkit.leaderboards.report.images import DatasetImages, images_of, protocol_at_hand
from evalkit.leaderboards.report.page import SECTIONS, page
from evalkit.leaderboards.report.pictures import BUDGET, SHARE
from evalkit.leaderboards.report.run import RunContent, read_run
from evalkit.leaderboards.report.scenes import Choice, Choices, choose, frames
from evalkit.leaderboards.run_values import rank
from evalkit.leaderboards.site.sections import agreement
from evalkit.protocols.plan import find_outputs_root

Progress = Callable[[Iterable, int, str], Iterable]
PLOTS = {"critical": "ranks", "radar": "radar", "boxes": "boxes"}  # kind -> the section it stands in
SET_ALONE = "The scores of this run are of test sets as a whole: there are none per image."


def report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    data_root: DataRoot | None = None,
    outputs: str | os.PathLike[str] | None = None,
    only: Iterable[str] | str | None = None,
    progress: Progress = lambda items, total, text: items,
) -> list[str]:
    """Write a run as one HTML file that needs nothing else. The same run and images give the same bytes.

    Args:
        run: the folder that `reproduce` wrote.
        out: the file, .html or .htm; one that is there is replaced.
        data_root: folder of the data sets, for the source images; that of EVALKIT_DATA when None.
        outputs: folder of fused images that are not in the run's own, OUTPUTS/<method>/<dataset>/<stem>.png.
        only: names of sections (`page.SECTIONS`); all when None.
        progress: wraps what is drawn, called with (items, count, text).

    Returns:
        What the report cannot show, a sentence each.

    Raises:
        DataError: no run, or its records, scores and table do not fit together; the outputs folder does not exist.
        UnknownNameError: a section that there is not.
        EvalkitError: `out` is no name of an HTML file.
        OutputError: the file cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise EvalkitError(f"{out} ends in {out.suffix or 'no suffix'!r}. A report is an .html file.")
    named = chosen_names("section", several(only), SECTIONS)
    places = data_root, find_outputs_root(outputs)
    content = read_run(Path(run))
    plots = [kind for kind, section in PLOTS.items() if section in named]
    todo = steps(content.blocks if content.measured else [], plots)
    galleries = draw(progress(todo, len(todo), "draw"))
    notes: list[str] = []
    body: dict[str, str] = {}
    if "tables" in named:
        marks = significance_marks(content.folder) if content.measured else None
        body["tables"] = sections.tables(content.table, marks) + agreement(content.table.agreement)
    if "ranks" in named:
        body["ranks"] = _ranks(content, galleries.get("critical"))
    for name in ("radar", "boxes"):
        if name in named and name in galleries:
            body[name] = sections.gallery(galleries[name])
    if "images" in named:
        body["images"] = _images(content, *places, notes, progress)
    if "setup" in named:
        body["setup"] = about.set_up(protocol_at_hand(content.table, content.folder), content.table, content.records)
    if "versions" in named:
        body["versions"] = about.versions(content.records)
    write_text(out, page(content.table, content.records, {name: text for name, text in body.items() if text}))
    return notes


def _ranks(content: RunContent, critical: Gallery | None) -> str:
    first, *others = content.apart
    try:
        ranked = sections.ranks(rank(content.folder, metrics=first if others else None))
    except EvalkitError as error:
        return sections.sentence(str(error))
    if others:
        names = ", ".join(name for other in others for name in other)
        ranked += sections.sentence(f"Not among the ranks: {names}, whose metrics are ranked in another convention.")
    if critical:
        return ranked + sections.gallery(critical)
    return ranked if content.measured else ranked + sections.sentence(SET_ALONE)


def _images(
    content: RunContent, data_root: DataRoot | None, outputs: Path | None, notes: list[str], progress: Progress
) -> str:
    """The scenes of every data set; what cannot be shown is told there and in the notes."""
    chosen: list[tuple[str, DatasetImages, Choices]] = []
    for block in content.blocks:
        if block.dataset in content.measured:
            choices = choose(frames(block.images, list(map(str, block.values.columns))), block.better)
            found = images_of(content.table, content.folder, content.measured[block.dataset], data_root, outputs)
            chosen.append((block.dataset, found, choices))
    todo: list[tuple[str, DatasetImages, Choice]] = [
        (dataset, found, choice)
        for dataset, found, choices in chosen
        for choice in [*choices.different, *choices.worst]
    ]
    if not todo:
        return ""
    count = sum(len(choice.methods) + 2 for _, _, choice in todo)
    share = min(SHARE, BUDGET // count)  # bytes of one image with its detail
    shown: dict[tuple[str, str], str] = {}
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for dataset, found, choice in progress(todo, len(todo), "read images"):
        scene = found.scene(choice.stem, choice.methods)
        shown[dataset, choice.stem] = panels.scene(scene, choice, share * len(scene.shots))
        for shot in scene.shots:
            if shot.reason:
                reasons.setdefault((dataset, shot.reason), {})[shot.name] = None
    notes += [f"{dataset}, images of {', '.join(names)}: {reason}" for (dataset, reason), names in reasons.items()]
    parts = [
        (dataset, choices, {s: text for (d, s), text in shown.items() if d == dataset})
        for dataset, _, choices in chosen
    ]
    return panels.images(parts, alone=all(len(of_set) == 1 for of_set in content.measured.values()))
