"""Dataset cards: what a data set is called, how its folders lie, its splits, classes, licence and source."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from evalkit.data.patterns import parse_pattern, split_folder
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.files.names import odd_name
from evalkit.files.read import model_from_yaml, read_text
from evalkit.registry import Registry

Role = Literal["infrared", "visible"]
ROLES: tuple[Role, Role] = ("infrared", "visible")
LabelKind = Literal["classes", "boxes", "salient"]
LabelFormat = Literal["mask", "yolo", "voc", "saliency"]


def _relative(path: str) -> str:
    """A card may come from anyone: it names folders below the data root, never others."""
    if path.startswith(("/", "~")) or re.search(r"[\\:*?]", path) or ".." in path.split("/"):
        raise ValueError("must be a relative path with / between its parts, without '..' and wildcards")
    return path


def _folder(value: Any) -> Any:
    """A folder; or a pattern of files, of which the folders in front that are plain text are the folder."""
    if not isinstance(value, str):
        return value
    if not re.search(r"\*|\{stem", value):
        return {"folder": value}
    folder, files = split_folder(value)
    return {"folder": folder, "files": files}


def _files(text: str) -> str:
    try:
        pattern = parse_pattern(text) if text else None
    except EvalkitError as error:
        raise ValueError(str(error)) from None
    if pattern and (pattern.fields != {"stem"} or {("",), ("..",)} & {*pattern.parts}):
        raise ValueError("must be a relative path without '..' that has {stem} in it and no other name in braces")
    return text


CONTENT = "SHA-256 over the stems and both images of its pairs, `PairSet.content_hash`; empty where not known"
RelativePath = Annotated[str, AfterValidator(_relative)]


class _CardModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Folder(_CardModel):
    """A folder of images; a file belongs to it when its stem has the prefix and suffix, which are then cut off; or when
    its path below the folder is given by a pattern, see `evalkit.data.patterns`.
    """

    folder: RelativePath
    prefix: str = ""
    suffix: str = ""
    files: Annotated[str, AfterValidator(_files)] = Field(default="", description="e.g. '{stem}_ir.png', '*/{stem}'")


class LabelFolder(Folder):
    """A folder of labels: class-id masks, YOLO text, VOC XML or saliency masks."""

    format: LabelFormat


class Layout(_CardModel):
    """One way the folders of a data set lie, relative to its own folder. `{split}` stands for the split's folder."""

    name: str
    infrared: Annotated[Folder, BeforeValidator(_folder)]
    visible: Annotated[Folder, BeforeValidator(_folder)]
    labels: dict[LabelKind, LabelFolder] = {}
    lists: RelativePath | None = Field(None, description="text file of a split's stems, e.g. '{split}.txt'")
    serves: tuple[str, ...] = Field((), description="splits that a layout without {split} and lists may stand for")
    refuse: str | None = Field(None, description="why this layout cannot be read, and what to do")
    note: str = ""

    @property
    def by_folder(self) -> bool:
        """Whether each split has folders of its own."""
        return "{split}" in self.infrared.folder


class Split(_CardModel):
    """A named part of a data set: a folder, a list file of the data set, or the stems given here."""

    name: str
    pairs: int | None = Field(None, ge=1)
    folder: RelativePath | None = Field(None, description="what {split} stands for; the name, when not given")
    stems: tuple[str, ...] = ()
    content: str = Field("", pattern=r"^([0-9a-f]{64})?$", description=CONTENT)
    note: str = ""

    @property
    def place(self) -> str:
        return self.folder if self.folder is not None else self.name

    @model_validator(mode="after")
    def _counts_agree(self) -> Split:
        if self.stems and len(set(self.stems)) != len(self.stems):
            raise ValueError(f"split {self.name!r} lists a stem twice")
        if self.stems and self.pairs not in (None, len(self.stems)):
            raise ValueError(f"split {self.name!r} lists {len(self.stems)} stems but says pairs: {self.pairs}")
        return self


class LabelClass(_CardModel):
    """A class of a mask (its pixel value) or of boxes (its number, or its name in VOC files)."""

    id: int = Field(ge=0, le=255)
    name: str
    colour: tuple[int, int, int] | None = None


class Modalities(_CardModel):
    """What the two roles are. The visible role is the one whose chroma a fused image keeps."""

    infrared: str
    visible: str


class Citation(_CardModel):
    authors: str
    title: str
    venue: str
    year: int
    doi: str | None = None


