"""A record: what was measured of one method on one data set, and everything needed to trust or repeat it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evalkit.errors import DataError
from evalkit.files.mistakes import mistakes
from evalkit.files.read import parse_json, read_text
from evalkit.files.write import write_text
from evalkit.provenance import provenance
from evalkit.registry import plugins

SCHEMA_VERSION = 2  # 2: what has no value stands under "missing"; 1 called it "holes"
OLDEST_READ = 1
_TEXTS = ("name", "filled_from", "fused_hash", "split", "layout", "content_hash", "selected", "arithmetic")


def made_here(device: str = "cpu") -> dict[str, Any]:
    """Where a record's numbers come from: versions, commit, machine, device, and the plug-ins that were loaded."""
    loaded = plugins()
    return provenance(device) | ({"plugins": loaded} if loaded else {})


class Record(BaseModel):
    """One method on one data set. `identity` says whether a later run would measure the same thing."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    status: Literal["complete", "incomplete"]
    protocol: dict[str, str] = Field(description="name, hash")
    method: dict[str, Any] = Field(description="name, filled_from, weights (file -> SHA-256), fused_hash")
    dataset: dict[str, Any] = Field(description="name, split, layout, pairs, expected, content_hash")
    convention: str
    metrics: list[str] = Field(description="full names, e.g. SSIM[smfnet]")
    images: int = Field(description="how many were measured")
    scores: dict[str, float] = Field(description="metric -> mean over the images")
    missing: dict[str, str] = Field(description="metric -> why it has no value")
    failures: list[dict[str, str]] = Field(description="image, reason")
    scores_hash: str = Field(default="", description="of the per-image scores; empty where nothing was measured")
    provenance: dict[str, Any] = Field(description="versions, commit, machine, device, plug-ins")
    seeds: dict[str, int] = {}
    started: str
    finished: str
    record_hash: str = Field(default="", description="SHA-256 of every other field, set when the record is written")

    def hash(self) -> str:
        """SHA-256 of every other field."""
        content = self.model_dump(exclude={"record_hash"})
        if self.schema_version == 1:
            content["holes"] = content.pop("missing")
        return hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()

    @property
    def not_comparable(self) -> str:
        """Why its values stand beside no printed ones: other pairs, or a network otherwise trained or computed."""
        pairs, expected = self.dataset.get("pairs"), self.dataset.get("expected")
        if selected := self.dataset.get("selected"):
            return f"measured on {selected}"
        if expected is not None and pairs != expected:
            return f"measured on {pairs} pairs, the paper's table on {expected}"
        if other := self.method.get("other_training"):
            return str(other)
        if arithmetic := self.method.get("arithmetic"):
            return f"fused in {arithmetic}, the printed values in float32"
        recipe = str(self.method.get("recipe") or "paper").removeprefix("recipe ")
        return "" if recipe == "paper" else f"trained here by the recipe {recipe}, not as in the paper"

    @property
    def columns(self) -> list[str]:
        """The columns of a table that the metrics stand in: those of the record's own convention without it."""
        return [name.removesuffix(f"[{self.convention}]") for name in self.metrics]

    @model_validator(mode="after")
    def _plain(self) -> Record:
        """Names are texts and counts are numbers in the mappings, too, whoever wrote the record."""
        for part, names, counts in ((self.method, _TEXTS, ()), (self.dataset, _TEXTS, ("pairs", "expected"))):
            for name in names:
                if not isinstance(part.get(name), str | None):
                    raise ValueError(f"{name} is not a text")
            for name in counts:
                if not isinstance(part.get(name), int | None):
                    raise ValueError(f"{name} is not a whole number")
        weights = self.method.get("weights") or {}
        if not (isinstance(weights, dict) and all(isinstance(value, str) for value in weights.values())):
            raise ValueError("weights is not a mapping of file names to hashes")
        return self

    def same_measurement(self, other: Record) -> bool:
        """Whether both differ in provenance and time at most."""
        of_the_run = {"schema_version", "provenance", "started", "finished", "record_hash"}
        return self.model_dump(exclude=of_the_run) == other.model_dump(exclude=of_the_run)


def save(record: Record, path: Path) -> None:
    """Write a record as JSON; one that measured the same is left as it is. Raises OutputError."""
    if path.is_file():
        try:
            earlier = load(path)
            if earlier.same_measurement(record) and earlier.record_hash == earlier.hash():
                return
        except DataError:
            pass  # a damaged or foreign record is replaced by the good one
    record = record.model_copy(update={"record_hash": record.hash()})
    write_text(path, json.dumps(record.model_dump(), indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def load(path: Path) -> Record:
    """Read a record. Raises DataError for one that is damaged or of another schema."""
    try:
        fields = parse_json(read_text(path), path)
        if isinstance(fields, dict):
            version = fields.get("schema_version")
            if version not in range(OLDEST_READ, SCHEMA_VERSION + 1):
                raise DataError(
                    f"{path} has schema version {version}, this evalkit reads {OLDEST_READ} to {SCHEMA_VERSION}. "
                    "Measure again with --existing replace."
                )
            if version == 1 and "holes" in fields:
                fields["missing"] = fields.pop("holes")
        return Record.model_validate(fields, strict=True)
    except ValidationError as error:
        reason = mistakes(error)[0]
        raise DataError(
            f"the record {path} cannot be read ({reason}). Measure again with --existing replace."
        ) from None
