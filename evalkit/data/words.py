"""Words in the names of folders and files: which role they tell, and which tell nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evalkit.data.card import ROLES, Role


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS: dict[Role, frozenset[str]] = {
    "infrared": _set("ir infrared infra thermal therm tir lwir mwir swir nir fir heat t"),
    "visible": _set("vi vis visible visual rgb vl color colour optical viz"),
}
LABELS = _set(
    "label labels gt mask masks groundtruth annotation annotations segmentation seg salient saliency edge edges depth "
    "fused fusion result results"
)
TRAINING = _set("train training trainset val valid validation")
# what says how a method's images were kept, not whose they are
PLAIN = _set(
    "result results output outputs out fused fusion fuse f fus image images img imgs picture pictures pic png jpg "
    "bmp tif pred preds prediction predictions test tests testing testset eval final best latest last save saved data "
    "dataset datasets res epoch epochs ep e iter iters iteration iterations step steps ckpt checkpoint model run seed "
    "exp v experiment version fold trial"
)
SEPARATORS = "-_. "
SOURCES = _set("ir infrared thermal vi vis visible")
_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def tokens(text: str) -> list[str]:
    """The runs of letters and of digits in a name, in lower case: cropInfrared_01 is crop, infrared, 01."""
    return [token.casefold() for token in _TOKEN.findall(_CAMEL.sub("_", text))]


def role_told(texts: Iterable[str]) -> Role | None:
    """The role that names tell: one of their words is one of a role, and none is of the other."""
    words = {token for text in texts for token in tokens(text)}
    told = [role for role in ROLES if words & WORDS[role]]
    return told[0] if len(told) == 1 else None


def says_nothing(text: str) -> bool:
    """Whether a name says only that these are images, or of which epoch or run: results, fused_images, epoch100."""
    return all(token in PLAIN or token.isdecimal() for token in tokens(text))


def is_source(text: str) -> bool:
    """Whether a name says that these are source images, and nothing else: ir, visible_images."""
    words = set(tokens(text))
    return bool(words & SOURCES) and all(word in SOURCES or says_nothing(word) for word in words)


def folded(text: str) -> str:
    """A name without case and separators: MRI_CT and mri-ct are one."""
    return re.sub(r"[\W_]+", "", text).casefold()
