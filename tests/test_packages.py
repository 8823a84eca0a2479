"""Learned measures through packages of the reader's own: a stand-in for pyiqa, called and kept from fetching."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import subprocess
import sys
import types
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import textured

from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.errors import DataError
from evalkit.metrics import packages
from evalkit.metrics.card import METRICS
from evalkit.metrics.image import Image, Pair, UndefinedError
from evalkit.metrics.packages import CARDS, Packaged
from evalkit.protocols.table.table import read_table

torch = pytest.importorskip("torch")

STAND_IN = '''"""A stand-in for pyiqa: the same two calls, and a weight from a file that it would download."""
import os

import torch
from torch.hub import download_url_to_file


def create_metric(name, as_loss=False, device=None):
    path = os.path.join(os.environ["STAND_IN_WEIGHTS"], f"{name}.pth")
    if not os.path.exists(path):
        print(f'Downloading: "https://example.org/{name}.pth" to {path}')
        download_url_to_file(f"https://example.org/{name}.pth", path)
    weight = torch.load(path, weights_only=False)["weight"]

    def metric(target, ref=None):
        assert target.shape[:2] == (1, 3) and target.dtype == torch.float32 and 0 <= target.min() and target.max() <= 1
        return weight * (target if ref is None else (target - ref).abs()).mean()

    return metric
'''


@pytest.fixture
def pair() -> Pair:
    """A colour image, gray sources."""
    gray = [textured(seed) for seed in range(3)]
    return Pair(Image(np.stack(gray, axis=2), "fused"), Image(gray[0], "infrared"), Image(gray[1], "visible"))


@pytest.fixture
def pyiqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The stand-in, with weights of musiq and lpips."""
    monkeypatch.setenv("STAND_IN_WEIGHTS", str(tmp_path))
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(switch, "1")
    for name, weight in (("musiq", 2.0), ("lpips", 3.0)):
        torch.save({"weight": torch.tensor(weight)}, tmp_path / f"{name}.pth")
    (tmp_path / "site/pyiqa").mkdir(parents=True)
    (tmp_path / "site/pyiqa/__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    packages._made.cache_clear()
    module = importlib.import_module("pyiqa")
    monkeypatch.setitem(sys.modules, "pyiqa", module)  # gone after the test
    return module


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> object:
    yield
    packages._made.cache_clear()


def test_values_are_those_of_the_package(pyiqa, pair):
    fused, infrared, visible = (image.array / 255 for image in (pair.fused, pair.infrared, pair.visible))
    assert Packaged("pyiqa", "MUSIQ")(pair) == pytest.approx(2 * fused.mean(), rel=1e-6)
    distances = [np.abs(fused - source[:, :, None]).mean() for source in (infrared, visible)]
    assert Packaged("pyiqa", "LPIPS")(pair) == pytest.approx(3 * np.mean(distances), rel=1e-6)
    assert Packaged("pyiqa", "MUSIQ").parameters == ""


def test_weights_that_are_missing_are_named_and_not_fetched(pyiqa, pair, tmp_path, capsys):
    before = torch.load, torch.hub.download_url_to_file, urllib.request.urlopen, socket.socket.connect
    says = f"dists of pyiqa has no weights here: {tmp_path / 'dists.pth'} is not there: get it from https://example.org"
    with pytest.raises(UndefinedError, match=says):
        Packaged("pyiqa", "DISTS")(pair)
    assert Packaged("pyiqa", "DISTS").parameters == "|no weights"
    assert capsys.readouterr().out == ""  # a table for machines is not mixed with what the package prints
    assert before == (torch.load, torch.hub.download_url_to_file, urllib.request.urlopen, socket.socket.connect)
    assert pyiqa.download_url_to_file is torch.hub.download_url_to_file


def fetch_url(name: str, device: object) -> object:
    try:
        return urllib.request.urlopen("https://example.org/x")
    except Exception:  # as packages do that try a second place
        return lambda image: 0.5


def fetch_by_socket(name: str, device: object) -> object:
    return socket.create_connection(("127.0.0.1", 9))


def fail(name: str, device: object) -> object:
    raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("create", "says"),
    [
        (fetch_url, "it would fetch https://example.org/x: put that file where pyiqa looks for it"),
        (fetch_by_socket, "it would connect to .'127.0.0.1', 9.: put its weights where"),
        (fail, "musiq of pyiqa failed: RuntimeError: no such thing"),
    ],
)
def test_what_a_package_tries(pyiqa, pair, create: Callable, says: str, monkeypatch):
    monkeypatch.setattr(pyiqa, "create_metric", create)
    with pytest.raises(UndefinedError, match=says):
        Packaged("pyiqa", "MUSIQ")(pair)


