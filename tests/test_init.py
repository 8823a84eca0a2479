"""`evalkit init`: data sets and fused images are found from names of files, in every layout, and nothing is guessed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evalkit.cli import main
from evalkit.data.discover import discover
from evalkit.data.patterns import parse_pattern
from evalkit.data.tree import read_tree
from evalkit.files.names import look
from evalkit.methods.layouts import Layouts, Target, find_layouts, pattern_hint
from evalkit.protocols.draft import draft_benchmark
from evalkit.protocols.schema import read_protocol

SHARED = Path(__file__).resolve().parents[2] / "shared"
TNO = [f"{i:02}" for i in range(1, 26)]
ROAD = [f"FLIR_{i:05}" for i in range(211, 231)]
SETS = {"TNO": TNO, "RoadScene": ROAD}
METHODS = ("CDDFuse", "Ours", "Avg")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def lay(root: Path, layout: str, sets: dict[str, list[str]], methods: tuple[str, ...] = METHODS) -> None:
    """Empty files as the layout says: m, d, s stand for method, data set, stem; n for the stem as a number."""
    for m in methods:
        for d, stems in sets.items():
            touch(root, *(layout.format(m=m, d=d, s=s, n=int(s) if s.isdecimal() else s) for s in stems))


def look_at(root: Path, sets: dict[str, list[str]]) -> Layouts:
    layouts = find_layouts(root, {name: Target(frozenset(stems)) for name, stems in sets.items()})
    for one in layouts.taken.values():  # a pattern that is taken gives the very files that it was made from
        files = parse_pattern(one.pattern).fill(method=one.method, dataset=one.dataset).listing(root)[0]
        assert {stem: str(path.relative_to(root)) for stem, path in files.items() if stem in one.files} == one.files
    return layouts


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("layout", "general"),
    [
        ("{m}/{d}/{s}.png", "{method}/{dataset}/{stem}"),
        ("{m}/{d}/{s}_fused.png", "{method}/{dataset}/{stem}_fused"),
        ("{m}/{d}/{s}_fused.PNG", "{method}/{dataset}/{stem}_fused"),
        ("{m}/{d}/fused_{s}.bmp", "{method}/{dataset}/fused_{stem}"),
        ("{m}/{d}/{m}_{s}.png", "{method}/{dataset}/{method}_{stem}"),
        ("{m}/{d}/{s}_{m}.png", "{method}/{dataset}/{stem}_{method}"),
        ("{m}/{d}/results/epoch100/{s}.png", "{method}/{dataset}/results/epoch100/{stem}"),
        ("{m}/results/epoch100/{d}/{s}.png", "{method}/results/epoch100/{dataset}/{stem}"),
        ("results/epoch100/{m}/{d}/{s}.png", "results/epoch100/{method}/{dataset}/{stem}"),
        ("ablation/{m}/{d}/{s}.png", "ablation/{method}/{dataset}/{stem}"),
        ("{d}/{m}/{s}.png", "{dataset}/{method}/{stem}"),
        ("{d}/{m}/{s}_fused.jpg", "{dataset}/{method}/{stem}_fused"),
        ("{m}_{d}/{s}.png", "{method}_{dataset}/{stem}"),
        ("{d}_{m}/{s}.png", "{dataset}_{method}/{stem}"),
        ("{m}-{d}/{s}.png", "{method}-{dataset}/{stem}"),
        ("{d}/{m}_{s}.png", "{dataset}/{method}_{stem}"),
        ("{m}_{d}_{s}.png", "{method}_{dataset}_{stem}"),
        ("{m}/{s}.png", "{method}/{stem}"),
        ("{m}/{d}/{s}/fused.png", "{method}/{dataset}/{stem}/fused"),
        ("{m}/{d}/{s}/{s}_fused.png", "{method}/{dataset}/{stem}/{stem}_fused"),
        ("{d}/{s}/{m}.png", "{dataset}/{stem}/{method}"),
    ],
)
def test_every_layout_is_understood(tmp_path: Path, layout: str, general: str) -> None:
    lay(tmp_path / "outputs", layout, SETS)
    layouts = look_at(tmp_path / "outputs", SETS)
    assert {row: one.general for row, one in layouts.taken.items()} == {
        (method, dataset): general for method in METHODS for dataset in SETS
    }
    assert all(set(one.files) == set(SETS[one.dataset]) for one in layouts.taken.values())
    assert (layouts.undecided, layouts.left, layouts.sources) == ((), {}, {})
    hint = pattern_hint(tmp_path / "outputs", "ours", "tno", TNO)
    assert ("" if general == "{method}/{dataset}/{stem}" else f"like {general} (") in hint


@pytest.mark.parametrize("layout", ["{m}/{s}.png", "{m}_{s}.png", "{s}/{m}.png", "results/{m}/{s}_out.png"])
def test_one_data_set_needs_no_folder(tmp_path: Path, layout: str) -> None:
    lay(tmp_path, layout, {"TNO": TNO})
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert list(layouts.taken) == [(method, "TNO") for method in sorted(METHODS, key=str.casefold)]
    assert not layouts.undecided
    assert not layouts.left


@pytest.mark.parametrize("layout", ["{d}/{s}.png", "{d}/{s}_fused.png", "results/{d}/{s}.png"])
def test_a_folder_of_one_method_names_it(tmp_path: Path, layout: str) -> None:
    lay(tmp_path / "MyNet", layout, SETS, ("",))
    assert list(look_at(tmp_path / "MyNet", SETS).taken) == [("MyNet", "TNO"), ("MyNet", "RoadScene")]


def test_registered_methods_are_spelled_as_registered_and_others_as_their_folders(tmp_path: Path) -> None:
    lay(tmp_path, "{m}/tno/{s}.png", {"TNO": TNO}, ("cddfuse", "avg", "U2FUSION_results", "LP"))
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert layouts.methods == ["avg", "CDDFuse", "LP", "U2Fusion"]
    assert layouts.taken["CDDFuse", "TNO"].plain
    assert layouts.taken["avg", "TNO"].plain


def test_registered_names_are_found_at_any_level(tmp_path: Path) -> None:
    lay(tmp_path, "Tang-TNO/{m}/{s}.png", {"TNO": TNO[:3]}, ("PMGI", "U2Fusion"))
    lay(tmp_path, "CDDFuse/{d}/{s}.png", SETS, ("",))
    layouts = look_at(tmp_path, SETS)
    assert {row: len(one.files) for row, one in layouts.taken.items()} == {
        ("CDDFuse", "TNO"): 25,
        ("CDDFuse", "RoadScene"): 20,
        ("PMGI", "TNO"): 3,
        ("U2Fusion", "TNO"): 3,
    }


def test_zeros_in_front(tmp_path: Path) -> None:
    numbers = [str(i) for i in range(1, 121)]
    lay(tmp_path / "padded", "{m}/{d}/{n:05}.png", {"Harbour": numbers})
    lay(tmp_path / "short", "{m}/{d}/{n:02}_f.png", {"Harbour": numbers})
    for folder, pattern in (("padded", "{stem:05}"), ("short", "{stem:02}_f")):
        layouts = look_at(tmp_path / folder, {"Harbour": numbers})
        assert {one.general for one in layouts.taken.values()} == {f"{{method}}/{{dataset}}/{pattern}"}
        assert all(len(one.files) == 120 for one in layouts.taken.values())


def test_other_zeros_than_the_data_set_are_said(tmp_path: Path) -> None:
    lay(tmp_path, "{m}/{d}/{n}.png", {"TNO": TNO}, ("Ours",))
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert not layouts.taken
    assert "25 files such as Ours/TNO/1.png have other zeros in front" in layouts.undecided[0].text
    assert "rename them" in pattern_hint(tmp_path, "Ours", "TNO", TNO)


def test_two_epochs_are_both_shown_and_none_is_taken(tmp_path: Path) -> None:
    lay(tmp_path, "Ours/{m}/{s}.png", {"TNO": TNO}, ("epoch50", "epoch100"))
    lay(tmp_path, "CDDFuse/TNO/{s}.png", {"TNO": TNO}, ("",))
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert list(layouts.taken) == [("CDDFuse", "TNO")]
    (both,) = layouts.undecided
    assert {one.pattern for one in both.readings} == {"Ours/epoch50/{stem}", "Ours/epoch100/{stem}"}
    assert "Ours/epoch50/01.png" in both.text
    assert "Ours/epoch100/01.png" in both.text
    hint = pattern_hint(tmp_path, "Ours", "TNO", TNO)
    assert "{method}/epoch50/{stem}" in hint
    assert "{method}/epoch100/{stem}" in hint
    assert "--name" in hint


def test_data_sets_of_the_same_stems_are_told_by_folders_or_not_at_all(tmp_path: Path) -> None:
    sets = {"TNO": TNO, "Harbour": TNO}
    lay(tmp_path / "told", "{m}/{d}/{s}.png", sets)
    lay(tmp_path / "untold", "{m}/{s}.png", {"": TNO})
    assert len(look_at(tmp_path / "told", sets).taken) == 6
    layouts = look_at(tmp_path / "untold", sets)
    assert not layouts.taken
    assert [some.text for some in layouts.undecided if "Ours/01.png fit Harbour and TNO alike" in some.text]
    assert {one.dataset for some in layouts.undecided for one in some.readings} == {"TNO", "Harbour"}


def test_a_folder_of_another_data_set_is_not_taken_for_one_of_the_same_stems(tmp_path: Path) -> None:
    lay(tmp_path, "Ours/{m}/{s}.png", {"": TNO}, ("TNO", "LLVIP", "night"))
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert layouts.taken["Ours", "TNO"].pattern == "Ours/{dataset}/{stem}"
    assert layouts.left["Ours/LLVIP"] == (
        tuple(f"{s}.png" for s in TNO),
        "of LLVIP, which is not among the data sets here",
    )
    assert len(layouts.left["Ours/night"][0]) == 25


def test_what_is_not_understood_is_counted_by_folder(tmp_path: Path) -> None:
    lay(tmp_path, "Ours/TNO/{s}.png", {"TNO": TNO[:20]}, ("",))
    touch(tmp_path, "plots/fig_1.png", "plots/fig_2.png", "plots/loss.png", "log.txt", "Ours/TNO/montage.png")
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert {folder: names for folder, (names, _) in layouts.left.items()} == {
        "plots": ("fig_1.png", "fig_2.png", "loss.png"),
        "Ours/TNO": ("montage.png",),
    }
    assert len(layouts.taken["Ours", "TNO"].files) == 20
    assert layouts.others == 1


def test_source_images_beside_fused_ones_are_passed_over(tmp_path: Path) -> None:
    for kind in ("_ir", "_vi", "_fused"):
        lay(tmp_path, "Ours/TNO/{s}" + kind + ".png", {"TNO": TNO}, ("",))
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert layouts.taken["Ours", "TNO"].pattern == "Ours/{dataset}/{stem}_fused"
    assert layouts.sources == {"Ours/TNO": 50}
    assert not layouts.left
    assert not layouts.undecided


def test_two_kinds_of_files_of_the_same_names_are_two_readings(tmp_path: Path) -> None:
    for ending in (".png", ".jpg"):
        lay(tmp_path, "Ours/TNO/{s}" + ending, {"TNO": TNO}, ("",))
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert {one.pattern for one in layouts.undecided[0].readings} == {
        "Ours/{dataset}/{stem}.png",
        "Ours/{dataset}/{stem}.jpg",
    }


def test_files_of_one_name_in_two_cases_are_said(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Ours/{name}" for name in ("x.png", "x.PNG", "y.png", "z.png")))
    for stems in (["x", "y", "z"], ["y", "z"]):  # also where the doubled name is of no scene: no pattern passes it by
        layouts = look_at(tmp_path, {"TNO": stems})
        assert not layouts.taken
        assert "x.PNG and Ours/x.png" in layouts.undecided[0].text


def test_links_in_circles_odd_names_and_depth_have_an_end(tmp_path: Path) -> None:
    lay(tmp_path, "Ours/TNO/{s}.png", {"TNO": TNO}, ("",))
    (tmp_path / "Ours/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "Linked").symlink_to(tmp_path / "Ours/TNO", target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    touch(tmp_path, "a\nb/01.png", "Ours/odd/x\x1b[2J.png", "/".join("d" * 20) + "/01.png")
    os.mkdir(os.fsencode(tmp_path) + b"/Ours/\xff")
    layouts = look_at(tmp_path, {"TNO": TNO})
    assert list(layouts.taken) == [("Linked", "TNO"), ("Ours", "TNO")]
    notes = "\n".join(layouts.notes)
    assert "control character" in notes
    assert "no UTF-8" in notes
    assert "folders deep" in notes


def test_what_is_looked_at_is_bounded_and_the_same_every_time(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i % 7}/{i}.png" for i in range(200)))
    trees = [read_tree(tmp_path, most=60) for _ in range(2)]
    assert trees[0] == trees[1]
    assert sum(len(branch.images) for branch in trees[0].branches) <= 60
    assert "only the first 60" in "".join(trees[0].notes)


NAME = (
    st.text("abcXYZ019é{}*+#&,:'\"[]-_ ", min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda text: text.strip("-_. ") == text and any(c.isalpha() for c in text))
)


@settings(max_examples=80, deadline=None)
@given(
    methods=st.lists(NAME, min_size=2, max_size=3, unique_by=look),
    order=st.sampled_from(["{m}/{d}", "{d}/{m}", "{m}/deep/{d}", "results/{m}/{d}", "{d}/{m}/epoch7"]),
    name=st.sampled_from(["{s}", "{s}_fused", "fused_{s}", "{s}/fused", "{s}/{s}_out"]),
    ending=st.sampled_from([".png", ".PNG", ".tif"]),
    lengths=st.tuples(st.integers(2, 30), st.integers(2, 30)),
    padded=st.booleans(),
)
def test_random_layouts_are_found_again(tmp_path_factory, methods, order, name, ending, lengths, padded):
    sets = {
        "TNO": [f"{i:02}" if padded else str(i) for i in range(1, lengths[0] + 1)],
        "Harbour": [f"h{i}" for i in range(lengths[1])],
    }
    assume(not {look(method) for method in methods} & {"tno", "harbour", "deep", "results"})
    root = tmp_path_factory.mktemp("outputs")
    lay(root, f"{order}/{name}{ending}".replace("{m}", "{{m}}").replace("{{m}}", "{m}"), sets, tuple(methods))
    layouts = look_at(root, sets)
    read = {
        row: set(one.files)
        for row, one in [
            *layouts.taken.items(),
            *(((one.method, one.dataset), one) for some in layouts.undecided for one in some.readings),
        ]
    }
    # nothing is lost, nothing is added: what is taken is right, and what is not is shown or counted
    for (method, dataset), stems in read.items():
        assert stems <= set(sets[dataset]), (method, dataset)
    counted = sum(len(names) for names, _ in layouts.left.values()) + sum(layouts.sources.values())
    every = len(methods) * sum(lengths)
    assert sum(map(len, read.values())) + counted >= every
    ordinary = [method for method in methods if method.isalnum() and not any(c.isdigit() for c in method)]
    for method in ordinary:
        assert {d: stems for (m, d), stems in read.items() if m.casefold() == method.casefold()} == {
            d: set(stems) for d, stems in sets.items()
        }


# data sets


def data_of(root: Path, *names: str, count: int = 12) -> object:
    for name in names:
        touch(root, *(name.format(s=f"{i:03}", n=i) for i in range(1, count + 1)))
    return discover(root)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("TNO/ir/{s}.png", "TNO/vi/{s}.png"), ("TNO", "", "", "")),
        (("TNO/thermal/{s}.png", "TNO/rgb/{s}.png"), ("TNO", "TNO", "thermal/{stem}", "rgb/{stem}")),
        (("h/thermal/IR_{s}.jpg", "h/rgb/VIS_{s}.jpg"), ("h", "h", "thermal/IR_{stem}", "rgb/VIS_{stem}")),
        (("thermal/IR_{s}.JPG", "rgb/VIS_{s}.PNG"), ("pairs", ".", "thermal/IR_{stem}", "rgb/VIS_{stem}")),
        (("h/lwir/{s}_lwir.tif", "h/RGB/{s}_rgb.png"), ("h", "h", "lwir/{stem}_lwir", "RGB/{stem}_rgb")),
        (("h/ir/{n}.png", "h/vi/{s}.png"), ("h", "h", "ir/{stem}", "vi/{stem:03}")),
        (("h/infrared/{s}.png", "h/visible/{s}.png"), ("h", "h", "infrared/{stem}", "visible/{stem}")),
        (("a/b/h/tir/{s}.png", "a/b/h/vis/{s}.png"), ("h", "a/b/h", "tir/{stem}", "vis/{stem}")),
        (("h/{s}_ir.png", "h/{s}_vi.png"), ("h", "h", "{stem}_ir", "{stem}_vi")),
        (("IR{n}.png", "VIS{n}.png"), ("pairs", ".", "IR{stem}", "VIS{stem}")),
        (("h/{s}/ir.png", "h/{s}/vi.png"), ("h", "h", "{stem}/ir", "{stem}/vi")),
        (("h/{s}/{s}_ir.png", "h/{s}/{s}_vi.png"), ("h", "h", "{stem}/{stem}_ir", "{stem}/{stem}_vi")),
        (("h/ir/{s}.png", "h/images/{s}.png", "h/labels/{s}.png"), ("h", "h", "ir/{stem}", "images/{stem}")),
        (("x_ir/{s}.png", "x_vi/{s}.png"), ("x", ".", "x_ir/{stem}", "x_vi/{stem}")),
    ],
)
def test_a_data_set_is_found(tmp_path: Path, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    discovery = data_of(tmp_path / "pairs", *names)
    (one,) = discovery.taken
    assert (one.name, one.root, one.infrared, one.visible) == expected
    assert len(one.stems) == 12
    assert not one.alone
    assert not discovery.unclear


def test_several_data_sets_and_their_parts(tmp_path: Path) -> None:
    discovery = data_of(
        tmp_path,
        *(f"A/{part}/{role}/{{s}}.png" for part in ("train", "test") for role in ("ir", "vi")),
        *(f"B/{role}/{part}/{{s}}.png" for part in ("train", "test") for role in ("thermal", "rgb")),
        *("C_ir/{s}.png", "C_vi/{s}.png", "D_ir/{s}.png", "D_vi/{s}.png"),
    )
    assert [(one.name, one.root) for one in discovery.taken] == [("A", "A/test"), ("B", "B"), ("C", "."), ("D", ".")]
    assert [one.name for one in discovery.aside] == ["A-train", "B-train"]
    assert not discovery.unclear
    assert not discovery.left


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        (("h/a/{s}.png", "h/b/{s}.png"), {("a/{stem}", "b/{stem}"), ("b/{stem}", "a/{stem}")}),
        (("h/{s}_a.png", "h/{s}_b.png"), {("{stem}_a", "{stem}_b"), ("{stem}_b", "{stem}_a")}),
        (
            ("h/ir/{s}.png", "h/vi_small/{s}.png", "h/vi_large/{s}.png"),
            {("ir/{stem}", "vi_small/{stem}"), ("ir/{stem}", "vi_large/{stem}")},
        ),
        (("h/ir/{s}.png", "h/sharp/{s}.png"), {("ir/{stem}", "sharp/{stem}"), ("sharp/{stem}", "ir/{stem}")}),
        (
            ("north_ir/{s}.png", "south_vi/{s}.png"),
            {("north_ir/{stem}", "south_vi/{stem}"), ("south_vi/{stem}", "north_ir/{stem}")},
        ),
        (
            ("h/ir/{s}.png", "h/vi/{s}.png", "h/vi/{s}.jpg"),
            {("ir/{stem}", "vi/{stem}.png"), ("ir/{stem}", "vi/{stem}.jpg")},
        ),
    ],
)
def test_where_names_do_not_tell_every_reading_is_shown(
    tmp_path: Path, names: tuple[str, ...], patterns: set[tuple[str, str]]
) -> None:
    discovery = data_of(tmp_path, *names)
    assert not discovery.taken
    (some,) = discovery.unclear
    assert {(one.infrared, one.visible) for one in some.readings} == patterns
    assert all((tmp_path / file).is_file() for one in some.readings for file in one.example)


def test_images_that_lie_in_one_folder_with_the_fused_ones(tmp_path: Path) -> None:
    """A project folder that is DATA and OUTPUTS, or has one within the other."""
    for role in ("ir", "vi"):
        touch(tmp_path, *(f"{role}/{s}.png" for s in TNO))
    lay(tmp_path / "results", "{m}/{s}.png", {"": TNO})
    for data, outputs in (("", ""), ("", "results"), ("ir/..", "results/../results")):
        draft = draft_benchmark(tmp_path / "b.yaml", tmp_path / data, tmp_path / outputs)
        assert [len(one.stems) for one in draft.measured] == [25], (data, outputs)
        assert draft.layouts is not None
        assert draft.layouts.methods == ["Avg", "CDDFuse", "Ours"]
        assert not draft.open


def test_fewer_files_of_the_same_names_are_a_reading_too(tmp_path: Path) -> None:
    sets = {"Harbour": [f"{i:03}" for i in range(1, 13)], "Quay": [f"{i:03}" for i in range(1, 101)]}
    touch(tmp_path, *(f"Ours/img_{s}.png" for s in sets["Harbour"]))
    layouts = look_at(tmp_path, sets)
    assert not layouts.taken
    assert {one.dataset for one in layouts.undecided[0].readings} == {"Harbour", "Quay"}


def test_a_folder_named_as_the_split_that_holds_other_images_is_not_read(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Ours/M/{s}.png" for s in ROAD), "Ours/M/test/a.png", "Ours/M/test/b.png")
    layouts = find_layouts(tmp_path, {"M": Target(frozenset(ROAD), (), "test")})
    assert not layouts.taken["Ours", "M"].plain
    layouts = find_layouts(tmp_path, {"M": Target(frozenset(ROAD), (), "train")})
    assert layouts.taken["Ours", "M"].plain


def test_images_are_never_paired_by_their_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"h/ir/a{i}x.png" for i in range(9)), *(f"h/vi/b{i}y.png" for i in range(20, 29)))
    discovery = discover(tmp_path)
    assert not discovery.taken
    assert not discovery.unclear
    assert [folder for folder, _ in discovery.left] == ["h/ir", "h/vi"]


def test_images_without_a_partner_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *(f"h/ir/{i}.png" for i in range(9)), *(f"h/vi/{i}.png" for i in range(1, 12)))
    (one,) = discover(tmp_path).taken
    assert one.alone == ("0", "9", "10", "11")
    assert len(one.stems) == 8


@settings(max_examples=60, deadline=None)
@given(
    roles=st.sampled_from(
        [("ir", "vi"), ("thermal", "rgb"), ("Infrared", "Visible"), ("LWIR", "VIS"), ("tir", "color")]
    ),
    before=st.tuples(st.sampled_from(["", "IR_", "x-"]), st.sampled_from(["", "VIS_", "y-"])),
    after=st.tuples(st.sampled_from(["", "_ir"]), st.sampled_from(["", "_vis"])),
    digits=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    count=st.integers(3, 40),
    above=st.sampled_from(["", "Harbour/", "my sets/Harbour {1}/"]),
)
def test_random_pairs_of_folders_are_found_again(tmp_path_factory, roles, before, after, digits, count, above):
    root = tmp_path_factory.mktemp("data")
    for role, prefix, suffix, width in zip(roles, before, after, digits, strict=True):
        touch(root, *(f"{above}{role}/{prefix}{i:0{width}}{suffix}.png" for i in range(1, count + 1)))
    (one,) = discover(root).taken
    listed = [parse_pattern(text).listing(root / one.root)[0] for text in (one.infrared, one.visible)]
    assert len(one.stems) == count
    for stem in one.stems:
        numbers = [int("".join(c for c in files[stem].stem if c.isdigit())) for files in listed]
        assert numbers[0] == numbers[1]
    assert all(roles[0] in str(path) for path in listed[0].values())


# the command and its file


def laid_out(root: Path, layout: str = "{m}/{d}/{s}_fused.png") -> None:
    sets = {"TNO": TNO, "harbour": [f"{i:03}" for i in range(1, 13)]}
    for role in ("ir", "vi"):
        touch(root, *(f"data/TNO/{role}/{s}.png" for s in TNO))
        touch(root, *(f"data/harbour/{s}_{role}.png" for s in sets["harbour"]))
    lay(root / "outputs", layout, sets)


def test_the_file_says_what_was_understood(tmp_path: Path) -> None:
    laid_out(tmp_path)
    (tmp_path / "outputs/Ours/TNO/07_fused.png").unlink()
    code, output = run(
        "init", tmp_path / "bench/b.yaml", "--data", tmp_path / "data", "--outputs", tmp_path / "outputs"
    )
    assert code == 0, output
    assert "2 data sets in DATA" in output
    assert "3 methods in OUTPUTS" in output
    assert "Ours: TNO 24 of 25, harbour 12 of 12; Ours/{dataset}/{stem}_fused" in output
    assert "– Ours, TNO: no image of 07" in output
    read = yaml.safe_load((tmp_path / "bench/b.yaml").read_text())
    assert read["datasets"] == {
        "TNO": {},
        "harbour": {"infrared": "{stem}_ir", "visible": "{stem}_vi", "root": "../data/harbour"},
    }
    assert read["methods"]["Ours"] == "../outputs/Ours/{dataset}/{stem}_fused"
    protocol = read_protocol(tmp_path / "bench/b.yaml")
    stated = protocol.stated("Ours", "harbour")
    assert stated is not None
    assert len(stated.files("Ours", "harbour")) == 12


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    laid_out(tmp_path)
    file = tmp_path / "b.yaml"
    file.write_text("mine\n")
    code, output = run("init", file, "--data", tmp_path / "data", "--outputs", tmp_path / "outputs")
    assert code == 2
    assert "--force" in output
    assert file.read_text() == "mine\n"
    assert run("init", file, "--data", tmp_path / "data", "--outputs", tmp_path / "outputs", "--force")[0] == 0
    assert "CDDFuse" in file.read_text()


def test_what_is_open_gives_exit_code_3_and_stands_as_comments(tmp_path: Path) -> None:
    laid_out(tmp_path)
    for epoch in (50, 100):
        touch(tmp_path, *(f"outputs/New/epoch{epoch}/{s}.png" for s in TNO))
    touch(tmp_path, *(f"data/night/{side}/{i}.png" for side in "ab" for i in range(9)), "outputs/odd/loss.png")
    code, output = run("init", tmp_path / "b.yaml", "--data", tmp_path / "data", "--outputs", tmp_path / "outputs")
    assert code == 3
    assert "New/epoch50/01.png" in output
    assert "names do not tell which images are infrared" in output
    assert "OUTPUTS/odd: 1 image (loss.png) not understood" in output
    text = (tmp_path / "b.yaml").read_text()
    read = yaml.safe_load(text)
    assert "New" not in read["methods"]
    assert "night" not in read["datasets"]
    assert '# New: {TNO: "outputs/New/epoch50/{stem}"}' in text
    assert '# night: {infrared: "b/{stem}", visible: "a/{stem}", root: "data/night"}' in text
    # each comment is a line that can be taken
    taken = text.replace('# New: {TNO: "outputs/New/epoch50/{stem}"}', 'New: {TNO: "outputs/New/epoch50/{stem}"}')
    (tmp_path / "c.yaml").write_text(taken)
    assert read_protocol(tmp_path / "c.yaml").sources["New"] == {"TNO": "outputs/New/epoch50/{stem}"}


def test_nothing_usable_is_one_sentence_and_no_file(tmp_path: Path) -> None:
    touch(tmp_path, "data/notes.txt", "data/a/1.png")
    code, output = run("init", tmp_path / "b.yaml", "--data", tmp_path / "data")
    assert code == 2
    assert "holds no data set" in output
    assert not (tmp_path / "b.yaml").exists()
    assert run("init", tmp_path / "b.yaml")[0] == 2
    assert run("init", tmp_path / "b.txt", "--data", tmp_path / "data")[0] == 2
    assert run("init", tmp_path / "smfnet-table1.yaml", "--data", tmp_path / "data")[0] == 2


def test_json_has_everything(tmp_path: Path) -> None:
    laid_out(tmp_path, "{d}/{m}/{s}.png")
    (tmp_path / "outputs/TNO/Ours/03.png").unlink()
    touch(tmp_path, "outputs/x/y.png")
    code, output = run(
        "init", tmp_path / "b.yaml", "--data", tmp_path / "data", "--outputs", tmp_path / "outputs", "--json"
    )
    fields = json.loads(output)
    assert code == 3
    assert {name: one["pairs"] for name, one in fields["datasets"].items()} == {"TNO": 25, "harbour": 12}
    row = next(row for row in fields["methods"] if (row["method"], row["dataset"]) == ("Ours", "TNO"))
    assert (row["images"], row["missing"], row["pattern"]) == (24, ["03"], "{dataset}/Ours/{stem}")
    assert fields["not_understood"]["outputs"] == {"x": ["y.png"]}


def test_without_outputs_the_rows_are_evalkits_own(tmp_path: Path) -> None:
    laid_out(tmp_path)
    touch(tmp_path, "weights/fusionmodel_final.pth", "weights/CDDFuse_IVF.pth")
    assert run("init", tmp_path / "b.yaml", "--data", tmp_path / "data", "--checkpoints", tmp_path / "weights")[0] == 0
    text = (tmp_path / "b.yaml").read_text()
    assert list(yaml.safe_load(text)["methods"]) == ["average", "maximum", "laplacian"]


def test_a_data_set_numbered_otherwise_than_its_fused_images(tmp_path: Path) -> None:
    for role in ("ir", "vi"):
        touch(tmp_path, *(f"data/harbour/{role}/{s}.png" for s in TNO))
    lay(tmp_path / "outputs", "{m}/{d}/{n}.png", {"harbour": TNO}, ("One", "Two"))
    lay(tmp_path / "outputs", "Three/{d}/{n:05}.png", {"harbour": TNO}, ("",))
    draft = draft_benchmark(tmp_path / "b.yaml", tmp_path / "data", tmp_path / "outputs")
    assert draft.measured[0].infrared == "ir/{stem:02}"
    assert not draft.open
    assert draft.layouts is not None
    assert len(draft.layouts.taken) == 3


def test_a_few_numbered_plots_are_no_method(tmp_path: Path) -> None:
    laid_out(tmp_path)
    touch(tmp_path, *(f"outputs/plots/fig_{i}.png" for i in range(1, 4)), "outputs/loss_1.png", "outputs/loss_2.png")
    draft = draft_benchmark(tmp_path / "b.yaml", tmp_path / "data", tmp_path / "outputs")
    assert draft.layouts is not None
    assert draft.layouts.methods == ["Avg", "CDDFuse", "Ours"]
    assert set(draft.layouts.left) == {".", "plots"}
    assert "{stem}_ir" in draft.text


def test_no_pattern_is_written_that_would_measure_a_method_on_another_data_sets_images(tmp_path: Path) -> None:
    """A pattern without {dataset} stands for the data sets that it was found on, and for no other."""
    for role in ("ir", "vi"):
        touch(tmp_path, *(f"data/{name}/{role}/{s}.png" for s in TNO for name in ("TNO", "harbour")))
    lay(tmp_path / "outputs", "{m}/{d}/{s}.png", {"TNO": TNO, "harbour": TNO}, ("Ours",))
    touch(tmp_path / "outputs", *(f"New/tno_final/{s}_x.png" for s in TNO))
    draft = draft_benchmark(tmp_path / "b.yaml", tmp_path / "data", tmp_path / "outputs")
    assert yaml.safe_load(draft.text)["methods"]["New"] == "outputs/New/{dataset}_final/{stem}_x"
    touch(tmp_path / "outputs", *(f"MRI_CT/{s}.png" for s in TNO))
    assert "MRI_CT" not in str(
        yaml.safe_load(draft_benchmark(tmp_path / "b.yaml", tmp_path / "data", tmp_path / "outputs").text)
    )


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=12), min_size=3, max_size=3, unique_by=look))
def test_hostile_names_are_quoted_or_refused_in_one_sentence(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("any")
    dataset, *methods = names
    try:
        for role in ("ir", "vi"):
            touch(root / "data" / dataset / role, *(f"{i}.png" for i in range(3)))
        for method in methods:
            touch(root / "outputs" / method / dataset, *(f"{i}.png" for i in range(3)))
    except (OSError, ValueError):
        assume(False)
    assume(all(name not in (".", "..") and "/" not in name for name in names))
    code, output = run("init", root / "b.yaml", "--data", root / "data", "--outputs", root / "outputs")
    assert code in (0, 2, 3), output
    assert (root / "b.yaml").exists() == (code != 2)
    if code != 2:
        read_protocol(root / "b.yaml")


@pytest.mark.skipif(not (SHARED / "outputs").is_dir(), reason="no ../shared")
def test_real_folders(tmp_path: Path) -> None:
    draft = draft_benchmark(tmp_path / "b.yaml", SHARED / "data", SHARED / "outputs", SHARED / "checkpoints")
    assert [(one.name, one.split) for one in draft.measured] == [("RoadScene", "test50"), ("TNO", None)]
    assert draft.layouts is not None
    assert {row: len(one.files) for row, one in draft.layouts.taken.items()} == {
        ("CDDFuse", "RoadScene"): 50,
        ("CDDFuse", "TNO"): 25,
        **{(name, "TNO"): 3 for name in ("FusionGAN", "PMGI", "RFN-Nest", "SDNet", "U2Fusion")},
    }
    assert not draft.open
    assert "SeAFusion" in draft.weights
