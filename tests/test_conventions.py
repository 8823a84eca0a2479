"""Every convention against the public evaluators' values: `python tests/test_conventions.py` prints the agreement."""

from __future__ import annotations

import csv
import fnmatch
import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

import evalkit
from evalkit.data.images import read_image
from evalkit.metrics import packages
from evalkit.metrics.card import CONVENTIONS

SHARED = Path(__file__).resolve().parents[2] / "shared"
FILES = ("reference_values.csv", "reference_values2.csv")
TOLERANCE = 1e-9
# A program that computes in float32: local variances are differences of large numbers, and where its images are flat
# rounding noise is of the size of the constants (SSIM, MS-SSIM) or of the variances (VIF).
FLOAT32 = {
    "metric_python": {"EN": 1e-12, "MI": 1e-12, "Nabf": 1e-12, "SSIM": 6e-5, "MS-SSIM": 2e-5, "VIF": 2e-5},
    "zoo": {"Nabf": 1e-12, "SSIM": 6e-5, "MS-SSIM": 2e-5, "VIF": 2e-5},
}
FLOAT32_OTHERS = 3e-7

# (dialect, metrics there) -> [(convention, metric here or None for the same name, factor)]; `*` is all of the rest
BELONGS = [
    ("cddfuse_py_float64", "AG", [("cddfuse", None, 1), ("textbook", None, 1)]),
    ("cddfuse_py_float64", "EN SD SF SCD CC MSE", [("cddfuse", None, 1), ("smfnet", None, 1), ("textbook", None, 1)]),
    ("cddfuse_py_float64", "MI", [("cddfuse", None, 1), ("smfnet", None, 1), ("textbook", None, 1 / math.log(2))]),
    ("cddfuse_py_float64", "VIF", [("cddfuse", None, 1), ("smfnet", None, 1), ("textbook", None, 0.5)]),
    ("cddfuse_py_float64", "PSNR Qabf", [("cddfuse", None, 1), ("smfnet", None, 1)]),
    ("skimage_uniform7_sum_L2_on_0-255", "SSIM", [("cddfuse", None, 1)]),
    ("smfnet_py_float64_AG1_no_sqrt2", "AG", [("smfnet", None, 1)]),
    ("smfnet_py_float64_sum_L255", "SSIM", [("smfnet", None, 1)]),
    ("smfnet_py_float64", "MS-SSIM Nabf", [("smfnet", None, 1)]),
    ("linfeng_matlab", "EN SD SF AG MI SCD CC MSE PSNR VIF Qabf", [("tang", None, 1)]),
    ("linfeng_matlab_double255_L1", "SSIM", [("tang", None, 1)]),
    ("linfeng_matlab_wrong_argument_order", "Nabf", [("tang", None, 1)]),
    ("matlab_uint8_L255_mean", "SSIM", [("tsjnet", None, 1)]),
    ("zhengliu_matlab", "CV QCV", [("tsjnet", "CV", 1), ("liu", "CV", 1)]),
    ("zhengliu_matlab", "CB QCB", [("liu", "CB", 1)]),
    ("zhengliu_matlab", "MI_normalised_sw1 QMI_sw1", [("textbook", "NMI", 1), ("liu", "QMI", 1)]),
    ("zhengliu_matlab", "MI_normalised_sw2 QTE_sw2_q1.85", [("liu", "QTE185", 1), ("mefb", "QTE185", 1)]),
    ("zhengliu_matlab", "MI_normalised_sw3 QTE_sw3_q0.43137", [("liu", "QTE", 1)]),
    ("zhengliu_matlab", "QNCIE", [("liu", None, 1), ("textbook", None, 1), ("mefb", None, 1)]),
    ("zhengliu_matlab", "QG QG_xydeas_petrovic", [("liu", "QG", 1)]),
    ("zhengliu_matlab", "QM", [("liu", None, 1), ("textbook", None, 1 / 3)]),
    ("zhengliu_matlab", "QSF QSF_zheng", [("liu", "QSF", 1), ("textbook", "QSF", 1)]),
    ("zhengliu_matlab", "QP", [("liu", None, 1), ("mefb", None, 1)]),
    ("zhengliu_matlab", "QS_piella_S", [("liu", "QS", 1)]),
    ("zhengliu_matlab", "QW_piella_W", [("liu", "QW", 1)]),
    ("zhengliu_matlab", "QC_cvejic_2", [("liu", "QC", 1)]),
    ("zhengliu_matlab", "QY", [("liu", None, 1)]),
    ("mefb_matlab", "Qc", [("mefb", "QC", 1)]),
    ("mefb_matlab", "Qy", [("mefb", "QY", 1)]),
    ("mefb_matlab", "Qw", [("mefb", "QW", 1)]),
    ("ivif_zoo_torch_f32", "AG CB CC CE EI EN MI MSE NMI PSNR QNCIE QY Qabf SCD SD SF SSIM TE VIF", [("zoo", None, 1)]),
    ("ivif_zoo_torch_f32", "MS-SSIM Nabf", [("zoo", None, 1)]),
    ("vifb_matlab_*", "*", [("vifb", None, 1)]),
    ("skimage_gauss11_sum_L255*", "SSIM", [("textbook", None, 0.5)]),
    ("han2013_gray", "VIFF", [("textbook", None, 1)]),
    ("nabf_matlab_0-255_correct_order", "Nabf", [("textbook", None, 1)]),
    ("mef_ssim_0-255", "MEF-SSIM", [("textbook", None, 1)]),
    ("mef_ms_ssim_0-255", "MS-SSIM", [(c, "MEF-MS-SSIM", 1) for c in ("textbook", "tang", "li", "mefb")]),
    ("mef_*matlab", "MEF-SSIM", [("textbook", None, 1)]),
    ("mef_*matlab", "MEF-MS-SSIM", [(c, None, 1) for c in ("textbook", "tang", "li", "mefb")]),
    ("fmi_*matlab", "FMI_none", [("textbook", "FMI", 1)]),
    ("fmi_*matlab", "FMI_edge", [("tang", "FMI-edge", 1), ("mefb", "FMI-edge", 1)]),
    ("fmi_*matlab", "FMI_dct", [("tang", "FMI-dct", 1), ("li", "FMI-dct", 1)]),
    ("fmi_*matlab", "FMI_wavelet", [("tang", "FMI-w", 1), ("li", "FMI-w", 1)]),
    ("metric_python_f32", "*", [("metric_python", None, 1)]),
    ("rfnnest_matlab*", "*", [("li", None, 1)]),
    ("nestfuse_matlab_0-1", "SSIM", [("li", None, 1)]),
    ("nestfuse_vifvec_mean_0-1", "VIF", [("li", "VIF-wavelet", 1)]),
    ("matr_vifvec_mean_0-255", "VIF", [("textbook", "VIF-wavelet", 1)]),
    (
        "sheikh_vifvec_matlab",
        "VIF_wavelet_source_as_reference_mean_0-255",
        [("textbook", "VIF-wavelet", 1)],
    ),
    ("sheikh_vifvec_matlab", "VIF_wavelet_fused_as_reference_mean_0-255", [("tsjnet", "VIF", 1)]),
]
# metric names of the benchmark's file that differ here
SAME = {"CB": "CB", "Variance": "SD", "Cross_entropy": "CE"}
LEFT_OUT = [
    ("*_float32_as_read", "*", "the float64 rows' formulas on float32 sums: 1e-7 apart, no convention of its own"),
    ("*_float32_as_read_*", "*", "the same"),
    ("bfliu_matlab_*", "*", "a copy of VIFB's code with defects of its own, behind no table of the five papers"),
    ("linfeng_matlab", "VIF_ir VIF_vi", "the two parts of VIF, whose sum is compared"),
    ("linfeng_matlab", "*", "not printed in any of the tables"),
    ("matlab_uint8_L255_mean", "*", "SSIM is compared"),
    ("skimage_*", "*", "other windows, ranges or bins of scikit-image, behind no table of the five papers"),
    (
        "piq_multi_scale_ssim_sum",
        "*",
        "pads odd sizes at the top left, Wang at the bottom right; held in test_perceptual",
    ),
    ("piq_*", "*", "equal to rows compared here, or with piq's own downsampling"),
    ("torchmetrics_*", "*", "equal to rows compared here, or with the reflected border of torchmetrics"),
    ("sheikh_vifvec_matlab", "*", "one source alone; held in test_vif_wavelet, their mean is compared here"),
]
# single rows whose value is one of rounding
BY_CHANCE = {
    ("ivif_zoo_torch_f32", "TNO", "visible", "QNCIE"): "the fused image is the visible one: an eigenvalue is 0, "
    "float32 makes it negative and the program NaN; on RoadScene it comes out positive, which is the value here"
}


