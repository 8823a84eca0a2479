"""Processor time of PIQE, NIQE and BRISQUE on a generated image of 480 x 640: medians of nine, in turns."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from evalkit.metrics.image import Image
from evalkit.metrics.noreference.brisque import brisque
from evalkit.metrics.noreference.files import read_pristine, read_regression
from evalkit.metrics.noreference.niqe import niqe
from evalkit.metrics.noreference.piqe import piqe


def main(models: Path) -> None:
    """Print the times; `models` holds the model files."""
    pristine = read_pristine(models / "modelparameters.mat")
    regression = read_regression(models / "allmodel", models / "allrange")
    metrics = {
        "PIQE": piqe,
        "NIQE": lambda image: niqe(image, pristine),
        "BRISQUE": lambda image: brisque(image, regression),
    }
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.random((480, 640)), (0, 0), 2)
    pixels = np.clip((texture - 0.5) * 900 + 128, 0, 255).astype(np.uint8)
    times: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(9):
        for name, function in metrics.items():
            start = time.process_time()
            function(Image(pixels))
            times[name].append(time.process_time() - start)
    for name, measured in times.items():
        print(f"{name}: {1000 * statistics.median(measured):.1f} ms")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
