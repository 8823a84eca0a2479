"""How a measured number is held against a printed one: agreement, difference, digits, marks, values per image."""

from __future__ import annotations

import pytest

from evalkit.errors import DataError
from evalkit.metrics.evaluate import Scores
from evalkit.protocols.table.cells import Cell, Column, TableContent, agreement
from evalkit.protocols.table.per_image import agree, published_per_image
from evalkit.protocols.table.published import decimals_of, read_rows
from evalkit.records.per_image import ImageRow, PerImage
from evalkit.records.store import ScoreFile


@pytest.mark.parametrize(
    ("value", "printed", "status"),
    [
        (0.5134, "0.513", "equal"),
        (0.5126, "0.513", "equal"),
        (0.5135, "0.513", "equal"),  # the half itself, as tables round either way
        (0.51351, "0.513", "close"),  # 0.1 % of 0.513 are 0.000513
        (0.51352, "0.513", "differs"),
        (46.0, "46", "equal"),
        (46.6, "46", "differs"),
        (1000.9, "1000.0", "close"),
        (1002.0, "1000.0", "differs"),
        (-3.1004, "-3.100", "equal"),
        (0.0012, "1e-3", "equal"),
        (0.0016, "1e-3", "differs"),
    ],
)
def test_equal_is_what_rounds_to_the_printed_number_and_close_within_a_thousandth(value, printed, status):
    assert agreement(value, printed) == status


@pytest.mark.parametrize(
    ("printed", "decimals"),
    [("46", 0), ("0.5130", 4), (".5", 1), ("1e-3", 3), ("1.5e-3", 4), ("1.25e1", 1), ("-0.20", 2), ("", 0)],
)
def test_decimals_of_a_printed_number(printed, decimals):
    assert decimals_of(printed) == decimals


def test_a_difference_is_measured_minus_published():
    assert Cell("TNO", "A", "EN", 7.5, "7.25", 25, "differs").difference == 0.25
    assert Cell("TNO", "A", "EN", 7.5, "7.25", 24, "other data").difference is None
    assert Cell("TNO", "A", "EN", None, "7.25", 25, "missing").difference is None


@pytest.mark.parametrize(("better", "best", "second"), [("higher", "C", "A"), ("lower", "B", "D")])
def test_marks_follow_the_direction_and_equal_values_share_one(better, best, second):
    columns = [Column("EN", better, "textbook")]
    values = {"A": 2.0, "B": 1.0, "C": 3.0, "D": 1.5, "E": 1.0 if better == "lower" else 3.0}
    cells = [Cell("TNO", method, "EN", value, None, 25, "unpublished") for method, value in values.items()]
    table = TableContent("p", "", "", "textbook", "", columns, cells=cells)
    assert table.marks("TNO", columns[0]) == {best: "best", "E": "best", second: "second"}


def test_values_published_per_image_agree_within_half_a_percent(tmp_path):
    (tmp_path / "values.csv").write_text(
        "pair,method,metric,value\n1,A,Entropy,2.0\n2,A,Entropy,2.0\n3,A,Entropy,2.0\n"
    )
    published = published_per_image(tmp_path / "values.csv", {"Entropy": "EN"})
    file = ScoreFile(tmp_path / "scores" / "A.csv", ["EN"])
    values = {"1": 2.009, "2": 2.011, "3": 2.05}
    keys = dict.fromkeys(values, "key")
    file.finish({image: Scores({"EN": value}) for image, value in values.items()}, keys)
    (result,) = agree("TNO", published, tmp_path / "scores", ["EN"])
    assert (result.published, result.measured, result.near) == (3, 3, 1)
    assert result.worst == pytest.approx(0.025)
    assert result.worst_at == "A, 3"


def test_no_mean_is_taken_over_a_missing_value():
    rows = {"1": ImageRow("k", {"EN": 7.0}, {}), "2": ImageRow("k", {"EN": 6.0}, {})}
    assert PerImage(("EN",), rows).mean("EN") == 6.5
    assert PerImage(("EN",), rows | {"3": ImageRow("k", {"EN": None}, {"EN": "why"})}).mean("EN") is None
    assert PerImage(("EN",), {}).mean("EN") is None


def test_one_cell_has_one_printed_number():
    text = "dataset,method,metric,printed\nTNO,A,EN,7.1\nTNO,B,EN,7.2\n"
    assert [row.printed for row in read_rows(text, "x.csv")] == ["7.1", "7.2"]
    with pytest.raises(DataError, match="line 4"):
        read_rows(text + "TNO,A,EN,7.1\n", "x.csv")
