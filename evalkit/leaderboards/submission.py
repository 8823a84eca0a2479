"""A submission to a board: records, scores, cards and environment of a run in a folder that anyone can check."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from evalkit.errors import DataError, EvalkitError
from evalkit.files.folder import replace_folder
from evalkit.files.mistakes import mistakes
from evalkit.files.names import file_name, look, odd_character, odd_name
from evalkit.files.read import model_from_yaml, parse_json, read_file, read_text
from evalkit.files.write import write_text
from evalkit.leaderboards.again import MADE_HERE
from evalkit.leaderboards.fits import Verdict, check_names, check_run, record_files, scores_of
from evalkit.methods.card import read_card
from evalkit.methods.registry import MethodCard, method_cards
from evalkit.protocols.schema import PROTOCOLS, Protocol, rows_of
from evalkit.protocols.schema import protocol as protocol_called
from evalkit.provenance import version
from evalkit.records.record import Record, load

ABOUT, MANIFEST, ENVIRONMENT = "submission.json", "files.json", "environment.json"
PLACES = re.compile(r"submission\.json|environment\.json|records/[^/]+\.json|scores/[^/]+/[^/]+\.csv|cards/[^/]+\.yaml")
MAX_FILE, MAX_FILES, MAX_CARD, MAX_NAME = 16 * 2**20, 2000, 2**16, 100  # bytes, files, bytes, characters
Model = TypeVar("Model", bound=BaseModel)


class Submission(BaseModel):
    """Who submits what: `submission.json`. The manifest beside it has the SHA-256 of every file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_version: Literal[1] = 1
    by: str
    protocol: str
    evalkit: str


class Manifest(BaseModel):
    """Every file with its SHA-256: `files.json`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    files: dict[str, str]


class Proof(BaseModel):
    """What a verifier measured again of one record; it holds of the record with that hash alone."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    record_hash: str
    protocol: str
    dataset: str
    method: str
    remeasured: int
    images: int
    fused_again: bool
    evalkit: str  # the verifier's version

    def __str__(self) -> str:
        return f"re-measured: {self.remeasured} of {self.images}"

    @property
    def details(self) -> str:
        """The same in full."""
        images = "images that evalkit fused again" if self.fused_again else "of the fused images that were given"
        return f"{self.remeasured} {images}, of {self.images}, measure the same, by evalkit {self.evalkit}"


class Badge(BaseModel):
    """The file that `leaderboard verify --badge` writes and `leaderboard build --badge` reads."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    schema_version: Literal[1] = 1
    records: list[Proof]


def submit(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    by: str,
    methods: Iterable[str] = (),
    cards: Iterable[str | os.PathLike[str]] = (),
) -> list[Record]:
    """Make a submission of a run: its records and per-image scores, cards, environment and hashes; no images.

    Args:
        run: the folder of a run, `--out` of `evalkit reproduce`.
        out: the submission's folder, new, empty, or an earlier submission, which is replaced.
        by: who submits, as the board shows it.
        methods: the rows; all that were measured when not given.
        cards: YAML files of the cards of methods that evalkit has none of.

    Returns:
        The records in it.

    Raises:
        DataError: the run does not fit together, its protocol is not registered, or a card is missing or wrong.
        EvalkitError: a name that a board would refuse.
        OutputError: the folder holds something else, or cannot be written.
    """
    run, rows = Path(run), list(methods)
    check_run(run)
    paths = {path: load(path) for path in record_files(run) if path.parent == run / "records"}
    measured = {path: record for path, record in paths.items() if record.scores or scores_of(path, record)}
    if unknown := [name for name in rows if name not in {record.method["name"] for record in measured.values()}]:
        raise DataError(f"{run} has no measured row {unknown[0]!r}. Name one of its rows, or leave --methods out.")
    measured = {path: record for path, record in measured.items() if not rows or record.method["name"] in rows}
    if not measured:
        raise DataError(f"{run} holds no measured records (records/*.json). Name the --out folder of a run.")
    records = list(measured.values())
    own = [read_card(MethodCard, card)[0] for card in cards]
    files: dict[str, bytes] = {}
    for path, record in measured.items():
        dataset, method = file_name(record.dataset["name"]), file_name(record.method["name"])
        files[f"records/{dataset}__{method}.json"] = read_file(path)
        if (scores := scores_of(path, record)) is not None:
            files[f"scores/{dataset}/{method}.csv"] = read_file(scores)
        files[f"cards/{method}.yaml"] = _card_text(record, own)
    about = Submission(by=by, protocol=records[0].protocol["name"], evalkit=version())
    if problem := next(_claims(about, records), ""):
        raise EvalkitError(f"this cannot be submitted: {problem}.")
    files[ABOUT] = _json(about.model_dump())
    files[ENVIRONMENT] = _json(environment(records))
    replace_folder(out, files, MANIFEST)
    return records


def environment(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Where the records were measured: versions, commits, machines; each once, in a fixed order."""
    texts = {json.dumps(record.provenance, sort_keys=True) for record in records}
    return [json.loads(text) for text in sorted(texts)]


