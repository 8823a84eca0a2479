"""Cards, pairing and the data check, on tiny generated data; the last part on real data where it is there."""

from __future__ import annotations

import dataclasses
import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalkit.data.card import DATASETS, ROLES, Card, load_card, load_cards, read_card
from evalkit.data.check import check_dataset
from evalkit.data.hashes import file_hash
from evalkit.data.labels import read_boxes, read_mask
from evalkit.data.pairs import find_pairs, natural_key, splits_present
from evalkit.errors import DataError, UnknownNameError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def image(path: Path, seed: int = 0, size: tuple[int, int] = (8, 6), colour: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if colour else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    return path


def dataset(root: Path, stems: list[str], infrared: str = "ir", visible: str = "vi", suffix: str = ".png") -> Path:
    for number, stem in enumerate(stems):
        image(root / infrared / f"{stem}{suffix}", 2 * number)
        image(root / visible / f"{stem}{suffix}", 2 * number + 1, colour=True)
    return root


def stems(found) -> list[str]:
    return [pair.stem for pair in found.pairs]


def own_card(**fields) -> Card:
    facts = {
        "name": "Own",
        "title": "own data",
        "folders": ["Own"],
        "modalities": {"infrared": "thermal", "visible": "light"},
        "colour": "RGB",
        "layouts": [{"name": "official", "infrared": "ir", "visible": "vi"}],
        "licence": "mine",
        "source": "here",
    }
    return Card.model_validate(facts | fields)


# cards


def test_all_cards_load_in_order_and_under_every_name():
    names = list(DATASETS)
    assert names == sorted(names, key=str.casefold)
    assert {"TNO", "RoadScene", "MSRS", "M3FD", "LLVIP", "MFNet", "VT5000", "VT1000", "VT821", "VIFB"} <= set(names)
    assert {"MRI-CT", "MRI-PET", "MRI-SPECT", "samples"} <= set(names)
    taken = [n.casefold() for card in load_cards() for n in {card.name, *card.aliases}]
    assert len(set(taken)) == len(taken)
    for card in load_cards():
        for name in (card.name, card.name.lower(), card.name.upper(), *card.aliases):
            assert load_card(name) is card


@pytest.mark.parametrize("name", DATASETS)
def test_card_file_bears_its_name_and_its_splits_add_up(name):
    card = load_card(name)
    assert card.licence
    assert card.source
    assert card.layouts[0].name == "official"
    counts = [s.pairs for s in card.splits if not s.stems]
    if card.pairs and counts:
        assert sum(counts) == card.pairs
    if card.segmentation:
        assert [c.id for c in card.segmentation] == list(range(len(card.segmentation)))


def test_msrs_has_the_nine_classes_of_mfnet():
    assert load_card("MSRS").segmentation == load_card("MFNet").segmentation
    assert [c.name for c in load_card("MSRS").segmentation][:4] == ["background", "car", "person", "bike"]


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'RoadScene'"):
        load_card("rodscene")
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        load_card("MSRS").split("tests")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": None}, "licence"),
        ({"licens": "x"}, r"licens: this is not a field, did you mean licence"),
        ({"layouts": []}, "layouts"),
        ({"layouts": [{"name": "a", "infrared": "../ir", "visible": "vi"}]}, r"layouts\.0\.infrared\.folder.*relative"),
        ({"layouts": [{"name": "a", "infrared": "/ir", "visible": "vi"}]}, "relative"),
        ({"layouts": [{"name": "a", "infrared": "{split}/ir", "visible": "vi"}]}, "one role only"),
        ({"default_split": "test"}, "default_split"),
        ({"splits": [{"name": "a", "pairs": 3, "stems": ["x"]}]}, "lists 1 stems but says pairs: 3"),
        ({"splits": [{"name": "a"}, {"name": "a"}]}, "a name occurs twice"),
        ({"detection": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "an id occurs twice"),
    ],
)
def test_mistakes_of_a_card_file_name_file_and_field(tmp_path, change, message):
    fields = own_card().model_dump(mode="json") | change
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(fields))
    with pytest.raises(DataError, match=f"(?s)own\\.yaml.*{message}"):
        read_card(path)


