"""A protocol: one published table or figure, what it measured on what and how. Read from `protocols/*.yaml`."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evalkit.errors import UnknownNameError
from evalkit.files.read import model_from_yaml
from evalkit.protocols.table.published import PublishedRow, cells_by_key, published_rows

Task = Literal["fusion", "complexity", "detection", "segmentation", "saliency", "curves"]
Axis = Literal["dataset", "variant", "method", "class", "metric"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _text(value: Any) -> Any:
    """Set-up facts are written as YAML has them: 300, 1e-4, [640, 480]."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, int | float) else value


def _facts(value: Any) -> Any:
    return {"note": value} if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Facts = Annotated[dict[str, Annotated[str, BeforeValidator(_text)]], BeforeValidator(_facts)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetUse(_Model):
    """The part of a data set that a protocol measures."""

    split: str | None = None
    pairs: int | None = Field(default=None, ge=1, description="none where the paper does not say")
    fused: str = Field(default="", description="where the data set itself holds fused images: a folder, {method} in it")
    published_per_image: str = Field(
        default="", description="the data set's own file of values: pair, method, metric, value"
    )


class Layout(_Model):
    """How the paper arranges its table: what stands in the stub on the left, and the levels of the header."""

    rows: Annotated[tuple[Axis, ...], BeforeValidator(_listed)] = ("method",)
    header: Annotated[tuple[Axis, ...], BeforeValidator(_listed)] = ("dataset", "metric")

    @model_validator(mode="after")
    def _each_axis_once(self) -> Layout:
        axes = [*self.rows, *self.header]
        if len(set(axes)) != len(axes):
            raise ValueError("an axis stands in rows or header, once")
        if "method" not in axes or "metric" not in axes:
            raise ValueError("method and metric must stand in rows or header")
        return self


class Claim(BaseModel):
    """A statement of the paper about its table; what else it holds depends on its kind."""

    model_config = ConfigDict(frozen=True, extra="allow")

    text: str
    kind: str


class Protocol(_Model):
    """One published table or figure."""

    name: str
    title: str
    paper: str
    table: str = Field(description='"Table III", "Figure 6"')
    task: Task
    convention: str
    metrics: Names
    datasets: dict[str, DatasetUse] = {}
    methods: Names
    variants: Names = Field(default=(), description="what the table is repeated for: downstream networks, levels, ...")
    classes: Names = Field(default=(), description="object classes with columns of their own, as printed")
    units: Facts = Field(
        default={}, description="metric -> unit of its printed numbers where it is not the metric's own"
    )
    training: Facts = {}
    downstream: Facts = {}
    left_open: Names = ()
    decisions: Names = ()
    ablations: dict[str, str] = Field(default={}, description="row -> recipe or variant that evalkit has")
    layout: Layout = Layout()
    marks: Facts = Field(default={}, description="what bold, underline, red and blue mean in the paper")
    claims: tuple[Claim, ...] = ()
    draws: Literal["radar", "cumulative", "pr_curve", "scatter"] | None = Field(
        default=None, description="of a figure: the plot"
    )
    published: str = Field(default="", description="the file of its numbers: <name>.csv, or nothing")
    published_names: dict[str, str] = Field(
        default={}, description="metric names of `published_per_image` -> names here"
    )
    citation: str
    notes: str = ""

    @property
    def hash(self) -> str:
        """SHA-256 of everything the protocol says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def kind(self) -> Task:
        """The task of the values: a figure of curves is of fusion metrics, or of salient objects."""
        if self.task != "curves":
            return self.task
        return "saliency" if self.draws == "pr_curve" else "fusion"

    @model_validator(mode="after")
    def _published_is_its_own(self) -> Protocol:
        if self.published not in ("", f"{self.name}.csv"):
            raise ValueError(f"published: is {self.published}, expected {self.name}.csv or nothing")
        return self


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
    return model_from_yaml(Protocol, text, f"the protocol {where}", {"name": where.removesuffix(".yaml")})


Published = dict[tuple[str, str, str], PublishedRow]


def rows_of(chosen: Protocol) -> list[PublishedRow]:
    """The protocol's printed numbers and empty cells, in file order; none where it prints none. Raises DataError."""
    return published_rows(chosen.name) if chosen.published else []


def published_values(chosen: Protocol) -> Published:
    """(block, method, column) -> the printed number; a cell the paper leaves empty is missing. Raises DataError."""
    return cells_by_key(rows_of(chosen))