class Card(_CardModel):
    """The facts of one data set."""

    name: str
    aliases: tuple[str, ...] = ()
    title: str
    folders: tuple[RelativePath, ...] = Field(min_length=1, description="its folder under a data root")
    modalities: Modalities
    colour: str
    pairs: int | None = Field(None, ge=1, description="pairs of the whole data set")
    content: str = Field("", pattern=r"^([0-9a-f]{64})?$", description=CONTENT)
    layouts: tuple[Layout, ...] = Field(min_length=1)
    splits: tuple[Split, ...] = ()
    default_split: str | None = Field(None, description="the split meant when none is named; none: all of it")
    segmentation: tuple[LabelClass, ...] = ()
    detection: tuple[LabelClass, ...] = ()
    licence: str
    source: str
    citation: tuple[Citation, ...] = ()
    note: str = ""
    _root: Path | None = PrivateAttr(None)  # its own folder, where that is known and no data root is asked

    @property
    def root(self) -> Path | None:
        """The data set's own folder, of one that a benchmark file describes; None for those below a data root."""
        return self._root

    def at(self, root: Path) -> Card:
        """The card of a data set whose own folder is known."""
        placed = self.model_copy()
        placed._root = root
        return placed

    def split(self, name: str) -> Split:
        """The split of that name. Raises UnknownNameError."""
        for split in self.splits:
            if split.name == name:
                return split
        raise UnknownNameError(f"split of {self.name}", name, [s.name for s in self.splits])

    def expected(self, split: str | None) -> int | None:
        """How many pairs the split (or the whole data set) has when complete; None where the card does not say."""
        return self.pairs if split is None else self.split(split).pairs

    def content_of(self, split: str | None) -> str:
        """The content hash of the split's (or the whole data set's) pairs; empty where the card does not know it."""
        return self.content if split is None else self.split(split).content

    @model_validator(mode="after")
    def _names_agree(self) -> Card:
        if odd := odd_name(self.name):
            raise ValueError(f"name: {self.name!a} holds {odd}")
        if not self.name or self.name.startswith(".") or "/" in self.name or "\\" in self.name:
            raise ValueError(f"name: {self.name!a} names folders: no slashes, and no dot at its beginning")
        names = [s.name for s in self.splits]
        if len(set(names)) != len(names):
            raise ValueError("splits: a name occurs twice")
        if self.default_split is not None and self.default_split not in names:
            raise ValueError(f"default_split: {self.default_split!r} is none of the splits {names}")
        for layout in self.layouts:
            unknown = set(layout.serves) - set(names)
            if unknown:
                raise ValueError(f"layouts: {layout.name!r} serves unknown splits {sorted(unknown)}")
            if layout.by_folder != ("{split}" in layout.visible.folder):
                raise ValueError(f"layouts: {layout.name!r} has {{split}} in one role only")
        for kind in ("segmentation", "detection"):
            ids = [c.id for c in getattr(self, kind)]
            if len(set(ids)) != len(ids):
                raise ValueError(f"{kind}: an id occurs twice")
        return self


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read a card from a YAML file.

    Raises:
        DataError: no such file, not YAML, or a field that is missing, unknown or wrong; names file, field and mistake.
    """
    try:
        text = read_text(path)
    except DataError as error:
        raise DataError(f"{error} It should be a data set's card.") from None
    return _parse(text, str(path))


def make_card(fields: Mapping[str, Any], where: str) -> Card:
    """A card from its fields. Raises DataError where a field is missing, unknown or wrong.

    Args:
        fields: as in a YAML file.
        where: whose card it is, for messages.
    """
    return _parse(yaml.safe_dump(dict(fields), sort_keys=False), where)


def _parse(text: str, where: str) -> Card:
    return model_from_yaml(Card, text, f"the card {where}")


DATASETS: Registry[Card] = Registry("data set", "evalkit.data.card", read_card, "'evalkit list datasets' shows all.")


def register_shipped() -> None:
    """Register the cards that evalkit has: `data/cards/*.yaml`, by name."""
    files = [
        file for file in resources.files("evalkit.data").joinpath("cards").iterdir() if file.name.endswith(".yaml")
    ]
    cards = [_parse(file.read_text(encoding="utf-8"), file.name) for file in files]
    for card in sorted(cards, key=lambda card: card.name.casefold()):
        DATASETS.add(card.name, card, card.aliases)


def register_dataset(card: Card | Mapping[str, Any] | str | os.PathLike[str]) -> Card:
    """Register a data set: a card, its fields, or the path of its YAML file.

    Raises:
        DataError: the file cannot be read, or a field is missing, unknown or wrong.
        EvalkitError: the name or an alias is taken.
    """
    if isinstance(card, Mapping):
        made = make_card(card, str(card.get("name", "data set")))
    else:
        made = card if isinstance(card, Card) else read_card(card)
    DATASETS.add(made.name, made, made.aliases)
    return made


def load_cards() -> list[Card]:
    """All registered cards: those that ship by name, then those that were added."""
    return list(DATASETS.values())


def load_card(name: str) -> Card:
    """The card of that name or alias, whatever the case, or of a YAML file.

    Raises:
        UnknownNameError: with the nearest names.
        DataError: a file that cannot be read or is not a card.
    """
    return DATASETS.find(name)