@pytest.mark.parametrize("text", ["", "- a", "name: [", "name: !!python/object:os.system x", "\x00"])
def test_card_files_that_are_no_cards(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"own\.yaml"):
        read_card(path)
    with pytest.raises(DataError, match="cannot read"):
        read_card(tmp_path / "none.yaml")


def test_own_card_file_works(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(own_card().model_dump(mode="json")))
    dataset(tmp_path / "Own", ["a"])
    assert stems(find_pairs(read_card(path), tmp_path)) == ["a"]


DOCS = Path(__file__).parents[1] / "docs" / "data.md"


def layout_table() -> str:
    """The table of docs/data.md."""
    rows = ["| data set | layout: infrared, visible; labels | splits (pairs) |", "|---|---|---|"]
    for card in load_cards():
        cells = []
        for layout in card.layouts:
            if layout.refuse:
                cells.append(f"{layout.name}: `{layout.infrared.folder}/` packed, to be unpacked")
                continue
            images = ", ".join(f"`{f.folder}/{f.prefix}*{f.suffix}`" for f in (layout.infrared, layout.visible))
            labels = "".join(f"; {kind} `{rule.folder}` ({rule.format})" for kind, rule in layout.labels.items())
            lists = f"; lists `{layout.lists}`" if layout.lists else ""
            cells.append(f"{layout.name}: {images.replace('/*`', '`')}{labels}{lists}")
        splits = [f"{s.name}{'*' if s.name == card.default_split else ''} ({s.pairs})" for s in card.splits]
        whole = [f"all ({card.pairs})"] if card.pairs and not card.default_split else []
        place = "" if card.folders[0] == card.name else f"<br>in `{card.folders[0]}`"
        rows.append(f"| {card.name}{place} | {'<br>'.join(cells)} | {', '.join(whole + splits)} |")
    return "\n".join(rows)


def test_docs_show_the_layouts_of_the_cards():
    text = DOCS.read_text(encoding="utf-8")
    shown = text.split("compares -->\n")[1].split("\n<!-- end -->")[0]
    assert shown == layout_table(), f"put this into docs/data.md:\n{layout_table()}"


def test_the_card_of_the_docs_is_valid_and_finds_its_pairs(tmp_path):
    text = DOCS.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "own.yaml").write_text(text)
    for number in range(3):
        image(tmp_path / "Harbour" / "test" / f"T_{number}.png")
        image(tmp_path / "Harbour" / "test" / f"V_{number}.png")
    (tmp_path / "Harbour" / "test_boxes").mkdir()
    (tmp_path / "Harbour" / "test_boxes" / "T_1.txt").write_text("")
    found = find_pairs(read_card(tmp_path / "own.yaml"), tmp_path)
    assert [sorted(p.labels) for p in found.pairs] == [[], ["boxes"], []]


# pairing


def test_pairs_by_stem_in_natural_order_whatever_the_suffixes(tmp_path):
    dataset(tmp_path / "TNO", ["10", "9", "1", "02"])
    image(tmp_path / "TNO" / "ir" / "3.bmp")
    image(tmp_path / "TNO" / "vi" / "3.JPG")
    found = find_pairs(load_card("TNO"), tmp_path)
    assert stems(found) == ["1", "02", "3", "9", "10"]
    assert all(p.infrared.stem == p.visible.stem == p.stem for p in found.pairs)
    assert (found.dataset, found.split, found.layout, found.unpaired) == ("TNO", None, "official", ())


def test_missing_partners_are_listed_not_raised(tmp_path):
    dataset(tmp_path / "TNO", ["a", "b", "c"])
    (tmp_path / "TNO" / "ir" / "a.png").unlink()
    (tmp_path / "TNO" / "vi" / "c.png").unlink()
    found = find_pairs(load_card("TNO"), tmp_path)
    assert stems(found) == ["b"]
    assert found.unpaired == (("infrared", "a"), ("visible", "c"))


