"""Records with the per-image scores that they came with: those shipped with evalkit, and a reader's own runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.leaderboards.fits import check_names, check_run, record_files, scores_of
from evalkit.leaderboards.submission import Proof, Submission, read_badges, read_submission, submissions_below
from evalkit.leaderboards.verify import verify
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
    submission: Submission | None = None  # that it is part of
    proof: Proof | None = None  # what the board's keeper measured again of it

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
        parts += ["saved as JPEG"] if self.record.method.get("saved") else []
        if self.submission is not None:
            parts.append(f"submitted by {self.submission.by}")
        elif self.own:
            parts.append("own run")
        return ", ".join(parts)

    @property
    def shown_proof(self) -> str:
        """What is known of its having been measured, of rows that somebody submitted or that were measured again."""
        if self.proof is not None:
            return str(self.proof)
        return "not re-measured" if self.submission is not None else ""

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


def own_entries(folders: Iterable[Path], badges: Iterable[str | os.PathLike[str]] = ()) -> list[Entry]:
    """The records of the reader's runs, and of submissions; what was planned and never measured is left out.

    Args:
        folders: of runs or of submissions, or that hold such.
        badges: files that `evalkit leaderboard verify --badge` wrote: what they say counts for records with the hashes
            that they name.

    Raises:
        DataError: no such folder or no records in it; a record, scores and table, or the files of a submission, that
            do not fit together; or a row that is submitted twice.
    """
    entries: list[Entry] = []
    proofs = read_badges(badges)
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"the folder {folder} does not exist. Name the --out folder of an `evalkit reproduce` run.")
        submissions = {home: _accepted(home) for home in submissions_below(folder)}
        check_run(folder)
        for entry in read_entries(folder, own=True):
            if entry.record.scores or entry.csv is not None:
                proof = proofs.get(entry.record.record_hash)
                entries.append(replace(entry, submission=submissions.get(entry.run), proof=proof))
    rows = Counter((e.record.protocol["name"], e.block, e.method, e.submission.by) for e in entries if e.submission)
    if twice := next((row for row, count in rows.items() if count > 1), None):
        raise DataError("{2} on {1} of {0} is submitted twice by {3}. Leave one of the two out.".format(*twice))
    return entries


def _accepted(home: Path) -> Submission:
    """What a submission says of itself, where all of it holds. Raises DataError."""
    for verdict in verify(home):
        if not verdict.ok:
            raise DataError(
                f"{verdict.path}: {verdict.problems[0].rstrip('.')}. The submission is not shown: see "
                f"`evalkit leaderboard verify {home}`, and leave it out or have it made again."
            )
    return read_submission(home)