def check_submission(folder: Path) -> Verdict:
    """That a submission's folder is what `submit` writes: its files, their hashes, names, cards, environment.

    What its records say is checked as of any run, by `evalkit.leaderboards.verify.verify`.
    """
    verdict = Verdict(folder / ABOUT, checked=["submission"])
    verdict.problems += _odd_files(folder)
    if verdict.problems:  # nothing more is read
        return verdict
    try:
        about = read_submission(folder)
        records = {path: load(path) for path in sorted((folder / "records").glob("*.json"))}
        for path, record in records.items():
            check_names(record, path)
        verdict.problems += _claims(about, list(records.values()))
        if parse_json(read_text(folder / ENVIRONMENT), folder / ENVIRONMENT) != environment(list(records.values())):
            verdict.problems.append(f"{ENVIRONMENT} is not what the records say of where they were measured")
        for method in dict.fromkeys(record.method["name"] for record in records.values()):
            read_submitted_card(folder, method)
    except DataError as error:
        verdict.problems.append(str(error))
    return verdict


def read_submission(folder: Path) -> Submission:
    """What a submission says of itself. Raises DataError."""
    return _read(Submission, folder / ABOUT)


def read_submitted_card(folder: Path, method: str) -> MethodCard:
    """The card of a method of a submission. Raises DataError: missing, of unknown fields, or too long."""
    path = folder / "cards" / f"{file_name(method)}.yaml"
    return model_from_yaml(MethodCard, read_text(path, MAX_CARD), f"the card {path}")


def write_badge(path: Path, verdicts: Iterable[Verdict]) -> Badge:
    """Write which records were measured again, and held.

    Raises:
        DataError: none was.
        OutputError: the file cannot be written.
    """
    proofs = []
    for verdict in verdicts:
        if verdict.ok and verdict.remeasured:
            record = load(verdict.path)
            proofs.append(
                Proof(
                    record_hash=record.hash(),
                    protocol=record.protocol["name"],
                    dataset=record.dataset["name"],
                    method=record.method["name"],
                    remeasured=verdict.remeasured,
                    images=record.images,
                    fused_again="fused again" in verdict.checked,
                    evalkit=version(),
                )
            )
    if not proofs:
        raise DataError(
            "no record was measured again and held, so there is no badge to write. Give the images: --data-root, and "
            "--fused or --checkpoints."
        )
    badge = Badge(records=proofs)
    write_text(path, _json(badge.model_dump()).decode())
    return badge


def read_badges(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Proof]:
    """Record hash -> what was measured again, of several badge files; of two the one of more images.

    Raises:
        DataError: a file that is not a badge.
    """
    proofs = [proof for path in paths for proof in _read(Badge, Path(path)).records]
    return {proof.record_hash: proof for proof in sorted(proofs, key=lambda proof: proof.remeasured)}


