"""Every convention against the public evaluators' values: `python tests/test_conventions.py` prints the agreement."""

from __future__ import annotations

import csv
import fnmatch
import math
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import evalkit
from evalkit.metrics.card import CONVENTIONS

SHARED = Path(__file__).resolve().parents[2] / "shared"
TOLERANCE = {"cddfuse": 1e-9, "smfnet": 1e-9, "tang": 1e-6, "tsjnet": 1e-6, "vifb": 1e-6, "textbook": 1e-6}

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
    ("zhengliu_matlab", "CV", [("tsjnet", None, 1)]),
    ("zhengliu_matlab", "MI_normalised_sw1", [("textbook", "NMI", 1)]),
    ("vifb_matlab_*", "*", [("vifb", None, 1)]),
    ("skimage_gauss11_sum_L255*", "SSIM", [("textbook", None, 0.5)]),
    ("han2013_gray", "VIFF", [("textbook", None, 1)]),
    ("nabf_matlab_0-255_correct_order", "Nabf", [("textbook", None, 1)]),
]
# metric names of the benchmark's file that differ here
SAME = {"CB": "CB", "Variance": "SD", "Cross_entropy": "CE"}
LEFT_OUT = [
    ("*_float32_as_read", "*", "the float64 rows' formulas on float32 sums: 1e-7 apart, no convention of its own"),
    ("*_float32_as_read_*", "*", "the same"),
    ("bfliu_matlab_*", "*", "a copy of VIFB's code with defects of its own, behind no table of the five papers"),
    ("ivif_zoo_torch_f32", "*", "another toolbox in float32, behind no table of the five papers"),
    ("linfeng_matlab", "VIF_ir VIF_vi", "the two parts of VIF, whose sum is compared"),
    ("linfeng_matlab", "*", "not printed in any of the tables"),
    ("matlab_uint8_L255_mean", "*", "SSIM is compared"),
    ("zhengliu_matlab", "CB", "differs from vifb's by rounding before the stretch; held in test_perceptual"),
    ("zhengliu_matlab", "*", "metrics that no table of the five papers prints"),
    ("skimage_*", "*", "other windows, ranges or bins of scikit-image, behind no table of the five papers"),
    (
        "piq_multi_scale_ssim_sum",
        "*",
        "pads odd sizes at the top left, Wang at the bottom right; held in test_perceptual",
    ),
    ("piq_*", "*", "equal to rows compared here, or with piq's own downsampling"),
    ("torchmetrics_*", "*", "equal to rows compared here, or with the reflected border of torchmetrics"),
    ("matr_vifvec_*", "*", "VIF in the wavelet domain, behind no table of the five papers"),
    ("nestfuse_vifvec_*", "*", "VIF in the wavelet domain, behind no table of the five papers"),
    ("rfnnest_matlab_0-1", "*", "Nabf of images in 0..1, behind no table of the five papers"),
    ("mef_*", "*", "MEF-SSIM: a measure of multi-exposure fusion"),
]


def rows():
    path = SHARED / "specs" / "reference_values.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def find(table, row):
    """The first line of `BELONGS` or `LEFT_OUT` that covers a row."""
    for dialect, metrics, what in table:
        if fnmatch.fnmatch(row["dialect"], dialect) and (metrics == "*" or row["metric"] in metrics.split()):
            return what
    return None


def compare():
    """(convention, metric) -> [relative differences]; reasons of the rows left out -> count; rows nobody explains."""
    base = SHARED / "specs" / "reference_images"
    measured = {}
    differences, left_out, unexplained = defaultdict(list), Counter(), []
    for row in rows():
        belongs = find(BELONGS, row)
        if belongs is None:
            reason = find(LEFT_OUT, row)
            if reason is None:
                unexplained.append(row)
            left_out[row["dialect"], reason] += 1
            continue
        for convention, name, factor in belongs:
            metric = name or SAME.get(row["metric"], row["metric"])
            image = f"{row['dataset']}_{row['image']}"
            key = (image, row["fusion"], convention)
            if key not in measured:
                paths = [base / f"{image}_{role}.png" for role in (f"F_{row['fusion']}", "ir", "vi")]
                metrics = [m for m in CONVENTIONS[convention].definitions if m not in ("FMI", "MS-SSIM")]
                if convention == "smfnet":
                    metrics.append("MS-SSIM")
                measured[key] = evalkit.evaluate(*paths, metrics, convention)
            value, expected = measured[key][metric], factor * float(row["value"])
            if math.isnan(expected):
                assert metric in measured[key].missing, row
                differences[convention, metric].append(0.0)
            else:
                differences[convention, metric].append(abs(value - expected) / max(abs(expected), 1e-300))
    return differences, left_out, unexplained


def test_conventions_equal_the_public_evaluators(shared):
    differences, _, unexplained = compare()
    assert not unexplained
    for (convention, metric), found in differences.items():
        assert max(found) <= TOLERANCE[convention], (convention, metric, max(found))
    compared = {convention: {m for c, m in differences if c == convention} for convention in TOLERANCE}
    assert compared["cddfuse"] == set(CONVENTIONS["cddfuse"].definitions)
    assert compared["smfnet"] == set(CONVENTIONS["smfnet"].definitions)
    assert compared["tang"] == set(CONVENTIONS["tang"].definitions)
    assert compared["tsjnet"] >= {"SSIM", "CV"}
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
    assert {m for c in CONVENTIONS.values() for m in c.definitions} == fusion
    assert all(card.convention for card in CARDS.values() if card.task != "fusion")


if __name__ == "__main__":
    found, left_out, unexplained = compare()
    print(f"{'convention':11}{'metric':9}{'rows':>5}  worst relative difference")
    for (convention, metric), values in sorted(found.items()):
        print(f"{convention:11}{metric:9}{len(values):5}  {max(values):.1e}")
    print("\nrows left out")
    for (dialect, reason), count in sorted(left_out.items()):
        print(f"{count:4}  {dialect}: {reason}")
    print(f"unexplained: {len(unexplained)}")
