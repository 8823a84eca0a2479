"""The audit: each check on a small table with the defect and without it, and on the tables that are shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import floor, log10
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import evalkit
from evalkit.cli import main
from evalkit.errors import DataError, UnknownNameError
from evalkit.leaderboards.audit import (
    across,
    audit,
    audit_rows,
    claims,
    duplicates,
    marks,
    means,
    parameters,
    psnr,
    ranges,
    relations,
)
from evalkit.leaderboards.audit.finding import Finding, Interval, cut, rounded
from evalkit.leaderboards.audit.report import CHECKS
from evalkit.methods.registry import method_card
from evalkit.protocols.schema import protocol, protocols, rows_of
from evalkit.protocols.table.published import PublishedRow, read_rows

DOCS = Path(__file__).resolve().parents[1] / "docs"


def table(text: str, dataset: str = "", protocol: str = "mine") -> list[PublishedRow]:
    """Rows from a grid: a line of columns ("EN", or "Car:IoU" with a class), a line per method; "-" is an empty cell,
    "*" marks best and "°" second."""
    head, *lines = [line.split() for line in text.strip().splitlines()]
    rows = []
    for method, *cells in lines:
        for column, cell in zip(head, cells, strict=True):
            class_, _, metric = column.rpartition(":")
            mark = {"*": "best", "°": "second"}.get(cell[-1], "")
            printed = "" if cell == "-" else cell.rstrip("*°")
            rows.append(PublishedRow(protocol, dataset, "", method, class_, metric, printed, mark))
    return rows


def sure(findings: Sequence[Finding]) -> list[str]:
    return [finding.sure for finding in findings]


# ---- intervals


def test_a_printed_number_is_all_that_round_to_it() -> None:
    row = table("EN\na 0.50")[0]
    assert rounded(row) == Interval(Fraction("0.495"), Fraction("0.505"))
    assert cut(row) == Interval(Fraction("0.495"), Fraction("0.51"))
    negative = table("SCD\na -0.50")[0]
    assert cut(negative) == Interval(Fraction("-0.51"), Fraction("-0.495"))


# ---- means


SOUND = """
Car:IoU Person:IoU Bike:IoU mean:IoU
a 80.0 70.0 60.0 70.0
b 81.5 66.3 61.9 69.9
c 79.9 71.1 55.0 68.7
"""


def test_sound_means_give_nothing() -> None:
    assert list(means.check(table(SOUND))) == []


def test_a_mean_that_is_none_is_found_with_the_right_value() -> None:
    (found,) = means.check(table(SOUND.replace("69.9", "72.4")))
    assert (found.sure, found.row, found.printed, found.column) == ("certain", "b", "72.4", "mean IoU")
    low, high = (float(end) for end in found.recomputed.split(" .. "))
    assert low <= (81.5 + 66.3 + 61.9) / 3 <= high


def test_a_mean_that_was_cut_off_is_only_possible() -> None:
    text = SOUND.replace("79.9 71.1 55.0 68.7", "79.90 71.10 55.00 68.6")  # 68.667: 68.7 rounded, 68.6 cut off
    (found,) = means.check(table(text))
    assert found.sure == "possible"


def test_a_mean_of_another_row_is_explained_by_it() -> None:
    (found,) = means.check(table(SOUND.replace("69.9", "68.7")))
    assert "mean of the row c" in found.explanation


def test_fractions_beside_percent() -> None:
    text = SOUND.replace(" 70.0\nb", " 0.700\nb").replace("69.9", "0.699").replace("68.7", "0.687")
    (found,) = means.check(table(text))
    assert (found.check, found.sure, found.recomputed) == ("units", "certain", "70.0")


def test_a_class_that_is_not_printed_is_solved_for() -> None:
    hidden = {"a": 10.0, "b": 3.0, "c": 7.5}
    rows = [row for row in table(SOUND) if row.class_ != "mean"]
    for method, value in hidden.items():
        cells = [float(row.printed) for row in rows if row.method == method]
        mean = (sum(cells) + value) / 4
        rows.append(PublishedRow("mine", "", "", method, "mean", "IoU", f"{mean:.1f}"))
    (found,) = means.check(rows)
    assert found.row == ""
    assert "over 4 classes" in found.explanation
    for method, value in hidden.items():
        span = found.explanation.split(f"{method} needs ")[1].split(" there")[0].split(" .. ")
        assert float(span[0]) <= value <= float(span[1])


def test_means_that_no_class_explains_are_found_one_by_one() -> None:
    text = SOUND.replace(" 70.0\nb", " 99.0\nb").replace("69.9", "98.0").replace("68.7", "97.0")
    found = list(means.check(table(text)))
    assert [(f.row, f.sure) for f in found] == [("a", "certain"), ("b", "certain"), ("c", "certain")]
    assert all("no class alone" in f.explanation for f in found)


def test_an_empty_cell_follows_from_the_mean() -> None:
    (found,) = means.check(table(SOUND.replace("66.3", "-")))
    assert (found.check, found.row, found.column, found.sure) == ("missing cell", "b", "Person IoU", "likely")
    low, high = (float(end) for end in found.recomputed.split(" .. "))
    assert low <= 66.3 <= high


def test_an_empty_cell_that_no_value_fills() -> None:
    (found,) = means.check(table(SOUND.replace("66.3", "-").replace("69.9", "99.0")))
    assert (found.check, found.sure) == ("missing cell", "certain")


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.lists(st.integers(0, 10**6), min_size=3, max_size=3), min_size=2, max_size=6),
    decimals=st.integers(1, 4),
    percent=st.booleans(),
    cut_off=st.booleans(),
)
def test_rounding_a_true_mean_is_never_a_contradiction(
    values: list[list[int]], decimals: int, percent: bool, cut_off: bool
) -> None:
    def printed(value: Fraction) -> str:
        scaled = value * (100 if percent else 1) * 10**decimals
        digits = floor(scaled) if cut_off else round(scaled)
        return f"{digits // 10**decimals}.{digits % 10**decimals:0{decimals}d}"

    rows = []
    for number, cells in enumerate(values):
        fractions = [Fraction(cell, 10**6) for cell in cells]
        for class_, value in zip(("x", "y", "z"), fractions, strict=True):
            rows.append(PublishedRow("mine", "", "", f"m{number}", class_, "IoU", printed(value)))
        rows.append(PublishedRow("mine", "", "", f"m{number}", "mean", "IoU", printed(sum(fractions) / Fraction(3))))
    found = list(means.check(rows))
    assert "certain" not in sure(found)
    assert cut_off or not found


# ---- repetitions


VARIED = """
EN SD SF AG VIF
a 6.5822 30.9861 6.5973 2.6512 0.5513
b 6.6421 35.1442 9.1120 3.5012 0.6021
c 6.9903 41.2207 8.4411 3.2265 0.4972
d 7.1203 46.0011 13.1543 4.7431 0.7682
"""


def test_different_rows_give_nothing() -> None:
    assert list(duplicates.check(table(VARIED))) == []


def test_a_row_that_repeats_another_is_certain() -> None:
    text = VARIED + "e 6.6421 35.1442 9.1120 3.5012 0.6021"
    (found,) = duplicates.check(table(text))
    assert (found.check, found.sure, found.row) == ("repeated row", "certain", "e")
    assert found.recomputed == "5 of 5 cells equal to b"


def test_a_segment_of_a_row_is_likely() -> None:
    (found,) = duplicates.check(table(VARIED + "e 6.6421 35.1442 9.1120 4.0001 0.7001"))
    assert (found.sure, found.recomputed) == ("likely", "3 of 5 cells equal to b")


def test_a_column_that_repeats_another() -> None:
    lines = VARIED.strip().splitlines()
    text = "\n".join([lines[0] + " SCD", *(line + " " + line.split()[3] for line in lines[1:])])
    (found,) = duplicates.check(table(text))
    assert (found.check, found.column, found.recomputed) == ("repeated column", "SCD", "4 of 4 cells equal to SF")


def test_a_row_copied_from_another_data_set() -> None:
    other = VARIED.replace("6.", "5.").replace("3", "2").replace("4", "9")
    copied = other.replace(other.strip().splitlines()[2], VARIED.strip().splitlines()[2])
    clean, wrong = (table(VARIED, "TNO") + table(text, "MSRS") for text in (other, copied))
    assert list(duplicates.check(clean)) == []
    assert [(f.block, f.row) for f in duplicates.check(wrong)] == [("MSRS", "b")]


def test_coarse_columns_agree_by_chance() -> None:
    text = "S F E\na .88 .84 .92\nb .88 .85 .92\nc .87 .84 .92\nd .88 .84 .91\ne .88 .84 .92"
    assert list(duplicates.check(table(text))) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 6))
def test_the_tail_of_unequal_chances_by_brute_force(chances: list[float], count: int) -> None:
    total = 0.0
    for size in range(count, len(chances) + 1):
        for hit in combinations(range(len(chances)), size):
            product = 1.0
            for i, chance in enumerate(chances):
                product *= chance if i in hit else 1 - chance
            total += product
    assert duplicates.at_least(count, chances) == pytest.approx(total, abs=1e-9)


def test_a_cell_copied_from_another_block() -> None:
    text = "\n".join(f"m{i} {0.90 - i / 100:.3f} {0.80 - i / 100:.3f} {0.70 - i / 50:.3f}" for i in range(8))
    here = table("S E F\n" + text, "VT1000")
    there = [replace(row, dataset="VT5000", printed=f"{float(row.printed) - 0.055:.3f}") for row in here]
    assert [f for f in duplicates.check(here + there) if f.check == "repeated cell"] == []
    copied = [row if row.key != ("VT5000", "m5", "E") else replace(row, printed="0.750") for row in there]
    (found,) = [f for f in duplicates.check(here + copied) if f.check == "repeated cell"]
    assert (found.sure, found.block, found.row, found.column) == ("possible", "VT5000", "m5", "E")
    assert "1 of 8 here, its other columns 6, 6" in found.explanation


# ---- PSNR


def psnr_rows(peak: float, mses: list[list[float]]) -> list[PublishedRow]:
    """Rows of images with these MSEs: the printed means of PSNR and of MSE."""
    lines = ["PSNR MSE"]
    for number, values in enumerate(mses):
        mean_psnr = sum(10 * log10(peak**2 / value) for value in values) / len(values)
        lines.append(f"m{number} {mean_psnr:.3f} {sum(values) / len(values):.4f}")
    return table("\n".join(lines))


GRAY = [[900.0, 1500.0, 2200.0], [400.0, 3000.0, 1000.0], [100.0, 120.0, 90.0]]


@pytest.mark.parametrize(
    ("peak", "scale", "says"),
    [(255, 1, "of the same range, [0, 255]"), (1, 65025, "of the same range, [0, 1]"), (255, 65025, "48.13 dB too")],
)
def test_the_peak_is_found(peak: int, scale: int, says: str) -> None:
    (found,) = psnr.check(psnr_rows(peak, [[value / scale for value in values] for values in GRAY]))
    assert (found.check, found.recomputed) == ("psnr peak", f"peak {peak}")
    assert "3 of 3 pairs" in found.explanation
    assert says in found.explanation


def test_a_mean_psnr_below_the_psnr_of_the_mean_is_impossible() -> None:
    rows = psnr_rows(255, GRAY)
    rows[0] = PublishedRow("mine", "", "", "m0", "", "PSNR", "12.000")
    found = [f for f in psnr.check(rows) if f.check == "psnr row"]
    assert [(f.row, f.sure) for f in found] == [("m0", "certain")]
    assert "at least 16.2" in found[0].recomputed


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(50, 5000), min_size=1, max_size=8), min_size=2, max_size=5))
def test_jensen_is_never_broken_by_true_means(mses: list[list[float]]) -> None:
    assert "certain" not in sure(list(psnr.check(psnr_rows(255, mses))))


# ---- ranges, digits, relations


def test_values_outside_their_range() -> None:
    found = list(ranges.check(table("EN Qabf SD\na 7.1 0.5 40.2\nb 71.2 0.6 41.0\nc 7.3 1.4 -3.0")))
    assert [(f.column, f.row, f.sure) for f in found] == [
        ("EN", "b", "certain"),
        ("Qabf", "c", "certain"),
        ("SD", "c", "certain"),
    ]


def test_percent_is_no_fraction_out_of_range() -> None:
    assert list(ranges.check(table("Car:IoU\na 91.2\nb 88.1\nc 90.4"))) == []
    (found,) = ranges.check(table("Car:IoU\na 91.2\nb 888.1\nc 90.4"))
    assert (found.row, found.recomputed) == ("b", "0 .. 100")


def test_a_sum_over_two_sources_is_a_convention_and_a_mixture_is_likely() -> None:
    (one,) = ranges.check(table("SSIM\na 1.31\nb 1.40\nc 0.96\nd 1.22"))
    (mixed,) = ranges.check(table("SSIM\na 1.31\nb 1.40\nc 0.21\nd 1.22"))
    assert (one.check, one.sure, mixed.sure) == ("convention", "possible", "likely")
    assert "two conventions" in mixed.explanation
    assert list(ranges.check(table("SSIM\na 0.31\nb 0.40\nc 0.21\nd 0.22"))) == []


def test_a_cost_of_another_magnitude() -> None:
    text = "FLOPs\na 27\nb 115\nc 7\nd 206\ne {}"
    assert list(ranges.check(table(text.format("1")))) == []
    (found,) = [f for f in ranges.check(table(text.format("0.001"))) if f.check == "magnitude"]
    assert (found.row, found.sure) == ("e", "likely")


def test_digits_that_differ_from_the_column() -> None:
    (zeros,) = ranges.check(table("EN\na 6.5821\nb 7.365\nc 6.9912\nd 7.1238"))
    assert "no cell of the table ends in a zero" in zeros.explanation
    (lost,) = ranges.check(table("EN\na 6.5820\nb 7.365\nc 6.9912\nd 7.1230"))
    assert lost.explanation.endswith("digits lost")
    assert list(ranges.check(table("EN\na 6.5820\nb 7.3650\nc 6.9912\nd 7.1230"))) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("F_mean F_max\na 0.81 0.84", "F_mean F_max\na 0.87 0.84"),
        ("Car:IoU Car:Acc\na 81.2 90.1", "Car:IoU Car:Acc\na 91.2 90.1"),
        ("AP50 AP50:95\na 0.81 0.52", "AP50 AP50:95\na 0.51 0.82"),
        ("RMSE MSE\na 10.0 101.0", "RMSE MSE\na 10.0 98.0"),
        ("AG SF\na 4.5 11.0", "AG SF\na 9.5 11.0"),
        ("MI EN\na 4.2 7.0", "MI EN\na 15.2 7.0"),
    ],
)
def test_relations(good: str, bad: str) -> None:
    def rows(text: str) -> list[PublishedRow]:
        # AP50:95 is one metric, not a class
        head, line = text.splitlines()
        if "AP50:95" in head:
            values = dict(zip(head.split(), line.split()[1:], strict=True))
            return [PublishedRow("mine", "", "", "a", "", metric, value) for metric, value in values.items()]
        return table(text)

    assert list(relations.check(rows(good))) == []
    assert [f.check for f in relations.check(rows(bad))] == ["relation"]


def test_a_row_that_is_far_out_altogether_lost_no_decimal_point() -> None:
    others = "\n".join(f"{m} 0.4{i} 0.5{i}" for i, m in enumerate("bcde"))
    (alone,) = [f for f in ranges.check(table("SSIM VIF\na 0.04 0.52\n" + others)) if f.check == "magnitude"]
    (row,) = [f for f in ranges.check(table("SSIM VIF\na 0.04 0.10\n" + others)) if f.check == "magnitude"]
    assert (alone.sure, row.sure) == ("likely", "possible")
    assert "far out in VIF, too" in row.explanation


# ---- marks


def test_right_marks_give_nothing() -> None:
    assert list(marks.check(table("EN MSE\na 7.1* 10\nb 6.9° 8°\nc 6.5 7*"))) == []


def test_wrong_marks() -> None:
    found = list(marks.check(table("EN MSE\na 7.2* 10*\nb 7.3 8°\nc 7.1° 11")))
    assert [(f.row, f.column, f.sure) for f in found] == [
        ("b", "EN", "certain"),
        ("a", "MSE", "certain"),
        ("b", "MSE", "certain"),
    ]
    assert found[0].recomputed == "a 7.2 (best), c 7.1 (second)"
    assert found[1].recomputed == "b 8"


def test_marks_that_the_digits_or_the_text_leave_open() -> None:
    assert list(marks.check(table("EN\na 7.1*\nb 7.12°\nc 6.5"))) == []  # 7.1 may stand for 7.14
    assert list(marks.check(table("EN\na 7.3\nb 7.2°\nc 6.5"))) == []  # the best marks did not survive
    (found,) = marks.check(table("EN\na 7.3°\nb 7.2\nc 6.5"))
    assert (found.row, found.recomputed) == ("a", "best")


def test_equal_values_marked_differently_are_only_possible() -> None:
    assert sure(list(marks.check(table("EN\na 7.1*\nb 7.1\nc 6.5")))) == ["possible"]
    assert list(marks.check(table("EN\na 7.1*\nb 7.1*\nc 6.5°"))) == []
    assert list(marks.check(table("EN\na 7.1*\nb 7.1°\nc 6.5"))) == []


def test_source_images_do_not_compete_unless_marked() -> None:
    assert list(marks.check(table("Car:IoU\nVisible 92.1\na 91.0*\nb 90.2°"))) == []


# ---- parameters


def test_parameters_counted_once_twice_and_otherwise() -> None:
    once = {name: method_card(name).parameters or 0 for name in ("DIDFuse", "DenseFuse", "DeFusion")}
    lines = ["Params"] + [f"{name} {count / 1000:.0f}" for name, count in once.items()]
    assert list(parameters.check(table("\n".join(lines)))) == []
    lines[1] = f"DIDFuse {1.43 * once['DIDFuse'] / 1000:.0f}"
    (found,) = parameters.check(table("\n".join(lines)))
    assert (found.row, found.sure) == ("DIDFuse", "likely")
    assert "once per modality" in found.explanation
    lines[1] = f"DIDFuse {5 * once['DIDFuse'] / 1000:.0f}"
    (found,) = parameters.check(table("\n".join(lines)))
    assert "another version" in found.explanation


# ---- claims


CLAIMED = table("EN MSE Car:AP50\na 7.0 10 0.80\nb 7.2 8 0.70\nc 7.1 9 0.60", "TNO")


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ({"kind": "best", "method": "b", "metric": "EN"}, []),
        ({"kind": "best", "method": "b", "metric": "MSE"}, []),
        ({"kind": "best", "method": "b"}, ["certain"]),
        ({"kind": "second", "method": "c", "metric": ["EN", "MSE"]}, []),
        ({"kind": "second", "method": "b", "metric": "EN"}, ["certain"]),
        ({"kind": "greater", "of": "b", "than": "others", "metric": "EN"}, []),
        ({"kind": "greater", "of": "others", "than": "c", "metric": "EN"}, ["certain"]),
        ({"kind": "increasing", "metric": "EN", "methods": ["a", "c", "b"]}, []),
        ({"kind": "decreasing", "metric": "EN", "methods": ["b", "a", "c"]}, ["certain"]),
        ({"kind": "range", "metric": "MSE", "low": 8, "high": 10}, []),
        ({"kind": "range", "metric": "MSE", "low": 9.6}, ["certain"]),
        ({"kind": "value", "method": "a", "metric": "MSE", "printed": "10"}, []),
        ({"kind": "value", "method": "a", "metric": "MSE", "printed": "8"}, ["certain"]),
        ({"kind": "count", "what": "methods", "of": "others", "printed": "2"}, []),
        ({"kind": "count", "what": "metrics", "printed": "2"}, ["certain"]),
        ({"kind": "count", "what": "metrics", "printed": "4"}, ["likely"]),
        ({"kind": "count", "what": "best", "method": "b", "printed": "2"}, []),
        ({"kind": "improvement", "metric": "MSE", "of": "b", "over": "a", "printed": "20"}, []),
        ({"kind": "improvement", "metric": "EN", "of": "b", "over": "mean", "printed": "2.1"}, []),
        ({"kind": "improvement", "metric": "EN", "of": "b", "over": "best", "printed": "60"}, ["certain"]),
        ({"kind": "improvement", "metric": "AP50", "of": "a", "over": "b", "printed": "10.0", "unit": "points"}, []),
        ({"kind": "improvement", "metric": "AP50", "of": "a", "over": "b", "printed": "10.0"}, ["likely"]),
        ({"kind": "mean", "metric": "AP50", "class": "mean"}, []),
    ],
)
def test_claims(claim: dict, expected: list[str]) -> None:
    found = list(claims.check(CLAIMED, [{"text": "so it is", **claim}], own="b"))
    assert sure(found) == expected
    assert all("the text says: so it is" in finding.explanation for finding in found)


def test_a_claim_in_percent_of_the_own_value_is_named() -> None:
    rows = table("mean:AP50\na 80.0\nb 60.0")
    claim = {"text": "25 %", "kind": "improvement", "metric": "AP50", "of": "a", "over": "b", "printed": "25.0"}
    (found,) = claims.check(rows, [claim])
    assert "relative to a's own value" in found.explanation
    assert found.recomputed.startswith("33.")


def test_a_claim_that_only_unrounded_numbers_bear_out_is_possible() -> None:
    rows = table("mean:AP50\na 0.860\nb 0.843\nc 0.855\nd 0.860\ne 0.824\nf 0.821\ng 0.835\nh 0.811")
    claim = {"text": "x", "kind": "improvement", "metric": "AP50", "of": "a", "over": "mean", "printed": "2.84"}
    (found,) = claims.check(rows, [claim])
    assert found.sure == "possible"
    assert "relative to a's own value" in found.explanation
    assert list(claims.check(rows, [{**claim, "printed": "2.93"}])) == []


def test_one_claim_about_columns_and_about_many_cells() -> None:
    columns = {"text": "x", "kind": "greater", "metric": "EN", "than": "MSE"}
    found = list(claims.check(CLAIMED, [columns]))
    assert sure(found) == ["certain"] * 3
    assert list(claims.check(CLAIMED, [{**columns, "metric": "MSE", "than": "EN"}])) == []
    many = table("EN SD SF AG VIF\na 1 1 1 1 9\nb 2 2 2 2 2", "TNO")
    (one,) = claims.check(many, [{"text": "a leads", "kind": "best", "method": "a"}])
    assert (one.row, one.block, one.column) == ("a", "TNO", "")
    assert "Not so in 4 cells" in one.explanation


@pytest.mark.parametrize(
    "claim",
    [
        {"kind": "bests", "method": "a"},
        {"kind": "best", "method": "aa"},
        {"kind": "best"},
        {"kind": "best", "method": "a", "metric": "ENN"},
        {"kind": "best", "method": "a", "blocks": ["TN"]},
        {"kind": "count", "what": "method", "printed": "1"},
    ],
)
def test_claims_that_cannot_be_tested_say_why(claim: dict) -> None:
    with pytest.raises((DataError, UnknownNameError)) as caught:
        list(claims.check(CLAIMED, [{"text": "x", **claim}]))
    assert "claim" in str(caught.value)


def of_claims(rows: list[PublishedRow], claim: dict, **more: list[PublishedRow]) -> list[Finding]:
    return list(claims.check(rows, [{"text": "so it is", **claim}], own="a", tables=more))


@pytest.mark.parametrize(
    ("cells", "claim", "expected"),
    [
        # numbers with other decimals: 0.7 may be any of 0.65 .. 0.8
        ("a 0.7 0.70\nb 0.72 0.72", {"kind": "best", "method": "a"}, ["certain", "possible"]),
        ("a 7.1 1.0\nb 7.3 3.0\nc 7.2 2.0", {"kind": "best", "method": ["b", "c"]}, []),
        ("a 7.1 2.5\nb 7.3 3.0\nc 7.2 2.0", {"kind": "best", "method": ["b", "c"]}, ["certain"]),
        # ties of the second: with another second, behind two equal ones, beside an equal best, and none
        ("a 7.1 1\nb 7.3 3\nc 7.1 2", {"kind": "second", "method": "a", "metric": "EN"}, ["possible"]),
        ("a 7.1 1\nb 7.3 3\nc 7.3 2", {"kind": "second", "method": "a", "metric": "EN"}, ["possible"]),
        ("a 7.3 1\nb 7.3 3\nc 7.1 2", {"kind": "second", "method": "a", "metric": "EN"}, ["possible"]),
        ("a 7.1 1\nb 7.3 3\nc 7.0 2", {"kind": "second", "method": "a", "metric": "EN"}, []),
        # columns counted: equal values count for the claim and against it
        ("a 7.1 5\nb 7.1 3\nc 7.0 2", {"kind": "count", "what": "best", "method": "a", "printed": "1"}, []),
        ("a 7.1 5\nb 7.1 3\nc 7.0 2", {"kind": "count", "what": "best", "method": "a", "printed": "2"}, []),
        ("a 7.1 5\nb 7.1 3\nc 7.0 2", {"kind": "count", "what": "best", "method": "a", "printed": "0"}, ["certain"]),
        ("a 7.1 5\nb 7.2 3\nc 7.0 2", {"kind": "count", "what": "second", "method": "b", "printed": "1"}, []),
        (
            "a 7.1 5\nb 7.2 3\nc 7.0 2",
            {"kind": "count", "what": "second", "method": "b", "printed": "most"},
            ["certain"],
        ),
        ("a 7.3 5\nb 7.2 3\nc 7.0 2", {"kind": "count", "what": "second", "method": "b", "printed": "most"}, []),
        # vaguer than its kind, and lost in the text
        ("a 7.1 1\nb 7.3 3", {"kind": "best", "method": "a", "metric": "EN", "at_most": "likely"}, ["likely"]),
        ("a 7.1 1\nb 7.3 3", {"kind": "best", "method": "a", "metric": "EN", "lost": True}, []),
    ],
)
def test_claims_of_rank(cells: str, claim: dict, expected: list[str]) -> None:
    assert sorted(sure(of_claims(table("EN SD\n" + cells, "TNO"), claim))) == expected


def over_blocks(text: str) -> list[PublishedRow]:
    """A line per method, a column per block: EN on each."""
    lines = [line.split() for line in text.splitlines()]
    return [
        row
        for i in range(1, len(lines[0]))
        for row in table("EN\n" + "\n".join(f"{c[0]} {c[i]}" for c in lines), f"B{i}")
    ]


@pytest.mark.parametrize(
    ("cells", "over", "expected", "words"),
    [
        ("a 3 3 3\nb 2 2 2\nc 1 1 1", "all", [], ""),
        ("a 3 3 1\nb 2 2 2\nc 1 1 1", "all", [], ""),  # best by mean and by mean rank
        (
            "a 5 1 1\nb 2 2 2\nc 1 0 0",
            "all",
            ["possible"],
            "best by the mean rank (b); true if it means best by the mean over the 3 blocks",
        ),
        ("a 3 3 3\nb 4 4 2\nc 1 1 4", "all", ["likely"], "true in no reading that was tried"),
        ("a 3 3 3\nb 4 4 4\nc 1 1 4", "all", ["certain"], "Better in every block: b"),
        ("a 3 3 3\nb 2 2 2\nc 1 1 1", "open", [], ""),
        (
            "a 3 3 1\nb 2 2 2\nc 1 1 1",
            "open",
            ["possible"],
            "best on every block (b); true if it means best by the mean",
        ),
        ("a 3 3 3\nb 4 4 2\nc 1 1 1", "open", ["likely"], "true if it means best on B3 alone"),
        ("a 3 3 3\nb 4 4 4\nc 1 1 1", "open", ["certain"], "Better in every block: b"),
    ],
)
def test_readings_of_best_over_several_blocks(cells: str, over: str, expected: list[str], words: str) -> None:
    found = of_claims(over_blocks(cells), {"kind": "best", "method": "a", "over": over})
    assert sure(found) == expected
    assert all(words in finding.explanation for finding in found)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(100, 120), min_size=3, max_size=3), min_size=2, max_size=4),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.randoms(use_true_random=False),
)
def test_what_is_certain_over_blocks_no_weights_and_no_lost_digits_turn_round(numbers, weights, random) -> None:
    """Behind a certain finding stands a rival that is ahead by every weighted mean of any numbers that print so."""
    text = "\n".join(f"m{i} " + " ".join(f"{n / 100:.2f}" for n in line) for i, line in enumerate(numbers))
    for over in ("all", "open"):
        for finding in of_claims(over_blocks(text), {"kind": "best", "method": "m0", "over": over}):
            if finding.sure == "certain":
                digit = [random.random() for _ in numbers[0]]  # what is cut off, of two numbers a unit apart or more
                scores = [
                    sum(w * (n + (d if i == 0 else 0.0)) for w, n, d in zip(weights, line, digit, strict=True))
                    for i, line in enumerate(numbers)
                ]
                assert max(scores[1:]) > scores[0]


def test_a_statement_about_two_tables_and_about_other_blocks() -> None:
    mine, theirs = table("EN\na 7.1\nb 7.0", "TNO", "x"), table("EN\na 6.0\nb 6.5", "MSRS", "y")
    claim = {"kind": "best", "method": "a", "over": "all", "tables": ["y"]}
    (found,) = of_claims(mine, claim, y=theirs)
    assert (found.protocol, found.sure) == ("x", "possible")
    assert found.printed.startswith("7.1, 6.0")
    with pytest.raises(UnknownNameError):
        of_claims(mine, claim)
    variants = [PublishedRow("x", "D", v, m, "", "EN", n) for v, m, n in (("s", "a", "7.1"), ("t", "b", "7.0"))]
    claim = {"kind": "greater", "of": "a", "than": "b", "than_blocks": "all"}
    assert of_claims(variants, claim) == []
    (found,) = of_claims(variants, {**claim, "of": "b", "than": "a"})
    assert (found.sure, found.recomputed) == ("certain", "a 7.1 (s)")
    with pytest.raises(DataError, match="compares nothing"):
        of_claims(variants, {"kind": "greater", "of": "a", "than": "b"})


@pytest.mark.parametrize(
    "claim",
    [
        {"kind": "best", "method": "a"},
        {"kind": "best", "method": "a", "over": "all"},
        {"kind": "second", "method": "a"},
        {"kind": "count", "what": "best", "method": "a", "printed": "1"},
        {"kind": "value", "method": "b", "printed": "1"},
        {"kind": "improvement", "of": "a", "over": "best", "printed": "1"},
    ],
)
def test_a_claim_that_compares_nothing_is_an_error(claim: dict) -> None:
    with pytest.raises(DataError, match="compares nothing"):
        of_claims(table("EN\na 7.1\nb -", "TNO"), claim)


def test_an_improvement_is_certainly_another_only_whatever_was_cut_off() -> None:
    rows = table("F\na 0.848\nb 0.708", "VT5000")
    claim = {"kind": "improvement", "metric": "F", "of": "a", "over": "b"}
    assert sure(of_claims(rows, {**claim, "printed": "20.1"})) == ["certain"]
    assert of_claims(rows, {**claim, "printed": "20.0"}) == []  # 0.84899 over 0.70751
    assert of_claims(rows, {**claim, "printed": "19.8"}) == []
    assert of_claims(table("F\na 0.848\nb 0.000"), {**claim, "printed": "20.1"}) == []  # percent of what may be zero


def changed(rows: list[PublishedRow]) -> Iterator[list[PublishedRow]]:
    """The same table with the numbers of one method or metric far up or down, and with one name more of each kind."""
    for key in ("method", "metric"):
        for name in dict.fromkeys(getattr(row, key) for row in rows):
            for factor in (Fraction(1, 100), 100):
                yield [
                    replace(row, printed=f"{float(Fraction(row.printed) * factor):.{row.decimals}f}")
                    if getattr(row, key) == name and row.printed
                    else row
                    for row in rows
                ]
    for key in ("method", "metric", "dataset", "class_"):
        yield [*rows, *(replace(row, **{key: "more"}) for row in rows)]


def test_every_shipped_claim_can_fail() -> None:
    """No claim of a protocol is a sentence that any table would bear out."""
    tables = {name: rows_of(protocol) for name, protocol in protocols().items()}
    for name, own in protocols().items():
        for claim in [claim.model_dump() for claim in own.claims]:
            assert claim["kind"] in claims.KINDS
            if not tables[name] or claim["kind"] == "mean" or claim.get("lost"):
                continue

            def places(rows: list[PublishedRow], claim: dict = claim, own: str = own.paper) -> list[str]:
                found = claims.check(rows, [claim], own, tables)
                return [f"{f.sure} {f.where} {f.recomputed}" for f in found]

            assert any(places(rows) != places(tables[name]) for rows in changed(tables[name])), (name, claim["text"])


# ---- between tables


def test_tables_that_agree_or_name_other_things_give_nothing() -> None:
    tables = {"x": table("EN\na 7.12\nb 6.9", "TNO"), "y": table("EN\na 7.1\nc 6.1", "TNO", "y")}
    assert list(across.check(tables, {})) == []
    assert list(across.check({**tables, "y": table("EN\na 6.1", "MSRS", "y")}, {})) == []


def test_one_paper_with_two_numbers_is_certain_where_the_rest_agrees() -> None:
    paper = {"x": across.Source("P"), "y": across.Source("P")}
    x, y = (table(f"EN SD SSIM\na 7.12 40.1 {ssim}", "TNO", name) for name, ssim in (("x", "1.33"), ("y", "0.96")))
    tables = {"x": x, "y": y}
    (found,) = across.check(tables, paper)
    (less,) = across.check({"x": x[1:], "y": y[1:]}, paper)
    assert less.sure == "likely"  # one column may agree by chance, of other images
    assert (found.sure, found.column, found.protocol, found.other) == ("certain", "SSIM", "x", "y")
    (other_papers,) = across.check(tables, {})
    assert other_papers.sure == "possible"


def test_a_factor_of_two_is_named() -> None:
    tables = {
        "x": table("SSIM\na 1.30\nb 1.40\nc 1.26", "TNO", "x"),
        "y": table("SSIM\na 0.65\nb 0.70\nc 0.63", "TNO", "y"),
    }
    (found,) = across.check(tables, {})
    assert "one factor" in found.explanation
    assert "a mean over both sources beside a sum" in found.explanation


def test_a_psnr_difference_of_the_peak_is_named() -> None:
    tables = {"x": table("PSNR\na 60.8\nb 64.0", "TNO", "x"), "y": table("PSNR\na 12.7\nb 15.8", "TNO", "y")}
    (found,) = across.check(tables, {})
    assert "near 48.13 dB" in found.explanation


def test_other_test_images_and_a_reversed_order_are_said() -> None:
    tables = {"x": table("EN\na 7.12\nb 6.90", "TNO", "x"), "y": table("EN\na 6.80\nb 6.95", "TNO", "y")}
    (found,) = across.check(tables, {"x": across.Source("P", {"TNO": 25}), "y": across.Source("Q", {"TNO": 15})})
    assert "25 and 15 pairs" in found.explanation
    assert "a / b" in found.explanation


# ---- the shipped tables: what is known to be in them


def found_in(name: str, check: str) -> list[Finding]:
    return [finding for finding in audit(name).findings if finding.check == check]


def test_what_the_papers_tables_hold() -> None:
    assert [f.row for f in found_in("tsjnet-table2", "repeated row")] == ["ReCoNet"]
    assert found_in("tsjnet-table2", "units")[0].block == "MSRS · BiSeNet"
    assert "over 9 classes" in found_in("smfnet-table3", "mean")[0].explanation
    assert "48.13" in found_in("smrnet-table1", "psnr peak")[0].explanation
    assert "[0, 255]" in found_in("tsjnet-table1", "psnr peak")[0].explanation
    assert any(f.column == "Car IoU" and f.sure == "certain" for f in found_in("psfusion-table1", "claim"))
    (pair,) = [f for f in found_in("smfnet-table6", "two tables") if f.sure == "certain"]
    assert (pair.column, pair.other) == ("SSIM", "smfnet-table6")
    assert [(f.row, f.column) for f in found_in("smrnet-table2", "mark")] == [("APNet", "E")]
    assert [(f.block, f.row, f.printed) for f in found_in("smrnet-table2", "repeated cell")] == [
        ("VT5000", "APNet", ".938")
    ]


def test_sentences_of_the_papers_that_their_tables_do_not_bear_out() -> None:
    sixteen = [f for f in found_in("smrnet-table2", "claim") if f.printed in ("6.25", "16.67")]
    assert [(f.block, f.sure) for f in sixteen] == [("VT5000", "likely"), ("VT821", "likely")]
    assert all("It comes out against IRFS" in f.explanation for f in sixteen)
    (tie,) = found_in("smrnet-table4", "claim")
    assert (tie.row, tie.sure, tie.recomputed) == ("Bit1+2+3+4", "possible", "Bit2-only 0.889, Bit1+2+3 0.889")
    (segformer,) = [f for f in found_in("psfusion-table2", "claim") if "even with SegFormer" in f.explanation]
    assert (segformer.sure, "holds against all but CMX" in segformer.explanation) == ("possible", True)
    ties = [f for f in found_in("tsjnet-table2", "claim") if "outperforms" in f.explanation]
    assert [(f.column, f.sure) for f in ties] == [("mean AP50", "possible")]
    assert "Equal as printed: LRRNet" in ties[0].explanation
    overall = [f for f in found_in("tsjnet-table1", "claim") if f.sure != "possible"]
    assert overall == []


def test_what_is_certain_in_the_shipped_tables() -> None:
    """Each line was read with the eyes of the paper's author: no reading and no lost digit makes it right."""
    report = audit()
    assert {(f.protocol, f.check, f.row or f.block, f.column) for f in report.findings if f.sure == "certain"} == {
        ("psfusion-table1", "claim", "PSFusion", "Car IoU"),
        ("psfusion-table2", "claim", "MFNet", "mean IoU"),
        ("smfnet-table3", "mean", "MFNet · DeepLabv3+", "mean IoU"),
        ("smfnet-table3", "claim", "", ""),
        ("smrnet-table2", "mark", "APNet", "E"),
        ("smrnet-table2", "claim", "SMR-Net", "S"),
        ("smrnet-table2", "claim", "SMR-Net", "E"),
        ("smrnet-table3", "claim", "BS", "F"),
        ("tsjnet-table2", "units", "MSRS · BiSeNet", "mean IoU"),
        ("tsjnet-table2", "mean", "SuperFusion", "mean IoU"),
        ("tsjnet-table2", "repeated row", "ReCoNet", ""),
        ("smfnet-table1", "two tables", "SMFNet", "SSIM"),
    }
    assert report.certain == 12


