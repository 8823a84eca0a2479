"""Tables as people type them: each form gives the same rows, and what is not understood is said."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import DataError
from evalkit.leaderboards.audit import audit_rows, claims, read_own_table
from evalkit.leaderboards.run_values import printed_rows
from evalkit.protocols.schema import protocol, rows_of
from evalkit.protocols.table.published import PublishedRow
from evalkit.protocols.table.read import metric_name, printed_number, read_table

CASES = Path(__file__).parents[1] / ".." / "shared" / "cases" / "audit"
COUNTS = {"c": 6, "m3": 24, "seg": 12, "semi": 56, "slips": 30, "t": 48, "tab": 56, "wide": 56}  # printed numbers

FORMS = {
    "long": "dataset,method,metric,printed,mark\nTNO,A,EN,7.12,best\nTNO,A,Qabf,0.54,\nTNO,B,EN,6.90,\nTNO,B,Qabf,,\n",
    "wide": "Data set,Method,EN↑,Q^{AB/F}\nTNO,A,**7.12**,0.54\nTNO,B,6.90,-\n",
    "tsv": "Dataset\tMethods\tEN (bit)\tQ_{abf}\nTNO\tA\t<b>7.12</b>\t0.54\nTNO\tB\t6.90\tn.a.\n",
    "semicolon": "dataset;model;EN;Qabf\nTNO;A;**7,12**;0,54\nTNO;B;6,90;–\n",
    "markdown": "| | TNO | TNO |\n|---|---:|---:|\n| Method | EN | QAB/F |\n|A|**7.12**|0.54|\n| B | 6.90 | – |\n",
    "latex": r"""\begin{tabular}{l|cc} % the table
\toprule
\multirow{2}{*}{Method} & \multicolumn{2}{c}{TNO} \\ \cmidrule(lr){2-3}
 & EN $\uparrow$ & $Q^{AB/F}\uparrow$ \\ \midrule
