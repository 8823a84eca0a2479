"""`--device`: processes read the images and PyTorch measures them, here on the processor as it would on a GPU."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import make_outputs, make_tno, textured
from PIL import Image as Pillow

import evalkit
from evalkit.cli import main
from evalkit.data.images import write_png
from evalkit.engine.base import Local
from evalkit.errors import EvalkitError
from evalkit.leaderboards.verify import verify
from evalkit.metrics.evaluate import MeasureJob, Reading
from evalkit.metrics.jobs import measure_units, metrics_device, units_of
from evalkit.metrics.registry import definitions

torch = pytest.importorskip("torch")
from evalkit.metrics.torch import device as devices  # noqa: E402

EVERYTHING = ["EN", "VIF", "SSIM[tang]", "CV[vifb]", "EN[vifb]", "MS-SSIM[smfnet]", "NMI[textbook]", "Qabf"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Fused, infrared and visible images: two sizes, colour, undefined ones, and all that cannot be measured."""
    fused, infrared, visible = (tmp_path / name for name in ("fused", "ir", "vi"))
    for i in range(9):
        size = (70, 90) if i % 3 else (49, 51)
        a, b, f = textured(i, *size), textured(i + 20, *size), textured(i + 40, *size)
        colour = np.stack([b, textured(i + 60, *size), textured(i + 80, *size)], -1)
        write_png(infrared / f"{i}.png", np.full_like(a, 7) if i == 4 else a)
        write_png(visible / f"{i}.png", colour if i % 2 else b)
        write_png(fused / f"{i}.png", np.stack([f, b, a], -1) if i == 7 else a if i == 5 else f)
    Pillow.fromarray(textured(3, 70, 90)).save(fused / "1.jpg")
    (fused / "1.png").unlink()
    (fused / "2.png").write_bytes((fused / "3.png").read_bytes()[:200])
    write_png(fused / "6.png", textured(6, 52, 60))  # larger than its sources
    (infrared / "8.png").unlink()
    (fused / "0.png").unlink()
    return fused, infrared, visible


def same(frame: pd.DataFrame, other: pd.DataFrame) -> None:
    assert frame.attrs == other.attrs
    assert list(frame.index) == list(other.index)
    assert list(frame.columns) == list(other.columns)
    for image, row in frame.iterrows():
        assert row.to_dict() == pytest.approx(other.loc[image].to_dict(), rel=1e-9, abs=1e-12, nan_ok=True), image


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("options", [{}, {"crop": "end", "gray": "truncated"}])
def test_a_folder_is_measured_as_by_numpy(folders, workers, options):
    frames = [
        evalkit.evaluate_folder(*folders, EVERYTHING, "smfnet", workers=workers, device=device, **options)
        for device in ("torch", "cpu")
    ]
    same(*frames)
    missing = frames[0].attrs["missing"]
    assert ("4", "VIF") in missing
    assert ("2", "EN") in missing
    assert "1" in frames[0].index
    assert frames[0].attrs["notes"]


def test_of_metrics_without_a_form_numpy_measures_all(folders):
    names = ["EN[vifb]", "SF[vifb]"]
    same(*(evalkit.evaluate_folder(*folders, names, workers=1, device=device) for device in ("torch", "cpu")))


@pytest.mark.parametrize("pixels", [1, 3 * 70 * 90, 2**30])
def test_however_many_are_measured_together(folders, pixels, monkeypatch):
    expected = evalkit.evaluate_folder(*folders, EVERYTHING, "smfnet", workers=1)
    monkeypatch.setattr("evalkit.metrics.torch.sources.CPU_PIXELS", pixels)
    same(evalkit.evaluate_folder(*folders, EVERYTHING, "smfnet", workers=1, device="torch"), expected)


def test_where_memory_runs_out_fewer_are_measured_together(folders, monkeypatch):
    expected = evalkit.evaluate_folder(*folders, EVERYTHING, "smfnet", workers=1)
    monkeypatch.setattr("evalkit.metrics.torch.sources.CPU_PIXELS", 2**30)
    most, tried = 1, []

    class Short(devices.Sources):
        def measure(self, fused, columns, gray=""):
            tried.append(len(fused))
            if len(fused) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().measure(fused, columns, gray)

    monkeypatch.setattr(devices, "Sources", Short)
    same(evalkit.evaluate_folder(*folders, EVERYTHING, "smfnet", workers=1, device="torch"), expected)
    assert max(tried) > 2
    most = 0
    frame = evalkit.evaluate_folder(*folders, ["EN", "EN[vifb]"], "smfnet", workers=1, device="torch")
    assert frame.attrs["missing"]["5", "EN"] == "the memory of cpu ran out"
    assert frame.loc["5", "EN[vifb]"] > 0


