"""Metrics on a GPU: are they those of NumPy, and how many pairs a second? At most eight minutes; JSON.

    python scripts/gpu_check.py --out gpu.json                  # the first GPU
    python scripts/gpu_check.py --device cpu --seconds 60       # a trial of the script, without one

Pairs are sample scenes of 640x480, fused by a classical method; the nine metrics are of SMFNet's Table I. The exit code
is 1 where a number or a missing value is not NumPy's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.data.gray import GRAYS
from evalkit.data.images import to_gray, write_png
from evalkit.data.samples.samples import make_scene
from evalkit.engine.processes import default_workers
from evalkit.methods.classical import FUSERS
from evalkit.metrics.evaluate import evaluate
from evalkit.metrics.folders import evaluate_folder
from evalkit.metrics.torch import Sources, sources
from evalkit.metrics.torch.forms import FORMS
from evalkit.provenance import provenance

NINE = ["EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM"]
WIDTH, HEIGHT, SCENES, FILES = 640, 480, 16, 512
TOLERANCE = 1e-9
Images = tuple[np.ndarray, np.ndarray, np.ndarray]  # fused, infrared, visible: uint8, (N, H, W)


def scenes(count: int, width: int, height: int) -> Images:
    """Different pairs and what a classical method makes of them."""
    parts = []
    for i in range(count):
        scene = make_scene(0, i, width, height)
        visible = to_gray(scene.visible)
        parts.append((FUSERS["laplacian"](scene.infrared, visible), scene.infrared, visible))
    fused, infrared, visible = (np.stack(images) for images in zip(*parts, strict=True))
    return fused, infrared, visible


def with_undefined(images: Images) -> Images:
    """The same with a constant source, a black fused image, and one that is its source."""
    fused, infrared, visible = (x.copy() for x in images)
    infrared[1], fused[2], fused[3] = 7, 0, visible[3]
    infrared[3] = visible[3]
    return fused, infrared, visible


def tensors(images: Images, device: str, count: int) -> list[Tensor]:
    """The images again and again, up to a count, on the device."""
    again = np.arange(count) % len(images[0])
    return [torch.from_numpy(x[again]).to(device) for x in images]


def compare(images: Images, device: str) -> dict[str, Any]:
    """Worst differences to NumPy by full name: relative in float64; relative and absolute in float32."""
    worst: dict[str, dict[str, float]] = {}
    problems = []
    batch = tensors(images, device, len(images[0]))
    for convention, forms in FORMS.items():
        expected = [evaluate(*(x[n] for x in images), list(forms), convention) for n in range(len(images[0]))]
        for dtype in (torch.float64, torch.float32):
            got = Sources(*batch[1:], dtype, as_on_gpu=True).evaluate(batch[0], list(forms), convention).per_image()
            for n, (ours, numpys) in enumerate(zip(got, expected, strict=True)):
                precise = dtype == torch.float64
                if precise and ours.missing != numpys.missing:
                    problems.append(f"{convention}, image {n}: {ours.missing} instead of {numpys.missing}")
                for metric, value in numpys.items():
                    if metric in numpys.missing or metric in ours.missing:
                        continue
                    absolute = abs(ours[metric] - value)
                    relative = absolute / abs(value) if value else absolute
                    row = worst.setdefault(
                        f"{metric}[{convention}]", {"float64": 0.0, "float32": 0.0, "float32 abs": 0.0}
                    )
                    if precise:
                        row["float64"] = max(row["float64"], min(relative, absolute / 1e-3))
                    else:
                        row["float32"] = max(row["float32"], relative)
                        row["float32 abs"] = max(row["float32 abs"], absolute)
    problems += [f"{name} differs by {row['float64']:.1e}" for name, row in worst.items() if row["float64"] > TOLERANCE]
    return {"worst": worst, "problems": problems}


def compare_gray(device: str) -> list[str]:
    """The ways to turn colour to gray that are not NumPy's to the last bit; of every third colour."""
    levels = np.arange(256, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(levels[::3, None, None], levels[:, None], levels), -1)
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2))).to(device)
    different = []
    for gray in GRAYS:
        expected = np.stack([to_gray(part, gray) for part in image])
        if not np.array_equal(sources.to_gray(batch, gray).cpu().numpy(), expected):
            different.append(gray)
    return different


