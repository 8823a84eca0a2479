"""Gray: every formula on every colour, what public programs give, a choice that scores, records and tables keep."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

import evalkit
from evalkit.cli import main
from evalkit.data.gray import GRAYS, JPEG, ROUNDED, TRUNCATED
from evalkit.data.images import parse_gray, read_image, stored_luma, to_gray, write_png
from evalkit.errors import UnknownNameError
from evalkit.leaderboards.verify import verify
from evalkit.metrics.card import Convention
from evalkit.metrics.evaluate import AS_STORED, Reading
from evalkit.metrics.image import Image, Pair
from evalkit.metrics.registry import definitions
from evalkit.protocols.schema import make_protocol
from evalkit.records.record import load

# (weights, divisor, added before the floor), in integers; ROUNDED in a formula of its own
FORMULAS = {
    "opencv": ((9798, 19235, 3735), 2**15, 2**14),
    "pil": ((19595, 38470, 7471), 2**16, 2**15),
    "matlab": ((298936021293775, 587043074451121, 114020904255103), 10**15, 5 * 10**14),
    TRUNCATED: ((9797, 19234, 3737), 2**15, 0),
    JPEG: ((9797, 19234, 3737), 2**15, 0),
}


@pytest.fixture(scope="module")
def colours():
    """All 2^24 colours, (4096, 4096, 3)."""
    number = np.arange(2**24, dtype=np.uint32)
    return np.stack([number >> 16, (number >> 8) & 255, number & 255], -1).astype(np.uint8).reshape(4096, 4096, 3)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(5).integers(0, 256, (61, 47, 3), np.uint8)


def weighted(colours, weights):
    return sum(weight * colours[..., k].astype(np.int64) for k, weight in enumerate(weights))


@pytest.mark.parametrize("gray", FORMULAS)
def test_every_colour_is_what_the_formula_gives_in_integers(colours, gray):
    weights, divisor, half = FORMULAS[gray]
    assert np.array_equal(to_gray(colours, gray), (weighted(colours, weights) + half) // divisor)


def test_rounded_takes_the_nearest_level_and_of_two_the_even_one(colours):
    thousandths = weighted(colours, (299, 587, 114))
    level, rest = thousandths // 1000, thousandths % 1000
    level += (rest > 500) | ((rest == 500) & (level % 2 == 1))
    assert np.array_equal(to_gray(colours), level)
    assert (rest == 500).sum() == 16782  # the colours that processors round differently in float32


def test_all_ways_have_a_formula_here_and_in_the_options():
    assert {ROUNDED, *FORMULAS} == set(GRAYS)
    from evalkit.commands.options import gray_option

    option = next(p for p in gray_option(lambda: None).__click_params__ if p.name == "gray")
    assert {*option.type.choices} == {"", *GRAYS}


@pytest.mark.parametrize("gray", GRAYS)
def test_gray_and_three_equal_channels_stay_themselves(gray):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert to_gray(levels, gray) is levels
    assert np.array_equal(to_gray(np.dstack([levels] * 3), gray), levels)


def test_public_programs_agree(colours, noise, tmp_path):
    assert np.array_equal(to_gray(colours, "opencv"), cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY))
    some = colours[::16, ::16]
    assert np.array_equal(to_gray(some, "pil"), np.array(Pillow.fromarray(some).convert("L")))
    write_png(tmp_path / "a.png", noise)
    assert np.array_equal(to_gray(noise, TRUNCATED), cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE))
    apart = np.rint(cv2.cvtColor(colours.astype(np.float32), cv2.COLOR_RGB2GRAY)) != to_gray(colours)
    assert 0 < apart.sum() < 16782  # at halves alone, whatever this processor makes of them
    assert (weighted(colours, (299, 587, 114))[apart] % 1000 == 500).all()


@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_is_the_stored_luma(noise, tmp_path, subsampling):
    path = tmp_path / "a.jpg"
    Pillow.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)).save(path, quality=80, subsampling=subsampling)
    data = path.read_bytes()
    luma = stored_luma(data, path)
    assert np.array_equal(luma, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert (luma != to_gray(read_image(path), JPEG)).any()
    with Pillow.open(path) as image:
        image.draft("L", image.size)
        assert np.array_equal(luma, np.array(image))


def test_what_stores_no_luma_has_none(noise, tmp_path):
    write_png(tmp_path / "a.png", noise)
    Pillow.fromarray(noise).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Pillow.fromarray(noise).save(tmp_path / "rgb.jpg", keep_rgb=True)
    for name in ("a.png", "cmyk.jpg", "rgb.jpg"):
        assert stored_luma((tmp_path / name).read_bytes(), name) is None
    Pillow.fromarray(noise[..., 0]).save(tmp_path / "gray.jpg")
    assert np.array_equal(stored_luma((tmp_path / "gray.jpg").read_bytes(), "g"), read_image(tmp_path / "gray.jpg"))


def test_an_image_is_turned_to_gray_once_per_way(noise):
    image = Image(noise)
    assert image.in_gray(ROUNDED) is image
    assert image.in_gray("pil") is image.in_gray("pil")
    assert np.array_equal(image.in_gray("pil").pixels, to_gray(noise, "pil"))
    flat = Image(noise[..., 0])
    assert flat.in_gray("pil") is flat
    pair = Pair(flat, flat, flat)
    assert pair.in_gray(TRUNCATED) is pair


def test_a_name_is_taken_in_any_case_and_another_one_refused():
    assert parse_gray("PIL") == "pil"
    assert parse_gray(None) == parse_gray("") == ""
    with pytest.raises(UnknownNameError, match="truncated"):
        parse_gray("truncate")
    with pytest.raises(evalkit.EvalkitError, match="gray"):
        make_protocol({"convention": "smfnet", "metrics": ["EN"], "gray": "truncate", "title": "t"})


# --- measuring ------------------------------------------------------------------------------------------------------


def write_scene(folder, noise):
    """One colour JPEG and one colour PNG as visible images, with a gray infrared and a fused image each."""
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    for stem in ("1", "2"):
        write_png(folder / "ir" / f"{stem}.png", smooth[..., 2])
        write_png(folder / "fused" / f"{stem}.png", smooth[::-1, ..., 1].copy())
    write_png(folder / "vi" / "1.png", smooth)
    Pillow.fromarray(noise).save(folder / "vi" / "2.jpg", quality=60)  # so coarse that decoding clips colours


@pytest.mark.parametrize("gray", GRAYS)
def test_what_is_measured_is_what_gray_images_measure(noise, tmp_path, gray):
    write_scene(tmp_path, noise)
    for stem, visible in (("1", "1.png"), ("2", "2.jpg")):
        files = [tmp_path / "fused" / f"{stem}.png", tmp_path / "ir" / f"{stem}.png", tmp_path / "vi" / visible]
        pixels = to_gray(read_image(files[2]), gray)
        if gray == JPEG and visible.endswith("jpg"):
            pixels = stored_luma(files[2].read_bytes(), "v")
        expected = evalkit.evaluate(files[0], files[1], pixels, ["MI", "SSIM", "EN[smfnet]"])
        assert evalkit.evaluate(*files, ["MI", "SSIM", "EN[smfnet]"], gray=gray) == expected
        if gray == ROUNDED:
            assert evalkit.evaluate(*files, ["MI", "SSIM", "EN[smfnet]"]) == expected
    frame = evalkit.evaluate_folder(tmp_path / "fused", tmp_path / "ir", tmp_path / "vi", ["MI"], gray=gray)
    assert frame.loc["2", "MI"] == expected["MI"]


def test_ways_give_different_numbers(noise, tmp_path):
    write_scene(tmp_path, noise)
    files = [tmp_path / "fused/2.png", tmp_path / "ir/2.png", tmp_path / "vi/2.jpg"]
    values = {gray: evalkit.evaluate(*files, ["MSE"], gray=gray)["MSE"] for gray in (ROUNDED, TRUNCATED, JPEG)}
    assert len(set(values.values())) == 3


def test_a_fused_image_that_is_a_cropped_jpeg_keeps_its_luma(noise, tmp_path):
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    Pillow.fromarray(smooth).save(tmp_path / "f.jpg", quality=90)
    small = np.ascontiguousarray(smooth[:-5, :-3])
    luma = stored_luma((tmp_path / "f.jpg").read_bytes(), "f")[:-5, :-3]
    scores = evalkit.evaluate(tmp_path / "f.jpg", small[..., 0], small[..., 1], ["SD"], crop="end", gray="jpeg")
    assert scores["SD"] == pytest.approx(luma.std(), abs=1e-9)


def test_a_convention_may_state_its_own(noise):
    name = "gray-of-its-own"
    if name not in evalkit.metrics.card.CONVENTIONS:
        evalkit.register_convention(name, metrics={"EN": "EN[textbook]", "MI": "MI[textbook]"}, gray="Truncated")
    fused, infrared = noise[::-1].copy(), noise[..., 0]
    own = evalkit.evaluate(fused, infrared, noise, [f"MI[{name}]", "MI"])
    assert own["MI"] == evalkit.evaluate(fused, infrared, noise, ["MI"], gray=ROUNDED)["MI"]
    assert own[f"MI[{name}]"] == evalkit.evaluate(fused, infrared, noise, ["MI"], gray=TRUNCATED)["MI"] != own["MI"]
    both = evalkit.evaluate(fused, infrared, noise, [f"MI[{name}]", "MI"], gray="pil")
    assert len(set(both.values())) == 1
    columns = definitions([f"MI[{name}]", "EN"], "textbook").values()
    assert AS_STORED.grays(columns) == "truncated, rounded"
    with pytest.raises(UnknownNameError):
        evalkit.register_convention("another", metrics={"EN": "EN[textbook]"}, gray="trunc")
    assert Convention("x", "", "").gray == ROUNDED


def test_scores_have_a_key_per_way():
    columns = list(definitions(["EN", "MI"], "smfnet").values())
    keys = {gray: Reading(gray=gray).key(columns) for gray in ("", *GRAYS)}
    assert keys[""] == keys[ROUNDED] == "EN[smfnet],MI[smfnet]"
    for one, other in itertools.combinations(GRAYS, 2):
        assert keys[one] != keys[other]


def value_of(table):
    return next(cell.value for cell in table.cells if cell.metric == "MSE")


def benchmark(folder, **more):
    return {
        "name": "mine",
        "title": "t",
        "convention": "smfnet",
        "metrics": ["EN", "MSE"],
        "datasets": {"S": {"infrared": f"{folder}/ir/{{stem}}", "visible": f"{folder}/vi/{{stem}}"}},
        "methods": {"A": f"{folder}/fused/{{stem}}"},
    } | more


def test_record_table_and_verify_keep_the_choice(noise, tmp_path):
    write_scene(tmp_path, noise)
    run = tmp_path / "run"
    plain = evalkit.benchmark(benchmark(tmp_path), out=run)
    assert "gray" not in plain.note
    record = load(run / "records" / "S__A.json")
    assert record.method["reading"]["gray"] == "rounded"
    truncated = evalkit.benchmark(benchmark(tmp_path), out=run, gray="truncated")
    assert "Colour is turned to gray: truncated." in truncated.note
    assert value_of(truncated) != value_of(plain)
    record = load(run / "records" / "S__A.json")
    assert record.method["reading"]["gray"] == "truncated"
    (verdict, *_) = verify(run, remeasure=None)
    assert not verdict.problems
    assert "measured again" in verdict.checked
    # the same scores as another way: neither their keys nor their values hold
    path = run / "records" / "S__A.json"
    record.method["reading"]["gray"] = "pil"
    record.record_hash = record.hash()
    path.write_text(json.dumps(record.model_dump()))
    assert any("other code" in problem for problem in verify(run, remeasure=None)[0].problems)
    record.method["reading"]["gray"] = "sepia"
    record.record_hash = record.hash()
    path.write_text(json.dumps(record.model_dump()))
    with pytest.raises(evalkit.EvalkitError, match="sepia"):
        verify(run, remeasure=None)


def test_a_protocol_states_it_and_an_option_goes_before_it(noise, tmp_path):
    write_scene(tmp_path, noise)
    value = {}
    for stated, option in itertools.product(("", "truncated"), ("", "rounded")):
        out = tmp_path / f"run-{stated}-{option}"
        fields = benchmark(tmp_path) | ({"gray": stated} if stated else {})
        value[stated, option] = value_of(evalkit.benchmark(fields, out=out, gray=option))
    assert value["", ""] == value["", "rounded"] == value["truncated", "rounded"] != value["truncated", ""]
    plain = make_protocol(benchmark(tmp_path))
    assert make_protocol(benchmark(tmp_path, gray="pil")).hash != plain.hash


def test_command_line(noise, tmp_path):
    write_scene(tmp_path, noise)
    where = ["--infrared", str(tmp_path / "ir"), "--visible", str(tmp_path / "vi"), "--metrics", "MI", "--json"]
    means = {}
    for gray in (None, "TRUNCATED", "rounded"):
        more = ["--gray", gray] if gray else []
        result = CliRunner().invoke(main, ["evaluate", str(tmp_path / "fused"), *where, *more])
        assert result.exit_code == 0, result.output
        shown = json.loads(result.output)
        assert shown.get("gray") == (gray and gray.lower())
        means[gray] = shown["mean"]["MI"]
    assert means[None] == means["rounded"] != means["TRUNCATED"]
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path / "fused"), *where, "--gray", "sepia"])
    assert result.exit_code == 2
    out = str(tmp_path / "table")
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path / "fused"), *where, "--out", out, "--gray", "pil"])
    assert result.exit_code == 0
    assert "Colour is turned to gray: pil." in result.output


@pytest.mark.slow
def test_gray_does_not_depend_on_vector_units():
    code = (
        "import hashlib, numpy as np; from evalkit.data.gray import GRAYS; n = np.arange(2**24, dtype=np.uint32);"
        "x = np.stack([n >> 16, (n >> 8) & 255, n & 255], -1).astype(np.uint8).reshape(4096, 4096, 3);"
        "print([hashlib.sha256(gray(x).tobytes()).hexdigest() for gray in GRAYS.values()])"
    )
    cases = ({}, {"OPENCV_IPP": "disabled"}, {"OPENCV_IPP": "disabled", "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,SSE4.1"})
    root = str(Path(__file__).parents[1])
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | case | {"PYTHONPATH": root}, capture_output=True, check=True
        ).stdout
        for case in cases
    }
    assert len(printed) == 1