def test_no_check_knows_a_table_by_name() -> None:
    """The findings of a table do not change when it is called otherwise."""
    rows = rows_of(protocol("tsjnet-table2"))
    renamed = [PublishedRow("other", *list(row.__dict__.values())[1:]) for row in rows]
    plain = [(f.check, f.where, f.sure) for f in audit_rows(rows)]
    assert plain == [(f.check, f.where, f.sure) for f in audit_rows(renamed)]
    assert plain


# ---- command line and API


def write(folder: Path, text: str) -> Path:
    path = folder / "my.csv"
    path.write_text(text, encoding="utf-8")
    return path


BAD_MEAN = "method,class,metric,printed\n" + "".join(
    f"a,{class_},IoU,{value}\n" for class_, value in (("x", "0.50"), ("y", "0.70"), ("mean", "0.80"))
)


def test_a_readers_own_table(tmp_path: Path) -> None:
    path = write(tmp_path, BAD_MEAN)
    assert [f.check for f in evalkit.audit(path).findings] == ["mean"]
    run = CliRunner().invoke(main, ["audit", "--table", str(path), "--json"])
    assert run.exit_code == 0
    (finding,) = json.loads(run.output)["tables"][0]["findings"]
    assert (finding["sure"], finding["printed"]) == ("certain", "0.80")
    strict = CliRunner().invoke(main, ["audit", "--table", str(path), "--strict"])
    assert strict.exit_code == 1
    assert "0.80" in strict.output
    sound = write(tmp_path, BAD_MEAN.replace("0.80", "0.60"))
    clean = CliRunner().invoke(main, ["audit", "--table", str(sound), "--strict"])
    assert clean.exit_code == 0
    assert "Nothing found" in clean.output


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "method,metric,printed\n",
        "method,metric,printed\na,EN,NaN\n",
        "method,metric,printed\na,EN,7,1\n",
        "method,metric,printed\na,EN,7.1\na,EN,7.2\n",
        "method,metric,printed,mark\na,EN,7.1,bold\n",
        "method,metric,printed\na,EN,\n",
        "method,metric,printed\n\x00,EN,x\n",
    ],
)
def test_hostile_files_give_one_paragraph(tmp_path: Path, text: str) -> None:
    run = CliRunner().invoke(main, ["audit", "--table", str(write(tmp_path, text))])
    assert run.exit_code == 2
    assert "Error: " in run.output
    assert "Traceback" not in run.output
    assert len(run.output.strip().splitlines()) == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    for path in (binary, tmp_path, tmp_path / "missing.csv"):
        run = CliRunner().invoke(main, ["audit", "--table", str(path)])
        assert run.exit_code == 2
        assert "Error: " in run.output
        assert "Traceback" not in run.output


