"""Records with the per-image scores that they came with: those shipped with evalkit, and a reader's own runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.leaderboards.fits import check_names, check_run, record_files, scores_of
from evalkit.protocols.table.per_image import Agreement
from evalkit.protocols.table.published import block_name
from evalkit.records.record import Record, load


@dataclass(frozen=True)
class Entry:
    """A record, its file's text, and the CSV of its per-image scores (None where nothing was measured)."""

    record: Record
    text: bytes
    csv: bytes | None
    own: bool = False
    run: Path = Path()  # its folder

    @property
    def method(self) -> str:
        return str(self.record.method["name"])

    @property
    def dataset(self) -> str:
        return str(self.record.dataset["name"])

    @property
    def block(self) -> str:
        """The table it belongs to: its data set, or, of a network that was trained on fused images, that network's."""
        method = self.record.method
        network = method.get("detector") or method.get("segmenter")
        recipe = str(method.get("recipe", "")).partition(":")[0].removeprefix("recipe ")
        return block_name(self.dataset, f"{network}, recipe {recipe}" if network else "")

    @property
    def stem(self) -> str:
        """A file name for the site: of harmless characters whatever the names are, and never twice."""
        text = "-".join((self.record.protocol["name"], self.block, self.method))
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', text).strip('-.')[:80]}-{hashlib.sha256(self.text).hexdigest()[:8]}"

    @property
    def variant(self) -> str:
        """What tells it from another record of the same method."""
        parts = ["recoloured"] if self.record.method.get("recoloured") else []
        return ", ".join(parts + (["own run"] if self.own else []))

    def to_dict(self) -> dict[str, Any]:
        """What the record panel shows."""
        scores = f"records/{self.stem}.csv" if self.csv is not None else None
        return {"record": self.record.model_dump(), "files": {"json": f"records/{self.stem}.json", "csv": scores}}


def measured_folder() -> Path:
    """The folder of the records that evalkit ships."""
    return Path(str(resources.files("evalkit.leaderboards").joinpath("measured")))


def read_entries(folder: Path, own: bool = False) -> list[Entry]:
    """Every record below a folder. Raises DataError where there is none, or one is damaged."""
    entries = []
    for path in record_files(folder):
        record = load(path)
        check_names(record, path)
        scores = scores_of(path, record)
        entries.append(Entry(record, path.read_bytes(), scores.read_bytes() if scores else None, own, path.parents[1]))
    if own and not entries:
        raise DataError(
            f"{folder} holds no records. Expected the --out folder of an `evalkit reproduce` run: records/*.json."
        )
    return entries


def read_agreement(folder: Path) -> dict[str, list[Agreement]]:
    """Protocol -> how the values that its data set publishes per image came out, of the runs below a folder.

    Raises:
        DataError: a run's table is damaged.
    """
    agreement: dict[str, list[Agreement]] = {}
    for path in sorted(folder.rglob("table.json")):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            rows = [Agreement(**row) for row in fields["agreement"]]
            agreement.setdefault(fields["protocol"], []).extend(rows)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path} cannot be read ({error}). Run `evalkit reproduce` into that folder again."
            ) from None
    return agreement


def shipped_entries() -> list[Entry]:
    """The records that evalkit ships."""
    return read_entries(measured_folder())


def own_entries(folders: Iterable[Path]) -> list[Entry]:
    """The records of the reader's runs; what was only planned and never measured is left out.

    Raises:
        DataError: no such folder or no records in it, or a record, scores and table that do not fit together.
    """
    entries = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"the folder {folder} does not exist. Name the --out folder of an `evalkit reproduce` run.")
        check_run(folder)
        entries += [entry for entry in read_entries(folder, own=True) if entry.record.scores or entry.csv is not None]
    return entries