def test_a_package_that_fails_on_an_image_gives_no_value(pyiqa, pair, monkeypatch):
    monkeypatch.setattr(pyiqa, "create_metric", lambda name, device: lambda image: 1 / 0)
    with pytest.raises(UndefinedError, match="ZeroDivisionError"):
        Packaged("pyiqa", "MUSIQ")(pair)


class Payload:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["STAND_IN_WEIGHTS"] + "/was run",)


def test_weights_that_hold_code_do_not_run_it(pyiqa, pair, tmp_path):
    """The package reads its weights with weights_only=False; here it does not."""
    (tmp_path / "musiq.pth").write_bytes(pickle.dumps({"weight": Payload()}, protocol=2))
    with pytest.raises(UndefinedError, match="musiq of pyiqa failed"):
        Packaged("pyiqa", "MUSIQ")(pair)
    assert not (tmp_path / "was run").exists()


def test_a_package_that_cannot_be_imported_is_told(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UndefinedError, match="pyiqa cannot be used"):
        Packaged("pyiqa", "MUSIQ")(pair)


def test_cards_say_what_they_were_made_for():
    assert {card.name: card.better for card in CARDS} == {
        "MUSIQ": "higher",
        "CLIP-IQA": "higher",
        "LPIPS": "lower",
        "DISTS": "lower",
    }
    assert all("visible photographs" in METRICS[card.name].definition for card in CARDS)
    assert all(metric in METRICS for measures in packages.MEASURES.values() for metric in measures)


def test_what_is_not_installed_is_shown_with_what_it_needs():
    done = CliRunner().invoke(main, ["show", "MUSIQ"])
    assert done.exit_code == 0
    assert "through the reader's own pyiqa or torchmetrics" in " ".join(done.output.split())


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds the stand-in as a package that was installed."""
    site = tmp_path / "installed"
    (site / "pyiqa").mkdir(parents=True)
    (site / "pyiqa/__init__.py").write_text(STAND_IN)
    (site / "pyiqa-9.8.7.dist-info").mkdir()
    (site / "pyiqa-9.8.7.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: pyiqa\nVersion: 9.8.7\n")
    python = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""), str(site)])
    return os.environ | {"PYTHONPATH": python, "STAND_IN_WEIGHTS": str(tmp_path)}


def test_an_installed_package_is_a_convention(installed):
    """Found by itself, with its version; neither it nor PyTorch is imported to list it."""
    program = (
        "import sys\n"
        "from evalkit.metrics.registry import definitions\n"
        "print(*definitions(['MUSIQ[pyiqa-9.8.7]', 'lpips[PYIQA-9.8.7]'], 'smfnet'))\n"
        "print(sorted({'torch', 'pyiqa'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=installed, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["MUSIQ[pyiqa-9.8.7] LPIPS[pyiqa-9.8.7]", "[]"]


@pytest.mark.slow
def test_an_installed_package_on_the_command_line(installed, tmp_path):
    """In worker processes, too; measured again once weights are there."""
    for number in (1, 2):
        for folder in ("ir", "vi", "ours"):
            write_png(tmp_path / folder / f"{number}.png", textured(number))
    arguments = ["ours", "--infrared", "ir", "--visible", "vi", "--out", "run"]
    metrics = ["--metrics", "MUSIQ[pyiqa-9.8.7],EN[smfnet]"]

    def evaluate(workers: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "evalkit", "evaluate", *arguments, *metrics, "--workers", str(workers)]
        return subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True, check=False)

    done = evaluate(1)
    assert done.returncode == 3, done.stderr
    assert "get it from https://example.org/musiq.pth" in " ".join(done.stdout.split())
    torch.save({"weight": torch.tensor(2.0)}, tmp_path / "musiq.pth")
    done = evaluate(2)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = {cell.metric: cell.value for cell in read_table(tmp_path / "run").cells}
    expected = np.mean([2 * textured(number).mean() / 255 for number in (1, 2)])
    assert cells["MUSIQ[pyiqa-9.8.7]"] == pytest.approx(expected, rel=1e-6)


def test_the_pure_function_raises_an_error_of_evalkit(pyiqa):
    from evalkit.metrics.torch.packages import make

    with pytest.raises(DataError, match="evalkit downloads nothing"):
        make("pyiqa", "clipiqa")
