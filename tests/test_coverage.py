"""`evalkit coverage`: every printed number is counted once, in one state, with a reason where it is not compared."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import make_outputs, make_tno, textured

from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.leaderboards.coverage import COMPARED, STATES, coverage, needs_here, reasons, state_of, total
from evalkit.leaderboards.needs import KINDS
from evalkit.leaderboards.site.build import build
from evalkit.leaderboards.site.coverage_page import code
from evalkit.leaderboards.site.entries import shipped_entries
from evalkit.leaderboards.site.pages import PageCell, pages
from evalkit.protocols.report import plan_report, report_text
from evalkit.protocols.schema import protocols, rows_of
from evalkit.protocols.table.cells import status_of


@pytest.mark.parametrize(
    ("value", "printed", "other", "state"),
    [
        (0.51349, "0.513", "", "equal"),
        (0.5155, "0.513", "", "within 0.5 %"),
        (0.5160, "0.513", "", "differs"),
        (-0.5155, "-0.513", "", "within 0.5 %"),
        (0.513, "0.513", "other pairs", "other data"),
        (None, "0.513", "", "not measured"),
    ],
)
def test_state(value: float | None, printed: str, other: str, state: str) -> None:
    assert state_of(PageCell(status_of(value, printed, other), value, printed)) == state


def test_every_printed_number_counts_once() -> None:
    parts = coverage(pages([]), {})
    assert total(parts).counts()["printed"] == sum(bool(r.printed) for p in protocols().values() for r in rows_of(p))
    assert total(parts).counts()["measured"] == 0
    twice = coverage(pages([*shipped_entries(), *shipped_entries()]), {})
    assert total(twice) == total(coverage(pages(shipped_entries()), {}))


def test_every_number_that_is_not_compared_has_a_reason() -> None:
    parts = coverage(pages(shipped_entries()), needs_here(()))
    for part in parts:
        counts = part.counts()
        assert sum(counts[state] for state in STATES) == counts["printed"]
        assert sum(counts[state] for state in COMPARED) == counts["compared"]
        assert sum(reason.count for reason in reasons([part])) == counts["printed"] - counts["compared"]
    everything = reasons(parts)
    assert [r.count for r in everything] == sorted((r.count for r in everything), reverse=True)
    assert {r.need.kind for r in everything} <= set(KINDS)
    assert all(r.need.text and r.need.unlock for r in everything)
    assert len({r.need for r in everything}) == len(everything)


def by_table(parts, protocol, block):
    """Kind -> count of the numbers of a block that are not compared, with the kinds that some lack besides."""
    (part,) = (p for p in parts if (p.protocol, p.block) == (protocol, block))
    kinds = {}
    for reason in reasons([part]):
        count, also = kinds.get(reason.need.kind, (0, set()))
        kinds[reason.need.kind] = count + reason.count, also | set(reason.also)
    return kinds


def test_a_number_stands_under_the_hardest_thing_that_it_lacks():
    parts = coverage(pages([]), needs_here(()))
    segmentation = by_table(parts, "psfusion-table1", "MSRS · SegFormer-B2")
    assert set(segmentation) == {"training needed"}  # though the data are not at hand, either
    assert {"no data", "no weights"} <= segmentation["training needed"][1]
    assert set(by_table(parts, "smrnet-table1", "TNO")) == {"pairs unknown"}
    assert set(by_table(parts, "smfnet-table6", "RoadScene")) == {"training needed"}
    assert by_table(parts, "smfnet-table4", "MRI-PET")["pairs unknown"][0] == 96
    assert by_table(parts, "smfnet-table5", "MSRS")["depends on the machine"][0] == 12
    assert by_table(parts, "psfusion-table3", "")["not defined"][0] == 18


def test_what_is_at_hand_is_not_lacking(tmp_path):
    root = make_tno(tmp_path / "data", 25)
    outputs = make_outputs(tmp_path / "outputs")
    for folder, count in (("ir", 3), ("vi", 3)):
        for i in range(count):
            write_png(tmp_path / "data/M3FD" / folder / f"{i}.png", textured(i))
    parts = coverage(pages([]), needs_here((root,), outputs))
    own = next(p for p in parts if (p.protocol, p.block) == ("smfnet-table1", "TNO"))
    first = [(r.need.kind, r.need.text, r.count) for r in reasons([own])]
    assert ("not measured yet", "everything is at hand", 8) in first  # CDDFuse's images
    assert not any(kind == "no data" for kind, _, _ in first)
    assert all("no data" not in r.also for r in reasons([own]))
    detection = next(p for p in parts if p.protocol == "smfnet-table2")
    assert all("no data" in r.also for r in reasons([detection]))  # 3 pairs without boxes


def test_the_plan_counts_what_can_be_filled(tmp_path):
    root = tmp_path / "data"
    for i in range(5):
        for folder in ("ir", "vi"):
            write_png(root / "M3FD" / folder / f"{i}.png", textured(i))
            write_png(root / "MSRS/test" / folder / f"{i}.png", textured(i))
    methods = {"methods": ["average"]}
    for name in ("smfnet-table2", "psfusion-table1"):  # 5 of 4,200 pairs; pairs without masks
        plan = plan_report(name, root, **methods)
        assert plan["cells"]["would_run"] == plan["cells"]["comparable"] == 0
        assert "no boxes" in plan["datasets"][0]["missing"] or "no masks" in plan["datasets"][0]["missing"]
    plan = plan_report("s4fusion-table1", root, **methods)
    assert plan["cells"]["would_run"] == 6  # 5 of the 361 pairs of MSRS
    assert plan["cells"]["comparable"] == 0
    assert "6 of 6 cells would be measured, 6 of them beside no printed number" in report_text(plan)
    plan = plan_report("smrnet-table1", make_tno(tmp_path / "tno", 15), datasets=["TNO"], **methods)
    assert (plan["cells"]["would_run"], plan["cells"]["comparable"]) == (4, 0)
    root = make_tno(tmp_path / "tno", 25)
    plan = plan_report("smfnet-table1", root, datasets=["TNO"], **methods)
    assert (plan["cells"]["would_run"], plan["cells"]["comparable"]) == (8, 8)
    outputs = make_outputs(tmp_path / "outputs", count=24)
    plan = plan_report("smfnet-table1", root, outputs=outputs, datasets=["TNO"], methods=["CDDFuse"])
    assert plan["cells"]["would_run"] == 0
    assert plan["rows"][0]["missing"] == "1 of the 25 fused images of CDDFuse are not there (25)"
    plan = plan_report("smfnet-table5", (), methods=["ReCoNet"])
    assert (plan["cells"]["would_run"], plan["cells"]["comparable"]) == (3, 2)


def test_a_network_of_two_streams_needs_no_fused_images():
    plan = plan_report("psfusion-table2", ())
    by_row = {row["method"]: row for row in plan["rows"]}
    assert by_row["GMNet"]["from"] == "network"
    assert not by_row["PSFusion"]["from"]


def test_the_page_has_every_count(tmp_path):
    written = build(tmp_path / "site", plots=False)
    text = (tmp_path / "site/coverage.html").read_text(encoding="utf-8")
    parts = coverage(written, needs_here(()))
    for part in [*parts, total(parts)]:
        cells = "".join(f"<td>{n:,}</td>" if n else '<td class="none">·</td>' for n in part.counts().values())
        assert cells in text
    for reason in reasons(parts):
        assert f"<b>{reason.count:,}</b> {code(reason.need.text)}" in text
        assert code(reason.need.unlock) in text
    assert 'href="coverage.html"' in (tmp_path / "site/index.html").read_text(encoding="utf-8")


def test_docs_have_the_totals_of_the_command() -> None:
    result = CliRunner().invoke(main, ["coverage", "--json"])
    assert result.exit_code == 0, result.output
    counts = json.loads(result.output)["total"]
    counts.pop("reasons")
    text = (Path(__file__).parent.parent / "docs/leaderboards.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(counts)} |" in text
    assert f"| {' | '.join(map(str, counts.values()))} |" in text


def test_docs_count_the_shipped_records_and_how_they_stand():
    entries = shipped_entries()
    counts = [page.counts() for page in pages(entries)]
    compared, equal, close = (sum(count[state] for count in counts) for state in ("compared", "equal", "close"))
    text = (Path(__file__).parent.parent / "docs/leaderboards.md").read_text(encoding="utf-8")
    assert f"holds {len(entries)} records" in text
    assert f"Of {compared} compared numbers {equal} are equal to the printed digits and {close} close" in text
