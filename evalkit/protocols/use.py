"""What a protocol says of a data set and of where a method's fused images come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evalkit.data.card import Card, LabelClass, LabelKind, make_card
from evalkit.data.patterns import PathPattern, parse_pattern, split_folder
from evalkit.errors import EvalkitError

PLACES = {"infrared", "visible", "root", "labels", "segmentation", "detection"}  # of a data set of the file's own
OUTPUTS, RUNS = "outputs", ("checkpoint", "classical", "trained")  # that evalkit fuses itself
FORMATS = {"classes": "mask", "boxes": "yolo", "salient": "saliency"}  # of labels, where no .xml is named


class DatasetUse(BaseModel):
    """The part of a data set that a protocol measures; or, with the patterns of its images, the data set itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str | None = None
    pairs: int | None = Field(default=None, ge=1, description="none where the paper does not say")
    unlisted: bool = Field(default=False, description="the paper measures as many pairs of its own, and names none")
    fused: str = Field(default="", description="where the data set itself holds fused images: a folder, {method} in it")
    published_per_image: str = Field(
        default="", description="the data set's own file of values: pair, method, metric, value"
    )
    infrared: str = Field(default="", description="its images: a folder, or a pattern such as 'thermal/{stem}_ir'")
    visible: str = ""
    root: str = Field(default="", description="the folder of the patterns; beside the file where it is not stated")
    labels: dict[LabelKind, str] = Field(default={}, description="kind -> folder or pattern")
    segmentation: tuple[LabelClass, ...] = ()
    detection: tuple[LabelClass, ...] = ()

    @model_validator(mode="after")
    def _both_or_none(self) -> DatasetUse:
        if bool(self.infrared) != bool(self.visible):
            raise ValueError("a data set of its own has infrared: and visible:, both")
        if self.infrared and self.infrared == self.visible:
            raise ValueError(f"infrared: and visible: are both {self.infrared}: name the images of each")
        if not self.infrared and (more := [name for name in sorted(PLACES) if getattr(self, name)]):
            raise ValueError(f"{more[0]}: is of a data set with infrared: and visible:, or of its card")
        if self.infrared and self.split:
            raise ValueError("split: is of a data set with a card; here the patterns say which images are meant")
        return self

    @property
    def inline(self) -> bool:
        """Whether it describes a data set that needs no card."""
        return bool(self.infrared)

    def below(self, homes: Sequence[Path]) -> DatasetUse:
        """Itself, or with its images below the first of these folders that has theirs.

        Args:
            homes: the folder of the file, then data roots.
        """
        folders = [_parted(text)[0] for text in (self.infrared, self.visible)]
        places = [home / os.path.expanduser(self.root) for home in homes]
        place = next((place for place in places if all((place / folder).is_dir() for folder in folders)), places[0])
        return self if place == places[0] else self.model_copy(update={"root": os.path.relpath(place, homes[0])})

    def card(self, name: str, beside: Path) -> Card:
        """The card of a data set that is described here.

        Args:
            name: the data set's.
            beside: the folder that `root` is relative to.

        Raises:
            DataError: a pattern or a name that cannot be one.
        """
        root = Path(os.path.abspath(beside / os.path.expanduser(self.root)))
        split = {text: _parted(text) for text in (self.infrared, self.visible, *self.labels.values())}
        folders = {text: os.path.normpath(root / folder) for text, (folder, _) in split.items()}
        inside = all(Path(folder).is_relative_to(root) for folder in folders.values())
        top = root if inside and self.root else Path(os.path.commonpath(folders.values()))

        def place(text: str) -> dict[str, str]:
            return {"folder": os.path.relpath(folders[text], top).replace(os.sep, "/"), "files": split[text][1]}

        labels = {kind: place(text) | {"format": _format(kind, text)} for kind, text in self.labels.items()}
        layout = {"name": "patterns", "infrared": place(self.infrared), "visible": place(self.visible)}
        fields = {
            "name": name,
            "title": name,
            "folders": [name],
            "modalities": {"infrared": "infrared", "visible": "visible"},
            "colour": "",
            "layouts": [layout | {"labels": labels}],
            "segmentation": [label.model_dump() for label in self.segmentation],
            "detection": [label.model_dump() for label in self.detection],
            "licence": "not stated",
            "source": "whoever wrote the benchmark",
        }
        return make_card(fields, f"of the data set {name}").at(top)


def _parted(text: str) -> tuple[str, str]:
    """Folder and pattern of the files; a text that is not a pattern is a folder."""
    return split_folder(text) if "{" in text or "*" in text else (text, "")


def _format(kind: LabelKind, text: str) -> str:
    return "voc" if text.lower().endswith(".xml") else FORMATS[kind]


@dataclass(frozen=True)
class Stated:
    """Where a benchmark file says that a method's fused images of a data set come from.

    Attributes:
        kind: OUTPUTS, one of RUNS, "pattern", or "" for what evalkit fuses itself, however it does.
        pattern: of files, where it is one.
        beside: the folder that the pattern is relative to.
    """

    kind: str
    beside: Path
    pattern: PathPattern | None = None

    def files(self, method: str, dataset: str) -> dict[str, Path]:
        """The files of the pattern, by stem. Raises DataError."""
        assert self.pattern is not None
        return self.pattern.fill(method=method, dataset=dataset).listing(self.beside)[0]


def sources_of(methods: Mapping[Any, Any]) -> dict[str, Any]:
    """The two fields of a protocol that its methods become where they are a mapping: method -> where from."""
    return {"methods": list(methods), "sources": {method: "" if of is None else of for method, of in methods.items()}}


def stated(source: str | Mapping[str, str], dataset: str, beside: Path) -> Stated | None:
    """What is said of a method on one data set; None where nothing is.

    Args:
        source: a kind or a pattern, or either by data set.
        dataset: the protocol's name of the data set.
        beside: the folder that patterns are relative to.
    """
    text = source if isinstance(source, str) else source.get(dataset)
    if text is None:
        return None
    if text in ("", OUTPUTS, *RUNS):
        return Stated(text, beside)
    return Stated("pattern", beside, parse_pattern(os.path.expanduser(text)))


def check_source(method: str, source: str | Mapping[str, str], datasets: Mapping[str, DatasetUse]) -> None:
    """Raise ValueError unless it is a kind or a pattern, or either by data sets that there are.

    Args:
        method: whose images are stated, for messages.
        source: as a benchmark file has it.
        datasets: those of the file.
    """
    if not isinstance(source, str) and (unknown := sorted(source.keys() - datasets.keys())):
        raise ValueError(f"the method {method} is stated on {unknown[0]}, which is not one of the data sets")
    for dataset in datasets or ("",):
        try:
            stated(source, dataset, Path())
        except EvalkitError as error:
            kinds = ", ".join((OUTPUTS, *RUNS))
            raise ValueError(f"the method {method} comes from {kinds}, a pattern or nothing, but: {error}") from None
