"""What a stored result depends on: each of the three images of a scene, by itself, makes it stale."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
from conftest import finished_run

import evalkit
from evalkit.data.images import read_image, write_png
from evalkit.protocols.schema import protocol
from evalkit.records.per_image import row_digest, score_key
from evalkit.records.record import load

SCENE = "03"
ROLES = {"infrared": "data/TNO/ir", "visible": "data/TNO/vi", "fused": "outputs/CDDFuse/TNO"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "root")
    return tmp_path / "root"


def run_again(root: Path) -> None:
    methods = ["CDDFuse", "average"]
    options = {"methods": methods, "datasets": ["TNO"], "workers": 1}
    evalkit.reproduce("smfnet-table1", root / "data", outputs=root / "outputs", out=root / "run", **options)


def scores(root: Path, method: str) -> dict[str, dict[str, str]]:
    with open(root / "run" / "scores" / "TNO" / f"{method}.csv", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def record(root: Path, method: str) -> dict:
    return json.loads((root / "run" / "records" / f"TNO__{method}.json").read_text())


def change(root: Path, role: str) -> None:
    """One gray level of one pixel."""
    path = root / ROLES[role] / f"{SCENE}.png"
    image = read_image(path).copy()
    image[20, 30] ^= 64
    write_png(path, image)


@pytest.mark.parametrize("role", ROLES)
def test_each_of_the_three_images_matters_for_its_scores(root: Path, role: str) -> None:
    before, old = scores(root, "CDDFuse"), record(root, "CDDFuse")
    change(root, role)
    run_again(root)
    after, new = scores(root, "CDDFuse"), record(root, "CDDFuse")
    assert [image for image in after if after[image]["key"] != before[image]["key"]] == [SCENE]
    assert [image for image in after if after[image] != before[image]] == [SCENE]
    paths = [root / ROLES[name] / f"{SCENE}.png" for name in ("fused", "infrared", "visible")]
    metrics = [name for name in list(after[SCENE])[2:-2] if after[SCENE][name]]
    now = evalkit.evaluate(*paths, metrics, protocol("smfnet-table1").convention)
    assert metrics
    assert {name: float(after[SCENE][name]) for name in metrics} == dict(now)
    assert (new["dataset"]["content_hash"] != old["dataset"]["content_hash"]) == (role != "fused")
    assert (new["method"]["fused_hash"] != old["method"]["fused_hash"]) == (role == "fused")
    assert new["scores"] != old["scores"]
    for name, mean in new["scores"].items():
        assert mean == math.fsum(float(row[name]) for row in after.values()) / len(after)


@pytest.mark.parametrize("role", ["infrared", "visible"])
def test_each_source_matters_for_an_image_that_evalkit_fused(root: Path, role: str) -> None:
    fused = next((root / "run" / "fused").rglob(f"average/TNO/{SCENE}.png"))
    before = read_image(fused)
    change(root, role)
    run_again(root)
    assert (read_image(fused) != before).sum() == 1


def test_nothing_is_measured_again_where_nothing_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scores(root, "CDDFuse")
    monkeypatch.setattr("evalkit.metrics.jobs.measure_job", None)  # measuring again would fail
    run_again(root)
    assert scores(root, "CDDFuse") == before


def test_scores_under_another_key_are_not_taken(root: Path) -> None:
    """Two methods exchange their images: names and digests of the rows still fit, keys do not."""
    before = scores(root, "CDDFuse")
    folder = root / "outputs" / "CDDFuse" / "TNO"
    (folder / "01.png").rename(folder / "x.png")
    (folder / "02.png").rename(folder / "01.png")
    (folder / "x.png").rename(folder / "02.png")
    run_again(root)
    after = scores(root, "CDDFuse")
    assert after["01"]["key"] not in (before["01"]["key"], before["02"]["key"])
    assert after["01"] != before["01"]


def test_the_metrics_of_a_column_matter_for_its_key(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric whose code has another revision, such as a plug-in's, is measured again."""
    from dataclasses import replace

    from evalkit.metrics import registry
    from evalkit.protocols import fusion

    real = registry.definitions

    def revised(*arguments):
        return {name: replace(d, code="-2") if name == "EN" else d for name, d in real(*arguments).items()}

    before = scores(root, "CDDFuse")
    monkeypatch.setattr(fusion, "definitions", revised)
    run_again(root)
    after = scores(root, "CDDFuse")
    assert all(after[image]["key"] != before[image]["key"] for image in before)


def test_a_map_and_its_mask_both_matter() -> None:
    keys = {score_key(mask, saliency_map) for mask in "ab" for saliency_map in "ab"}
    assert len(keys) == 4


def test_the_digest_of_a_row_is_of_every_cell_and_every_column() -> None:
    header, cells = ["image", "key", "EN", "SD"], ["1", "k", "7.0", "40.0"]
    others = [row_digest([*header[:i], "x", *header[i + 1 :]], cells) for i in range(len(header))]
    others += [row_digest(header, [*cells[:i], "x", *cells[i + 1 :]]) for i in range(len(cells))]
    assert len({row_digest(header, cells), *others}) == 9


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # of the values that are put there
def test_the_hash_of_a_record_is_of_every_field_but_itself(finished: Path) -> None:
    record = load(finished / "run" / "records" / "TNO__CDDFuse.json")
    for name in type(record).model_fields:
        changed = record.model_copy(update={name: "changed"})
        assert (changed.hash() == record.hash()) == (name == "record_hash"), name
