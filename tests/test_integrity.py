"""`evalkit leaderboard verify` finds whatever was changed after a run: a digit, a field, an image, a weight."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import finished_run

import evalkit
from evalkit.cli import main
from evalkit.data.images import read_image, write_png
from evalkit.errors import DataError
from evalkit.leaderboards.verify import verify
from evalkit.records.per_image import read_per_image
from evalkit.records.record import Record, load, save


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: the outputs of one method, and one that evalkit fused itself."""
    return finished_run(tmp_path_factory.mktemp("integrity"))


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "run", tmp_path / "run")
    return tmp_path / "run"


def found(run: Path, root: Path) -> list[str]:
    """What verify says of a run; a record that cannot be read is found, too."""
    try:
        return [problem for verdict in verify(run, data_root=root / "data") for problem in verdict.problems]
    except DataError as error:
        return [str(error)]


def leaves(tree: Any, path: tuple = ()) -> list[tuple]:
    """The places of all values in JSON; of lists and mappings without values, their own."""
    if isinstance(tree, dict | list) and tree:
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for key, value in items for leaf in leaves(value, (*path, key))]
    return [path]


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value * (1 + 1e-15) + 1e-300
    return f"{value}x" if isinstance(value, str) else {"a": "b"} if isinstance(value, dict) else "x"


def test_a_run_that_nobody_touched_holds(run: Path, root: Path) -> None:
    assert found(run, root) == []


def test_every_changed_field_of_a_record_is_found(run: Path, root: Path) -> None:
    path = run / "records/TNO__average.json"
    text = path.read_text()
    places = leaves(json.loads(text))
    assert len(places) > 40
    for place in places:
        record = json.loads(text)
        inner = record
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = other(inner[place[-1]])
        path.write_text(json.dumps(record))
        try:
            said = [problem for verdict in verify(path) for problem in verdict.problems]
        except DataError as error:
            said = [str(error)]
        assert said, place


def test_every_changed_digit_is_found(run: Path, root: Path) -> None:
    """A digit of a record or of the per-image scores: one in every place of a seeded choice."""
    rng = Random(7)
    for path, count in ((run / "records/TNO__average.json", 60), (run / "scores/TNO/average.csv", 60)):
        text = path.read_text()
        digits = [match.start() for match in re.finditer(r"\d", text)]
        for at in rng.sample(digits, count):
            digit = str((int(text[at]) + rng.randrange(1, 10)) % 10)
            path.write_text(text[:at] + digit + text[at + 1 :])
            changed = path.read_text()
            if same_numbers(changed, text) if path.suffix == ".csv" else json.loads(changed) == json.loads(text):
                continue  # a digit behind the precision of a number says nothing
            said = [p for v in _verify_one(run / "records/TNO__average.json") for p in v]
            assert said, (path.name, text[max(0, at - 20) : at + 20])
        path.write_text(text)
    assert found(run, root) == []


def _verify_one(path: Path) -> list[list[str]]:
    try:
        return [verdict.problems for verdict in verify(path)]
    except DataError as error:
        return [[str(error)]]


def same_numbers(a: str, b: str) -> bool:
    cells = [[_value(cell) for line in text.splitlines() for cell in line.split(",")] for text in (a, b)]
    return cells[0] == cells[1]


def _value(cell: str) -> object:
    try:
        return float(cell) if "." in cell else cell
    except ValueError:
        return cell


@pytest.mark.parametrize("folder", ["fused/average/TNO", "outputs", "data"])
def test_every_changed_image_is_found(run: Path, root: Path, tmp_path: Path, folder: str) -> None:
    shutil.copytree(root / "data", tmp_path / "data")
    shutil.copytree(root / "outputs", tmp_path / "outputs")
    place = {"outputs": tmp_path / "outputs/CDDFuse/TNO", "data": tmp_path / "data/TNO/ir"}.get(folder, run / folder)
    record = run / f"records/TNO__{'CDDFuse' if folder == 'outputs' else 'average'}.json"

    def said() -> list[str]:
        where = {"fused": tmp_path / "outputs"} if folder == "outputs" else {}
        return [p for v in verify(record, data_root=tmp_path / "data", **where) for p in v.problems]  # type: ignore[arg-type]

    assert said() == []
    for path in (place / "01.png", place / "13.png"):
        pixels = read_image(path)
        kept = path.read_bytes()
        pixels[5, 7] ^= 1
        write_png(path, pixels)
        assert said(), path
        path.write_bytes(kept)
    (place / "25.png").unlink()
    assert said()