def test_wrong_usage() -> None:
    for arguments in ([], ["smfnet-table1", "--all"], ["no-such-table"], ["vifb"]):
        run = CliRunner().invoke(main, ["audit", *arguments])
        assert run.exit_code == 2
        assert "Error" in run.output


def test_reports_hold_every_finding(tmp_path: Path) -> None:
    for suffix in ("md", "html", "json"):
        out = tmp_path / f"audit.{suffix}"
        assert CliRunner().invoke(main, ["audit", "tsjnet-table2", "--out", str(out)]).exit_code == 0
        text = out.read_text(encoding="utf-8")
        assert text.count("repeated row") >= 1
        assert "http://" not in text
    certain = CliRunner().invoke(main, ["audit", "tsjnet-table2", "--sure", "certain", "--json"])
    kept = json.loads(certain.output)["tables"][0]["findings"]
    assert kept
    assert all(finding["sure"] == "certain" for finding in kept)
    assert CliRunner().invoke(main, ["audit", "tsjnet-table2", "--out", str(tmp_path / "a.txt")]).exit_code == 2


def test_markup_in_a_readers_table_stays_text(tmp_path: Path) -> None:
    path = write(tmp_path, BAD_MEAN.replace("a,", '"<q>|x",'))
    out = tmp_path / "r.html"
    CliRunner().invoke(main, ["audit", "--table", str(path), "--out", str(out)])
    assert "<q>|x" not in out.read_text(encoding="utf-8")
    assert "&lt;q&gt;|x" in out.read_text(encoding="utf-8")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "Visible"]),
            st.sampled_from(["", "Car", "mean"]),
            st.sampled_from(["EN", "IoU", "Acc", "PSNR", "MSE", "RMSE", "SSIM", "Params", "odd"]),
            st.one_of(
                st.just(""), st.integers(-(10**9), 10**9).map(str), st.floats(-1e6, 1e6).map(lambda v: f"{v:.3f}")
            ),
            st.sampled_from(["", "best", "second"]),
        ),
        unique_by=lambda row: row[:3],
        max_size=20,
    )
)
def test_no_table_breaks_the_audit(cells: list[tuple[str, str, str, str, str]]) -> None:
    text = "method,class,metric,printed,mark\n" + "".join(",".join(cell) + "\n" for cell in cells)
    for finding in audit_rows(read_rows(text, "any.csv")):
        assert finding.explanation
        assert finding.check in CHECKS


def test_the_page_of_findings_is_what_the_command_writes(tmp_path: Path) -> None:
    """docs/audit.md is generated: it must be what the checks say now."""
    run = CliRunner().invoke(main, ["audit", "--all", "--out", str(tmp_path / "audit.md")])
    assert run.exit_code == 0
    wanted = (DOCS / "audit.md").read_text(encoding="utf-8")
    written = (tmp_path / "audit.md").read_text(encoding="utf-8").replace(str(tmp_path / "audit.md"), "docs/audit.md")
    assert written == wanted