def _read(model: type[Model], path: Path) -> Model:
    try:
        return model.model_validate(parse_json(read_text(path, MAX_FILE), path))
    except ValidationError as error:
        raise DataError(f"{path} cannot be used: {mistakes(error)[0]}.") from None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _card_text(record: Record, own: Sequence[MethodCard]) -> bytes:
    """The card of a record's method: of the files that were given, or registered."""
    name = record.method["name"]
    card = next((card for card in own if card.name == name), None)
    card = card or method_cards().get(str(record.method.get("card") or name))
    if card is None:
        raise DataError(
            f"evalkit has no card of {name!r}. Give one with --card FILE.yaml, with the fields name: {name}, kind: "
            "(network or classical), title:, and authors, paper, year, doi, licence, note where there are any."
        )
    text = yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    return text.encode()


def _claims(about: Submission, records: Sequence[Record]) -> Iterator[str]:
    """What a board refuses: names that hide something, rows that are there twice, names of others' rows."""
    if not about.by or odd_name(about.by) or len(about.by) > MAX_NAME:
        yield f"who submits is {about.by[:MAX_NAME]!r}, expected a name of 1 to {MAX_NAME} printable characters"
    if about.protocol not in PROTOCOLS:
        yield (
            f"{about.protocol!r} is not a protocol that is registered here: a board knows its benchmarks itself. "
            "Register yours with --plugin"
        )
        return
    if not records:
        yield "there is no record in it"
    protocol = protocol_called(about.protocol)
    taken = taken_names(protocol)
    seen = set()
    for record in records:
        dataset, method = str(record.dataset["name"]), str(record.method["name"])
        if record.protocol["name"] != about.protocol:
            yield f"the record of {method!r} is of {record.protocol['name']!r}, the submission of {about.protocol!r}"
        for name in (dataset, method):
            if odd := odd_name(name) or ("too many characters" if len(name) > MAX_NAME else ""):
                yield f"the name {name[:MAX_NAME]!r} holds {odd}"
        row = look(dataset), look(method), record.convention
        if row in seen:
            yield f"the row {method} on {dataset} is there twice"
        seen.add(row)
        if look(method) in taken and record.method.get("filled_from") not in MADE_HERE:
            yield (
                f"{method!r} is the name of a row that evalkit knows ({taken[look(method)]}), and these images are not "
                "fused by evalkit. Give the row a name of its own"
            )


def taken_names(protocol: Protocol) -> Mapping[str, str]:
    """The names that rows of a board bear already, as `evalkit.files.names.look` sees them -> as they are written."""
    cards = [name for card in method_cards().values() for name in (card.name, *card.aliases)]
    return {look(name): name for name in (*cards, *(row.method for row in rows_of(protocol)), *protocol.methods)}


def _odd_files(folder: Path) -> list[str]:
    """What of the files is not as the manifest has it; links, other files and large ones are refused unread."""
    present: dict[str, int] = {}
    for home, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(home) / name
            place = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                return [f"{place!a} is a link, a pipe or a device: a submission holds plain files"]
            if path.is_file():
                present[place] = path.stat().st_size
            if len(present) > MAX_FILES:
                return [f"there are more than {MAX_FILES} files in it"]
    large = [name for name, size in present.items() if size > MAX_FILE]
    odd = [name for name in present if name != MANIFEST and (not PLACES.fullmatch(name) or odd_character(name))]
    problems = [f"{name!a} has more than {MAX_FILE // 2**20} MiB" for name in large]
    problems += [
        f"{name!a} is not a file of a submission: records, scores, cards, {ABOUT}, {ENVIRONMENT}" for name in odd
    ]
    return problems or _misfits(folder, present)


def _misfits(folder: Path, present: Iterable[str]) -> list[str]:
    try:
        named = _read(Manifest, folder / MANIFEST).files
    except DataError as error:
        return [str(error)]
    there = set(present) - {MANIFEST}
    problems = [f"{name!a} is missing" for name in sorted(set(named) | {ABOUT, ENVIRONMENT}) if name not in there]
    for name in sorted(there):
        if name not in named:
            problems.append(f"{name!a} is not in {MANIFEST}")
        elif hashlib.sha256(read_file(folder / name, MAX_FILE)).hexdigest() != named[name]:
            problems.append(f"{name!a} was changed after it was submitted: its SHA-256 is not that in {MANIFEST}")
    return problems


def submissions_below(folder: Path) -> list[Path]:
    """The submissions in a folder: itself, or folders in it."""
    return sorted(path.parent for path in folder.rglob(ABOUT))
