"""A protocol: what is measured on what and how: a published table or figure, or a reader's own benchmark, in YAML."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from evalkit.data.card import Card, load_card
from evalkit.data.gray import GRAYS
from evalkit.errors import DataError
from evalkit.files.names import LONGEST, odd_character
from evalkit.files.read import model_from_yaml, read_text
from evalkit.files.write import write_text
from evalkit.protocols.table.published import PublishedRow, cells_by_key, published_rows, rows_to_csv
from evalkit.protocols.table.read import read_table
from evalkit.protocols.use import PLACES, DatasetUse, Stated, check_source, sources_of, stated
from evalkit.registry import Registry

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


class _ProtocolModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableLayout(_ProtocolModel):
    """How the paper arranges its table: what stands in the stub on the left, and the levels of the header."""

    rows: Annotated[tuple[Axis, ...], BeforeValidator(_listed)] = ("method",)
    header: Annotated[tuple[Axis, ...], BeforeValidator(_listed)] = ("dataset", "metric")

    @model_validator(mode="after")
    def _each_axis_once(self) -> TableLayout:
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


class Protocol(_ProtocolModel):
    """One published table or figure, or a benchmark of your own."""

    name: str
    title: str
    paper: str = ""
    table: str = Field(default="", description='"Table III", "Figure 6"')
    task: str = Field(default="fusion", description="what fills the table: a registered task")
    convention: str
    metrics: Names
    gray: str = Field(default="", description="how colour becomes gray; as the convention has it if not said")
    recolour: bool = Field(default=False, description="gray results of networks get the visible chroma before scoring")
    keep_format: bool = Field(
        default=False, description="networks' images are saved as the infrared image is, by their authors' script"
    )
    datasets: dict[str, DatasetUse] = {}
    methods: Names = ()
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
    rows: dict[str, str] = Field(default={}, description="row -> the method whose code and weights fill it")
    retrained: Names = Field(default=(), description="rows of networks that were trained anew for this table")
    layout: TableLayout = TableLayout()
    marks: Facts = Field(default={}, description="what bold, underline, red and blue mean in the paper")
    claims: tuple[Claim, ...] = ()
    draws: Literal["radar", "cumulative", "pr_curve", "scatter"] | None = Field(
        default=None, description="of a figure: the plot"
    )
    published: str = Field(default="", description="the file of its numbers, beside the protocol's own file")
    published_names: dict[str, str] = Field(
        default={}, description="metric names of `published_per_image` -> names here"
    )
    citation: str = ""
    notes: str = ""
    sources: dict[str, str | dict[str, str]] = Field(
        default={}, description="method -> outputs, checkpoint, classical, trained or a pattern; or each by data set"
    )
    data_root: str = Field(default="", description="where data sets with cards lie; relative to the file, as all paths")
    outputs: str = Field(default="", description="where the fused images of methods lie that come from outputs")
    checkpoints: str = ""
    recipe: str = Field(
        default="", description="how networks are trained, for fusing and downstream; small if not said"
    )
    seeds: int | None = Field(
        default=None, ge=1, description="how often networks are trained downstream; as the recipe says if not said"
    )
    beside: str = Field(default="", description="the folder that paths are relative to, if it is not the file's own")
    _numbers: Path | None = PrivateAttr(None)  # the file of its published numbers; none for what ships
    _folder: Path | None = PrivateAttr(None)  # that paths are relative to; none for what ships

    @property
    def hash(self) -> str:
        """SHA-256 of everything the protocol says, but for where things lie."""
        places = {"sources": True, "data_root": True, "outputs": True, "checkpoints": True, "beside": True}
        # as in records of before these fields were there
        later = ("recipe", "gray", "recolour", "keep_format", "seeds", "rows", "retrained")
        unsaid = {field: True for field in later if not getattr(self, field)}
        datasets = {name: PLACES if use.unlisted else PLACES | {"unlisted"} for name, use in self.datasets.items()}
        text = self.model_dump_json(exclude=places | unsaid | {"datasets": datasets})
        classes = [[*use.segmentation, *use.detection] for use in self.datasets.values() if use.inline]
        return hashlib.sha256(f"{text}{classes if any(classes) else ''}".encode()).hexdigest()

    @model_validator(mode="before")
    @classmethod
    def _methods_by_source(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and isinstance(methods := fields.get("methods"), dict):
            if "sources" in fields:
                raise ValueError("methods: says where they come from, so does sources:; leave one out")
            return fields | sources_of(methods)
        return fields

    @field_validator("gray")
    @classmethod
    def _gray_is_known(cls, gray: str) -> str:
        if gray and gray not in GRAYS:
            raise ValueError(f"gray: is {gray!r}, expected one of {', '.join(GRAYS)}")
        return gray

    @model_validator(mode="after")
    def _sources_are_known(self) -> Protocol:
        for method, source in self.sources.items():
            if method not in self.methods:
                raise ValueError(f"sources: {method!r} is not among the methods")
            check_source(method, source, self.datasets)
        return self

    @model_validator(mode="after")
    def _rows_are_rows(self) -> Protocol:
        for row in (*self.rows, *self.retrained):
            if row not in self.methods:
                raise ValueError(f"{row!r} is not among the methods, but rows: or retrained: names it")
        if both := [row for row in self.retrained if row in self.rows]:
            raise ValueError(f"{both[0]!r} is retrained, so no method's weights fill it: take it out of rows:")
        return self

    def method_of(self, row: str) -> str:
        """The method whose code and weights fill a row: that of `rows`, or the one of the row's own name."""
        return self.rows.get(row, row)

    @property
    def folder(self) -> Path | None:
        """The folder that its paths are relative to; None for what ships."""
        return self._folder

    def card(self, dataset: str) -> Card:
        """The card of a data set: of one described here, or a registered one. Raises UnknownNameError, DataError."""
        use = self.datasets.get(dataset)
        return use.card(dataset, self._folder or Path()) if use is not None and use.inline else load_card(dataset)

    def below(self, roots: Iterable[Path]) -> Protocol:
        """Itself, with data sets described here that do not lie beside the file but below a data root placed there."""
        homes = [self._folder or Path.cwd(), *(root.absolute() for root in roots)]
        datasets = {name: use.below(homes) if use.inline else use for name, use in self.datasets.items()}
        return self if datasets == self.datasets else self.model_copy(update={"datasets": datasets})

    def stated(self, method: str, dataset: str) -> Stated | None:
        """Where it says that a method's fused images of a data set come from; None where it says nothing."""
        return stated(self.sources[method], dataset, self._folder or Path()) if method in self.sources else None

    def place(self, field: Literal["data_root", "outputs", "checkpoints"]) -> Path | None:
        """The folder that it names; None where it names none."""
        text = getattr(self, field)
        return Path(os.path.normpath((self._folder or Path()) / os.path.expanduser(text))) if text else None

    @model_validator(mode="after")
    def _names_are_names(self) -> Protocol:
        if not self.name or re.search(r"^\.|[/\\]", self.name) or len(self.name.encode(errors="replace")) > LONGEST:
            raise ValueError(f"the name {self.name[:40]!r} is not a file's name")
        if odd := odd_character(self.name):
            raise ValueError(f"the name holds {odd}")
        if self.published.startswith(("/", "~")) or ".." in self.published.split("/"):
            raise ValueError(f"published: is {self.published!r}, expected a file beside the protocol's own")
        return self

    @property
    def collection(self) -> str:
        """Under which heading an index lists it: the paper."""
        return self.paper or "Benchmarks"

    @property
    def source(self) -> str:
        """Paper and table in words; the title of a benchmark of your own."""
        return f"{self.paper} {self.table}".strip() or self.title