def rows():
    """The rows of both files, the metric's name without the part of the image that was measured: that is `crop`."""
    found = []
    for name in FILES:
        path = SHARED / "specs" / name
        if path.is_file():
            with open(path, newline="") as file:
                found += csv.DictReader(file)
    for row in found:
        row["metric"], _, part = row["metric"].partition("[crop")
        row["crop"] = tuple(int(number) for number in re.findall(r"\d+", part))
    return found


def images(row):
    """Fused, infrared and visible image of a row, cut out where the row says so."""
    stem = SHARED / "specs" / "reference_images" / f"{row['dataset']}_{row['image']}"
    arrays = [read_image(f"{stem}_{role}.png") for role in (f"F_{row['fusion']}", "ir", "vi")]
    if not row["crop"]:
        return arrays
    top, bottom, left, right = row["crop"]  # both ends included
    return [np.ascontiguousarray(array[top : bottom + 1, left : right + 1]) for array in arrays]


def find(table, row):
    """The first line of `BELONGS` or `LEFT_OUT` that covers a row."""
    for dialect, metrics, what in table:
        if fnmatch.fnmatch(row["dialect"], dialect) and (metrics == "*" or row["metric"] in metrics.split()):
            return what
    return None


def compare():
    """(convention, metric) -> [relative differences]; reasons of the rows left out -> count; rows nobody explains."""
    left_out, unexplained = Counter(), []
    expected = defaultdict(list)  # an image and its fusion -> [(full name, value, row)]
    for row in rows():
        chance = BY_CHANCE.get((row["dialect"], row["dataset"], row["fusion"], row["metric"]))
        belongs = find(BELONGS, row)
        if belongs is None or chance:
            reason = chance or find(LEFT_OUT, row)
            if reason is None:
                unexplained.append(row)
            left_out[row["dialect"], reason] += 1
            continue
        for convention, name, factor in belongs:
            metric = name or SAME.get(row["metric"], row["metric"])
            key = row["dataset"], row["image"], row["fusion"], row["crop"]
            expected[key].append((f"{metric}[{convention}]", factor * float(row["value"]), row))
    differences = defaultdict(list)
    for values in expected.values():
        measured = evalkit.evaluate(*images(values[0][2]), [name for name, _, _ in values], "smfnet")
        for name, value, row in values:
            metric, convention = name.rstrip("]").split("[")
            column = metric if convention == "smfnet" else name
            if math.isnan(value):
                assert column in measured.missing, row
                differences[convention, metric].append(0.0)
            else:
                differences[convention, metric].append(abs(measured[column] - value) / max(abs(value), 1e-300))
    return differences, left_out, unexplained


