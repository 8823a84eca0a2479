"""Two protocols never share one folder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import finished_run

from evalkit.errors import OutputError
from evalkit.protocols.run import reproduce


def test_a_second_protocol_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    root = finished_run(tmp_path)
    before = {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()}
    for existing in ("reuse", "replace"):
        with pytest.raises(OutputError, match="holds the records of smfnet-table1"):
            reproduce("vifb", root / "data", methods="average", out=root / "run", existing=existing)  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file()} == before
