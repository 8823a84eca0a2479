"""What a GPU does: metrics, networks and training, in at most eight minutes; JSON.

    python scripts/gpu_check.py --data-root DATA --out gpu.json       # the first GPU
    python scripts/gpu_check.py --device cpu --quick                  # a trial of the script, without one

Metrics: are they those of NumPy, and how many pairs a second? Networks: does each give on the GPU what it gives on the
CPU (1e-3 of the output's deviation, float32)? Training: 200 steps of the recipe `paper` of the five systems at full
width on the pairs at hand, seconds, memory and images a second, in float32 and bf16; SMFNet for the rest of the time
and its row on TNO; two processes where there are two cards. Every part has its share of the time; one that fails is
told, and the others go on. Metrics are of sample scenes of 640x480, fused by a classical method; the nine of SMFNet's
Table I. The exit code is 1 where a part failed or a number is not the CPU's.
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
from gpu_training import SYSTEMS, learned, networks, recipe_steps, two_processes
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


def compare_gray(device: str, step: int = 3) -> list[str]:
    """The ways to turn colour to gray that are not NumPy's to the last bit; of every third level of red."""
    levels = np.arange(256, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(levels[::step, None, None], levels[:, None], levels), -1)
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


Part = Callable[[float], Any]  # takes the moment after which it begins nothing further (time.monotonic)


def metric_parts(device: str, quick: bool, sizes: list[int], repeats: int, count: int) -> dict[str, Part]:
    """The parts that measure metrics, by name."""
    width, height = (80, 64) if quick else (WIDTH, HEIGHT)
    small, odd = scenes(5, width, height), scenes(5, *((75, 67) if quick else (203, 171)))
    many = scenes(4 if quick else SCENES, width, height)
    return {
        "equality": lambda end: compare(with_undefined(small), device),
        "equality, odd sides": lambda end: compare(with_undefined(odd), device),
        "gray that differs": lambda end: {"problems": compare_gray(device, 85 if quick else 3)},
        "pairs a second": lambda end: speed(many, device, sizes, repeats),
        "pairs a second, files": lambda end: files(many, device, count),
        "kernels": lambda end: kernels(many, device, min(27, max(sizes))),
        "pairs a second, each metric": lambda end: each_metric(many, device, min(64, max(sizes)), min(3, repeats)),
    }


def training_parts(
    device: str, quick: bool, data_root: Path | None, weights: Path | None, result: dict[str, Any]
) -> dict[str, Part]:
    """The parts that run networks, by name; `quick` takes few of them, the recipes `small` and a step or two.

    Args:
        device: where.
        quick: a trial of the script.
        data_root: folder with the data sets at hand; None: generated scenes.
        weights: folder with published weights at hand.
        result: of the parts before; the length of a training follows from the steps that were measured.
    """
    names, recipe = (("IGNet",), "small") if quick else (SYSTEMS, "paper")
    steps = 2 if quick else 200
    bf16 = {"precision": "bf16-mixed"}

    def pace() -> float | None:
        stages = (result.get("steps of the recipes") or {}).get("recipes", {}).get("SMFNet")
        return max(row["seconds_per_step"] for row in stages) if isinstance(stages, list) and stages else None

    some = ("DenseFuse", "IFCNN") if quick else ()
    size = (80, 64) if quick else (128, 96)
    return {
        "networks": lambda end: networks(device, end, some, *size),
        "steps of the recipes": lambda end: recipe_steps(device, end, names, recipe, steps, data_root, weights),
        "steps of the recipes, bf16": lambda end: recipe_steps(
            device, end, ("SMFNet",) if quick else names[:3], recipe, min(steps, 20), data_root, weights, **bf16
        ),
        "two processes": lambda end: "left out: quick" if quick else two_processes(device, end),
        "SMFNet": lambda end: learned(
            device,
            min(end, time.monotonic() + 5) if quick else end,
            "sample" if quick else "paper",
            data_root,
            None if quick else pace(),
            1 if quick else None,
        ),
    }


# share of the time that is left when a part begins; the last one has all of it
SHARES = {"networks": 0.25, "steps of the recipes": 0.6, "steps of the recipes, bf16": 0.3, "two processes": 0.3}
REQUIRED = ("equality", "equality, odd sides", "gray that differs")


def run(parts: dict[str, Part], seconds: float, result: dict[str, Any], out: Path | None) -> list[str]:
    """Run the parts one after the other; what is known is written after each, whatever comes.

    Returns:
        What failed, was left out though it must not, or is not as on the CPU.
    """
    start, problems = time.monotonic(), []
    for name, part in parts.items():
        began = time.monotonic()
        left = seconds - (began - start)
        if left <= 0:
            result[name] = "left out: no time"
            problems += [f"{name} was left out"] if name in REQUIRED else []
        else:
            try:
                result[name] = part(began + left * SHARES.get(name, 1))
            except Exception as error:  # told, and the other parts go on
                result[name] = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
                problems.append(f"{name} {result[name]}")
            if isinstance(result[name], dict):
                problems += result[name].get("problems", [])
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if out is not None:
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return problems


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--seconds", type=float, default=440, help="no part is begun after so many")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a trial of the script, not of the machine")
    parser.add_argument("--batches", default="1,8,32,128", help="sizes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--files", type=int, default=FILES, help="pairs of files")
    parser.add_argument("--data-root", type=Path, help="folder with MSRS, TNO, ...; generated scenes without it")
    parser.add_argument("--checkpoints", type=Path, help="folder with published weights; random ones without them")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    device = options.device
    if device == "cpu":
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    result: dict[str, Any] = {"provenance": provenance(device)}
    if options.quick:
        options.batches, options.repeats, options.files = "1,2", 1, 4
    sizes = [int(size) for size in options.batches.split(",")]
    start = time.monotonic()
    metrics = metric_parts(device, options.quick, sizes, options.repeats, options.files)
    problems = run(metrics, options.seconds / 3, result, options.out)
    training = training_parts(device, options.quick, options.data_root, options.checkpoints, result)
    problems += run(training, options.seconds - (time.monotonic() - start), result, options.out)
    print("equal" if not problems else "\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
