"""Tables in Python: what a notebook, a paper and a README get of them."""

from __future__ import annotations

from pathlib import Path

from conftest import make_tno

import evalkit


def test_a_table_in_every_form(tmp_path: Path) -> None:
    fields = {
        "title": "Mine", "convention": "smfnet", "metrics": ["EN", "SSIM[tang]"],
        "datasets": {"TNO": {"pairs": 3}}, "methods": ["average", "maximum", "absent"],
    }  # fmt: skip
    make_tno(tmp_path / "data", 3)
    table = evalkit.benchmark(fields, data_root=tmp_path / "data", out=tmp_path / "run", workers=1)
    frame = table.frame
    assert list(frame.columns[:3]) == ["dataset", "method", "metric"]
    first = frame[(frame.method == "average") & (frame.metric == "EN")]
    value = f"{first.value.item():.4f}"
    for text, suffix in ((table.to_latex(), "tex"), (table.to_markdown(), "md"), (table._repr_html_(), "html")):
        assert value in text
        assert "absent" in text
        assert text == (tmp_path / "run" / f"table.{suffix}").read_text()
    assert r"\toprule" in table.to_latex()
    assert "| average |" in table.to_markdown()
    assert "<table" in table._repr_html_()
    assert evalkit.read_table(tmp_path / "run").cells == table.cells
    assert "Mine" in table.source