def test_no_common_stem_at_all_is_told_as_missing_partners(tmp_path):
    image(tmp_path / "TNO" / "ir" / "a.png")
    image(tmp_path / "TNO" / "vi" / "b.png")
    found = find_pairs(load_card("TNO"), tmp_path)
    assert found.pairs == ()
    assert found.unpaired == (("visible", "a"), ("infrared", "b"))


def test_two_files_with_one_stem_are_an_error_naming_both(tmp_path):
    dataset(tmp_path / "TNO", ["a"])
    image(tmp_path / "TNO" / "vi" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png"):
        find_pairs(load_card("TNO"), tmp_path)


def test_hidden_files_folders_and_other_files_are_passed_over(tmp_path):
    root = dataset(tmp_path / "TNO", ["a"])
    image(root / "vi" / ".ipynb_checkpoints" / "a-checkpoint.png")
    image(root / "vi" / "._a.png")
    image(root / "vi" / "deeper" / "b.png")
    (root / "vi" / "Thumbs.db").write_bytes(b"x")
    (root / "ir" / "readme.txt").write_text("x")
    (root / "ir" / "folder.png").mkdir()
    found = find_pairs(load_card("TNO"), tmp_path)
    assert (stems(found), found.unpaired) == (["a"], ())
    report = check_dataset(load_card("TNO"), tmp_path).splits[0]
    assert (report.hidden_files, report.other_files) == (3, 3)


def test_prefixes_in_one_folder_and_in_two(tmp_path):
    for number in (2, 10, 1):
        image(tmp_path / "one" / "TNO" / f"IR{number}.png")
        image(tmp_path / "one" / "TNO" / f"VIS{number}.png")
        image(tmp_path / "two" / "TNO" / "ir" / f"IR{number}.png")
        image(tmp_path / "two" / "TNO" / "vi" / f"VIS{number}.png")
    one, two = (find_pairs(load_card("TNO"), tmp_path / name) for name in ("one", "two"))
    assert stems(one) == stems(two) == ["1", "2", "10"]
    assert one.layout == "one folder"
    assert one.content_hash() == two.content_hash()


def test_suffixes_and_lists_of_mfnet(tmp_path):
    root = tmp_path / "MFNet"
    for stem in ("00001D", "00002N", "00003D"):
        image(root / "seperated_images" / f"{stem}_rgb.png", colour=True)
        image(root / "seperated_images" / f"{stem}_th.png")
        image(root / "labels" / f"{stem}.png")
    (root / "test.txt").write_text("00003D\n00001D\n\n00009N\n")
    (root / "train.txt").write_text("00002N.png\n")
    card = load_card("MFNet")
    found = find_pairs(card, tmp_path)
    assert (found.split, stems(found)) == ("test", ["00001D", "00003D"])
    assert found.unpaired == (("infrared", "00009N"), ("visible", "00009N"))
    assert set(found.pairs[0].labels) == {"classes"}
    assert stems(find_pairs(card, tmp_path, "train")) == ["00002N"]
    with pytest.raises(DataError, match="does not tell which pairs are the split 'val'"):
        find_pairs(card, tmp_path, "val")
    assert splits_present(card, tmp_path) == ["train", "test"]


def test_packed_mfnet_is_refused_with_the_cure(tmp_path):
    image(tmp_path / "MFNet" / "images" / "00001D.png")
    with pytest.raises(DataError, match="Unpack each into vi"):
        find_pairs(load_card("MFNet"), tmp_path)
    assert "Unpack" in (check_dataset(load_card("MFNet"), tmp_path).reason or "")


def test_splits_by_folder_and_their_labels(tmp_path):
    root = tmp_path / "MSRS"
    dataset(root / "test", ["a", "b"])
    dataset(root / "train", ["c"])
    image(root / "train" / "Segmentation_labels" / "c.png")
    (root / "test" / "detection_labels").mkdir()
    (root / "test" / "detection_labels" / "b.txt").write_text("")
    card = load_card("msrs")
    assert stems(find_pairs(card, tmp_path)) == ["a", "b"]
    assert [sorted(p.labels) for p in find_pairs(card, tmp_path, "test").pairs] == [[], ["boxes"]]
    assert [sorted(p.labels) for p in find_pairs(card, tmp_path, "train").pairs] == [["classes"]]
    with pytest.raises(UnknownNameError, match="val"):
        find_pairs(card, tmp_path, "val")
    shutil.rmtree(root / "train")
    with pytest.raises(DataError, match="MSRS, split 'train', is not in"):
        find_pairs(card, tmp_path, "train")


def test_a_data_set_in_splits_without_a_default_asks_for_one(tmp_path):
    dataset(tmp_path / "M3FD" / "M3FD_Fusion", ["00001"], "Ir", "Vis")
    card = load_card("M3FD")
    with pytest.raises(DataError, match="name one of detection, fusion"):
        find_pairs(card, tmp_path)
    assert stems(find_pairs(card, tmp_path, "fusion")) == ["00001"]
    assert splits_present(card, tmp_path) == ["fusion"]


def test_a_flat_folder_stands_for_a_split_it_is_not_larger_than(tmp_path):
    card = own_card(
        layouts=[{"name": "flat", "infrared": "ir", "visible": "vi", "serves": ["test"]}],
        splits=[{"name": "test", "pairs": 2}, {"name": "train", "pairs": 5}],
    )
    dataset(tmp_path / "Own", ["a", "b"])
    assert stems(find_pairs(card, tmp_path, "test")) == ["a", "b"]
    with pytest.raises(DataError, match="does not tell"):
        find_pairs(card, tmp_path, "train")
    dataset(tmp_path / "Own", ["a", "b", "c"])
    with pytest.raises(DataError, match="3 pairs in one folder, but the split 'test' of Own has 2"):
        find_pairs(card, tmp_path, "test")


def test_a_listed_split_takes_its_stems_and_names_those_not_there(tmp_path):
    listed = load_card("RoadScene").split("test50").stems
    dataset(tmp_path / "RoadScene", ["FLIR_00006", *listed[1:]], "cropinfrared", "crop_LR_visible", ".jpg")
    found = find_pairs(load_card("RoadScene"), tmp_path, "test50")
    assert stems(found) == sorted(listed[1:], key=natural_key)
    assert found.unpaired == (("infrared", listed[0]), ("visible", listed[0]))
    assert len(find_pairs(load_card("RoadScene"), tmp_path).pairs) == 50


def test_layouts_that_differ_in_labels_only(tmp_path):
    root = tmp_path / "LLVIP"
    dataset(root, ["190001"], "infrared/test", "visible/test", ".jpg")
    assert find_pairs(load_card("LLVIP"), tmp_path).layout == "official"
    (root / "labels" / "test").mkdir(parents=True)
    (root / "labels" / "test" / "190001.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert set(find_pairs(load_card("LLVIP"), tmp_path).pairs[0].labels) == {"boxes"}


def test_names_with_spaces_accents_and_other_scripts(tmp_path):
    names = ["été 1", "图像", "Größe"]
    dataset(tmp_path / "TNO", [unicodedata.normalize("NFD", n) for n in names])
    for name in names:  # one role composed, the other decomposed, as when half of it was copied from another system
        path = tmp_path / "TNO" / "vi" / f"{unicodedata.normalize('NFD', name)}.png"
        path.rename(path.with_name(f"{name}.png"))
    found = find_pairs(load_card("TNO"), tmp_path)
    assert set(stems(found)) == set(names)
    assert len(found.content_hash()) == 64


def test_case_of_folders_and_stems(tmp_path):
    dataset(tmp_path / "tno", ["a"], "IR", "Vi")
    assert stems(find_pairs(load_card("TNO"), tmp_path)) == ["a"]
    root = dataset(tmp_path / "VIFB", ["man"], "input/IR", "input/VI")
    image(root / "input" / "IR" / "peopleShadow.png")
    image(root / "input" / "VI" / "peopleshadow.png")
    found = find_pairs(load_card("VIFB"), tmp_path)
    assert (stems(found), found.unpaired) == (["man", "peopleshadow"], ())


def test_stems_that_differ_in_case_only_stay_apart(tmp_path):
    dataset(tmp_path / "TNO", ["a", "A"])
    assert len(find_pairs(load_card("TNO"), tmp_path).pairs) == 2


def test_data_root_may_be_the_data_set_itself_but_only_under_its_name(tmp_path):
    dataset(tmp_path / "TNO", ["a"])
    assert stems(find_pairs(load_card("TNO"), tmp_path / "TNO")) == ["a"]
    with pytest.raises(DataError, match="no folder RoadScene"):
        find_pairs(load_card("RoadScene"), tmp_path / "TNO")


def test_wrong_roots_say_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(DataError, match="--data-root or EVALKIT_DATA"):
            find_pairs(load_card("TNO"), root)
        with pytest.raises(DataError, match="--data-root"):
            check_dataset(load_card("TNO"), root)
    with pytest.raises(DataError, match=r"(?s)no folder MSRS.*\{split\}/ir.*one of: train, test.*Linfeng-Tang/MSRS"):
        find_pairs(load_card("MSRS"), tmp_path)
    image(tmp_path / "TNO" / "thermal" / "a.png")
    with pytest.raises(DataError, match="holds the folders thermal"):
        find_pairs(load_card("TNO"), tmp_path)


def test_empty_folder(tmp_path):
    image(tmp_path / "TNO" / "ir" / "a.png")
    (tmp_path / "TNO" / "vi").mkdir()
    with pytest.raises(DataError, match=r"vi holds no images"):
        find_pairs(load_card("TNO"), tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("abA019_ -.", min_size=1, max_size=6), unique=True, max_size=20), st.randoms())
def test_natural_order_is_total_and_independent_of_the_input_order(names, random):
    ordered = sorted(names, key=natural_key)
    random.shuffle(names)
    assert sorted(names, key=natural_key) == ordered
    assert sorted(["img10", "img9", "img1"], key=natural_key) == ["img1", "img9", "img10"]


def test_order_and_hash_do_not_depend_on_creation_order_layout_or_place(tmp_path):
    names = [f"{n}" for n in range(12)]
    dataset(tmp_path / "x" / "TNO", names)
    first = find_pairs(load_card("TNO"), tmp_path / "x")
    for name in reversed(names):
        for role, new in (("ir", "Infrared"), ("vi", "Visible")):
            target = tmp_path / "y" / "TNO" / new
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "x" / "TNO" / role / f"{name}.png", target / f"{name}.png")
    second = find_pairs(load_card("TNO"), tmp_path / "y")
    assert stems(first) == stems(second)
    assert second.layout == "long names"
    assert first.content_hash() == second.content_hash()
    image(tmp_path / "y" / "TNO" / "Visible" / "3.png", seed=999)
    assert find_pairs(load_card("TNO"), tmp_path / "y").content_hash() != first.content_hash()


