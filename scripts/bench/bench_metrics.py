"""How long the metrics take: `cli.py metrics`. Each size runs in a fresh process, on one thread: in processor time."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from evalkit.data.samples.samples import make_scene
from evalkit.engine.processes import keep_freed_memory
from evalkit.errors import EvalkitError
from evalkit.methods.classical import FUSERS
from evalkit.metrics.card import Definition
from evalkit.metrics.evaluate import measure
from evalkit.metrics.image import Image, Pair
from evalkit.metrics.registry import definitions

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from dense import DENSE

SIZES = ("450x620", "768x1024", "1024x1280")  # rows x columns, as the field writes them
NINE = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM")
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def bench_metrics(
    names: Iterable[str], sizes: Iterable[str], repeats: int = 5, progress: Callable = lambda items, total, text: items
) -> list[dict[str, Any]]:
    """Milliseconds per pair for every metric and size, and for the nine common ones in one pass.

    Args:
        names: full names such as "SSIM[smfnet]".
        sizes: "ROWSxCOLUMNS".
        repeats: the median of so many runs counts.

    Returns:
        A dict per metric and size: first (new sources), further (another method on the same sources) and dense (the
        straightforward version, where there is one) in ms; peak_mb, the process's peak memory.

    Raises:
        EvalkitError: a size that cannot be read.
    """
    sizes, found = list(sizes), []
    for size in progress(sizes, len(sizes), "bench"):
        rows, _, columns = size.partition("x")
        if not (rows.isdecimal() and columns.isdecimal()):
            raise EvalkitError(f"{size!r} is not a size, expected ROWSxCOLUMNS such as 768x1024.")
        scene = make_scene(0, 0, int(columns), int(rows))
        visible = np.rint(scene.visible @ [0.299, 0.587, 0.114]).astype(np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "images.npz"
            fused = FUSERS["laplacian"](scene.infrared, visible)
            np.savez(file, fused=fused, infrared=scene.infrared, visible=visible)
            command = [sys.executable, __file__, str(file), str(repeats), *names]
            done = subprocess.run(command, env=os.environ | ALONE, capture_output=True, text=True)
        if done.returncode:
            raise EvalkitError(f"the benchmark of {size} failed: {done.stderr.strip().splitlines()[-1]}")
        found += [{"size": size} | row for row in json.loads(done.stdout)]
    return found


def bench_one_size(file: Path, repeats: int, names: list[str]) -> list[dict[str, Any]]:
    """The rows of one size; runs alone in its process."""
    cv2.setNumThreads(1)
    keep_freed_memory()  # as every worker does
    images = dict(np.load(file, allow_pickle=False))

    def run(wanted: dict[str, Definition]) -> tuple[float, float]:
        first, further = [], []
        for _ in range(repeats + 1):  # the first round warms up
            sources = [Image(images[role], role) for role in ("infrared", "visible")]
            times = []
            for _ in range(2):
                start = time.process_time()
                measure(Pair(Image(images["fused"], "fused"), *sources), wanted)
                times.append(1000 * (time.process_time() - start))
            first.append(times[0])
            further.append(times[1])
        return median(first[1:]), median(further[1:])

    def dense(metrics: Iterable[str]) -> float:
        start = time.process_time()
        for metric in metrics:
            DENSE[metric](images["fused"], images["infrared"], images["visible"])
        return 1000 * (time.process_time() - start)

    nine = definitions(NINE, "smfnet")
    rows = []
    first, further = run(nine)
    peak = _peak_mb()
    rows.append(
        {"metric": "all nine[smfnet]", "first": first, "further": further, "dense": dense(NINE), "peak_mb": peak}
    )
    for name in names:
        wanted = definitions([name], "smfnet")
        definition = next(iter(wanted.values()))
        first, further = run(wanted)
        known = definition.convention == "smfnet" and definition.metric in DENSE
        row = {"metric": definition.full_name, "first": first, "further": further}
        rows.append(row | {"dense": dense([definition.metric]) if known else None, "peak_mb": None})
    if importlib.util.find_spec("torch"):
        rows += [
            {"metric": metric, "first": first, "further": further, "dense": None, "peak_mb": None}
            for metric, as_on_gpu in (("nine, 8 tensors", False), ("nine, as on a GPU", True))
            for first, further in (tensor_times(images, repeats, as_on_gpu),)
        ]
    return rows


def tensor_times(images: dict[str, np.ndarray], repeats: int, as_on_gpu: bool) -> tuple[float, float]:
    """Milliseconds per pair of the nine metrics of a batch of eight: of new sources, and of further fused images."""
    import torch

    from evalkit.metrics.torch import Sources

    torch.set_num_threads(1)
    fused, infrared, visible = (
        torch.from_numpy(np.repeat(images[role][None], 8, 0)) for role in ("fused", "infrared", "visible")
    )
    times = []
    for _ in range(repeats + 1):  # the first round warms up
        start = time.process_time()
        sources = Sources(infrared, visible, as_on_gpu=as_on_gpu)
        sources.evaluate(fused, NINE, "smfnet")
        middle = time.process_time()
        sources.evaluate(fused, NINE, "smfnet")
        times.append((middle - start, time.process_time() - middle))
    first, further = (1000 * median(each) / 8 for each in zip(*times[1:], strict=True))
    return first, further


def _peak_mb() -> float:
    """The most memory this process ever held; Linux's getrusage would count that of the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**10  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    print(json.dumps(bench_one_size(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