def read_protocol(path: str | os.PathLike[str]) -> Protocol:
    """A protocol from a YAML file; its name is the file's, its published numbers lie beside it.

    Raises:
        DataError: the file cannot be read, or a field is missing, unknown or wrong; names field and mistake.
    """
    path = Path(path)
    read = _beside(path)
    registered = PROTOCOLS.get(read.name)
    if registered is not None and registered.hash != read.hash:
        origin = PROTOCOLS.origin(read.name)
        raise DataError(f"{path}: the protocol {read.name} is registered by {origin}. Give the file another name.")
    return registered or read


def _beside(path: Path) -> Protocol:
    return _placed(parse(read_text(path), path.name), path.absolute().parent)


def _placed(made: Protocol, folder: Path) -> Protocol:
    """The protocol, with the folder of its file."""
    made._numbers = folder / made.published if made.published else None
    made._folder = Path(os.path.normpath(folder / made.beside))
    for dataset, use in made.datasets.items():
        if use.inline:
            made.card(dataset)  # what is wrong with it is told now
    return made


def make_protocol(fields: Mapping[str, Any]) -> Protocol:
    """A protocol from its fields; it is named "benchmark" where none of them is a name.

    Raises:
        DataError: a field is missing, unknown or wrong.
    """
    name = str(fields.get("name", "benchmark"))
    return _placed(parse(yaml.safe_dump(dict(fields), sort_keys=False), name), Path.cwd())


