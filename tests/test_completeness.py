"""What is missing is named, and names that do not pair get a hint: folders that are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, textured
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_reproduce import run

import evalkit
from evalkit.data.images import write_png
from evalkit.data.patterns import parse_pattern
from evalkit.data.stems import Pattern, by_stem, hint, suggest
from evalkit.errors import DataError, EvalkitError, ImageError
from evalkit.metrics.card import CONVENTIONS
from evalkit.metrics.evaluate import evaluate
from evalkit.metrics.folders import evaluate_folder
from evalkit.metrics.registry import all_full_names

CASES = SHARED / "cases"
OPTIONS = {"fused": "--name", "infrared": "--infrared-name", "visible": "--visible-name"}


def folders(root: Path, fused: list[str], infrared: list[str] | None = None, visible: list[str] | None = None) -> list:
    """root/{fused,ir,vi} with images of these names, as arguments of `evaluate`; not written where they are there."""
    names = {"fused": fused, "ir": infrared or fused, "vi": visible or infrared or fused}
    for folder, stems in names.items():
        for i, stem in enumerate(stems):
            if not (root / folder / f"{stem}.png").exists():
                write_png(root / folder / f"{stem}.png", textured(100 * len(folder) + i))
    return arguments(root)


def arguments(root: Path) -> list:
    return [root / "fused", "--infrared", root / "ir", "--visible", root / "vi"]


def case(name: str, root: Path, *names: list[str]) -> list:
    """The arguments of a case in ../shared where it is there; else of its generated twin."""
    return arguments(CASES / name) if (CASES / name).is_dir() else folders(root, *names)


# --- missing images


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "twin"])
def test_a_pair_without_a_fused_image_is_named_and_leaves_no_mean(tmp_path: Path, shared: bool) -> None:
    stems = ["000_day", "001_night", "002_glare", "003_smoke"]
    if shared and not CASES.is_dir():
        pytest.skip("needs ../shared/cases")
    where = (
        case("fewer-fused-than-sources", tmp_path, stems[::2], stems)
        if shared
        else folders(tmp_path, stems[::2], stems)
    )
    code, out, _ = run("evaluate", *where, "--metrics", "EN,CC", "--workers", 1)
    assert code == 3
    assert "– 001_night, 003_smoke, all metrics: there is no fused image of this name" in out
    assert [line.split() for line in out.splitlines() if line.startswith("mean")] == [["mean", "–", "–"]]
    code, out, _ = run("evaluate", *where, "--metrics", "EN,CC", "--json", "--workers", 1)
    result = json.loads(out)
    assert code == 3
    assert result["mean"] == {"EN": None, "CC": None}
    assert sorted({reason["image"] for reason in result["missing"]}) == ["001_night", "003_smoke"]
    assert "hint" not in result
    code, out, _ = run("evaluate", *where, "--metrics", "EN", "--convention", "all", "--workers", 1)
    assert code == 3
    assert "003_smoke" in out


def test_a_fused_image_without_a_source_is_named_too(tmp_path: Path) -> None:
    code, out, _ = run("evaluate", *folders(tmp_path, ["1", "2"], ["1", "3"]), "--metrics", "EN", "--workers", 1)
    assert code == 3
    assert "– 2, all metrics: there is no infrared image named 2" in out
    assert "– 3, all metrics: there is no fused image of this name" in out


def test_the_check_notices_fused_images_that_its_file_lacks(tmp_path: Path) -> None:
    fused, *sources = folders(tmp_path, ["1", "2"], ["1", "2", "3"])
    where, golden = ["--fused", fused, *sources, "--workers", 1], tmp_path / "golden.csv"
    assert run("check", golden, *where, "--update", "--metrics", "EN,CC")[0] == 0
    assert run("check", golden, *where) == (0, "4 values checked, 0 moved\n", "")  # 3 has never been fused
    write_png(fused / "3.png", textured(9))
    code, out, _ = run("check", golden, *where)
    assert code == 1
    assert out.startswith("3: the golden file has no value of this fused image")
    assert json.loads(run("check", golden, *where, "--json")[1])["moved"] == [out.splitlines()[0]]


# --- names that do not pair


@pytest.mark.parametrize(
    ("folder", "names", "cure"),
    [
        (".", (["00001"], ["1"], ["1"]), "--name '{stem:05}'"),
        (
            "suffixes",
            (["01_fused"], ["01_ir"], ["01_vi"]),
            "--name '{stem}_fused' --infrared-name '{stem}_ir' --visible-name '{stem}_vi'",
        ),
        ("IRVIS", (["1"], ["IR1"], ["VIS1"]), "--infrared-name 'IR{stem}' --visible-name 'VIS{stem}'"),
    ],
)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "twin"])
def test_names_that_do_not_pair_get_the_options_that_pair_them(tmp_path, folder, names, cure, shared) -> None:
    if shared and not CASES.is_dir():
        pytest.skip("needs ../shared/cases")
    name = f"names-padded-and-suffixed/10-zero-padding/{folder}"
    where = case(name, tmp_path, *names) if shared else folders(tmp_path, *names)
    code, _, error = run("evaluate", *where, "--metrics", "EN", "--workers", 1)
    assert code == 2
    assert "1 of 1 files look like" in error
    assert error.strip().endswith(f"to pair 1 of them, give {cure}")
    options = cure.replace("'", "").split()
    code, out, _ = run("evaluate", *where, "--metrics", "EN", "--workers", 1, *options)
    assert code == 0
    assert "1 image ·" in out


def test_the_hint_counts_and_stands_below_what_is_measured(tmp_path: Path) -> None:
    stems = [f"{i:02d}" for i in range(1, 26)]
    where = folders(tmp_path, [f"{stem}_fused" for stem in stems] + ["01"], stems)
    code, out, _ = run("evaluate", *where, "--metrics", "EN", "--workers", 1)
    assert code == 3
    assert "25 of 26 files look like {stem}_fused (fused): to pair 25 of them, give --name '{stem}_fused'" in out
    code, out, _ = run("evaluate", *where, "--metrics", "EN", "--workers", 1, "--name", "{stem}_fused.png")
    assert code == 0
    assert "25 images" in out
    code, _, error = run("evaluate", *where, "--name", "{stem}_fuse")
    assert code == 2
    assert "no image in" in error
    assert "has a name like {stem}_fuse" in error


def test_folders_in_one_another_s_place_say_so(tmp_path: Path) -> None:
    where = folders(tmp_path, ["a", "b"], ["c", "d"])
    code, _, error = run("evaluate", *where, "--metrics", "EN")
    assert code == 2
    assert "it holds a" in error
    assert "paired by file name" in error
    assert "--name" not in error


PREFIX = st.sampled_from(["", "FLIR_", "IR", "img-", "x.y_", "v2 "])  # one that ends in a digit cannot be told
SUFFIX = st.sampled_from(["", "_fused", "-ir", " v2", "_out_1", "D"])


@given(
    st.lists(st.tuples(PREFIX, SUFFIX, st.integers(0, 6)), min_size=3, max_size=3),
    st.sets(st.integers(0, 4000), min_size=1, max_size=20),
)
def test_patterns_that_made_names_pair_them_again(parts, numbers) -> None:
    """What is suggested pairs at least as many as the patterns that the names were made by."""
    patterns = [Pattern(prefix, suffix, digits) for prefix, suffix, digits in parts]
    lists = [[f"{p.prefix}{str(n).zfill(p.digits)}{p.suffix}" for n in numbers] for p in patterns]
    for pattern, names in zip(patterns, lists, strict=True):
        assert set(by_stem(names, pattern)) == set(map(str, numbers))
        assert {parse_pattern(str(pattern)).stem(name) for name in names} == set(map(str, numbers))
    as_they_are = len(set.intersection(*map(set, lists)))
    found = suggest(lists)
    assert (found[1] if found else as_they_are) == len(numbers) or as_they_are == len(numbers)


def test_nothing_is_suggested_where_nothing_helps() -> None:
    assert suggest([["a", "b"], ["a", "b"], ["a", "b"]]) is None
    assert suggest([["a"], ["b"], ["c"]]) is None
    assert hint({"fused": ["a"], "infrared": ["b"], "visible": ["c"]}, OPTIONS) == ""


@pytest.mark.parametrize("text", ["", "x", "{stem:x}", "a/{stem}/", "{}", "{stem:0}", "{0.__class__}"])
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(EvalkitError, match="is not a pattern of file names"):
        parse_pattern(text)


# --- what a value may be


def test_no_metric_gives_minus_zero(tmp_path: Path) -> None:
    """Sources and fused images that are constant, black, white, equal: 0 has no sign."""
    images = [np.full((48, 64), level, np.uint8) for level in (0, 128, 255)] + [textured(1), textured(2)]
    for fused in images:
        for infrared in images[::2]:
            for visible in (images[1], images[3]):
                scores = evaluate(
                    fused, infrared, visible, ["EN", "MI", "CE", "SCD", "CC", "NMI", "MI[tang]", "CE[vifb]"]
                )
                assert all(not (value == 0 and np.signbit(value)) for value in scores.values()), scores


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "twin"])
def test_constant_fused_images(tmp_path: Path, shared: bool) -> None:
    if shared and not CASES.is_dir():
        pytest.skip("needs ../shared/cases")
    where = arguments(CASES / "constant-fused") if shared else folders(tmp_path, ["s"])
    if not shared:
        write_png(tmp_path / "fused/s.png", np.full((48, 64), 128, np.uint8))
    code, out, _ = run("evaluate", *where, "--metrics", "EN,SD,MI,CC", "--workers", 1)
    assert code == 3  # CC is 0/0
    assert [line.split()[1:] for line in out.splitlines() if line[:2] == "s "] == [["0.0000", "0.0000", "0.0000", "–"]]


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "twin"])
def test_labf_is_undefined_where_qabf_is(tmp_path: Path, shared: bool) -> None:
    if shared and not CASES.is_dir():
        pytest.skip("needs ../shared/cases")
    where = arguments(CASES / "black") if shared else folders(tmp_path, ["s"])
    if not shared:
        for folder in ("fused", "ir", "vi"):
            write_png(tmp_path / folder / "s.png", np.zeros((48, 64), np.uint8))
    code, out, _ = run("evaluate", *where, "--metrics", "EN,Labf,Qabf", "--workers", 1)
    assert code == 3
    assert "– s, Labf: Labf is 0/0: neither source has an edge" in out
    assert "– s, Qabf: Qabf is 0/0: neither source has an edge" in out
    flat, edged = np.full((32, 32), 7, np.uint8), textured(3, 32, 32)
    assert set(evaluate(edged, flat, flat, ["Labf", "Qabf"]).missing) == {"Labf", "Qabf"}
    assert not evaluate(flat, edged, flat, ["Labf", "Qabf"]).missing


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "twin"])
def test_sources_of_two_sizes_differ_from_each_other(tmp_path: Path, shared: bool) -> None:
    if shared and not CASES.is_dir():
        pytest.skip("needs ../shared/cases")
    where = arguments(CASES / "sources-of-two-sizes") if shared else folders(tmp_path, ["s"])
    if not shared:
        write_png(tmp_path / "ir/s.png", textured(1, 24, 32))
    code, out, _ = run("evaluate", *where, "--metrics", "EN", "--workers", 1)
    assert code == 3
    assert "the sources differ from each other: the infrared image is" in out
    assert "the fused image is" not in out


def test_perfect_maps_have_an_e_of_at_most_the_card_s_range() -> None:
    from evalkit.leaderboards.audit.ranges import bounds

    truth = np.zeros((40, 50), np.uint8)
    truth[10:20, 10:30] = 255
    scores = evalkit.saliency(truth, truth)
    for name in ("E_adaptive", "E_mean", "E_max"):
        low, high = bounds(name)
        assert low is not None
        assert high is not None
        assert low <= scores[name] <= high
    assert scores["E_adaptive"] == pytest.approx(2000 / 1999)


# --- what an image and a list of names may be


def test_one_name_is_no_list_of_letters(tmp_path: Path) -> None:
    image = textured(1)
    assert evaluate(image, image, textured(2), "EN") == evaluate(image, image, textured(2), ["EN"])
    fused, _, infrared, _, visible = folders(tmp_path, ["1"])
    assert list(evaluate_folder(fused, infrared, visible, "SSIM[tang]", workers=1).columns) == ["SSIM[tang]"]
    with pytest.raises(EvalkitError, match="EM"):
        evaluate(image, image, image, "EM")
    assert {r.dataset for r in evalkit.rank(_finished(tmp_path), datasets="TNO", metrics="EN")} == {"TNO"}


def _finished(root: Path) -> Path:
    from conftest import make_tno

    make_tno(root / "data", 3)
    options = {"methods": ["average", "maximum"], "datasets": "TNO", "workers": 1}
    evalkit.reproduce("smfnet-table1", root / "data", out=root / "run", **options)
    return root / "run"


@pytest.mark.parametrize("form", ["list", "nested", "PIL", "PIL P", "PIL I;16", "bytes", "none", "number", "generator"])
def test_images_of_other_types_are_taken_or_refused(form: str) -> None:
    image = textured(1)
    forms = {
        "list": [1, 2],
        "nested": image.tolist(),
        "PIL": Image.fromarray(image),
        "PIL P": Image.fromarray(image).convert("P"),
        "PIL I;16": Image.fromarray(image.astype(np.uint16)),
        "bytes": b"x.png",
        "none": None,
        "number": 3,
        "generator": (x for x in image),
    }
    for call in (lambda x: evaluate(x, image, textured(2), ["EN"]), lambda x: evalkit.saliency(x, image)):
        if form == "PIL":
            call(forms[form])
        else:
            with pytest.raises(ImageError):
                call(forms[form])
    if form == "PIL":
        assert evaluate(forms[form], image, image, ["EN", "CC"]) == evaluate(image, image, image, ["EN", "CC"])


def test_tensors_are_taken_as_what_they_are() -> None:
    torch = pytest.importorskip("torch")
    gray, colour = textured(1), np.stack([textured(i) for i in (1, 2, 3)], axis=2)
    for array in (gray, colour):
        tensor = torch.from_numpy(array.copy() if array.ndim == 2 else array.transpose(2, 0, 1).copy())
        expected = evaluate(array, gray, colour, ["EN", "CC"])
        assert evaluate(tensor, torch.from_numpy(gray.copy())[None], colour, ["EN", "CC"]) == expected
    for wrong in (
        torch.zeros(48, 64),
        torch.zeros(48, 64, 3, dtype=torch.uint8),
        torch.zeros(0, 64, dtype=torch.uint8),
        torch.zeros(48, 64, dtype=torch.bfloat16, requires_grad=True),
    ):
        with pytest.raises(ImageError, match="is a tensor of"):
            evaluate(wrong, gray, gray, ["EN"])
    with pytest.raises(ImageError, match="is a batch of 1"):
        evaluate(torch.zeros(1, 1, 48, 64, dtype=torch.uint8), gray, gray, ["EN"])


def test_every_metric_of_every_convention_takes_extreme_images() -> None:
    """A value or a reason, never a traceback, NaN or infinity, for images without content."""
    flat, noise = np.zeros((48, 64), np.uint8), textured(5)
    assert len(all_full_names()) > len(CONVENTIONS)
    for fused, infrared, visible in (
        (flat, flat, flat),
        (flat, noise, flat),
        (noise, flat, flat),
        (noise, noise, noise),
    ):
        scores = evaluate(fused, infrared, visible, all_full_names())
        for name, value in scores.items():
            assert (name in scores.missing) == bool(np.isnan(value))
            assert not np.isinf(value)


def test_an_error_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        evaluate_folder(tmp_path / "no", tmp_path, tmp_path)


# --- rows that cannot be trained


@pytest.mark.parametrize(
    ("protocol", "row", "why"),
    [
        ("s4fusion-table3", "Exp.6", "leaves out the perception loss, which the recipe small does not have anyway"),
        ("tsjnet-table3", "w/o L_Det", "leaves out the detection loss"),
    ],
)
def test_an_ablation_that_a_recipe_cannot_train_is_one_missing_row(tmp_path, monkeypatch, protocol, row, why) -> None:
    pytest.importorskip("torch")
    import evalkit.training.loop

    monkeypatch.setattr(evalkit.training.loop, "train", lambda *_, **__: pytest.fail("nothing is to be trained"))
    rows = ["--methods", f"{row},average", "--train", "--recipe", "small", "--workers", 1]
    code, out, _ = run("reproduce", protocol, "--sample", *rows, "--out", tmp_path / "run")
    assert code == 3
    assert why in out
    table = evalkit.read_table(tmp_path / "run")
    missing = {cell.method for cell in table.cells if cell.value is None}
    assert row in missing
    assert "average" not in missing
    code, _, error = run("reproduce", protocol, "--sample", *rows, "--out", tmp_path / "run", "--recipe", "smal")
    assert code == 2  # a recipe that there is not is wrong usage
    assert "'small'" in error
