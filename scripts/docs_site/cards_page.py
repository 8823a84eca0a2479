"""Pages of what evalkit has, made from its cards: methods, data sets, protocols and networks of other tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from as_markdown import anchor, code, table, text

from evalkit.catalogue import describe, entries_of

LONGEST = 300  # characters of a list that stands on one line

METHODS = """\
# Methods

What makes fused images. `evalkit list methods --checkpoints DIR` says which of them can run on your machine, and
`evalkit show NAME` prints a card; the cards are files in `evalkit/methods/cards/`. *compared*: the largest difference
between evalkit's code and the published one, over the output's standard deviation.
"""
DATASETS = """\
# Data sets

What evalkit knows of each data set: where to get it and under which licence, how its folders lie, its splits. It
contains and downloads none of them. `evalkit data check` says what is on your disk.
"""
PROTOCOLS = """\
# Protocols

What each published table or figure measures, on what and how; what the paper leaves open, and what is decided here.
Each can be run with `evalkit reproduce NAME`, and `--plan` says what that needs.
"""
NETWORKS = """\
# Networks of other tasks

What sees a fused image: segmenters, detectors and systems of salient objects; the files of weights that trainings
begin with; the recipes of trainings; the tasks that fill a table.
"""


def methods() -> str:
    """reference/methods.md"""
    return _page(METHODS, "methods", ["name", "kind", "year", "parameters", "licence", "tables"])


def datasets() -> str:
    """reference/datasets.md"""
    return _page(DATASETS, "datasets", ["name", "title", "pairs", "splits", "licence"])


def protocols() -> str:
    """reference/protocols.md"""
    return _page(PROTOCOLS, "protocols", ["name", "table", "title", "convention"])


def networks() -> str:
    """reference/networks.md: each kind is a list; segmenters and systems have cards."""
    parts = [NETWORKS]
    for kind, title in (
        ("segmenters", "Segmenters"), ("saliency", "Salient objects"), ("detectors", "Detectors"),
        ("pretrained", "Pretrained weights"), ("recipes", "Recipes"), ("tasks", "Tasks"),
    ):  # fmt: skip
        entries = [{k: v for k, v in entry.items() if k not in ("from", "here")} for entry in entries_of(kind)]
        rows = [[code(entry["name"]), *(text(v) for k, v in entry.items() if k != "name")] for entry in entries]
        parts += [f"## {title}\n", table(list(entries[0]), rows), ""]
    return "\n".join(parts)


def _page(head: str, kind: str, columns: list[str]) -> str:
    entries = entries_of(kind)
    rows = [[f"[{text(e['name'])}](#{anchor(e['name'])})", *(text(e[c]) for c in columns[1:])] for e in entries]
    sections = [_section(entry["name"], describe(entry["name"])) for entry in entries]
    return "\n".join([head, table(columns, rows), "", *sections])


def _section(name: str, fields: Mapping[str, Any]) -> str:
    """A card: plain fields as a table, what has parts as YAML."""
    said = {k: v for k, v in fields.items() if v not in (None, "", [], {}, ()) and k not in ("kind", "name")}
    plain = {k: line for k, v in said.items() if (line := _line(v))}
    rows = [[text(k.replace("_", " ")), text(line)] for k, line in plain.items()]
    deep = {k: v for k, v in said.items() if k not in plain}
    parts = [f"## {text(name)} {{ #{anchor(name)} }}\n", table(["", ""], rows), ""]
    if deep:
        written = yaml.safe_dump(deep, sort_keys=False, allow_unicode=True, width=100)
        parts += ["```yaml", written.rstrip(), "```", ""]
    return "\n".join(parts)


def _line(value: Any) -> str:
    """A value that one line holds; "" for one that it does not."""
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, Mapping):
        said = [f"{key} {part}" for key, part in value.items() if part not in (None, "", (), [], {})]
        parts = [str(part) for part in value.values() if isinstance(part, str | int | float | None)]
    else:
        said = [str(part) for part in value]
        parts = [part for part in value if isinstance(part, str | int | float)]
    line = ", ".join(said)
    return line if len(parts) == len(value) and len(line) < LONGEST else ""
