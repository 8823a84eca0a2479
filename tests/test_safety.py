"""What others may put before evalkit: bombs, links, pipes, names, YAML, JSON and checkpoints that mean harm."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import make_tno, textured
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from evalkit.data.card import load_card
from evalkit.data.hashes import file_hash
from evalkit.data.images import png_text, read_image, write_png
from evalkit.data.pairs import find_pairs, image_files, resolve
from evalkit.errors import DataError, EvalkitError, ImageError
from evalkit.files.names import file_name, from_cell, printable, to_cell
from evalkit.files.read import parse_json, parse_yaml, read_file
from evalkit.leaderboards.image_scores import read_scores
from evalkit.methods.registry import check_name
from evalkit.metrics.evaluate import Scores
from evalkit.metrics.folders import evaluate_folder, scores_csv
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.export import FORMATS
from evalkit.protocols.table.published import is_number, read_rows
from evalkit.protocols.table.table import Table, read_table
from evalkit.records.per_image import read_per_image
from evalkit.records.store import ScoreFile


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


# images


def test_the_limit_on_pixels_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png_header(20_000, 20_000))
    with pytest.raises(ImageError, match=r"claims 400000000 pixels, more than the limit of 100000000.*=400000000"):
        read_image(file)
    monkeypatch.setenv("EVALKIT_MAX_PIXELS", "400000000")
    with pytest.raises(ImageError, match="is damaged"):  # it may be decoded now, and has no pixels
        read_image(file)
    write_png(file, textured(1))
    monkeypatch.setenv("EVALKIT_MAX_PIXELS", "100")
    with pytest.raises(ImageError, match="claims 64x48 pixels, more than the limit of 100"):
        read_image(file)
    monkeypatch.setenv("EVALKIT_MAX_PIXELS", "1e9")
    with pytest.raises(ImageError, match="EVALKIT_MAX_PIXELS is '1e9', expected a number of pixels"):
        read_image(file)


@pytest.mark.parametrize("form", ["TIFF", "PNG"])
def test_pages_and_animations_are_refused(tmp_path: Path, form: str) -> None:
    pages = [Image.fromarray(textured(i)) for i in range(2)]
    file = tmp_path / "a.png"
    pages[0].save(file, form, save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="holds several images"):
        read_image(file)


def test_a_bomb_in_a_text_chunk_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    text = PngImagePlugin.PngInfo()
    text.add_text("evalkit", "x" * 50_000_000, zip=True)
    Image.fromarray(textured(1)).save(file, pnginfo=text)
    assert file.stat().st_size < 200_000
    assert png_text(file) == {}
    with pytest.raises(ImageError, match="is damaged"):
        read_image(file)


def test_a_file_larger_than_its_pixels_could_be_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.tif"
    with file.open("wb") as sparse:
        sparse.truncate(2**40)  # a terabyte of nothing
    with pytest.raises(ImageError, match="more than the limit of"):
        read_image(file)


# files that are none


def test_pipes_devices_and_circles_of_links_end_nothing(tmp_path: Path) -> None:
    make_tno(tmp_path, 3)
    folder = tmp_path / "TNO" / "ir"
    os.mkfifo(folder / "04.png")
    (folder / "05.png").symlink_to("05.png")
    (folder / "06.png").symlink_to("/dev/zero")
    (folder / "all").symlink_to(tmp_path, target_is_directory=True)
    assert [pair.stem for pair in find_pairs(load_card("TNO"), tmp_path).pairs] == ["01", "02", "03"]
    for call in (read_image, file_hash, read_file):
        for name in ("04.png", "06.png"):
            with pytest.raises(DataError, match="not a file"):
                call(folder / name)
        with pytest.raises(DataError):
            call(folder / "05.png")


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u202egnp", b"caf\xe9"])
def test_names_that_break_lines_or_hide_letters_are_refused(tmp_path: Path, name: str | bytes) -> None:
    write_png(tmp_path / "ok.png", textured(1))
    with open(os.path.join(os.fsencode(tmp_path), os.fsencode(name) + b".png"), "wb"):
        pass
    with pytest.raises(DataError, match="Rename it") as caught:
        image_files(tmp_path)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_names_of_methods_stay_in_their_folder() -> None:
    for name in ("..", ".", "../../x", "/etc/passwd", "a/b", "a\\b", "\x00", ".ssh", "c:x"):
        made = file_name(name)
        assert not set(made) & set('/\\:*?"<>|\0')
        assert not made.startswith(".")
    assert file_name("w/o Mask") == "w-o Mask"
    long = [file_name(text) for text in ("x" * 300, "x" * 301, "\u4e00" * 200, "\ud800" * 200)]
    assert len(set(long)) == 4
    assert all(len(name.encode()) <= 100 for name in long)
    with pytest.raises(EvalkitError, match="more than 100 bytes"):
        check_name("x" * 101)


def test_a_name_that_no_folder_can_have_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "TNO").mkdir()
    assert resolve(tmp_path, "tno") == tmp_path / "TNO"
    for name in ("x" * 300, "tno/" + "x" * 300, "a\0b", "../TNO", "ir"):
        assert resolve(tmp_path, name) is None


# what is written


@given(st.text(max_size=8))
@example("=1+1")
@example("'=1")
@example("''-x")
@example("\tx")
def test_a_cell_is_never_a_formula_and_comes_back(text: str) -> None:
    assert not to_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_cell(to_cell(text)) == text


def test_no_csv_of_ours_holds_a_formula(tmp_path: Path) -> None:
    stems = ["=cmd|'x'!A1", "+1", "-1", "@SUM(A1)", "'=a"]
    for folder, seed in (("f", 1), ("ir", 2), ("vi", 3)):
        for i, stem in enumerate(stems):
            write_png(tmp_path / folder / f"{stem}.png", textured(10 * seed + i))
    frame = evaluate_folder(tmp_path / "f", tmp_path / "ir", tmp_path / "vi", ["EN"], "smfnet", workers=1)
    frame = frame.rename(columns={"EN": "EN[smfnet]"})
    file = tmp_path / "scores.csv"
    file.write_text(scores_csv(frame), encoding="utf-8", newline="")
    assert sorted(read_scores(file).index) == sorted(stems)
    own = ScoreFile(tmp_path / "own.csv", ["EN"])
    keys = dict.fromkeys(stems, "k")
    for stem in stems:
        own.append(stem, "k", Scores({"EN": 1.5}))
    own.finish(own.read(keys), keys)
    assert list(read_per_image(own.path).rows) == stems
    assert list(own.read(keys)) == stems
    table = Table("p", "t", "s", "smfnet", "", [Column("EN", "higher", "smfnet")])
    table.cells = [Cell("=1+1", stem, "EN", None, "-3.9", 1, "missing", "@x") for stem in stems]
    for text in (file.read_text(), own.path.read_text(), FORMATS["csv"][1](table)):
        for row in list(csv.reader(io.StringIO(text)))[1:]:
            for cell in row:
                assert is_number(cell) or not cell.startswith(("=", "+", "-", "@", "\t")), cell


HOSTILE = r"""[x]<script>alert(1)</script>"'&|`$\input{/etc/passwd}#%_^~{}"""


