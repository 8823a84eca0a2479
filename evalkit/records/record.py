"""A record: what was measured of one method on one data set, and everything needed to trust or repeat it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from evalkit.errors import DataError
from evalkit.files import write_text

SCHEMA_VERSION = 1


class Record(BaseModel):
    """One method on one data set. `identity` says whether a later run would measure the same thing."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    status: Literal["complete", "incomplete"]
    protocol: dict[str, str]  # name, hash
    method: dict[str, Any]  # name, filled_from, weights (file -> SHA-256), fused_hash
    dataset: dict[str, Any]  # name, split, layout, pairs, expected, content_hash
    convention: str
    metrics: list[str]
    images: int
    scores: dict[str, float]
    holes: dict[str, str]
    failures: list[dict[str, str]]  # image, reason
    scores_hash: str = ""  # of the per-image scores, see PerImage.hash; empty where nothing was measured
    provenance: dict[str, Any]
    seeds: dict[str, int] = {}
    started: str
    finished: str

    def same_measurement(self, other: Record) -> bool:
        """Whether both differ in provenance and time at most."""
        apart = {"provenance", "started", "finished"}
        return self.model_dump(exclude=apart) == other.model_dump(exclude=apart)


def save(record: Record, path: Path) -> None:
    """Write a record as JSON; one that measured the same is left as it is. Raises OutputError."""
    if path.is_file():
        try:
            if load(path).same_measurement(record):
                return
        except DataError:
            pass  # a damaged or foreign record is replaced by the good one
    write_text(path, json.dumps(record.model_dump(), indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def load(path: Path) -> Record:
    """Read a record. Raises DataError for one that is damaged or of another schema."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(fields, dict) and fields.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"{path} has schema version {fields.get('schema_version')}, this evalkit reads {SCHEMA_VERSION}. "
                "Measure again with --existing replace."
            )
        return Record.model_validate(fields)
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"the record {path} cannot be read ({first}). Measure again with --existing replace.") from None
