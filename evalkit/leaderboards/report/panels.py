"""The scenes of a report as HTML: sources and methods side by side, each with its detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.leaderboards.report.choice import SPREAD, STANDING, STANDING_ALONE
from evalkit.leaderboards.report.images import ReportScene, Shot
from evalkit.leaderboards.report.pictures import Fitted, details, overviews
from evalkit.leaderboards.report.scenes import Choice, Choices
from evalkit.leaderboards.site.markup import e, scroll_table


def images(parts: Sequence[tuple[str, Choices, Mapping[str, str]]], alone: bool) -> str:
    """The scenes of every data set, with the formulas by which they were chosen.

    Args:
        parts: data set, what was chosen of it, and stem -> its scene as HTML.
        alone: whether the run is of one method.
    """
    said = [f"{formula}." for formula in ([STANDING_ALONE] if alone else [SPREAD, STANDING])]
    said += ["Values that are missing do not count."]
    said += ["Every image shown is the one that was measured: its SHA-256 is the recorded one."]
    text = [f"<ul>{''.join(f'<li>{e(line)}</li>' for line in said)}</ul>"]
    for dataset, choices, scenes in parts:
        several = len(parts) > 1
        if choices.different:
            text.append(f"<h3>{e(f'{dataset} · ' * several)}Where the methods differ most</h3>")
            rows = [
                f'<tr><th scope="row">{e(metric)}</th><td class="text">{e(stem)}</td><td>{spread:.3f}</td></tr>'
                for metric, (stem, spread) in choices.largest.items()
            ]
            text += [scenes[choice.stem] for choice in choices.different]
            heads = ["Metric", "Image", "Spread"]
            text.append(
                f"<article><h4>The largest spread in each metric</h4>{scroll_table(heads, rows, heads[2], heads[1:2])}"
            )
            text.append("</article>")
        if choices.worst or choices.above:
            text.append(f"<h3>{e(f'{dataset} · ' * several)}Where each method is worst</h3>")
            above = "; ".join(f"{method}: {stem}" for method, stem in choices.above.items())
            text.append(f"<p>Shown above: {e(above)}.</p>" if above else "")
            text += [scenes[choice.stem] for choice in choices.worst]
    return "".join(text)


def scene(shown: ReportScene, choice: Choice, room: int) -> str:
    """One image name: sources and methods side by side, a detail below each.

    Args:
        shown: the images.
        choice: why they are shown.
        room: bytes for all of its images.
    """
    there = [shot for shot in shown.shots if shot.image is not None]
    framed = [shot for shot in there if shown.box is not None and _size(shot) == shown.size]
    small = details([shown.box.crop(s.image) for s in framed if s.image is not None], room // 2) if shown.box else None
    large = overviews([s.image for s in there if s.image is not None], room - room // 2 * bool(framed))
    whole = {shot.name: text for shot, text in zip(there, large.uris, strict=True)}
    part = {shot.name: text for shot, text in zip(framed, small.uris, strict=True)} if small else {}
    panels = "".join(_panel(shown, shot, whole, part, choice.notes.get(shot.name, "")) for shot in shown.shots)
    reasons: dict[str, list[str]] = {}
    for shot in shown.shots:
        if shot.reason:
            reasons.setdefault(shot.reason, []).append(shot.name)
    missing = "".join(f"<li><b>{e(', '.join(who))}</b>: {e(why)}</li>" for why, who in reasons.items())
    return (
        f'<figure class="scene"><h4>{e(choice.stem)} <span>{e(choice.why)}</span></h4>'
        f'<div class="panels">{panels}</div><figcaption>'
        f"{_how(shown, large if there else None, small)}"
        f"{f'<ul>{missing}</ul>' if missing else ''}</figcaption></figure>"
    )


def _how(shown: ReportScene, large: Fitted | None, small: Fitted | None) -> str:
    if large is None:
        return ""
    height, width = shown.size
    text = f"{width}×{height} pixels: {large.how}."
    if shown.box is not None and small is not None:
        box = shown.box
        text += (
            f" Below: the framed {box.w}×{box.h} pixels at column {box.x}, row {box.y}, where the details differ most "
            f"between the methods, {small.how}."
        )
    return e(text)


def _panel(shown: ReportScene, shot: Shot, whole: dict[str, str], part: dict[str, str], note: str) -> str:
    name = f"<p>{e(shot.name)}{f' <span class=badge>{e(note)}</span>' if note else ''}</p>"
    if shot.name not in whole:
        return f'<div class="panel"><div class="none">not shown</div>{name}</div>'
    alt = f"{shot.name}, {shown.stem}"
    frame = detail = ""
    if shot.name in part and shown.box is not None:
        height, width = shown.size
        places = zip(
            ("left", "top", "width", "height"), (shown.box.x, shown.box.y, shown.box.w, shown.box.h),
            (width, height, width, height), strict=True,
        )  # fmt: skip
        style = ";".join(f"{side}:{100 * pixels / of:.3f}%" for side, pixels, of in places)
        frame = f'<i style="{style}"></i>'
        detail = f'<img class="detail" src="{part[shot.name]}" alt="{e(alt)}, detail">'
    size = "" if _size(shot) == shown.size else f'<p class="odd">{_size(shot)[1]}×{_size(shot)[0]} pixels</p>'
    image = f'<img src="{whole[shot.name]}" alt="{e(alt)}">'
    return f'<div class="panel"><div class="shot">{image}{frame}</div>{detail}{name}{size}</div>'


def _size(shot: Shot) -> tuple[int, int]:
    assert shot.image is not None
    return shot.image.shape[0], shot.image.shape[1]
