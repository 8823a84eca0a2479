"""LaTeX as MathML, which browsers show without a script or a font of their own."""

from __future__ import annotations

import re

from as_markdown import text
from latex2mathml.converter import convert

INLINE = re.compile(r"\$([^$]+)\$")


def displayed(latex: str) -> str:
    """A formula on lines of its own; one that is too wide scrolls by itself."""
    return f'<div class="formula">{convert(latex, display="block")}</div>'


def prose(words: str) -> str:
    """Text with formulas between dollars, as Markdown."""
    parts = INLINE.split(words)
    return "".join(convert(part) if i % 2 else text(part) for i, part in enumerate(parts))
