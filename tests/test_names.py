"""Names of methods and data sets map to folders one to one, and a run's folder is of one protocol."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import finished_run, make_outputs
from numpy.typing import NDArray

from evalkit.data.card import load_card
from evalkit.data.images import write_png
from evalkit.errors import DataError, EvalkitError, OutputError
from evalkit.files.names import alike, file_name, look, odd_name
from evalkit.methods.outputs import find_outputs
from evalkit.methods.registry import check_name
from evalkit.protocols.run import reproduce
from evalkit.protocols.schema import protocols
from evalkit.records.older import check_folder
from evalkit.records.record import load

UNSEEN = {
    "zero-width space": "A\u200bB",
    "zero-width joiner": "A\u200dB",
    "byte order mark": "\ufeffAB",
    "soft hyphen": "A\u00adB",
    "no-break space": "A\u00a0B",
    "narrow no-break space": "A\u202fB",
    "ideographic space": "A\u3000B",
    "blank behind": "AB ",
    "blank before": " AB",
    "line end": "AB\n",
    "turned around": "A\u202eB",
    "tag": "A\U000e0041B",
}
ALIKE = [
    ("A-B", "A:B"),
    ("A-B", "A?B"),
    ("w/o Mask", "w-o Mask"),
    (".hidden", "-hidden"),
    ("Ours", "OURS"),
    ("Stra\u00dfe", "STRASSE"),
    ("Ours", "\uff2f\uff55\uff52\uff53"),
    ("caf\u00e9", "cafe\u0301"),
    ("A:B", "A\uff1aB"),
    ("file", "\ufb01le"),
]


@pytest.mark.parametrize("name", UNSEEN.values(), ids=UNSEEN)
def test_names_with_what_nobody_sees_are_refused(name: str, tmp_path: Path) -> None:
    assert odd_name(name)
    with pytest.raises(EvalkitError, match="cannot be a method's name: it holds"):
        check_name(name)
    card = tmp_path / "mine.yaml"
    fields = json.loads(load_card("TNO").model_dump_json())
    card.write_text(json.dumps(fields | {"name": name}))
    with pytest.raises(DataError, match="name"):
        load_card(str(card))


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_names_that_share_a_folder_or_look_alike_do_not_go_together(first: str, second: str, tmp_path: Path) -> None:
    assert alike(["other", first, second]) == (first, second)
    for names in ({"datasets": ["TNO"], "methods": [first, second]}, {"datasets": [first, second], "methods": ["X"]}):
        with pytest.raises(OutputError, match="would share files"):
            check_folder(tmp_path, "vifb", **names)


def test_names_that_are_told_apart_go_together(tmp_path: Path) -> None:
    names = ["A-B", "A_B", "AB", "A B", "A+B", "\u4e00", "\u4e8c", "A" * 300, "A" * 301]
    assert alike(names) is None
    assert len({look(name) for name in names}) == len(names) == len({file_name(name) for name in names})
    check_folder(tmp_path, "vifb", names, names)
    with pytest.raises(OutputError, match="would share a record"):
        check_folder(tmp_path, "vifb", ["A", "A__B"], ["C", "B__C"])


def test_no_protocol_has_two_names_that_look_alike() -> None:
    for protocol in protocols().values():
        assert alike(protocol.methods) is None
        assert alike(protocol.datasets) is None
        assert not [name for name in protocol.methods if odd_name(name)]


@pytest.mark.skipif(os.name == "nt", reason="no such folders there")
def test_methods_with_folders_of_other_characters_keep_their_own_images(tmp_path: Path) -> None:
    outputs = make_outputs(tmp_path / "outputs", "A-B", 1)
    shutil.copytree(outputs / "A-B", outputs / "A:B")
    for name in ("A-B", "A:B"):
        assert find_outputs(outputs, name, "TNO", None)["01"].parts[-3] == name
    shutil.rmtree(outputs / "A:B")
    assert find_outputs(outputs, "A:B", "TNO", None)["01"].parts[-3] == "A-B"  # as `file_name` writes it


@pytest.mark.parametrize("name", ["x" * 300, "é" * 5000, "{" * 255, "a/" * 3000 + "b", "a\x00b", "\ud800"])
def test_names_that_no_folder_can_have_are_of_nothing(tmp_path: Path, name: str) -> None:
    outputs = make_outputs(tmp_path / "outputs", "A", 1)
    for method, dataset, split in ((name, "TNO", None), ("A", name, None), ("A", "MSRS", name)):
        assert find_outputs(outputs, method, dataset, split) == {}
        assert find_outputs(outputs, method, dataset, split, "{dataset}/{method}/{stem}") == {}


def test_a_later_run_does_not_take_over_the_images_of_a_name_that_looks_alike(tmp_path: Path) -> None:
    root = finished_run(tmp_path)
    for name in ("A-B", "A:B"):
        shutil.copytree(root / "outputs/CDDFuse", root / "outputs" / name)
    options = {"outputs": root / "outputs", "out": root / "run", "workers": 1}
    reproduce("smfnet-table1", root / "data", methods=["A-B"], datasets="TNO", **options)
    before = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="'A:B' and 'A-B' would share files"):
        reproduce("smfnet-table1", root / "data", methods=["A:B"], datasets="TNO", **options)
    assert {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()} == before
    reproduce("smfnet-table1", root / "data", methods=["A-B"], datasets="TNO", **options)  # plain names go on


def test_outputs_that_look_like_a_registered_method_are_refused(tmp_path: Path) -> None:
    name = "\uff23DDFuse"
    write_png(tmp_path / "outputs" / name / "TNO/01.png", make_image())
    with pytest.raises(EvalkitError, match="looks like CDDFuse"):
        reproduce("smfnet-table1", tmp_path, methods=name, outputs=tmp_path / "outputs", out=tmp_path / "run")


def make_image() -> NDArray[np.uint8]:

    return np.zeros((16, 16), np.uint8)


def test_a_second_protocol_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    root = finished_run(tmp_path)
    before = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    for existing in ("reuse", "replace"):
        with pytest.raises(OutputError, match="holds the records of smfnet-table1"):
            reproduce("vifb", root / "data", methods="average", out=root / "run", existing=existing)  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()} == before


def test_records_name_device_threads_and_processor(tmp_path: Path) -> None:
    import cv2

    provenance = load(finished_run(tmp_path) / "run/records/TNO__average.json").provenance
    assert provenance["device"] == "cpu"
    assert provenance["processor"]["opencv"] == cv2.__version__
    assert provenance["processor"]["features"] == cv2.getCPUFeaturesLine() != ""
    assert provenance["processor"]["threads"]["opencv"] == cv2.getNumThreads()
    assert {"numpy", "scipy", "pillow"} <= set(provenance["packages"])
