"""Lines, boxes and texts as SVG, written directly: a plotting library takes seconds to lay out so many small panels.

Lengths are in units of the drawing, y goes down; a page is WIDTH units wide.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evalkit.leaderboards.plots.common import COLOURS

WIDTH = 720
GRAY, PALE = "#595959", "#e0e0e0"
DASHES = ("", "6 2.5", "1.5 1.5", "6 2 1.5 2")
_FONT = "DejaVu Sans, Verdana, Noto Sans CJK SC, sans-serif"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def coordinate(value: float) -> str:
    """With two decimals at most."""
    digits = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def text_width(words: str, size: float) -> float:
    """About how wide a line is: a reader's fonts are not known here."""
    return size * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in words)


def text(
    x: float, y: float, words: str, size: float = 9, anchor: str = "start", room: float = WIDTH, fill: str = "#000"
) -> str:
    """A line of text.

    Args:
        x, y: where; y is that of the baseline.
        words: what it says.
        size: of the letters.
        anchor: which part of the line is at x: start, middle or end.
        room: a line that is longer is squeezed into it.
        fill: colour.
    """
    squeezed = f' textLength="{coordinate(room)}" lengthAdjust="spacingAndGlyphs"' * (text_width(words, size) > room)
    return (
        f'<text x="{coordinate(x)}" y="{coordinate(y)}" font-size="{size:g}" text-anchor="{anchor}" fill="{fill}"'
        f"{squeezed}>{_escaped(words)}</text>"
    )


def paragraph(y: float, words: str, size: float = 8) -> tuple[list[str], float]:
    """Lines over the whole width, and where they end.

    Args:
        y: where they begin.
        words: what they say; their own line breaks are kept.
        size: of the letters.
    """
    lines: list[str] = []
    for part in words.split("\n"):
        line = ""
        for word in part.split(" "):
            if line and text_width(f"{line} {word}", size) > WIDTH - 12:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    parts = [text(6, y + 1.35 * size * (i + 1), line, size, room=WIDTH - 12, fill=GRAY) for i, line in enumerate(lines)]
    return parts, y + 1.35 * size * (len(lines) + 0.5)


def line(points: Iterable[tuple[float, float]], stroke: str = "#000", width: float = 1, more: str = "") -> str:
    """Straight lines from point to point; a point that is not a number interrupts them.

    Args:
        points: x and y of each.
        stroke: colour.
        width: of the lines.
        more: further attributes.
    """
    steps, pen = [], "M"
    for x, y in points:
        if math.isnan(x) or math.isnan(y):
            pen = "M"
            continue
        steps.append(f"{pen}{coordinate(x)} {coordinate(y)}")
        pen = "L"
    return f'<path d="{"".join(steps)}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{more}/>'


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def method_line(i: int, points: Sequence[tuple[float, float]]) -> str:
    """The line of the i-th method, in its colour and dashes."""
    dashes = DASHES[i // len(COLOURS) % len(DASHES)]
    return line(points, colour(i), 1.4, f' stroke-dasharray="{dashes}"' * bool(dashes) + ' stroke-linejoin="round"')


def markers(i: int, points: Iterable[tuple[float, float]]) -> str:
    """The marker of the i-th method at each point: with its colour it tells 84 methods apart."""
    fill = "#fff" if i // len(COLOURS) % 2 else colour(i)
    uses = "".join(
        f'<use href="#m{i % len(SHAPES)}" x="{coordinate(x)}" y="{coordinate(y)}"/>'
        for x, y in points
        if x == x and y == y
    )
    return f'<g fill="{fill}" stroke="{colour(i)}" stroke-width=".9">{uses}</g>' if uses else ""


def legend_entry(i: int, x: float, y: float, words: str, room: float, drawn: bool) -> str:
    """A piece of the i-th method's line with its marker, and words behind it.

    Args:
        i: which method.
        x, y: left end of the line.
        words: the method, and what is said of it.
        room: for the words.
        drawn: whether anything is drawn of it; else a dash stands for the line.
    """
    if not drawn:
        sign = line([(x + 5, y), (x + 13, y)], GRAY)
    else:
        sign = method_line(i, [(x, y), (x + 18, y)]) + markers(i, [(x + 9, y)])
    return sign + text(x + 22, y + 2.8, words, 8, room=room)


@dataclass(frozen=True)
class Scale:
    """Maps values low .. high to places start .. end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 4) -> list[float]:
        """Round values in the range."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def scale(values: Iterable[float], start: float, end: float) -> Scale:
    """From the least to the greatest value, with a twentieth of room at both ends.

    Args:
        values: finite numbers, one at least.
        start, end: places of the ends.
    """
    values = list(values)
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(low) or 1.0
    return Scale(low - room, high + room, start, end)


def drawing(height: float, title: str, parts: Iterable[str]) -> bytes:
    """The file.

    Args:
        height: of the drawing.
        title: for readers who do not see it.
        parts: its elements.
    """
    shapes = "".join(f'<path id="m{i}" d="{shape}"/>' for i, shape in enumerate(SHAPES))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" font-family="{_FONT}"><title>{_escaped(title)}</title>'
        f'<defs>{shapes}</defs><rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    ).encode()


def _escaped(words: str) -> str:
    return html.escape(_NOT_XML.sub("\ufffd", words))


def _polygon(radii: Sequence[float], turned: float = 0.0) -> str:
    """Corners at these distances, evenly around the middle; the first one on top, or turned by degrees."""
    angles = [math.radians(turned + 360 * i / len(radii)) for i in range(len(radii))]
    points = [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]
    return "M" + "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points) + "Z"


_PLUS = "M-1-3H1V-1H3V1H1V3H-1V1H-3V-1H-1Z"
_TIMES = "M0-1.4L1.8-3.2 3.2-1.8 1.4 0 3.2 1.8 1.8 3.2 0 1.4-1.8 3.2-3.2 1.8-1.4 0-3.2-1.8-1.8-3.2Z"
SHAPES = (
    "M-3 0A3 3 0 1 0 3 0A3 3 0 1 0 -3 0Z", _polygon([3.8] * 4, 45), _polygon([3.8] * 3), _polygon([3.8] * 4),
    _polygon([3.8] * 3, 180), _PLUS, _TIMES, _polygon([3.8] * 3, 270), _polygon([3.8] * 3, 90), _polygon([3.5] * 5),
    _polygon([4.2, 1.7] * 5), _polygon([3.5] * 6),
)  # fmt: skip
