"""The published numbers of S4Fusion, TSJNet and SMR-Net: how many, that they stand in the right cells, and what holds.

The cells below were read in the papers by hand; the sums, bounds and repeated rows find a column that slipped.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from evalkit.data.card import load_card
from evalkit.protocols.schema import protocol, rows_of
from evalkit.protocols.table.published import cells_by_key
from evalkit.training.papers import s4fusion, smrnet, tsjnet

# printed numbers and missing cells
COUNTS = {
    "s4fusion-table1": (9 * 2 * 6, 0),
    "s4fusion-table2": (9 * 6, 0),
    "s4fusion-table3": (7 * 6, 0),
    "s4fusion-table4": (11 * 7, 0),
    "s4fusion-table5": (3 * 2, 0),
    "tsjnet-table1": (8 * 4 * 6, 0),
    "tsjnet-table2": (10 * (10 + 7), 0),
    "tsjnet-table3": (5 * 5, 0),
    "smrnet-table1": (10 * 3 * 4, 0),
    "smrnet-table2": (11 * 3 * 4, 0),
    "smrnet-table3": (10, 6),
    "smrnet-table4": (10, 22),
    "smrnet-fig1": (0, 0),
    "smrnet-fig6": (0, 0),
}
READ_BY_HAND = [
    ("s4fusion-table1", "MSRS", "DATFuse", "Qabf", "0.64"),
    ("s4fusion-table1", "RoadScene", "DDFM", "SSIM", "0.04"),
    ("s4fusion-table1", "RoadScene", "U2Fusion", "SF", "12.41"),
    ("s4fusion-table2", "M3FD", "EMMA", "AG", "5.72"),
    ("s4fusion-table2", "M3FD", "S4Fusion", "MI", "4.43"),
    ("s4fusion-table3", "MSRS", "Exp.1", "SF", "11.52"),
    ("s4fusion-table3", "MSRS", "Exp.4", "MI", "3.5"),
    ("s4fusion-table3", "MSRS", "Exp.6", "SF", "11.03"),
    ("s4fusion-table4", "M3FD · YOLOv5s", "Infrared", "Lamp AP50", "51.5"),
    ("s4fusion-table4", "M3FD · YOLOv5s", "IRFS", "Truck AP50", "79"),
    ("s4fusion-table5", "MSRS", "Layer3", "mean Delta visible", "-19.811"),
    ("tsjnet-table1", "MSRS", "DIVFusion", "PSNR", "8.51"),
    ("tsjnet-table1", "M3FD", "IGNet", "CV", "1020.07"),
    ("tsjnet-table1", "RoadScene", "SuperFusion", "SSIM", "0.74"),
    ("tsjnet-table1", "LLVIP", "ReCoNet", "SSIM", "0.42"),
    ("tsjnet-table2", "MSRS · BiSeNet", "Infrared", "Guardrail IoU", "0.00"),
    ("tsjnet-table2", "MSRS · BiSeNet", "DIVFusion", "Bump IoU", "44.38"),
    ("tsjnet-table2", "M3FD · YOLOv7", "Infrared", "Motor AP50", "0.113"),
    ("tsjnet-table3", "MSRS", "w/o L_Seg", "CC", "0.60"),
    ("smrnet-table1", "TNO", "STDFusionNet", "VIF", "0.838"),
    ("smrnet-table1", "MSRS", "DIVFusion", "MSE", "0.169"),
    ("smrnet-table2", "VT821", "CSRNet", "S", ".885"),
    ("smrnet-table2", "VT5000", "APNet", "E", ".938"),
    ("smrnet-table3", "VT5000", "DC", "F", "0.847"),
    ("smrnet-table4", "VT5000", "Bit4-only", "S", "0.891"),
]
# paper, first and last line of its text where the table stands, and the numbers of other tables in the same lines
LINES = {
    "s4fusion-table1": ("s4fusion", 142, 150, ()),
    "s4fusion-table2": ("s4fusion", 167, 175, ("s4fusion-table3",)),
    "s4fusion-table4": ("s4fusion", 180, 190, ()),
    "s4fusion-table5": ("s4fusion", 309, 311, ()),
    "tsjnet-table1": ("tsjnet", 198, 215, ()),
    "tsjnet-table2": ("tsjnet", 273, 282, ()),
    "tsjnet-table3": ("tsjnet", 295, 299, ()),
    "smrnet-table1": ("smrnet", 189, 200, ()),
    "smrnet-table2": ("smrnet", 217, 228, ()),
    "smrnet-table3": ("smrnet", 248, 252, ()),
    "smrnet-table4": ("smrnet", 258, 267, ()),
}
FULL_MODEL_TWICE = [
    ("s4fusion-table1", "s4fusion-table3", "S4Fusion", "MSRS"),
    ("tsjnet-table1", "tsjnet-table3", "TSJNet", "MSRS"),
    ("smrnet-table2", "smrnet-table3", "SMR-Net", "VT5000"),
]
ROWS_OF_ABLATIONS: dict[str, Mapping[str, object]] = {
    "s4fusion-table3": s4fusion.ABLATIONS,
    "tsjnet-table3": tsjnet.ABLATIONS,
    "smrnet-table3": smrnet.ABLATIONS,
    "smrnet-table4": smrnet.ABLATIONS,
}


def cells(name: str) -> dict[tuple[str, str, str], float]:
    return {key: float(row.printed) for key, row in cells_by_key(rows_of(protocol(name))).items()}


@pytest.mark.parametrize("name", COUNTS)
def test_every_printed_number_is_there_and_missing_cells_stay_missing(name: str) -> None:
    rows = rows_of(protocol(name))
    assert (sum(bool(row.printed) for row in rows), sum(not row.printed for row in rows)) == COUNTS[name]
    assert all(row.note for row in rows if not row.printed)


@pytest.mark.parametrize("name", LINES)
def test_no_number_of_the_papers_text_is_lost_or_added(shared: Path, name: str) -> None:
    """The numbers in the lines of the table are those of the file, each as often, whatever cell they stand in."""
    paper, first, last, beside = LINES[name]
    lines = (shared / "papers" / f"{paper}.txt").read_text(encoding="utf-8").split("\n")[first - 1 : last]
    fields = [re.sub(r"<.*?>", "", field) for line in lines for field in line.split("\t")]
    in_text = Counter(field for field in fields if re.fullmatch(r"-?\d*\.\d+|7[59]", field))
    assert in_text == Counter(
        row.printed for table in (name, *beside) for row in rows_of(protocol(table)) if row.printed
    )


@pytest.mark.parametrize(("name", "block", "method", "column", "printed"), READ_BY_HAND)
def test_cells_read_by_hand(name: str, block: str, method: str, column: str, printed: str) -> None:
    assert cells_by_key(rows_of(protocol(name)))[block, method, column].printed == printed


@pytest.mark.parametrize("name", COUNTS)
def test_protocol_and_numbers_name_the_same_rows_columns_and_data_sets(name: str) -> None:
    chosen, rows = protocol(name), rows_of(protocol(name))
    for dataset in chosen.datasets:
        assert load_card(dataset).name == dataset
    if not rows:
        assert not chosen.published
        assert "prints no numbers" in chosen.notes
        return
    both: list[tuple[list[str], set[str]]] = [
        ([*chosen.methods], {row.method for row in rows}),
        ([*chosen.metrics], {row.metric for row in rows}),
        ([*chosen.datasets], {row.dataset for row in rows}),
        ([*chosen.variants], {row.variant for row in rows} - {""}),
        ([*chosen.classes], {row.class_ for row in rows} - {"", "mean"}),
    ]
    for named, found in both:
        assert len(set(named)) == len(named)
        assert set(named) == found
    count = sum(bool(row.printed) for row in rows)
    assert chosen.notes.startswith(
        (f"{count} printed numbers:", f"{count} printed numbers,", f"{count} printed numbers ")
    )


@pytest.mark.parametrize("name", ROWS_OF_ABLATIONS)
def test_ablations_are_rows_of_the_table_and_variants_of_the_network(name: str) -> None:
    chosen = protocol(name)
    assert set(chosen.ablations) <= set(chosen.methods)
    assert set(chosen.ablations.values()) <= set(ROWS_OF_ABLATIONS[name])
    full_model = set(chosen.methods) - set(chosen.ablations)  # weights are published of it at most
    assert full_model <= {chosen.paper}


@pytest.mark.parametrize(("first", "second", "method", "block"), FULL_MODEL_TWICE)
def test_the_full_model_has_the_same_numbers_in_its_ablation_table(
    first: str, second: str, method: str, block: str
) -> None:
    a, b = cells(first), cells(second)
    again = [key for key in b if key[:2] == (block, method)]
    assert len(again) == len(protocol(second).metrics)
    assert {key: a[key] for key in again} == {key: b[key] for key in again}


@pytest.mark.parametrize(
    ("name", "block", "metric", "scale", "half_a_digit", "exceptions"),
    [
        ("s4fusion-table4", "M3FD · YOLOv5s", "AP50", 1, 0.05, set()),
        ("tsjnet-table2", "M3FD · YOLOv7", "AP50", 1, 0.0005, set()),
        ("tsjnet-table2", "MSRS · BiSeNet", "IoU", 100, 0.005, {"SuperFusion", "LRRNet"}),
    ],
)
def test_means_over_classes(
    name: str, block: str, metric: str, scale: float, half_a_digit: float, exceptions: set[str]
) -> None:
    """The mean of the classes rounds to the printed mean, in all rows but those that the protocol's notes name."""
    off, noted = set(), set()
    for method in protocol(name).methods:
        rows = [
            row for row in rows_of(protocol(name)) if (row.block, row.method, row.metric) == (block, method, metric)
        ]
        classes = [float(row.printed) for row in rows if row.class_ != "mean"]
        (mean,) = (row for row in rows if row.class_ == "mean")
        if mean.note:
            noted.add(method)
        if abs(math.fsum(classes) / len(classes) - scale * float(mean.printed)) > half_a_digit * (1 + 1e-9):
            off.add(method)
    assert off == noted == exceptions


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("smrnet-table1", 0.11, 1.61), ("tsjnet-table1", 0.07, 2.67), ("tsjnet-table3", 0.52, 2.42)],
)
def test_psnr_stands_beside_its_mse(name: str, least: float, most: float) -> None:
    """A mean of PSNRs is at least the PSNR of the mean MSE (Jensen), and with the right peak not far above it."""
    table = cells(name)
    above = []
    for (block, method, column), psnr in table.items():
        if column == "PSNR":
            above.append(psnr - 10 * math.log10(255**2 / table[block, method, "MSE"]))
    assert len(above) * len(protocol(name).metrics) == len(table)
    assert least <= min(above)
    assert max(above) <= most