def reproduce(root: Path, *more: str) -> str:
    folders = ["--data-root", root / "data", "--outputs", root / "outputs", "--out", root / "run"]
    names = ["--datasets", "TNO", "--methods", "CDDFuse,average", "--workers", "2"]
    result = CliRunner().invoke(main, [str(a) for a in ("reproduce", "smfnet-table1", *folders, *names, *more)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_says_what_measured_it_and_mixes_nothing(tmp_path):
    make_tno(tmp_path / "data", 25)
    make_outputs(tmp_path / "outputs")
    records, scores = tmp_path / "run/records", tmp_path / "run/scores/TNO/CDDFuse.csv"
    output = reproduce(tmp_path, "--device", "torch")
    assert "Metrics are computed by PyTorch on cpu." in evalkit.read_table(tmp_path / "run").note + output
    record = json.loads((records / "TNO__CDDFuse.json").read_text())
    assert record["method"]["reading"]["device"] == "cpu"
    assert record["provenance"]["measured on"] == "cpu"
    by_torch, written = scores.read_text(), scores.stat().st_mtime_ns
    assert not [problem for verdict in verify(tmp_path / "run") for problem in verdict.problems]
    path = records / "TNO__CDDFuse.json"
    (verdict,) = verify(path, fused=tmp_path / "outputs", data_root=tmp_path / "data", remeasure=3)
    assert verdict.checked
    assert not verdict.problems
    reproduce(tmp_path, "--device", "torch")
    assert scores.stat().st_mtime_ns == written  # nothing is measured twice
    reproduce(tmp_path)
    by_numpy = scores.read_text()
    keys = [{line.split(",")[1] for line in text.splitlines()[1:]} for text in (by_torch, by_numpy)]
    assert len(keys[0]) == len(keys[1]) == 25
    assert not keys[0] & keys[1]
    record = json.loads((records / "TNO__CDDFuse.json").read_text())
    assert "device" not in record["method"]["reading"]
    assert "measured on" not in record["provenance"]


def test_the_command_evaluates_on_a_device(folders):
    outputs = []
    for device in ("torch", "auto"):
        arguments = ["evaluate", *folders, "--metrics", "EN,VIF", "--json", "--device", device]
        arguments[2:2] = ["--infrared"]
        arguments[4:4] = ["--visible"]
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 3
        outputs.append(json.loads(result.stdout))
    assert outputs[0]["missing"] == outputs[1]["missing"]
    assert outputs[0]["scores"]["5"] == pytest.approx(outputs[1]["scores"]["5"], rel=1e-9)


def test_devices_that_are_not_there(folders, monkeypatch):
    assert [metrics_device(device) for device in ("auto", "cpu", "torch")] == ["", "", "cpu"]
    with pytest.raises(EvalkitError, match="--device tpu: expected auto, cpu, cuda, cuda:N or torch"):
        metrics_device("tpu")
    if not torch.cuda.is_available():
        assert metrics_device("cuda:1") == "cuda:1"
        with pytest.raises(EvalkitError, match="PyTorch sees no GPU here"):
            evalkit.evaluate_folder(*folders, "EN", workers=1, device="cuda:1")
        with pytest.raises(EvalkitError, match="PyTorch sees no GPU here"):
            evalkit.reproduce("smfnet-table1", folders[0], device="cuda")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EvalkitError, match="needs PyTorch: pip install"):
        metrics_device("cuda")


class Elsewhere:
    """An engine of other machines: what it does has travelled."""

    remote = True
    used_gpu = False

    def slots(self) -> int:
        return 1

    def map(self, function, units, *, gpu=False, limited=True):
        self.used_gpu = gpu
        for unit in units:
            there, its = pickle.loads(pickle.dumps((function, unit)))  # noqa: S301
            yield there(its)


def test_a_cluster_measures_where_it_reads(folders):
    fused, infrared, visible = folders
    stems = ["3", "4", "5", "7"]
    paths = [[folder / f"{stem}.png" for folder in (infrared, visible, fused)] for stem in stems]
    jobs = [MeasureJob(stem, a, b, {"m": f}) for stem, (a, b, f) in zip(stems, paths, strict=True)]
    columns, engine = definitions(EVERYTHING, "smfnet"), Elsewhere()
    there, here = (
        list(measure_units(units_of(jobs, 1), columns, Reading(device="cpu"), engine)) for engine in (engine, Local(1))
    )
    assert engine.used_gpu
    assert [job.stem for job, _ in there] == stems
    for (_, one), (_, other) in zip(there, here, strict=True):
        assert one["m"].missing == other["m"].missing
        assert one["m"] == pytest.approx(other["m"], rel=1e-12, nan_ok=True)
