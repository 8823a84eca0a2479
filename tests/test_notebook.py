"""examples/quickstart.ipynb: its cells run from top to bottom, as Jupyter runs them, and show what they say.

The cells are run in a fresh process without Jupyter, of which nothing but the running is tested: what a cell shows is
what the methods that Jupyter calls give. Where nbclient and ipykernel are installed, a kernel runs them as well.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
PYTHONPATH = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
RUN = """
import ast, json, sys
names, shown = {"__name__": "__main__"}, []
for source in json.load(sys.stdin):
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    forms = {"text": repr(value)}
    if hasattr(value, "_repr_html_"):
        forms["html"] = value._repr_html_()
    if hasattr(value, "_repr_png_"):
        forms["png"] = value._repr_png_()[:8].hex()
    shown.append(forms)
json.dump(shown, sys.stderr)
"""


def code() -> list[str]:
    return ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """The folder that the notebook ran in, and what each cell showed: its text, HTML and the first bytes of its PNG."""
    folder = tmp_path_factory.mktemp("notebook")
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(code()),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, json.loads(done.stderr.splitlines()[-1])


def of(shown: list[dict[str, str]], text: str) -> dict[str, str]:
    """What the cell with this text in it showed."""
    (place,) = (i for i, source in enumerate(code()) if text in source)
    return shown[place]


def test_the_notebook_is_kept_without_outputs() -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in CELLS if cell["cell_type"] == "code")
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert all((ROOT / file).is_file() for file in re.findall(r"`([\w/]+\.md)`", text))


def test_it_measures_what_its_texts_say(shown: tuple[Path, list[dict[str, str]]]) -> None:
    folder, cells = shown
    values = dict(re.findall(r"'([\w\[\]]+)': ([\d.]+)", of(cells, 'SSIM[tang]", "PSNR[tang]')["text"]))
    assert len(set(values.values())) == len(values) == 5  # no two conventions agree
    constant = of(cells, "scores.missing")["text"]
    assert "'VIF': nan" in constant
    assert "is constant" in constant
    assert "003_smoke" in of(cells, "evaluate_folder")["html"]
    table = of(cells, "evalkit.benchmark")["html"]
    assert all(name in table for name in ("Mine", "average", "maximum", "laplacian", "DWT"))
    cells_of_table = json.loads((folder / "runs/quickstart/bench/table.json").read_text())["cells"]
    assert [cell for cell in cells_of_table if cell["value"] is None] == []


def test_results_and_drawings_show_themselves(shown: tuple[Path, list[dict[str, str]]]) -> None:
    folder, cells = shown
    assert "laplacian" in of(cells, "rankings[0]")["html"]
    assert "Mine" in of(cells, "evalkit.compare")["html"]
    assert sum("png" in forms for forms in cells) == 3
    assert all(forms["png"] == b"\x89PNG\r\n\x1a\n".hex() for forms in cells if "png" in forms)
    assert (folder / "runs/quickstart/radar.pdf").read_bytes().startswith(b"%PDF")
    assert "<html" in (folder / "runs/quickstart/report.html").read_text(encoding="utf-8")
    assert [path.name for path in folder.iterdir()] == ["runs"]  # it writes nowhere else


@pytest.mark.slow
def test_a_kernel_of_jupyter_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
