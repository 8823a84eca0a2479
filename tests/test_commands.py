"""The commands beside `reproduce`: golden values, saliency, conventions; and the dense references."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_outputs, make_tno, textured
from dense import DENSE
from test_reproduce import run

import evalkit
from evalkit.commands.console import print_rows
from evalkit.data.images import write_png
from evalkit.metrics.card import CONVENTIONS
from evalkit.metrics.registry import all_full_names

GOLDEN = Path(__file__).parent / "golden" / "samples.csv"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> list:
    """The arguments that name the sample scenes and their laplacian fusion."""
    root = tmp_path_factory.mktemp("scenes")
    assert run("data", "sample", root, "--count", 2, "--size", "320x240")[0] == 0
    assert run("fuse", "laplacian", "--data-root", root, "--dataset", "samples", "--gray", "--out", root / "f")[0] == 0
    folders = {
        "--fused": root / "f/laplacian/samples",
        "--infrared": root / "samples/ir",
        "--visible": root / "samples/vi",
    }
    return [part for pair in folders.items() for part in pair]


def test_golden_values_of_the_sample_scenes_hold(scenes):
    code, out, _ = run("check", GOLDEN, *scenes)
    assert code == 0, out
    with open(GOLDEN, newline="") as file:
        assert {row["metric"] for row in csv.DictReader(file)} == set(all_full_names())


def test_a_moved_metric_fails_the_check(scenes, tmp_path):
    rows = GOLDEN.read_text().splitlines()
    moved = tmp_path / "golden.csv"
    head, second, *rest = rows
    image, metric, value, tolerance = second.split(",")
    wrong = f"{image},{metric},{float(value) * 1.002!r},{tolerance}"
    moved.write_text("\n".join([head, wrong, *rest, "009_day,EN[textbook],7.0,", f"{image},MI[tang],,"]) + "\n")
    code, out, _ = run("check", moved, *scenes, "--json")
    assert code == 1
    result = json.loads(out)
    assert result["checked"] == len(rows) + 1
    assert len(result["moved"]) == 3
    assert "2.0e-03 relative" in result["moved"][0]
    assert "no fused image" in result["moved"][1]
    assert "was undefined" in result["moved"][2]


def test_golden_files_that_are_none(scenes, tmp_path):
    for text in ("", "a,b\n1,2\n", "image,metric,value,tolerance\nx,EN,many,1\n", "image,metric,value\nx,EN,nan\n"):
        (tmp_path / "g.csv").write_text(text)
        code, _, error = run("check", tmp_path / "g.csv", *scenes)
        assert code == 2
        assert "g.csv" in error
    (tmp_path / "g.csv").write_text("image,metric,value\n000_day,SSMI[smfnet],1\n")
    code, _, error = run("check", tmp_path / "g.csv", *scenes)
    assert code == 2
    assert "'SSIM'" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "g.csv", "--fused", "f", "--infrared", "i", "--visible", "v", "--update", "--tolerance"),
        ("compare", "A", "B", "--run", "r", "--alpha"),
        ("rank", "smfnet-table1", "--published", "--alpha"),
        ("plot", "critical", "r", "--out", "x.pdf", "--alpha"),
        ("fuse", "average", "--dataset", "TNO", "--out", "o", "--timeout"),
    ],
)
def test_what_is_not_a_number_lies_in_no_range(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = run(*arguments, "nan")
    assert code == 2
    assert "nan is not a finite number" in error
    assert not list(tmp_path.iterdir())


def test_golden_round_trip_with_missing_values(tmp_path):
    root, outputs = make_tno(tmp_path / "data", 2), make_outputs(tmp_path / "outputs", count=2)
    write_png(outputs / "CDDFuse/TNO/02.png", np.full((48, 64), 3, np.uint8))
    arguments = ["--fused", outputs / "CDDFuse/TNO", "--infrared", root / "TNO/ir", "--visible", root / "TNO/vi"]
    golden = tmp_path / "golden.csv"
    assert run("check", golden, *arguments, "--update", "--metrics", "EN,CC[tang],SSIM")[0] == 0
    assert ",CC[tang],," in golden.read_text()
    assert run("check", golden, *arguments)[0] == 0


def test_all_conventions_side_by_side(tmp_path):
    root, outputs = make_tno(tmp_path / "data", 2), make_outputs(tmp_path / "outputs", count=2)
    folders = ["--infrared", root / "TNO/ir", "--visible", root / "TNO/vi", "--convention", "all"]
    code, out, _ = run("evaluate", outputs / "CDDFuse/TNO", *folders, "--metrics", "PSNR,EI")
    assert code == 0
    having = [name for name, convention in CONVENTIONS.items() if {"PSNR", "EI"} & set(convention.definitions)]
    assert out.splitlines()[1].split() == ["metric", *having]
    assert {"textbook", "vifb", "zoo"} <= set(having)
    code, out, _ = run("evaluate", outputs / "CDDFuse/TNO", *folders, "--metrics", "PSNR", "--json")
    means = json.loads(out)["mean"]
    assert means["PSNR[tang]"] - means["PSNR"] == pytest.approx(48.1308, abs=1e-4)
    code, _, error = run("evaluate", outputs / "CDDFuse/TNO", *folders, "--metrics", "PSMR")
    assert code == 2
    assert "'PSNR'" in error


def test_saliency_command(tmp_path):
    truths, maps = tmp_path / "GT", tmp_path / "maps"
    for i in range(3):
        truth = np.zeros((40, 50), np.uint8)
        truth[5 + i : 20, 10 : 30 + i] = 255
        write_png(truths / f"{i}.png", truth)
        write_png(maps / f"{i}.png", np.maximum(truth // 2, textured(i, 40, 50) // 3))
    files = ["--out", tmp_path / "scores.csv", "--curves", tmp_path / "curves.csv"]
    code, out, _ = run("evaluate-saliency", maps, "--truth", truths, *files, "--json")
    assert code == 0
    result = json.loads(out)
    single = [evalkit.saliency(maps / f"{i}.png", truths / f"{i}.png") for i in range(3)]
    assert result["scores"]["MAE"] == pytest.approx(np.mean([s["MAE"] for s in single]))
    assert result["images"]["1"] == pytest.approx(single[1])
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 257
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 4
    (maps / "1.png").unlink()
    code, out, _ = run("evaluate-saliency", maps, "--truth", truths)
    assert code == 3
    assert "– 1: no map of this name" in out
    assert "0." not in out  # no mean over a missing value
    assert run("evaluate-saliency", tmp_path, "--truth", truths)[0] == 2
    assert run("evaluate-saliency", maps, "--truth", tmp_path / "nowhere")[0] == 2


@pytest.mark.parametrize("metric", DENSE)
def test_dense_references(metric):
    a, b = textured(1, 70, 90), textured(2, 70, 90)
    f = ((a.astype(int) + b) // 2).astype(np.uint8)
    assert evalkit.evaluate(f, a, b, [metric], "smfnet")[metric] == pytest.approx(DENSE[metric](f, a, b), rel=1e-9)


def test_vifb_protocol_on_generated_images(tmp_path):
    """Fused images and values of the data set itself: one value is off by 1 %, one image is missing."""
    root = tmp_path / "data" / "VIFB"
    rng = np.random.default_rng(0)
    stems = [f"scene{i:02d}" for i in range(21)]
    rows = []
    for i, stem in enumerate(stems):
        colour = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        write_png(root / "ir" / f"{stem}.png", textured(i, 48, 48))
        write_png(root / "vi" / f"{stem}.png", colour)
        write_png(root / "fused" / "ADF" / f"{stem}.png", np.ascontiguousarray(colour[::-1]))
        scores = evalkit.evaluate(
            *(root / part / f"{stem}.png" for part in ("fused/ADF", "ir", "vi")), ["EN", "CE"], "vifb"
        )
        rows += [
            f"{stem},ADF,Entropy,{scores['EN'] * (1.01 if i == 3 else 1)}",
            f"{stem},ADF,Cross_entropy,{scores['CE']}",
        ]
    (root / "values.csv").write_text("\n".join(["pair,method,metric,value", *rows]))
    code, out, _ = run(
        "reproduce", "vifb", "--data-root", tmp_path / "data", "--methods", "ADF", "--out", tmp_path / "run"
    )
    assert code == 0, out
    agreement = {row.metric: row for row in evalkit.read_table(tmp_path / "run").agreement}
    assert (agreement["EN"].published, agreement["EN"].near, agreement["EN"].worst_at) == (21, 20, "ADF, scene03")
    assert agreement["CE"].near == 21
    assert "values published per image" in out
    code, out, _ = run(
        "reproduce", "vifb", "--data-root", tmp_path / "data", "--methods", "CNN", "--out", tmp_path / "none"
    )
    assert code == 3


def test_show_gives_each_convention_its_value():
    code, out, _ = run("show", "PSNR", "--json")
    assert code == 0
    assert set(json.loads(out)["conventions"]) == {c for c in CONVENTIONS if "PSNR" in CONVENTIONS[c].definitions}
    assert "66.1" in json.loads(out)["conventions"]["tang"]


def test_segmentation_command(tmp_path):
    truths, masks = tmp_path / "truth", tmp_path / "masks"
    rng = np.random.default_rng(0)
    for i in range(2):
        truth = rng.integers(0, 9, (30, 40), dtype=np.uint8)
        guess = np.where(rng.random((30, 40)) < 0.3, 0, truth).astype(np.uint8)
        write_png(truths / f"{i}.png", truth)
        write_png(masks / f"{i}.png", guess)
    code, out, _ = run("evaluate-segmentation", masks, "--truth", truths, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["masks"] == 2
    assert result["mIoU"] == pytest.approx(np.mean(list(result["IoU"].values())))
    assert 0.5 < result["IoU"]["car"] < 0.9
    code, out, _ = run("evaluate-segmentation", masks, "--truth", truths)
    assert "color cone" in out
    write_png(masks / "1.png", np.full((30, 40), 77, np.uint8))
    code, out, _ = run("evaluate-segmentation", masks, "--truth", truths)
    assert code == 3
    assert "– 1: prediction holds class id 77" in out
    assert "mIoU" not in out
    assert run("evaluate-segmentation", masks, "--truth", truths, "--dataset", "TNO")[0] == 2


def test_measures_of_other_tasks_are_not_of_fused_images(tmp_path):
    code, _, error = run("evaluate", tmp_path, "--infrared", tmp_path, "--visible", tmp_path, "--metrics", "mIoU")
    assert code == 2
    assert "segmentation" in error


@pytest.mark.parametrize("columns", ["", "60"])
def test_a_wide_table_is_never_cut(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    heads = ["method", *(f"mean (condition {i}) IoU" for i in range(20)), "remark"]
    row = ["laplacian of a pyramid", *(f"{i}.123456" for i in range(20)), "words that may be folded " * 3]
    print_rows(heads, [row], "a title")
    printed = capsys.readouterr().out
    for text in [*row[:-1], *heads]:
        assert text in printed
    assert ("words that may be folded words" in printed) is not bool(columns)
