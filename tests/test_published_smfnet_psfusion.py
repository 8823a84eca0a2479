"""The published numbers of SMFNet and PSFusion: how many, that they stand in the right cells, and what holds.

The cells below were read in the papers by hand; means, repeated rows and what the text says of a table find a column
that slipped.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest

from evalkit.data.card import load_card
from evalkit.protocols.schema import protocol, rows_of
from evalkit.protocols.table.published import PublishedRow, cells_by_key
from evalkit.training.papers import psfusion, smfnet

# printed numbers and missing cells
COUNTS = {
    "smfnet-table1": (12 * 3 * 8, 0),
    "smfnet-table2": (12 * 7, 0),
    "smfnet-table3": (12 * 10, 0),
    "smfnet-table4": (16 * 6, 0),
    "smfnet-table5": (12 * 3, 0),
    "smfnet-table6": (8 * 4, 0),
    "smfnet-fig1": (0, 0),
    "psfusion-table1": (12 * 10 * 3 - 1, 1),
    "psfusion-table2": (25 * 10 - 8, 8),
    "psfusion-table3": (3 * 6 * 2, 0),
    "psfusion-table4": (3 * 10, 0),
    "psfusion-table5": (2 * 10, 0),
    "psfusion-fig3": (0, 0),
    "psfusion-fig11": (0, 0),
    "psfusion-fig12": (0, 0),
    "psfusion-fig13": (0, 0),
    "psfusion-fig14": (0, 0),
}
READ_BY_HAND = [
    ("smfnet-table1", "TNO", "DIDFuse", "SD", "46.8716"),
    ("smfnet-table1", "RoadScene", "DenseFuse", "MI", "1.985"),
    ("smfnet-table1", "RoadScene", "SwinFusion", "Qabf", "0.284"),
    ("smfnet-table1", "MSRS", "SMFNet", "SSIM", "1.3905"),
    ("smfnet-table1", "MSRS", "PMGI", "EN", "5.8333"),
    ("smfnet-table2", "M3FD · YOLOv5x", "U2Fusion", "Lamp AP50", "0.136"),
    ("smfnet-table2", "M3FD · YOLOv5x", "SHIP", "Truck AP50", "0.862"),
    ("smfnet-table2", "M3FD · YOLOv5x", "SMFNet", "mean AP50", "0.835"),
    ("smfnet-table3", "MFNet · DeepLabv3+", "PMGI", "mean Acc", "0.646"),
    ("smfnet-table3", "MFNet · DeepLabv3+", "MURF", "Bump IoU", "0.008"),
    ("smfnet-table3", "MFNet · DeepLabv3+", "CDDFuse", "Stop IoU", "0.119"),
    ("smfnet-table4", "MRI-PET", "SMFNet", "SF", "32.6262"),
    ("smfnet-table4", "MRI-PET", "SMFNet†", "SSIM", "1.6155"),
    ("smfnet-table4", "MRI-PET", "CDDFuse†", "AG", "9.674"),
    ("smfnet-table5", "MSRS", "PMGI", "FLOPs", "1e-6"),
    ("smfnet-table5", "MSRS", "CDDFuse", "Params", "1783"),
    ("smfnet-table5", "MSRS", "SHIP", "Time", "0.1"),
    ("smfnet-table6", "RoadScene", "AE4", "VIF", "0.7247"),
    ("smfnet-table6", "RoadScene", "AE7", "EN", "7.365"),
    ("smfnet-table6", "RoadScene", "SMFNet", "SSIM", "0.9554"),
    ("psfusion-table1", "MSRS · BANet", "Infrared", "Background IoU", "98.24"),
    ("psfusion-table1", "MSRS · SegNeXt-Base", "DIDFuse", "Person IoU", "73.14"),
    ("psfusion-table1", "MSRS · SegFormer-B2", "GTF", "Guardrail IoU", "85.68"),
    ("psfusion-table1", "MSRS · BANet", "SwinFusion", "Bump IoU", "80.36"),
    ("psfusion-table1", "MSRS · SegFormer-B2", "RFN-Nest", "mean IoU", "78.33"),
    ("psfusion-table2", "MFNet · Customize", "MFNet", "Curve IoU", "22.94"),
    ("psfusion-table2", "MFNet · SegNeXt-Large", "SeAFusion", "Guardrail IoU", "12.57"),
    ("psfusion-table2", "MFNet · ResNet-50", "GMNet", "mean IoU", "57.34"),
    ("psfusion-table2", "MFNet · SegFormer-B4", "CMX-B4", "Bump IoU", "60.60"),
    ("psfusion-table2", "MFNet · SegFormer-B2", "PSFusion", "Guardrail IoU", "0.13"),
    ("psfusion-table3", "", "w/o SFP", "SD std", "5.763"),
    ("psfusion-table3", "", "PSFusion", "SF", "14.189"),
    ("psfusion-table4", "MSRS · SegNeXt-Base", "w/o PSFM", "Car Stop IoU", "79.5"),
    ("psfusion-table5", "MSRS", "Direct segmentation", "Guardrail IoU", "69.43"),
]
# the lines of the tables' rows in the papers' texts, and what a line of the table is
LINES = {
    "smfnet-table1": ("smfnet", 299, 310, ("method",)),
    "smfnet-table2": ("smfnet", 323, 334, ("method",)),
    "smfnet-table3": ("smfnet", 354, 365, ("method",)),
    "smfnet-table4": ("smfnet", 398, 413, ("method",)),
    "smfnet-table5": ("smfnet", 423, 425, ("metric",)),
    "smfnet-table6": ("smfnet", 437, 444, ("method",)),
    "psfusion-table1": ("psfusion", 386, 415, ("class_", "variant")),
    "psfusion-table2": ("psfusion", 453, 477, ("method", "variant")),
    "psfusion-table3": ("psfusion", 524, 526, ("method",)),
    "psfusion-table4": ("psfusion", 533, 535, ("method",)),
    "psfusion-table5": ("psfusion", 568, 569, ("method",)),
}
SEGMENTATION = ("psfusion-table1", "psfusion-table2", "psfusion-table4", "psfusion-table5")
# mIoU whose nine classes are not known for sure, or are not all there
UNSURE = {("MSRS · SegNeXt-Base", "U2Fusion"), ("MFNet · SegFormer-B4", "CMX-B4")}


def values(name: str) -> dict[tuple[str, str, str], float]:
    return {key: float(row.printed) for key, row in cells_by_key(rows_of(protocol(name))).items()}


def by_row(name: str, metric: str) -> dict[tuple[str, str], dict[str, PublishedRow]]:
    """(block, method) -> class -> row."""
    rows: dict[tuple[str, str], dict[str, PublishedRow]] = {}
    for row in rows_of(protocol(name)):
        if row.metric == metric:
            rows.setdefault((row.block, row.method), {})[row.class_] = row
    return rows


@pytest.mark.parametrize(("name", "counts"), COUNTS.items())
def test_every_number_is_there(name: str, counts: tuple[int, int]):
    rows = rows_of(protocol(name))
    empty = [row for row in rows if not row.printed]
    assert (len(rows) - len(empty), len(empty)) == counts
    assert all(row.note for row in empty), "a missing cell says why"
    assert bool(rows) == bool(protocol(name).published)
    notes = protocol(name).notes
    assert (f"{counts[0]} printed numbers" if rows else "no published file") in notes


@pytest.mark.parametrize("name", [name for name, counts in COUNTS.items() if counts[0]])
def test_rows_and_columns_are_the_protocols(name: str):
    chosen, rows = protocol(name), rows_of(protocol(name))
    assert list(dict.fromkeys(row.method for row in rows)) == list(chosen.methods)
    assert {row.variant for row in rows} - {""} == set(chosen.variants)
    assert {row.class_ for row in rows} - {"", "mean"} == set(chosen.classes)
    assert {row.metric.removesuffix(" std") for row in rows} == set(chosen.metrics)
    datasets = {row.dataset for row in rows}
    assert datasets == ({""} if name == "psfusion-table3" else set(chosen.datasets))
    # every row of the table has the same columns
    per_row = Counter((row.block, row.method) for row in rows)
    assert len(set(per_row.values())) == 1


@pytest.mark.parametrize("name", COUNTS)
def test_data_sets_and_set_up(name: str):
    chosen = protocol(name)
    for dataset, use in chosen.datasets.items():
        card = load_card(dataset)
        known = card.expected(use.split)
        assert known is None or use.pairs is None or use.pairs <= known
    assert chosen.left_open
    assert chosen.decisions
    if chosen.task in ("segmentation", "detection"):
        assert chosen.downstream["network"]
    else:
        assert not chosen.downstream


@pytest.mark.parametrize("name", COUNTS)
def test_claims_name_what_the_protocol_has(name: str):
    chosen = protocol(name)
    blocks = {row.block for row in rows_of(protocol(name))}
    names = {*chosen.methods, "mean", "others", None}
    metrics = {*chosen.metrics, None}
    for claim in chosen.claims:
        fields = claim.model_extra or {}
        named = [fields.get(key) or [] for key in ("method", "of", "than")]
        assert {name for one in named for name in ([one] if isinstance(one, str) else one)} <= names
        metric = fields.get("metric")
        assert {*metric} <= metrics if isinstance(metric, list) else metric in metrics
        assert set(fields.get("blocks", [])) <= blocks
        classes = fields.get("class", "mean")
        assert set([classes] if isinstance(classes, str) else classes) <= {*chosen.classes, "mean"}
        assert fields["where"]


@pytest.mark.parametrize(("name", "block", "method", "column", "printed"), READ_BY_HAND)
def test_cells_read_by_hand(name: str, block: str, method: str, column: str, printed: str):
    assert cells_by_key(rows_of(protocol(name)))[block, method, column].printed == printed


@pytest.mark.parametrize("name", LINES)
def test_the_lines_of_the_papers_text(shared: Path, name: str):
    """Line by line the same numbers in the same order, but for the row slip, which the text has once more."""
    paper, first, last, axes = LINES[name]
    text = (shared / "papers" / f"{paper}.txt").read_text(encoding="utf-8").split("\n")[first - 1 : last]
    fields = [[part for field in line.split("\t") for part in field.split(" ± ")] for line in text]
    in_text = [[part for part in line if re.fullmatch(r"\d+(\.\d+)?(e-\d)?", part)] for line in fields]
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in rows_of(protocol(name)):
        lines.setdefault(tuple(getattr(row, axis) for axis in axes), []).append(row.printed)
    ours = [[printed for printed in line if printed] for line in lines.values()]
    if name == "psfusion-table2":
        eights = [line[:8] for line in ours]
        start, end = (list(lines).index(key) for key in [("FEANet", "ResNet-152"), ("CMX-B4", "SegFormer-B4")])
        ours[start : end + 1] = [eights[i - 1] + ours[i][-2:] for i in range(start, end + 1)]
    assert in_text == ours


def test_no_mark_is_guessed():
    """Red and blue did not survive in the texts."""
    assert not any(row.mark for name in COUNTS for row in rows_of(protocol(name)))


def test_every_mean_of_smfnets_detectors_follows():
    for row in by_row("smfnet-table2", "AP50").values():
        *classes, mean = (float(cell.printed) for cell in row.values())
        assert len(classes) == 6
        assert sum(classes) / 6 == pytest.approx(mean, abs=0.0005 + 0.0005 + 1e-9)


def test_smfnets_miou_needs_a_ninth_class():
    """Never the mean of the eight; with guardrail as the ninth each is possible, and guardrail is small everywhere."""
    for row in by_row("smfnet-table3", "IoU").values():
        *classes, mean = (float(cell.printed) for cell in row.values())
        assert len(classes) == 8
        assert abs(sum(classes) / 8 - mean) > 0.02
        assert 0 <= round(9 * mean - sum(classes), 3) <= 0.077


@pytest.mark.parametrize("name", SEGMENTATION)
def test_every_miou_of_psfusion_follows(name: str):
    tested = 0
    for key, row in by_row(name, "IoU").items():
        if key in UNSURE:
            assert not all(cell.printed for cell in row.values())
            continue
        *classes, mean = (float(cell.printed) for cell in row.values())
        assert len(classes) == 9
        assert sorted(classes)[-2:] == classes[1::-1], "background first, then car"
        assert sum(classes) / 9 == pytest.approx(mean, abs=0.01), key
        tested += 1
    assert tested == {"psfusion-table1": 35, "psfusion-table2": 24, "psfusion-table4": 3, "psfusion-table5": 2}[name]


def test_the_row_slip_is_undone_as_far_as_the_text_allows():
    """As the text has it FEANet repeats RTFNet; put back, four means follow and eight numbers of CMX-B4 are lost."""
    rows = by_row("psfusion-table2", "IoU")
    slipped = ["FEANet", "EGFNet", "LASNet", "CMX-B2"]
    eight = list(protocol("psfusion-table2").classes)[:8]
    of = {method: row for (_, method), row in rows.items() if method in (*slipped, "RTFNet", "CMX-B4")}
    for i, method in enumerate(slipped):
        assert all("row slip" in of[method][c].note for c in eight)
        assert not of[method]["Bump"].note
        above = of[slipped[i - 1] if i else "RTFNet"]
        as_in_text = [float(above[c].printed) for c in eight] + [float(of[method]["Bump"].printed)]
        assert abs(sum(as_in_text) / 9 - float(of[method]["mean"].printed)) > 0.3
    assert [of["CMX-B4"][c].printed for c in eight] == [""] * 8


def test_the_missing_value_in_psfusions_table_1():
    """What mIoU leaves for the person: enough for the last two cells, not for the two before them."""
    row = by_row("psfusion-table1", "IoU")
    bound = 9 * 0.005 + 8 * 0.005

    def left(method: str) -> float:
        cells = row["MSRS · SegNeXt-Base", method]
        return 9 * float(cells["mean"].printed) - sum(
            float(c.printed) for k, c in cells.items() if k not in ("mean", "Person")
        )

    assert left("SeAFusion") == pytest.approx(75.93, abs=bound)
    assert left("PSFusion") == pytest.approx(77.66, abs=bound)
    assert abs(left("U2Fusion") - 75.93) > bound
    assert left("SwinFusion") == pytest.approx(75.33, abs=bound)
    assert left("U2Fusion") == pytest.approx(75.33, abs=bound)
    person = {method: row["MSRS · SegNeXt-Base", method]["Person"] for _, method in row}
    assert person["U2Fusion"].printed == ""
    assert "U2Fusion" in person["SwinFusion"].note


def test_rows_that_two_tables_share():
    table1, table4, table5 = (by_row(f"psfusion-table{i}", "IoU") for i in (1, 4, 5))
    whole = [cell.printed for cell in table1["MSRS · SegNeXt-Base", "PSFusion"].values()]
    assert [cell.printed for cell in table4["MSRS · SegNeXt-Base", "PSFusion"].values()] == whole
    assert [cell.printed for cell in table5["MSRS", "PSFusion+SegNeXt"].values()] == whole
    first, ablation = (cells_by_key(rows_of(protocol(f"smfnet-table{i}"))) for i in (1, 6))
    same = {
        m: first["RoadScene", "SMFNet", m].printed == ablation["RoadScene", "SMFNet", m].printed
        for m in protocol("smfnet-table6").metrics
    }
    assert same == {"EN": True, "SD": True, "VIF": True, "SSIM": False}


def test_averages_in_smfnets_abstract():
    """8.27 and 5.85 are percentage points over the plain mean of the eleven others."""
    for name, metric, printed in [("smfnet-table2", "AP50", 8.27), ("smfnet-table3", "IoU", 5.85)]:
        means = {method: float(row["mean"].printed) for (_, method), row in by_row(name, metric).items()}
        own = means.pop("SMFNet")
        assert len(means) == 11
        assert 100 * (own - sum(means.values()) / 11) == pytest.approx(printed, abs=0.005)


def test_what_smfnet_says_of_single_columns():
    """Statements that hold only where the columns stand in their places."""
    detection = values("smfnet-table2")
    classes = protocol("smfnet-table2").classes
    block = "M3FD · YOLOv5x"
    methods = protocol("smfnet-table2").methods
    best = {c: max(methods, key=lambda m: detection[block, m, f"{c} AP50"]) for c in classes}
    assert best == dict.fromkeys(classes, "SMFNet") | {"Truck": "SHIP"}
    segmentation = values("smfnet-table3")
    accuracy = {m: segmentation["MFNet · DeepLabv3+", m, "mean Acc"] for m in methods}
    assert max(accuracy, key=accuracy.__getitem__) == "PMGI"
    cost = values("smfnet-table5")
    assert cost["MSRS", "ReCoNet", "Params"] == 8
    assert {m for m in methods if cost["MSRS", m, "Time"] == 0.01} == {"DenseFuse", "DIDFuse"}
    assert cost["MSRS", "SMFNet", "Time"] < cost["MSRS", "SwinFusion", "Time"]
    assert cost["MSRS", "SMFNet", "Params"] < cost["MSRS", "DeFusion", "Params"]
    ablation = values("smfnet-table6")
    rows = protocol("smfnet-table6").methods
    for metric in protocol("smfnet-table6").metrics:
        assert max(rows, key=lambda m, metric=metric: ablation["RoadScene", m, metric]) == "SMFNet"


def test_scales_tell_the_columns_apart():
    """Each metric's range, apart from its neighbours' in Tables I and IV: a row shifted by a cell would leave it."""
    ranges = {"EN": (4.5, 8), "SD": (18, 60), "SF": (4.5, 35), "MI": (1, 4), "VIF": (0.2, 1.1), "Qabf": (0.15, 0.75)}
    ranges |= {"AG": (2, 10), "SSIM": (0.2, 1.8)}
    for name in ("smfnet-table1", "smfnet-table4"):
        for row in rows_of(protocol(name)):
            low, high = ranges[row.metric]
            assert low <= float(row.printed) <= high, row
    from scipy.stats import spearmanr

    # the two measures of the gradient rise together on each data set

    table = values("smfnet-table1")
    for dataset in protocol("smfnet-table1").datasets:
        pairs = [[table[dataset, m, metric] for metric in ("SF", "AG")] for m in protocol("smfnet-table1").methods]
        assert spearmanr(pairs).statistic > 0.85


def test_medical_ssim_has_two_scales():
    """Seven rows near 0.3, nine above 1.4, nothing between: Table IV's SSIM column mixes two conventions."""
    ssim = sorted(value for (_, _, metric), value in values("smfnet-table4").items() if metric == "SSIM")
    assert (ssim[6] < 0.34, ssim[7] > 1.4) == (True, True)


def test_parameters_of_table_5_count_every_call():
    """DenseFuse's 74 K are its own; SMFNet's 4504 K are more than it has."""
    from evalkit.methods.registry import method_cards

    printed = values("smfnet-table5")
    cards = method_cards()
    assert math.floor(cards["DenseFuse"].parameters / 1e3) == printed["MSRS", "DenseFuse", "Params"]
    assert cards["SMFNet"].parameters / 1e3 < printed["MSRS", "SMFNet", "Params"]


def test_ablation_names_are_the_networks():
    assert set(protocol("smfnet-table6").ablations.values()) == set(smfnet.ABLATIONS)
    names = {**protocol("psfusion-table3").ablations, **protocol("psfusion-table4").ablations}
    assert set(names.values()) == set(psfusion.ABLATIONS)
    assert all(row in (*protocol("psfusion-table3").methods, *protocol("psfusion-table4").methods) for row in names)