@pytest.mark.parametrize(
    ("metric", "block", "other", "percent"),
    [("F", "VT5000", "MTMR", 44.4), ("MAE", "VT5000", "MTMR", 73.7), ("F", "VT821", "ADF", 17.7),
     ("MAE", "VT821", "ADF", 61.0), ("MAE", "VT5000", "IRFS", 6.25)],
)  # fmt: skip
def test_percentages_in_smrnets_text_follow_from_its_table(metric: str, block: str, other: str, percent: float) -> None:
    table = cells("smrnet-table2")
    own, others = table[block, "SMR-Net", metric], table[block, other, metric]
    assert 100 * abs(own - others) / others == pytest.approx(percent, abs=0.05)


def test_marks_that_survived() -> None:
    def marked(name: str, mark: str) -> set[tuple[str, str, str]]:
        return {row.key for row in rows_of(protocol(name)) if row.mark == mark}

    assert len(marked("s4fusion-table1", "second")) == 8
    assert ("RoadScene", "DATFuse", "MI") in marked("s4fusion-table1", "second")
    assert marked("s4fusion-table4", "second") == {("M3FD · YOLOv5s", "S4Fusion", "Car AP50")}
    assert {key[:2] for key in marked("smrnet-table1", "best") if key[2] == "MSE"} == {
        ("TNO", "IRFS"),
        ("TNO", "SMR-Net"),
        ("RoadScene", "IRFS"),
        ("MSRS", "SMR-Net"),
    }
    unmarked = next(row for row in rows_of(protocol("smrnet-table2")) if row.key == ("VT5000", "SMR-Net", "MAE"))
    assert (unmarked.printed, unmarked.mark) == (".030", "")
    assert "not bold" in unmarked.note


def test_smrnets_plane_ablation_has_two_rows_of_its_module_ablation() -> None:
    """That the nameless column of Table 4 is S rests on this; plane 4 alone is the full model."""
    planes, modules = cells("smrnet-table4"), cells("smrnet-table3")
    assert planes["VT5000", "none", "S"] == modules["VT5000", "DC", "S"]
    assert planes["VT5000", "Bit4-only", "S"] == modules["VT5000", "SMR-Net", "S"]
