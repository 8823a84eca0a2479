"""Every metric in every convention on two generated triples, against stored values: no folder of real images is needed.

`python tests/test_convention_values.py` writes evalkit's own values anew; those of a public evaluator stay as they are.
A value changes only with a reason, and raises `evalkit.metrics.evaluate.REVISION`.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest
from triples import SIZES, triple

import evalkit
from evalkit.metrics.registry import all_full_names

FILE = Path(__file__).parent / "golden" / "conventions.csv"  # triple, metric, value, who computed it
TOLERANCE = 1e-9  # relative, of evalkit's own values: sums in another order differ by 1e-12
OF_OTHERS = 1e-6  # of values that a public evaluator computed, as in test_conventions
SHIPPED = ("textbook", "cddfuse", "smfnet", "tang", "metric_python", "li", "tsjnet", "vifb", "liu", "mefb", "zoo")
HASHES = {
    "blocks": "03bd19a000c70364eb0252d2ff19b6bac18a7fdf73227e9a1387bc930a56be28",
    "waves": "f6e7e52d54314542549f241a0627cdd34219f53bdd1c4f9a20d441bcd9987034",
}
UNDEFINED = {"blocks": set(), "waves": {"QC[liu]"}}  # one window of no covariance is enough
DIFFER = [
    ("MI", "tang", "textbook"), ("SSIM", "tang", "tsjnet"), ("SSIM", "cddfuse", "smfnet"), ("AG", "tang", "cddfuse"),
    ("Nabf", "tang", "textbook"), ("Qabf", "textbook", "cddfuse"), ("CV", "tsjnet", "textbook"),
    ("MS-SSIM", "smfnet", "textbook"), ("PSNR", "tang", "tsjnet"), ("PSNR", "vifb", "textbook"),
    ("QS", "liu", "textbook"), ("QW", "liu", "textbook"), ("QW", "mefb", "liu"), ("QC", "mefb", "textbook"),
    ("QY", "liu", "textbook"), ("QP", "liu", "textbook"), ("QM", "liu", "textbook"), ("QNCIE", "zoo", "liu"),
    ("CB", "zoo", "liu"), ("VIF", "zoo", "tang"), ("NMI", "zoo", "mefb"), ("CE", "zoo", "vifb"), ("EN", "zoo", "vifb"),
    ("EI", "zoo", "vifb"), ("QY", "zoo", "liu"),
]  # fmt: skip


def names() -> list[str]:
    """Full names of what evalkit brings itself, whatever plug-ins other tests loaded."""
    return [name for name in all_full_names() if name.partition("[")[2].rstrip("]") in SHIPPED]


def measured(name: str) -> dict[str, float]:
    """Full name -> value on a triple, where hardly any is undefined."""
    scores = evalkit.evaluate(*triple(name), names())
    assert len(scores) == len(names())
    assert set(scores.missing) == UNDEFINED[name]
    defined = {metric: value for metric, value in scores.items() if metric not in scores.missing}
    return {metric if "[" in metric else f"{metric}[textbook]": value for metric, value in defined.items()}


def stored(name: str) -> dict[str, tuple[float, str]]:
    """Full name -> (value, who computed it)."""
    with open(FILE, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["triple"] == name]
    return {row["metric"]: (float(row["value"]), row["computed by"]) for row in rows}


@pytest.mark.parametrize("name", SIZES)
def test_the_triples_are_the_same_bytes_everywhere(name):
    images = triple(name)
    assert {image.shape for image in images} == {SIZES[name]}
    assert hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest() == HASHES[name]


@pytest.mark.parametrize("name", SIZES)
def test_every_metric_in_every_convention_has_its_value(name):
    now, expected = measured(name), stored(name)
    assert set(now) == set(expected)
    for metric, (value, by) in expected.items():
        tolerance = TOLERANCE if by == "evalkit" else OF_OTHERS
        assert now[metric] == pytest.approx(value, rel=tolerance), (metric, by)


@pytest.mark.parametrize(("metric", "one", "other"), DIFFER)
def test_the_triples_tell_conventions_apart(metric, one, other):
    """What two conventions define differently has two values on one of them: one taken for the other is seen."""
    pairs = [(stored(name)[f"{metric}[{one}]"][0], stored(name)[f"{metric}[{other}]"][0]) for name in SIZES]
    assert any(first != pytest.approx(second, rel=1e-6) for first, second in pairs)


if __name__ == "__main__":
    lines = []
    for name in SIZES:
        old = stored(name) if FILE.is_file() else {}
        for metric, value in measured(name).items():
            kept = old.get(metric, (value, "evalkit"))
            value, by = kept if kept[1] != "evalkit" else (value, "evalkit")
            lines.append(f"{name},{metric},{value!r},{by}\n")
    FILE.write_text("triple,metric,value,computed by\n" + "".join(lines))
