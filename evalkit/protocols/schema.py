"""A protocol: one published table, what it measured on what and how. Read from `protocols/*.yaml`."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalkit.errors import DataError, UnknownNameError


class DatasetUse(BaseModel):
    """The part of a data set that a protocol measures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str | None = None
    pairs: int = Field(ge=1)
    fused: str = Field(default="", description="where the data set itself holds fused images: a folder, {method} in it")
    published_per_image: str = Field(
        default="", description="the data set's own file of values: pair, method, metric, value"
    )


class Protocol(BaseModel):
    """One published table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    paper: str
    table: str
    task: str
    convention: str
    metrics: tuple[str, ...]
    datasets: dict[str, DatasetUse]
    methods: tuple[str, ...]
    published: str = ""
    published_names: dict[str, str] = Field(
        default={}, description="metric names of `published_per_image` -> names here"
    )
    citation: str
    notes: str = ""

    @property
    def hash(self) -> str:
        """SHA-256 of everything the protocol says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class PublishedValue:
    """A number exactly as a table prints it."""

    printed: str
    note: str = ""

    @property
    def value(self) -> float:
        return float(self.printed)

    @property
    def decimals(self) -> int:
        return len(self.printed.partition(".")[2])


@cache
def protocols() -> dict[str, Protocol]:
    """All protocols by name."""
    folder = resources.files("evalkit.protocols")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {(p := parse(f.read_text(encoding="utf-8"), f.name)).name: p for f in files}


def protocol(name: str) -> Protocol:
    """A protocol by name, whatever the case. Raises UnknownNameError."""
    by_folded = {known.casefold(): p for known, p in protocols().items()}
    try:
        return by_folded[name.casefold()]
    except KeyError:
        raise UnknownNameError("protocol", name, protocols(), "`evalkit list protocols` shows all.") from None


def parse(text: str, where: str) -> Protocol:
    """A protocol from YAML text; its name defaults to the file's stem. Raises DataError naming field and mistake."""
    try:
        fields = yaml.safe_load(text)
        return Protocol.model_validate({"name": where.removesuffix(".yaml")} | fields)
    except (yaml.YAMLError, TypeError) as error:
        raise DataError(f"the protocol {where} is not a YAML mapping: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise DataError(f"the protocol {where} has {len(lines)} mistake(s):\n" + "\n".join(lines)) from None


Published = dict[tuple[str, str, str], PublishedValue]


def published_values(chosen: Protocol) -> Published:
    """(dataset, method, metric) -> the printed number; a cell the paper leaves empty is missing."""
    if not chosen.published:
        return {}
    file = resources.files("evalkit.leaderboards").joinpath("published", chosen.published)
    rows = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))
    return {
        (row["dataset"], row["method"], row["metric"]): PublishedValue(row["printed"], row["note"])
        for row in rows
        if row["printed"]
    }