A~\cite{a} & \textcolor{red}{\textbf{7.12}} & 0.54 \\
B & 6.90 & -- \\ \bottomrule
\end{tabular}""",
    "transposed": "Method,A,B\nEN,**7.12**,6.90\nQabf,0.54,-\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str) -> None:
    read = read_table(FORMS[form], "mine")
    dataset = "" if form == "transposed" else "TNO"
    assert {(r.dataset, r.method, r.metric, r.printed, r.mark) for r in read.rows} == {
        (dataset, "A", "EN", "7.12", "best"),
        (dataset, "A", "Qabf", "0.54", ""),
        (dataset, "B", "EN", "6.90", ""),
        (dataset, "B", "Qabf", "", ""),
    }
    assert read.notes == []


def test_classes_a_backbone_and_their_mean() -> None:
    text = "Model\tBackbone\tCar\tPerson\tmIoU\tYear\nA\tB2\t88.1\t70.2\t79.2\t\n\tB4\t88.3\t70.4\t79.4\tnew\n"
    read = read_table(text, "mine.tsv")
    assert [row.key for row in read.rows] == [
        (variant, "A", f"{class_} IoU") for variant in ("B2", "B4") for class_ in ("Car", "Person", "mean")
    ]
    assert read.notes == ["column 'Year' was not understood and is left out"]


@pytest.mark.parametrize(
    ("text", "metric"),
    [("PSNR(dB)", "PSNR"), ("$Q^{AB/F}$", "Qabf"), ("Q_{abf}", "Qabf"), ("mAP@0.5", "mAP50"), ("SSIM ↑", "SSIM"),
     ("mAP@[.5:.95]", "mAP50:95"), ("mIoU (%)", "mIoU"), ("Params (M)", "Params"), ("Venue", None)],
)  # fmt: skip
def test_names_of_metrics(text: str, metric: str | None) -> None:
    assert metric_name(text) == metric


def test_numbers() -> None:
    assert printed_number("7.12 ± 0.30") == ("7.12", "0.30")
    assert printed_number("97,69 %", comma=True) == ("97.69", "")
    assert printed_number("1.234,5", comma=True) == ("1234.5", "")
    assert printed_number("2,603.71") == ("2603.71", "")
    assert printed_number("n/a") == ("", "")
    assert printed_number("good") is None
    with pytest.raises(DataError, match=r"may be 2456 or 2\.456"):
        read_table('Method,MSE\nA,"2,456"\n', "mine.csv")


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")
def test_every_case_is_read_whole() -> None:
    for path in sorted(CASES.iterdir()):
        read = read_own_table(path)
        assert (len(read.rows), read.notes) == (COUNTS[path.stem], []), path.name


# ---- tables of the papers, in other forms (as wide CSV, TSV, `;`, Markdown and LaTeX)

TABLES = Path(__file__).parent / "tables"
TYPED = sorted(path.name for path in TABLES.iterdir() if "as-printed" not in path.name)


def content(rows: list[PublishedRow]) -> dict[tuple[str, ...], tuple[str, str]]:
    """Printed cells and marks by place; the empty ones are in a wide table whether the paper has them or not."""
    return {
        (row.dataset, row.variant, row.method, row.class_, row.metric): (row.printed, row.mark)
        for row in rows
        if row.printed
    }


def test_thirty_tables_are_there() -> None:
    assert len(TYPED) == 30
    assert len({name.partition("-")[0] for name in TYPED}) == 5


@pytest.mark.parametrize("name", TYPED)
def test_a_papers_table_in_another_form_is_the_same_table(name: str) -> None:
    read = read_own_table(TABLES / name)
    assert content(read.rows) == content(rows_of(protocol(name.partition(".")[0])))
    assert read.notes == []


def test_a_slip_of_the_row_is_recognised() -> None:
    read = read_own_table(TABLES / "psfusion-table2-as-printed.tsv")
    (found,) = [f for f in audit_rows(read.rows) if f.check == "mean"]
    assert found.recomputed == "a slip of the row"
    assert "Background IoU .. Color cone IoU" in found.explanation
    for method in ("FEANet", "EGFNet", "LASNet", "CMX-B2"):
        assert method in found.explanation.partition("follow")[0]
    assert "CMX-B4" in found.explanation.partition("follow")[2]


# ---- any table -> each form -> the same table

METRICS = ["EN", "SD", "SF", "VIF", "Qabf", "SSIM", "PSNR"]
WORD = st.text("abcdefgXYZ019", min_size=1, max_size=8).map(lambda text: "m" + text)
NUMBER = st.tuples(st.integers(0, 9999), st.integers(1, 4)).map(lambda pair: f"{pair[0] / 100:.{pair[1]}f}")
TABLE = st.tuples(
    st.lists(st.sampled_from(["TNO", "MSRS", "M3FD"]), min_size=1, max_size=3, unique=True),
    st.lists(WORD, min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(METRICS), min_size=1, max_size=5, unique=True),
).flatmap(
    lambda axes: st.tuples(
        st.just(axes),
        st.lists(
            st.tuples(NUMBER, st.sampled_from(["", "best", "second"])),
            min_size=len(axes[0]) * len(axes[1]) * len(axes[2]), max_size=len(axes[0]) * len(axes[1]) * len(axes[2]),
        ),
    )
)  # fmt: skip


def written(axes: tuple[list[str], list[str], list[str]], cells: list[tuple[str, str]], form: str) -> str:
    datasets, methods, metrics = axes
    values = iter(cells)
    bold, under = (r"\textbf{%s}", r"\underline{%s}") if form == "latex" else ("**%s**", "<u>%s</u>")
    if form == "long":
        lines = ["dataset,method,metric,printed,mark"]
        lines += [f"{d},{m},{c},{v},{k}" for d in datasets for m in methods for c in metrics for v, k in [next(values)]]
        return "\n".join(lines)
    grid = [["Dataset", "Method", *metrics]]
    for dataset in datasets:
        for method in methods:
            line = [dataset, method]
            for _ in metrics:
                value, mark = next(values)
                value = value.replace(".", ",") if form == ";" else value
                line.append({"best": bold, "second": under, "": "%s"}[mark] % value)
            grid.append(line)
    if form == "markdown":
        return "\n".join("| " + " | ".join(line) + " |" for line in [grid[0], ["---"] * len(grid[0]), *grid[1:]])
    if form == "latex":
        body = "\n".join(" & ".join(line) + r" \\" for line in grid)
        return f"\\begin{{tabular}}{{l{'c' * len(grid[0])}}}\n{body}\n\\end{{tabular}}"
    return "\n".join(form.join(line) for line in grid)


@settings(max_examples=60, deadline=None)
@given(table=TABLE, form=st.sampled_from(["long", ",", "\t", ";", "markdown", "latex"]))
def test_a_table_through_any_form_is_the_same_table(table, form: str) -> None:
    (datasets, methods, metrics), cells = table
    places = [(d, "", m, "", c) for d in datasets for m in methods for c in metrics]
    read = read_table(written((datasets, methods, metrics), cells, form), "mine")
    assert content(read.rows) == dict(zip(places, cells, strict=True))


@settings(max_examples=200, deadline=None)
@given(text=st.text("|&\\{}$,;\t\n-*<b>1.5eEN tabular%ABmultirow↑±", max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    for whole in (text, f"\\begin{{tabular}}{{ll}}{text}\\end{{tabular}}"):
        with suppress(DataError):
            read_table(whole, "mine")


# ---- consistent tables hold nothing that is certain


@pytest.mark.parametrize("seed", range(200))
def test_a_consistent_table_has_nothing_certain(seed: int) -> None:
    random = Random(seed)
    methods = [f"M{i}" for i in range(random.randint(2, 9))]
    decimals = random.randint(1, 4)
    head, lines = ["Method"], [[method] for method in methods]
    if seed % 2:
        unit = random.choice([1, 100])
        names = ["Car", "Person", "Bike", "Curve"][: random.randint(2, 4)]
        head += [*names, "mIoU"]
        for line in lines:
            classes = [unit * random.uniform(0.2, 0.95) for _ in names]
            line += [f"{value:.{decimals + 1}f}" for value in [*classes, sum(classes) / len(classes)]]
    else:
        spans = {"EN": (5.5, 7.6), "SD": (20, 60), "VIF": (0.3, 1.1), "Qabf": (0.2, 0.7), "SSIM": (0.3, 0.98)}
        chosen = random.sample(list(spans), random.randint(1, 5))
        head += chosen
        for metric in chosen:
            values = [random.uniform(*spans[metric]) for _ in lines]
            ranked = sorted(values, reverse=True)
            for line, value in zip(lines, values, strict=True):
                mark = "**{}**" if value == ranked[0] else "<u>{}</u>" if value == ranked[1] else "{}"
                line.append(mark.format(f"{value:.{decimals}f}"))
    read = read_table("\n".join("\t".join(line) for line in [head, *lines]), "mine.tsv")
    assert [f for f in audit_rows(read.rows) if f.sure == "certain"] == []


# ---- slips that people make


def findings(text: str) -> set[tuple[str, str, str]]:
    return {(f.check, f.sure, f.where) for f in audit_rows(read_table(text, "mine.csv").rows) if f.check != "digits"}


def test_a_fraction_among_percents_is_a_slip_of_the_unit_and_no_fourth_class() -> None:
    text = "Method,car,person,bike,mIoU\nA,88.1,70.2,64.0,74.1\nB,87.9,69.5,63.1,75.5\nC,0.885,71.5,66.1,75.4\n"
    assert findings(text) == {("units", "certain", "C, car IoU"), ("mean", "certain", "B, mean IoU")}


def test_a_decimal_point_and_values_out_of_range() -> None:
    text = "Method,en,VIF,SSIM↑\nA,6.9,6.02,0.81\nB,6.8,0.58,0.79\nC,6.6,0.56,0.80\nD,34.5,0.51,3.4\nE,6.7,0.77,0.93\n"
    assert findings(text) == {
        ("range", "certain", "D, EN"), ("range", "certain", "D, SSIM"), ("magnitude", "likely", "A, VIF")
    }  # fmt: skip


def test_overall_is_tested_over_all_data_sets() -> None:
    text = "Dataset,Method,EN\nx,A,7.5\nx,B,6.0\ny,A,6.9\ny,B,7.0\n"
    rows = read_table(text, "mine.csv").rows
    claim = {"text": "highest overall", "kind": "best", "metric": "EN", "over": "all"}
    assert list(claims.check(rows, [{**claim, "method": "A"}])) == []
    (found,) = claims.check(rows, [{**claim, "method": "B"}])
    assert found.sure == "possible"
    assert "by the mean rank" in found.explanation


def test_evalkits_own_table_is_read() -> None:
    text = (
        "dataset,method,metric,value,published,difference,images,status,reason,convention\n"
        "TNO,A,EN,6.947219980402509,7.1203,-0.17,25,differs,,smfnet\n"
        'TNO,B,EN,,,,0,missing value,"needs x, y",smfnet\n'
        "MSRS · YOLOv5n,A,Car AP50,0.75128,.752,,5,differs,,coco\n"
    )
    read = read_table(text, "table.csv")
    assert [(r.block, r.method, r.class_, r.metric, r.printed) for r in read.rows] == [
        ("TNO", "A", "", "EN", "6.9472"),
        ("TNO", "B", "", "EN", ""),
        ("MSRS · YOLOv5n", "A", "Car", "AP50", "0.7513"),
    ]
    assert read.notes == []


def test_published_tables_in_another_form_are_ranked() -> None:
    rows = printed_rows(str(TABLES / "smfnet-table4.md"))
    assert content(rows) == content(rows_of(protocol("smfnet-table4")))
