"""Text as LaTeX: whatever its characters, it is only text, and pdfLaTeX sets it."""

from __future__ import annotations

import re
import unicodedata

_CHARACTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "–": "--",
    "·": r"\textperiodcentered{}", "→": r"$\rightarrow$", "Δ": r"$\Delta$", "±": r"$\pm$", "†": r"\dag{}",
    "‡": r"\ddag{}", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\dots{}", "≥": r"$\geq$",
    "≤": r"$\leq$", "≠": r"$\neq$", "≈": r"$\approx$", "−": "$-$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "∞": r"$\infty$", "\xa0": "~",
}  # fmt: skip
_GREEK = {
    letter: rf"$\{unicodedata.name(letter).rpartition(' ')[2].lower()}$" for letter in "αβγδεζηθικμνξπρστυφχψωΓΛΞΠΣΦΨΩΘ"
}
_GREEK |= {letter: f"$\\{name[2:].capitalize()}$" for letter, name in _GREEK.items() if letter.isupper()}
_GREEK |= {"λ": r"$\lambda$", "Λ": r"$\Lambda$"}  # Unicode spells them lamda
# the letters of T1 fonts; every other one is set by XeLaTeX and LuaLaTeX, and is its number in pdfLaTeX
_T1 = frozenset("ĂăĄąĆćČčĎďĐđĘęĚěĞğİıĹĺĽľŁłŃńŇňŊŋŐőŒœŔŕŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž") | {
    chr(code) for code in range(0xA1, 0x100) if chr(code) not in "\xad"
}


def tex(text: str) -> str:
    """A text as LaTeX sets it, without a command of its own."""
    parts = re.split(r"([^\x20-\x7e])", "".join(c if unicodedata.category(c) != "Cs" else "?" for c in text))
    return "".join(_plain(part) for part in parts)


def _plain(part: str) -> str:
    if len(part) != 1 or part < "\x7f":
        return "".join(_CHARACTERS.get(c, " " if c < " " else c) for c in part)
    if part in _CHARACTERS or part in _GREEK:
        return _CHARACTERS.get(part) or _GREEK[part]
    if part in _T1:
        return part
    if unicodedata.category(part)[0] in "CZ":
        return " "
    return rf"\ifdefined\Umathchar {part}\else U+{ord(part):04X}\fi{{}}"


def tex_comment(text: str) -> str:
    """A text for a line after %: it stays one line."""
    return " ".join("".join(c if unicodedata.category(c)[0] != "C" or c in "\n\t\r" else " " for c in text).split())
