"""Which images of a data set a run measures: all, those of a list, or those that all methods have."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.data.images import SUFFIXES
from evalkit.data.pairs import PairSet
from evalkit.errors import DataError
from evalkit.files.read import read_text

COMMON = "common"


@dataclass(frozen=True)
class Selection:
    """What `--images` asks for.

    Attributes:
        name: of the list, or COMMON.
        stems: of the list, in its order; "TNO/01" is of one data set alone.
    """

    name: str
    stems: tuple[str, ...] = ()

    def of_list(self, pairs: PairSet) -> PairSet:
        """The pairs of a data set that the list names. Raises DataError where it names none of them."""
        if self.name == COMMON:
            return pairs
        stems = {stem.removeprefix(f"{pairs.dataset}/") for stem in self.stems}
        listed = tuple(pair for pair in pairs.pairs if pair.stem in stems)
        if not listed:
            raise DataError(f"the list {self.name} names no pair of {pairs.dataset}")
        unpaired = tuple((role, stem) for role, stem in pairs.unpaired if stem in stems)
        text = f"{len(listed)} of {len(pairs.pairs)} pairs: those of the list {self.name}"
        return replace(pairs, pairs=listed, unpaired=unpaired, selected=text)

    def of_methods(self, pairs: PairSet, fused: Iterable[Mapping[str, Path]]) -> PairSet:
        """The pairs that all methods have an image of, where that is asked for.

        Args:
            pairs: of the data set.
            fused: stem -> image, of each method that has any.
        """
        if self.name != COMMON:
            return pairs
        methods = list(fused)
        common = tuple(pair for pair in pairs.pairs if all(pair.stem in files for files in methods))
        total = len(pairs.pairs) + len({stem for _, stem in pairs.unpaired})
        text = f"{len(common)} of {total} pairs: those that all methods have"
        return replace(pairs, pairs=common, unpaired=(), selected=text)


def parse_images(text: str | os.PathLike[str] | None) -> Selection | None:
    """What `--images` asks for: None for all, "common", or the file of a list, a stem or file name a line.

    Raises:
        DataError: the list cannot be read, or names nothing.
    """
    if text is None or str(text) == COMMON:
        return None if text is None else Selection(COMMON)
    path = Path(text)
    if not path.exists():
        raise DataError(f"--images {text}: there is no such file. Give common, or a text file with a name a line.")
    lines = (unicodedata.normalize("NFC", line.strip()) for line in read_text(path).splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise DataError(f"{path} lists no images. Write a stem a line, such as 01, or TNO/01 for one data set.")
    return Selection(path.name, tuple(os.path.splitext(n)[0] if n.lower().endswith(SUFFIXES) else n for n in names))


def check_list(selection: Selection, stems: Mapping[str, Iterable[str]]) -> None:
    """Raise DataError where a list names an image that no data set has.

    Args:
        selection: of a list, or COMMON, of which there is nothing to check.
        stems: data set -> the stems of its pairs, and of what has no partner.
    """
    known = {name for dataset, own in stems.items() for stem in own for name in (stem, f"{dataset}/{stem}")}
    if unknown := [stem for stem in selection.stems if stem not in known]:
        raise DataError(
            f"the list {selection.name} names {len(unknown)} images that {', '.join(stems)} "
            f"{'does' if len(stems) == 1 else 'do'} not have: {', '.join(unknown[:5])}"
            f"{', ...' if len(unknown) > 5 else ''}. Take them out."
        )
