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
TOLERANCE |= {"liu": 1e-9, "mefb": 1e-9, "zoo": 2e-7}
# float32 programs divide by variances that are small against the squares they are differences of
TOLERANCE_OF_METRIC = {("zoo", "SSIM"): 1e-4, ("zoo", "VIF"): 2e-5}

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
    ("ivif_zoo_torch_f32", "MS-SSIM Nabf", "as metric_python's"),
    ("metric_python_f32", "*", "not yet"),
    ("fmi_*", "*", "not yet"),
    ("mef_port_of_matlab", "*", "not yet"),
    ("nestfuse_matlab_0-1", "*", "not yet"),
    ("rfnnest_matlab", "*", "not yet"),
    ("sheikh_*", "*", "not yet"),
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
    ("matr_vifvec_*", "*", "VIF in the wavelet domain, behind no table of the five papers"),
    ("nestfuse_vifvec_*", "*", "VIF in the wavelet domain, behind no table of the five papers"),
    ("rfnnest_matlab_0-1", "*", "Nabf of images in 0..1, behind no table of the five papers"),
    ("mef_*", "*", "MEF-SSIM: a measure of multi-exposure fusion"),
]
# single rows whose value is one of rounding
BY_CHANCE = {
    ("ivif_zoo_torch_f32", "TNO", "visible", "QNCIE"): "the fused image is the visible one: an eigenvalue is 0, "
    "float32 makes it negative and the program NaN; on RoadScene it comes out positive, which is the value here"
}


def rows():
    """The rows of both files of reference values."""
    found = []
    for path in (SHARED / "specs" / "reference_values.csv", SHARED / "specs" / "reference_values2.csv"):
        if path.is_file():
            with open(path, newline="") as file:
                found += csv.DictReader(file)
    return found


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
        tolerance = TOLERANCE_OF_METRIC.get((convention, metric), TOLERANCE[convention])
        assert max(found) <= tolerance, (convention, metric, max(found))
    compared = {convention: {m for c, m in differences if c == convention} for convention in TOLERANCE}
    assert compared["cddfuse"] == set(CONVENTIONS["cddfuse"].definitions)
    assert compared["smfnet"] == set(CONVENTIONS["smfnet"].definitions)
    assert compared["tang"] == set(CONVENTIONS["tang"].definitions)
    assert compared["tsjnet"] >= {"SSIM", "CV"}
    assert compared["liu"] == set(CONVENTIONS["liu"].definitions)
    assert compared["zoo"] == set(CONVENTIONS["zoo"].definitions)
    assert compared["mefb"] >= {"QTE185", "QNCIE", "QP", "QC", "QY", "QW"}
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