def tolerance(convention, metric):
    if convention not in FLOAT32:
        return TOLERANCE
    return FLOAT32[convention].get(metric, FLOAT32_OTHERS)


def test_conventions_equal_the_public_evaluators(shared):
    differences, _, unexplained = compare()
    assert not unexplained
    for (convention, metric), found in differences.items():
        assert max(found) <= tolerance(convention, metric), (convention, metric, max(found))
    compared = defaultdict(set)
    for convention, metric in differences:
        compared[convention].add(metric)
    for convention in ("cddfuse", "smfnet", "tang", "metric_python", "li", "liu", "zoo"):
        assert compared[convention] == set(CONVENTIONS[convention].definitions)
    assert compared["tsjnet"] >= {"SSIM", "CV", "VIF"}
    assert compared["mefb"] >= {"QTE185", "QNCIE", "QP", "QC", "QY", "QW", "FMI-edge", "MEF-MS-SSIM"}
    assert compared["vifb"] >= set(CONVENTIONS["vifb"].definitions) - {"Qabf"}


def test_psnr_of_one_pair_differs_by_name_alone(shared):
    base = shared / "specs" / "reference_images"
    paths = [base / f"RoadScene_FLIR_06995_{role}.png" for role in ("F_mean", "ir", "vi")]
    scores = evalkit.evaluate(*paths, ["PSNR", "PSNR[tang]", "PSNR[vifb]"])
    assert scores["PSNR[tang]"] - scores["PSNR"] == pytest.approx(20 * math.log10(255))
    assert scores["PSNR[vifb]"] > 50 > scores["PSNR"]


