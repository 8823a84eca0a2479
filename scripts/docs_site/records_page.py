"""reference/files.md: the files that evalkit reads and writes, field by field, from the code that reads them."""

from __future__ import annotations

import types
import typing
from typing import Any

from as_markdown import anchor, code, table, text
from pydantic import BaseModel

from evalkit.data.card import Card, Layout, Split
from evalkit.leaderboards.submission import Badge, Manifest, Proof, Submission
from evalkit.methods.card import Compared, SystemCard
from evalkit.protocols.schema import Protocol
from evalkit.protocols.use import DatasetUse
from evalkit.records.per_image import DIGEST, FIRST
from evalkit.records.record import OLDEST_READ, SCHEMA_VERSION, Record
from evalkit.testing.golden import HEADER
from evalkit.training.recipe import Recipe

SCORES = ", ".join([*map(code, FIRST), "a column per metric", code("missing"), code(DIGEST)])
HEAD = f"""\
# Files

What evalkit writes is text: JSON, CSV and YAML, in UTF-8, written whole and renamed. A field that is not listed here
is an error where a file is read, not ignored.

## Versions

Records have a `schema_version`. This evalkit writes version {SCHEMA_VERSION} and reads {OLDEST_READ} to
{SCHEMA_VERSION}.

- A version changes when a field is renamed, removed, or means something else; a new field with a default does not
  change it.
- Older records that can be read are read as they are, their hashes hold. Those that cannot be read any more are moved
  to `OUT/schema-<version>/` with their scores, a warning says so, and all is measured again. Nothing is deleted.
- Records of a newer evalkit are refused with a sentence; nothing is changed.
- Scores per image carry a revision in their keys: what a changed formula or reader would give otherwise is measured
  again.

## A run's folder

| file | what it is |
|---|---|
| `table.csv`, `.tex`, `.md`, `.html`, `.json` | the table |
| `records/<data set>__<method>.json` | a record per row and data set, see below |
| `scores/<data set>/<method>.csv` | a line per image: {SCORES} |
| `fused/<method>/<data set>/<stem>.png` | fused images that evalkit made |

A golden file of `evalkit check` is a CSV with the columns {", ".join(map(code, HEADER))}.
"""
MODELS: tuple[tuple[type[BaseModel], str], ...] = (
    (Record, "records/*.json"),
    (Protocol, "a protocol, or a benchmark file of your own (YAML)"),
    (DatasetUse, "in a protocol: an entry of `datasets`"),
    (Card, "a data set's card (YAML)"),
    (Layout, "in a data set's card: an entry of `layouts`"),
    (Split, "in a data set's card: an entry of `splits`"),
    (SystemCard, "what the cards of methods, segmenters and salient-object systems have in common (YAML)"),
    (Compared, "in such a card: `compared`"),
    (Recipe, "a training's recipe (YAML)"),
    (Submission, "submission.json of `evalkit leaderboard submit`"),
    (Manifest, "files.json of a submission"),
    (Badge, "what `evalkit leaderboard verify --badge` writes"),
    (Proof, "in a badge: an entry of `records`"),
)


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(_model(model, place) for model, place in MODELS)])


def _model(model: type[BaseModel], place: str) -> str:
    about = (model.__doc__ or "").strip().split("\n\n")[0]
    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        rows.append([code(name), text(type_name(field.annotation)), default, text(field.description or "")])
    head = f"## {model.__name__} {{ #{anchor(model.__name__)} }}\n\n{text(about)}\n\nWhere: {text(place)}.\n"
    return "\n".join([head, table(["field", "type", "default", ""], rows), ""])


def _default(value: Any) -> str:
    return "" if value in (None, "", (), [], {}) or isinstance(value, BaseModel) else code(value)


def type_name(annotation: Any) -> str:
    """A type in words of files: "list of text", "text or nothing"."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    plain = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "nothing",
        Any: "any",
    }
    if annotation in plain:
        return plain[annotation]
    if origin is typing.Annotated:
        return type_name(parts[0])
    if origin is typing.Literal:
        return " or ".join(map(repr, parts))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in parts)
    if origin is dict:
        return f"{type_name(parts[0])} -> {type_name(parts[1])}"
    if origin in (list, tuple):
        return f"list of {' and '.join(dict.fromkeys(type_name(part) for part in parts if part is not Ellipsis))}"
    return getattr(annotation, "__name__", str(annotation))