def test_names_are_only_text_in_every_table() -> None:
    table = Table(HOSTILE, HOSTILE, HOSTILE, "smfnet", f"{HOSTILE}\n\\end", [Column("EN", "higher", "smfnet")])
    table.cells = [
        Cell(HOSTILE, HOSTILE, "EN", 1.5, "1.5", 1, "equal"),
        Cell(HOSTILE, "b", "EN", None, None, 1, "missing", HOSTILE),
    ]
    page = FORMATS["html"][1](table)
    assert "<script" not in page
    assert "onerror" not in page.replace("&quot;", '"') or "<img" not in page
    latex = FORMATS["latex"][1](table)
    body = [line for line in latex.splitlines() if not line.startswith("%")]
    assert not any("\\input{/etc" in line or "$\\input" in line for line in body)
    assert not any(line.startswith("[") for line in body)  # after \\ it would be an option
    assert not any(line.startswith("\\end") and not line.startswith("\\end{") for line in body)
    markdown = FORMATS["markdown"][1](table)
    assert "<script" not in markdown.replace("\\<", "")


def test_a_terminal_is_not_written_over() -> None:
    assert printable("a\x1b[2J\u202eb\n\tc\udce9") == "a\\x1b[2J\\u202eb\n\tc\\udce9"
    assert printable("Über 🙂 ≥") == "Über 🙂 ≥"