def test_every_metric_has_a_card_and_every_card_a_metric():
    from evalkit.metrics.card import METRICS as CARDS

    fusion = {card.name for card in CARDS.values() if card.task == "fusion"}
    learned = {card.name for card in packages.CARDS}  # have a convention where their package is installed
    assert {m for c in CONVENTIONS.values() for m in c.definitions} | learned == fusion
    assert all(card.convention for card in CARDS.values() if card.task != "fusion")


def test_the_docs_say_where_every_metric_comes_from():
    text = (Path(__file__).resolve().parents[1] / "docs" / "conventions.md").read_text()
    table = text.split("## Where the metrics come from")[1].split("\n## ")[0]
    named = {
        name for line in table.splitlines() if line.startswith("| ") for name in line.split("|")[1].strip().split(", ")
    }
    assert {name for c in CONVENTIONS.values() for name in c.definitions} <= named


def extreme_images():
    """Name -> an image of which many metrics are 0/0, (80, 83)."""
    rows, columns = np.indices((80, 83))
    return {
        "black": np.zeros((80, 83), np.uint8),
        "white": np.full((80, 83), 255, np.uint8),
        "stripes": (columns % 3 * 100).astype(np.uint8),
        "two halves": np.where(rows < 40, 17, 201).astype(np.uint8),
        "one pixel": np.where((rows == 40) & (columns == 41), 255, 0).astype(np.uint8),
        "noise": np.random.default_rng(5).integers(0, 256, (80, 83), dtype=np.uint8),
    }


@pytest.mark.parametrize("fused", extreme_images())
@pytest.mark.filterwarnings("error")
def test_extreme_images_give_values_or_reasons(fused):
    """Whatever the three images: a finite number, or none and why; never a warning, an exception or infinity."""
    images = extreme_images()
    names = [f"{m}[{c}]" for c, convention in CONVENTIONS.items() for m in convention.definitions]
    for infrared, visible in (("noise", "stripes"), ("two halves", "one pixel"), ("black", "white"), (fused, fused)):
        scores = evalkit.evaluate(images[fused], images[infrared], images[visible], names, "vifb")
        for name, value in scores.items():
            assert math.isfinite(value) != (name in scores.missing), (infrared, visible, name, value)


if __name__ == "__main__":
    found, left_out, unexplained = compare()
    print(f"{'convention':14}{'metric':12}{'rows':>5}  worst relative difference")
    for (convention, metric), values in sorted(found.items()):
        print(f"{convention:14}{metric:12}{len(values):5}  {max(values):.1e}")
    print("\nrows left out")
    for (dialect, reason), count in sorted(left_out.items()):
        print(f"{count:4}  {dialect}: {reason}")
    print(f"unexplained: {len(unexplained)}")