def test_swapped_roles_and_renamed_stems_change_the_hash(tmp_path):
    dataset(tmp_path / "a" / "TNO", ["1"])
    dataset(tmp_path / "b" / "TNO", ["1"], "vi", "ir")
    dataset(tmp_path / "c" / "TNO", ["2"])
    hashes = {find_pairs(load_card("TNO"), tmp_path / name).content_hash() for name in "abc"}
    assert len(hashes) == 3


def test_file_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a").startswith("ba7816bf")
    with pytest.raises(DataError, match="cannot read"):
        file_hash(tmp_path / "none")


# the check


def test_check_tells_everything_and_aborts_for_nothing(tmp_path):
    root = dataset(tmp_path / "TNO", ["a", "b", "c", "d", "e"])
    data = (root / "ir" / "a.png").read_bytes()
    (root / "ir" / "a.png").write_bytes(data[: len(data) // 2])
    shutil.copy(root / "vi" / "b.png", root / "vi" / "c.png")
    image(root / "ir" / "d.png", size=(9, 6))
    shutil.copy(root / "vi" / "e.png", root / "ir" / "e.png")
    image(root / "vi" / "z.png")
    seen: list[tuple[int, int]] = []
    report = check_dataset(load_card("TNO"), tmp_path, lambda done, total: seen.append((done, total)))
    split = report.splits[0]
    assert (report.present, split.pairs, split.expected, split.complete) == (True, 5, 25, False)
    assert split.unreadable[0][0].endswith("a.png")
    assert split.size_mismatches == ["d: infrared 9x6, visible 8x6"]
    assert split.sizes == {"8x6": 3}
    assert split.duplicates == {"visible": [["b", "c"]], "both": [["e"]]}
    assert split.unpaired == [("infrared", "z")]
    assert split.modes == {"infrared": {"gray 8-bit": 3, "RGB 8-bit": 1}, "visible": {"RGB 8-bit": 5}}
    assert split.content_hash == find_pairs(load_card("TNO"), tmp_path).content_hash()
    assert seen == [(n, 5) for n in range(1, 6)]
    assert len(report.problems()) == 3
    json.dumps(dataclasses.asdict(report))


def test_check_of_labels(tmp_path):
    root = tmp_path / "samples"
    names = ["a", "b", "c", "d", "e", "f"]
    dataset(root, names)
    boxes = {
        "a": "0 0.5 0.5 0.2 0.2\n2 0.1 0.1 0.1 0.1\n",
        "b": "",
        "c": "0 0.5 0.5 0.2\n",
        "d": "7 0.5 0.5 0.2 0.2\n",
        "e": "0 1.5 0.5 0.2 0.2\n",
        "f": "0 nan 0.5 0.2 0.2\n",
    }
    (root / "detection_labels").mkdir()
    for stem, text in boxes.items():
        (root / "detection_labels" / f"{stem}.txt").write_text(text)
    for folder in ("Segmentation_labels", "salient"):
        (root / folder).mkdir()
    Image.fromarray(np.full((6, 8), 2, np.uint8)).save(root / "Segmentation_labels" / "a.png")
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(root / "Segmentation_labels" / "b.png")
    Image.fromarray(np.full((5, 8), 1, np.uint8)).save(root / "Segmentation_labels" / "c.png")
    image(root / "Segmentation_labels" / "d.png", colour=True)
    (root / "Segmentation_labels" / "e.png").write_bytes(b"no")
    for stem, value in {"a": 255, "b": 200, "c": 0}.items():
        Image.fromarray(np.full((6, 8), value, np.uint8)).save(root / "salient" / f"{stem}.png")
    labels = check_dataset(load_card("samples"), tmp_path).splits[0].labels
    assert [Path(p).stem for p, _ in labels["boxes"].malformed] == ["c", "d", "e", "f"]
    assert labels["boxes"].counts == {"person": 1, "car": 1}
    reasons = [reason for _, reason in labels["classes"].malformed]
    assert [r.split()[0] for r in reasons[:3]] == ["class", "is", "is"]
    assert len(reasons) == 4
    assert labels["classes"].missing == ["f"]
    assert labels["salient"].counts == {"binary": 1, "soft": 1, "empty": 1}


def test_palette_masks_are_read_as_indices(tmp_path):
    mask = Image.fromarray(np.full((3, 4), 5, np.uint8), "P")
    mask.putpalette([9, 9, 0] * 256)
    mask.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[5] * 4] * 3
    Image.fromarray(np.full((3, 4, 3), 5, np.uint8)).save(tmp_path / "three.png")
    assert read_mask(tmp_path / "three.png").tolist() == [[5] * 4] * 3


VOC = """<annotation><size><width>100</width><height>50</height><depth>3</depth></size>
<object><name>{name}</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>{xmax}</xmax><ymax>40</ymax></bndbox></object>
</annotation>"""


def test_voc_boxes(tmp_path):
    path = tmp_path / "a.xml"
    classes = load_card("M3FD").detection
    path.write_text(VOC.format(name="Lamp", xmax=30))
    assert read_boxes(path, "voc", classes) == [(3, 0.2, 0.6, 0.2, 0.4)]
    wrong = [VOC.format(name="Ship", xmax=30), VOC.format(name="Lamp", xmax=5), VOC.format(name="Lamp", xmax=300)]
    wrong += ["", "<a/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", VOC.format(name="Lamp", xmax="x")]
    for text in wrong:
        path.write_text(text)
        with pytest.raises(DataError, match=r"a\.xml"):
            read_boxes(path, "voc", classes)


def test_check_of_a_folder_with_two_files_of_one_stem_goes_on(tmp_path):
    dataset(tmp_path / "TNO", ["a"])
    image(tmp_path / "TNO" / "vi" / "a.jpg")
    dataset(tmp_path / "RoadScene", ["b"])
    reports = {card.name: check_dataset(card, tmp_path) for card in load_cards()}
    assert [report.dataset for report in reports.values()] == list(reports)
    assert "two files" in " ".join(reports["TNO"].problems())
    assert reports["RoadScene"].splits[0].pairs == 1
    assert not reports["MSRS"].present


# real data


REAL = [
    ("TNO", None, 25),
    ("RoadScene", None, 50),
    ("RoadScene", "test50", 50),
    ("MRI-CT", None, 21),
    ("MRI-PET", None, 42),
    ("MRI-SPECT", None, 24),
    ("MSRS", "test", 361),
    ("MSRS", None, 361),
    ("MSRS", "train", 54),
    ("M3FD", None, 5),
    ("M3FD", "detection", 5),
    ("VT5000", None, 16),
    ("VIFB", None, 21),
]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
@pytest.mark.parametrize(("name", "split", "count"), REAL)
def test_real_counts(name, split, count):
    found = find_pairs(load_card(name), SHARED, split)
    assert (len(found.pairs), found.unpaired) == (count, ())
    assert all(getattr(pair, role).is_file() for pair in found.pairs for role in ROLES)


WHOLE = SHARED.parent / "data221"


@pytest.mark.skipif(not WHOLE.is_dir(), reason="no ../shared/data221")
@pytest.mark.parametrize(("split", "count"), [(None, 221), ("test50", 50), ("s4fusion67", 67)])
def test_every_list_of_roadscene_names_pairs_that_the_whole_set_has(split, count):
    found = find_pairs(load_card("RoadScene"), WHOLE, split)
    assert (len(found.pairs), found.unpaired) == (count, ())


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
def test_real_check_finds_no_problems():
    reports = {card.name: check_dataset(card, SHARED) for card in load_cards()}
    assert sorted(n for n, r in reports.items() if r.present) == sorted({name for name, _, _ in REAL})
    assert [line for r in reports.values() for line in r.problems()] == []
    msrs = {s.split: s for s in reports["MSRS"].splits}
    assert (msrs["test"].hidden_files, msrs["test"].complete, msrs["train"].complete) == (2, True, False)
    assert msrs["train"].labels["classes"].present == 54
    assert msrs["test"].labels["boxes"].present == 361
    # each PET slice lies there twice, beside two MRI slices
    assert len(reports["MRI-PET"].splits[0].duplicates["visible"]) == 21


@pytest.mark.parametrize(
    ("root", "dataset", "split"),
    [
        ("data", "TNO", None),
        ("data", "RoadScene", "test50"),
        ("data221", "RoadScene", "test50"),
        ("data221", "RoadScene", "s4fusion67"),
        ("data221", "RoadScene", None),
        ("data", "MSRS", "test"),
        ("data", "MRI-CT", None),
        ("data", "MRI-PET", None),
        ("data", "MRI-SPECT", None),
        ("data", "VIFB", None),
    ],
)
def test_a_card_knows_the_content_of_the_pairs_at_hand(root, dataset, split):
    folder = SHARED.parent / root
    if not folder.is_dir():
        pytest.skip(f"no ../shared/{root}")
    card = load_card(dataset)
    pairs = find_pairs(card, folder, split)
    assert not pairs.unpaired
    assert len(pairs.pairs) == card.expected(split)
    assert pairs.content_hash() == card.content_of(split)