def test_every_changed_weight_is_found(run: Path, tmp_path: Path) -> None:
    """Weights beside a record that names them, in a folder and where the run trained them."""
    from evalkit.data.hashes import file_hash

    path = run / "records/TNO__average.json"
    weights = tmp_path / "weights" / "a.pth"
    weights.parent.mkdir()
    weights.write_bytes(bytes(range(256)))
    record = load(path)
    record = record.model_copy(update={"method": {**record.method, "weights": {"a.pth": file_hash(weights)}}})
    save(record, path)

    def said(folder: Path | None) -> tuple[list[str], list[str]]:
        (verdict,) = verify(path, checkpoints=folder)
        return verdict.problems, [note for note in verdict.notes if "weights" in note]

    assert said(weights.parent) == ([], [])
    assert said(None) == ([], ["its weights are not at hand: give their folder with --checkpoints"])
    weights.write_bytes(bytes([1, *range(1, 256)]))
    assert "are not those that were measured" in said(weights.parent)[0][0]
    trained = run / "training" / "average"
    trained.mkdir(parents=True)
    shutil.copy(weights, trained)
    assert "are not those that were measured" in said(None)[0][0]
    done = CliRunner().invoke(main, ["leaderboard", "verify", str(path), "--checkpoints", str(weights.parent)])
    assert done.exit_code == 1


def test_a_changed_number_of_a_table_is_found(run: Path, root: Path) -> None:
    text = (run / "table.json").read_text()
    value = next(cell["value"] for cell in json.loads(text)["cells"] if cell["value"] is not None)
    assert text.count(repr(value)) >= 1
    (run / "table.json").write_text(text.replace(f'"value": {value!r}', f'"value": {value + 1e-9!r}', 1))
    said = found(run, root)
    assert any("in its record" in problem for problem in said)
    (run / "table.json").write_text(text)
    csv = (run / "table.csv").read_text()
    (run / "table.csv").write_text(csv.replace(repr(value), repr(value + 1e-9), 1))
    assert any("table.csv does not hold the numbers" in problem for problem in found(run, root))


def test_means_are_derived_from_the_scores_of_every_image(run: Path) -> None:
    for path in sorted((run / "records").glob("*.json")):
        record = load(path)
        rows = read_per_image(run / "scores" / "TNO" / f"{record.method['name']}.csv")
        assert {metric: rows.mean(metric) for metric in rows.metrics} == record.scores


def test_a_record_is_written_with_the_hash_of_itself(run: Path, tmp_path: Path) -> None:
    record = load(run / "records/TNO__average.json")
    assert record.record_hash == record.hash()
    unmarked = Record.model_validate(record.model_dump() | {"record_hash": ""})
    assert unmarked.hash() == record.hash()
    path = tmp_path / "a.json"
    path.write_text(json.dumps(unmarked.model_dump()))
    assert "the record was changed after it was written: its own hash is another" in _verify_one(path)[0]
    save(unmarked, path)
    assert load(path) == record


def test_a_run_on_sample_scenes_holds_and_says_what_it_is(tmp_path: Path) -> None:
    evalkit.reproduce("smfnet-table1", sample=True, methods=["average"], out=tmp_path, workers=1)
    verdicts = verify(tmp_path)
    assert all(verdict.ok for verdict in verdicts)
    assert any("generated sample scenes" in note for verdict in verdicts for note in verdict.notes)


def test_records_of_the_first_schema_are_read_verified_and_left_as_they_are(run: Path, tmp_path: Path) -> None:
    """They named what has no value `holes`; their own hash is over that name."""
    (new,) = (run / "records").glob("*average.json")
    fields = json.loads(new.read_text())
    fields |= {"schema_version": 1, "holes": fields.pop("missing")}
    del fields["record_hash"]
    text = json.dumps(fields, ensure_ascii=True, sort_keys=True)
    fields["record_hash"] = hashlib.sha256(text.encode()).hexdigest()
    old = tmp_path / "old.json"
    old.write_text(json.dumps(fields))
    record = load(old)
    assert record.record_hash == record.hash()
    assert record.same_measurement(load(new))
    save(load(new), old)
    assert json.loads(old.read_text()) == fields
    fields["holes"] = {"EN": "forged"}
    old.write_text(json.dumps(fields))
    assert load(old).record_hash != load(old).hash()