# YAML and JSON

BILLION = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BILLION, "aliases stand for more"),
        ("&a [*a]", "contains itself"),
        ("[" * 20_000, "nested too deeply"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 0x" + "f" * 40, "more than 63 bits"),
        ("a: 2001-99-99", "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("!!python/object/apply:os.system ['touch x']", "not valid YAML"),
        ("a: 1\na: 2", "'a' is there twice"),
        ("x" * (2**20 + 1), "more than the limit"),
        ("\0", "not valid YAML"),
        ('a: [{"\\ud800": 1}]', "not valid YAML"),
        ('a: "\\ud800"', "not valid YAML"),
    ],
)
def test_yaml_is_read_within_limits(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_yaml(text, "this file")


def test_plain_yaml_is_read() -> None:
    assert parse_yaml("a: &x [1, 2.5]\nb: {c: *x, <<: {d: null}}", "") == {
        "a": [1, 2.5],
        "b": {"c": [1, 2.5], "d": None},
    }
    assert parse_yaml("", "") is None


@pytest.mark.parametrize(
    "text", ["NaN", '{"a": Infinity}', '{"a": 1e999}', '{"a": 1, "a": 2}', "[" * 100_000, "9" * 5000, '"\\u12"', ""]
)
def test_json_is_read_strictly(text: str) -> None:
    with pytest.raises(DataError, match="is not readable JSON"):
        parse_json(text, "this file")


def test_a_recipe_that_wants_all_memory_is_refused(tmp_path: Path) -> None:
    from importlib import resources

    from evalkit.training.find_recipe import parse, recipes

    text = resources.files("evalkit.training").joinpath("recipes", "SMFNet-small.yaml").read_text()
    assert parse(text, "a.yaml").method == "SMFNet"
    assert recipes()  # the limits leave room for every recipe of the papers
    for change, says in (
        ("\nbatch: 1000000000\n", "batch"),
        ("\nnetwork: {width: 1000000000}\n", "beyond 4096"),
        ("\nnetwork: {a: [[1, 2, {b: .inf}]]}\n", "beyond 4096"),
        ("\naugment: {crop: 1000000}\n", "augment.crop"),
    ):
        key = change.split(":")[0].strip()
        kept = "\n".join(block for block in text.split("\n") if not block.startswith(f"{key}:"))
        with pytest.raises(DataError, match=says):
            parse(kept + change, "a.yaml")


@pytest.mark.parametrize("printed", ["0." + "9" * 5004, "1e-99999999", "1e9999", "٣.5", "=1+1", "1_000"])
def test_a_printed_number_is_one_that_a_table_could_print(printed: str) -> None:
    assert is_number("46.001")
    assert is_number("1e-3")
    with pytest.raises(DataError, match="is not a number"):
        read_rows(f"method,metric,printed\nA,EN,{printed}\n", "a.csv")


# checkpoints


def test_weights_whose_recipe_claims_another_size_get_no_memory(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from evalkit.methods.checkpoints import CheckpointError
    from evalkit.training.find_recipe import recipes
    from evalkit.training.state import save_weights
    from evalkit.training.system import build_system
    from evalkit.training.trained import trained_method

    recipe = recipes()["SMFNet-small"]
    state = build_system(recipe).network.state_dict()
    save_weights(tmp_path / "good.safetensors", state, recipe, {})
    method = trained_method(tmp_path / "good.safetensors", "SMFNet")
    assert method is not None
    assert {key: value.shape for key, value in method.build().state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    huge = recipe.model_copy(update={"network": {**recipe.network, "width": 4096}})
    save_weights(tmp_path / "huge.safetensors", state, huge, {})
    with pytest.raises(CheckpointError, match="of another shape"):
        trained_method(tmp_path / "huge.safetensors", "SMFNet")
    del torch


def test_every_trained_network_can_be_measured_before_it_is_built(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    from evalkit.training.find_recipe import recipes
    from evalkit.training.state import save_weights
    from evalkit.training.system import build_system
    from evalkit.training.trained import trained_method

    for recipe in (r for r in recipes().values() if r.name == "small"):
        save_weights(tmp_path / "w.safetensors", build_system(recipe).network.state_dict(), recipe, {})
        assert trained_method(tmp_path / "w.safetensors", recipe.method) is not None


def test_checkpoints_that_claim_what_they_do_not_hold(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from evalkit.methods.checkpoints import CheckpointError, read_checkpoint

    repeated = tmp_path / "repeated.pth"
    torch.save({"a": torch.zeros(1).expand(10**12)}, repeated)
    assert repeated.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="with fewer values"):
        read_checkpoint(repeated)
    good, packed = tmp_path / "good.pth", tmp_path / "packed.pth"
    torch.save({"a": torch.zeros(1000)}, good)
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert read_checkpoint(good)["a"].shape == (1000,)
    with pytest.raises(CheckpointError, match="is compressed"):
        read_checkpoint(packed)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    for data in (struct.pack("<Q", len(header)) + header, struct.pack("<Q", 2**63) + header):
        (tmp_path / "a.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match="is damaged"):
            read_checkpoint(tmp_path / "a.safetensors")


# tables and journals


def test_a_table_from_elsewhere_leads_to_no_other_folder(tmp_path: Path) -> None:
    from evalkit.leaderboards.image_scores import RunScores

    table = Table("p", "t", "s", "smfnet", "", [Column("EN", "higher", "smfnet")])
    table.cells = [Cell("../../x", "../y", "EN", 1.0, None, 1, "unpublished")]
    table.write(tmp_path)
    run = RunScores(tmp_path)
    assert run.file("../../x", "../y").resolve().is_relative_to(tmp_path / "scores")
    assert read_table(tmp_path).cells == table.cells
    fields = json.loads((tmp_path / "table.json").read_text())
    changes: list[dict] = [{"cells": 3}, {"pairs": {"a": []}}]
    changes += [{"cells": [{**fields["cells"][0], "published": text}]} for text in ("\\input", "")]
    changes += [{"layout": {"rows": axes, "header": ["metric"]}} for axes in (["../x"], ["metric"])]
    for change in changes:
        (tmp_path / "table.json").write_text(json.dumps(fields | change))
        with pytest.raises(EvalkitError, match="cannot be read"):
            read_table(tmp_path)


def test_a_journal_that_ends_in_zeros_keeps_its_rows(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path / "a.csv", ["EN"])
    for stem in ("a", "b"):
        file.append(stem, "k", Scores({"EN": 1.5}))
    with file.journal.open("ab") as journal:
        journal.write(b"\0" * 4096)  # what a file system leaves where power was lost
    assert list(file.read(dict.fromkeys("ab", "k"))) == ["a", "b"]
    file.append("c", "k", Scores({"EN": 2.5}))
    assert sorted(file.read(dict.fromkeys("abc", "k"))) == ["a", "b", "c"]


def test_written_files_have_the_rights_of_the_folder_not_more(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    assert not stat.S_IMODE((tmp_path / "a.png").stat().st_mode) & 0o111