def register_protocol(source: str | os.PathLike[str] | Mapping[str, Any]) -> Protocol:
    """Register a protocol: the path of a YAML file, or its fields with a name among them.

    Raises:
        DataError: the file cannot be read, or a field is missing, unknown or wrong.
        EvalkitError: the name is taken.
    """
    made = make_protocol(source) if isinstance(source, Mapping) else _beside(Path(source))
    PROTOCOLS.add(made.name, made)
    return made


OWN_PROTOCOL, OWN_NUMBERS = "protocol.yaml", "published.csv"  # in the folder of a run


def keep_protocol(protocol: Protocol, run: Path) -> None:
    """Keep a protocol that is not registered, and its published numbers, with the run that it asked for.

    Raises:
        DataError: the published numbers cannot be read.
        OutputError: the folder cannot be written.
    """
    if protocol.name in PROTOCOLS:
        return
    fields = protocol.model_dump(mode="json", exclude_defaults=True) | {"name": protocol.name}
    if protocol._folder is not None:
        fields["beside"] = os.path.relpath(protocol._folder, run.absolute())
    if protocol.published:
        write_text(run / OWN_NUMBERS, rows_to_csv(rows_of(protocol)))
    write_text(run / OWN_PROTOCOL, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))


def protocol_of_run(name: str, run: Path) -> Protocol:
    """The protocol of a run: a registered one, or the one in its folder. Raises UnknownNameError, DataError."""
    file = run / OWN_PROTOCOL
    if name not in PROTOCOLS and file.is_file():
        own = _placed(parse(read_text(file), name), run.absolute())
        own._numbers = run / OWN_NUMBERS
        if own.name == name:
            return own
    return protocol(name)


PROTOCOLS: Registry[Protocol] = Registry(
    "protocol", "evalkit.protocols.schema", read_protocol, "`evalkit list protocols` shows all."
)


def register_shipped() -> None:
    """Register the protocols that evalkit has: `protocols/*.yaml`."""
    folder = resources.files("evalkit.protocols")
    for file in sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name):
        shipped = parse(file.read_text(encoding="utf-8"), file.name)
        PROTOCOLS.add(shipped.name, shipped)


def protocols() -> Mapping[str, Protocol]:
    """All registered protocols by name."""
    return PROTOCOLS


def protocol(name: str) -> Protocol:
    """A protocol by name, whatever the case, or from the path of a YAML file. Raises UnknownNameError, DataError."""
    return PROTOCOLS.find(name)


def parse(text: str, where: str, numbers: Path | None = None) -> Protocol:
    """A protocol from YAML text.

    Args:
        text: YAML, a mapping of the protocol's fields.
        where: the file's name, whose stem is the protocol's name where the text has none; for the messages.
        numbers: the file of its published numbers, where they do not ship.

    Raises:
        DataError: a field is missing, unknown or wrong; names field and mistake.
    """
    stem = where.removesuffix(".yaml").removesuffix(".yml")
    made = model_from_yaml(Protocol, text, f"the protocol {where}", {"name": stem})
    made._numbers = numbers
    return made


Published = dict[tuple[str, str, str], PublishedRow]


def of_paper(method: str, protocol: Protocol) -> bool:
    """Whether a row is the network of the protocol's paper, or an ablation of it."""
    return method == protocol.paper or method in protocol.ablations


def rows_of(protocol: Protocol) -> list[PublishedRow]:
    """The protocol's printed numbers and empty cells, in file order; none where it prints none. Raises DataError."""
    if not protocol.published:
        return []
    if protocol._numbers is None:
        return published_rows(protocol.name)
    read = read_table(read_text(protocol._numbers), f"{protocol.name}.csv")
    if odd := [note for note in read.notes if note.startswith("column")]:
        raise DataError(f"{protocol._numbers}: {odd[0]}. Take that column out, or head it with the metric's name.")
    return read.rows


def published_values(protocol: Protocol) -> Published:
    """(block, method, column) -> the printed number; a cell the paper leaves empty is missing. Raises DataError."""
    return cells_by_key(rows_of(protocol))
