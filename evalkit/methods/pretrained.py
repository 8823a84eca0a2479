"""Published weights that trainings begin with: `pretrained.yaml`. They lie in one folder, under their published names.

Networks of segmentation name theirs on their cards (a pattern, `encoder`), recipes under `weights`; `--checkpoints DIR`
says where the files are. Nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from evalkit.data.hashes import file_hash
from evalkit.errors import UnknownNameError


class PretrainedCard(BaseModel):
    """Weights that others published.

    Attributes:
        name: of the network.
        files: names under which they are published, the newest first.
        learned: what from.
        published: where.
        licence: of the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    files: tuple[str, ...]
    learned: str
    published: str
    licence: str

    @property
    def source(self) -> str:
        return f"{' or '.join(self.files)}, published by {self.published}, licence {self.licence}"


@cache
def pretrained_cards() -> Mapping[str, PretrainedCard]:
    """All that are known, by the network's name."""
    text = resources.files("evalkit.methods").joinpath("pretrained.yaml").read_text(encoding="utf-8")
    return {card.name: card for card in map(PretrainedCard.model_validate, yaml.safe_load(text))}


def pretrained_card(name: str) -> PretrainedCard:
    """The card of a network, or of a file by its name or a pattern of it. Raises UnknownNameError."""
    for card in pretrained_cards().values():
        if card.name.casefold() == name.casefold() or any(fnmatchcase(file, name) for file in card.files):
            return card
    raise UnknownNameError("pretrained weights", name, [*pretrained_cards()], "`evalkit list pretrained` has all.")


def where_published(name: str) -> str:
    """A sentence that says where a file, or the files of a pattern, are published; empty for one that is not known."""
    try:
        card = pretrained_card(name)
    except UnknownNameError:
        return ""
    return f"It is published by {card.published}; licence: {card.licence}."


def find_pretrained(pattern: str, folder: Path | None) -> Path | None:
    """The file of that name, or the first by name of that pattern; None where there is none.

    Args:
        pattern: a file name, or a pattern of it; empty: none is meant.
        folder: which `--checkpoints` names; None where it was not given.
    """
    return next(iter(sorted(folder.glob(pattern))), None) if folder is not None and pattern else None


def pretrained_hashes(*paths: Path | None) -> dict[str, str]:
    """What a record says of the files that a training began with: name -> SHA-256; empty: from scratch."""
    return {path.name: file_hash(path) for path in paths if path is not None}