def seconds_of(work: Callable[[], Any], device: str, repeats: int) -> float:
    """Median, after one run that does not count."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def measured(fused: Tensor, infrared: Tensor, visible: Tensor, device: str, dtype: torch.dtype) -> Any:
    """The nine metrics, from images wherever they are."""
    return Sources(infrared.to(device), visible.to(device), dtype, as_on_gpu=True).evaluate(fused, NINE, "smfnet")


def speed(images: Images, device: str, sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """Pairs a second for batches of each size: of new sources, of the same sources again, from the host's memory."""
    rows = []
    for dtype, size in itertools.product((torch.float64, torch.float32), sizes):
        hosts = tensors(images, "cpu", size)
        fused, infrared, visible = (x.to(device) for x in hosts)
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        works: dict[str, Callable[[], Any]] = {
            "new sources": partial(measured, fused, infrared, visible, device, dtype),
            "same sources": partial(Sources(infrared, visible, dtype, as_on_gpu=True).evaluate, fused, NINE, "smfnet"),
            "from the host": partial(measured, *hosts, device, dtype),
        }
        row: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "batch": size}
        row |= {name: size / seconds_of(work, device, repeats) for name, work in works.items()}
        if device != "cpu":
            row["peak MB"] = torch.cuda.max_memory_allocated() / 2**20
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def each_metric(images: Images, device: str, size: int, repeats: int) -> dict[str, float]:
    """Pairs a second of each metric alone, with new sources."""
    fused, infrared, visible = tensors(images, device, size)
    names = [f"{metric}[{convention}]" for convention in ("smfnet", "textbook") for metric in FORMS[convention]]
    return {name: size / seconds_of(partial(_one, fused, infrared, visible, name), device, repeats) for name in names}


def _one(fused: Tensor, infrared: Tensor, visible: Tensor, name: str) -> Any:
    return Sources(infrared, visible, as_on_gpu=True).evaluate(fused, [name])


def files(images: Images, device: str, count: int) -> dict[str, Any]:
    """Pairs a second of PNG files, decoding included, on the device and by NumPy, with a process per processor."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / name for name in ("fused", "ir", "vi")]
        for role, path in zip(images, folders, strict=True):
            for n in range(min(count, len(role))):
                write_png(path / f"{n}.png", role[n])
            for n in range(len(role), count):
                os.link(path / f"{n % len(role)}.png", path / f"{n}.png")
        row: dict[str, Any] = {"pairs": count, "workers": default_workers()}
        for name in ("cpu", "torch" if device == "cpu" else device):
            start = time.perf_counter()
            evaluate_folder(*folders, NINE, "smfnet", device=name)
            row["NumPy" if name == "cpu" else "device"] = count / (time.perf_counter() - start)
    return row


def kernels(images: Images, device: str, size: int) -> list[dict[str, Any]]:
    """What takes the time of a batch, longest first."""
    fused, infrared, visible = tensors(images, device, size)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device != "cpu" else []
    with torch.profiler.profile(activities=kinds) as profile:
        Sources(infrared, visible, as_on_gpu=True).evaluate(fused, NINE, "smfnet")
        wait(device)

    def own(event: Any) -> float:
        return event.self_cpu_time_total if device == "cpu" else event.self_device_time_total

    events = sorted(profile.key_averages(), key=own, reverse=True)[:20]
    return [{"name": e.key, "calls": e.count, "ms": own(e) / 1000} for e in events]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--seconds", type=float, default=420, help="no part is begun after so many")
    parser.add_argument("--batches", default="1,8,32,128,256", help="sizes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=int, default=FILES, help="pairs of files")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    start, device = time.monotonic(), arguments.device
    if device == "cpu":
        torch.set_num_threads(1)
    small, odd = scenes(5, WIDTH, HEIGHT), scenes(5, 203, 171)
    many = scenes(SCENES, WIDTH, HEIGHT)
    result: dict[str, Any] = {"provenance": provenance(device)}
    sizes = [int(size) for size in arguments.batches.split(",")]
    parts: dict[str, Callable[[], Any]] = {
        "equality": lambda: compare(with_undefined(small), device),
        "equality, odd sides": lambda: compare(with_undefined(odd), device),
        "gray that differs": lambda: compare_gray(device),
        "pairs a second": lambda: speed(many, device, sizes, arguments.repeats),
        "pairs a second, files": lambda: files(many, device, arguments.files),
        "kernels": lambda: kernels(many, device, min(27, max(sizes))),
        "pairs a second, each metric": lambda: each_metric(many, device, min(64, max(sizes)), 3),
    }
    for name, part in parts.items():
        began = time.monotonic()
        result[name] = part() if began - start < arguments.seconds else "left out: no time"
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if arguments.out is not None:  # what is known is kept, whatever comes
            arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    problems = [f"{name} was left out" for name in list(parts)[:3] if isinstance(result[name], str)]
    for name in ("equality", "equality, odd sides"):
        problems += result[name]["problems"] if isinstance(result[name], dict) else []
    problems += result["gray that differs"] if isinstance(result["gray that differs"], list) else []
    print(json.dumps({key: result[key] for key in ("pairs a second", "pairs a second, files")}, indent=1))
    print("equal" if not problems else "\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
