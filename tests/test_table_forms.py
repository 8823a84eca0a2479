"""Tables as people type them: each form gives the same rows, and what is not understood is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.errors import DataError
from evalkit.leaderboards.audit import read_own_table
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
